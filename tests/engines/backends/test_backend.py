from pathlib import Path
from typing import Any

import pytest

from calibrators.errors import BuildError
from engines.backends.backend import NO_OPTIONS, BuildOptions


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"workspace": 0}, "the workspace is a number of bytes, not 0"),
        ({"workspace": 2**63}, "the workspace is a number of bytes, not 9223372036854775808"),
        ({"optimization_level": 6}, "from 0 to 5, not 6"),
        ({"optimization_level": -1}, "from 0 to 5, not -1"),
        ({"hardware_compatibility": "volta"}, r"one of none, ampere\+, same-compute-capability, not volta"),
        ({"layer_precisions": {"head*": "int4"}}, r"not int4: change head\*=int4"),
    ],
)
def test_options_out_of_range(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BuildError, match=said):
        BuildOptions(**values)


def test_what_was_asked_for() -> None:
    assert NO_OPTIONS.given() == {}
    options = BuildOptions(optimization_level=0, timing_cache=Path("a/times"), layer_precisions={"x": "fp32"})
    assert options.given() == {"optimization_level": 0, "timing_cache": "times", "layer_precisions": {"x": "fp32"}}
    assert BuildOptions(version_compatible=True, sparsity=True, workspace=5).given() == {
        "workspace": 5,
        "version_compatible": True,
        "sparsity": True,
    }
