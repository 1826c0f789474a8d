"""What a TensorRT has no setting for is refused by name; whole builds with every option are in tests/contract."""

from types import SimpleNamespace

import pytest

from calibrators.errors import BuildError
from engines.backends.backend import BuildOptions
from engines.backends.settings import apply, require_known


def a_module(*flags: str) -> SimpleNamespace:
    """What the functions ask of TensorRT's module, with these builder flags."""
    level = SimpleNamespace(AMPERE_PLUS=1)
    return SimpleNamespace(
        BuilderFlag=SimpleNamespace(**{flag: flag for flag in flags}), HardwareCompatibilityLevel=level
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (BuildOptions(version_compatible=True), "TensorRT 12 has no setting for --version-compatible: leave it out"),
        (BuildOptions(sparsity=True), "TensorRT 12 has no setting for --sparsity: leave it out"),
        (BuildOptions(layer_precisions={"a": "fp32"}), "TensorRT 12 takes the type of each layer from the model"),
        (
            BuildOptions(hardware_compatibility="same-compute-capability"),
            "no hardware compatibility same-.*: it has ampere",
        ),
    ],
)
def test_what_is_not_there_is_refused(options: BuildOptions, said: str) -> None:
    with pytest.raises(BuildError, match=said):
        require_known(a_module(), options, label="TensorRT 12")


def test_what_is_not_asked_for_may_be_missing() -> None:
    require_known(a_module(), BuildOptions(), label="TensorRT 12")


def test_flags_that_are_there_are_set() -> None:
    trt, flags = a_module("VERSION_COMPATIBLE", "SPARSE_WEIGHTS"), list[str]()
    options = BuildOptions(version_compatible=True, sparsity=True)
    require_known(trt, options, label="TensorRT 11")
    apply(trt, SimpleNamespace(set_flag=flags.append), options)
    assert flags == ["VERSION_COMPATIBLE", "SPARSE_WEIGHTS"]
