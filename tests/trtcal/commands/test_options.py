import re

import pytest

from calibrators.errors import BuildError
from calibrators.ranges import METHODS, method_named
from trtcal.commands import options
from trtcal.commands.options import layer_precisions_of, size_of


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 << 30),
        ("4gib", 4 << 30),
        ("512 MiB", 512 << 20),
        ("1.5KiB", 1536),
        ("2GB", 2 * 10**9),
        ("2G", 2 * 10**9),
        ("1TiB", 1 << 40),
        ("100", 100),
        ("100B", 100),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "4 XB", "4i", "4GiB4", "four", "1e9", "٤GiB4"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BuildError, match="is no size: write such as 4GiB"):
        size_of(text)


def test_precisions_of_layers() -> None:
    assert layer_precisions_of(["head/*=fp32", "a=b=int8"]) == {"head/*": "fp32", "a=b": "int8"}
    assert layer_precisions_of([]) == {}


@pytest.mark.parametrize("text", ["head", "head=", "=fp32", "head=int4", "head=FP32"])
def test_what_is_no_precision_of_layers(text: str) -> None:
    with pytest.raises(BuildError, match="reads differently than PATTERN=int8"):
        layer_precisions_of([text])


def test_a_pattern_given_twice() -> None:
    with pytest.raises(BuildError, match="gives a twice"):
        layer_precisions_of(["a=fp32", "a=fp16"])


def test_help_lists_the_range_methods_that_there_are() -> None:
    brackets = r"\([^)]*\)"
    assert [name.strip() for name in re.sub(brackets, "", options.METHODS).split(",")] == list(METHODS)
    told = " ".join(re.findall(brackets, options.METHODS))
    for name in ("absmax", "percentile:99.9", "emd-moments"):
        assert re.search(rf" {re.escape(name)}[;)]", told)
        method_named(name)
