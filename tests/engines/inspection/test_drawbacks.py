"""What real engines of TensorRT-RTX lose by INT8: on Turing, by stored zeros, by their size."""

import pytest

from engines.build.builder import build_engine
from engines.inspection.drawbacks import larger_than, megabytes
from tests.engines.conftest import Network

pytestmark = pytest.mark.usefixtures("rtx")


def built(target, *shape, groups=1, **options):
    """Two quantized convolutions of 32 channels, the first of them grouped."""
    network = Network(*shape)
    first = network.conv("x", "first", (32, 32), groups=groups)
    return build_engine(network.model(network.conv(first, "second", (32, 32))), output=target, **options).record


def messages(record, rule):
    return [finding.message for finding in record.findings if finding.rule == rule]


@pytest.mark.parametrize(
    "asked, others, remedy",
    [
        (["7.5", "8.6"], "run in float, on 8.6 too,", "build for 8.6 alone, and for 7.5 with --precision fp16"),
        (["8.9", "75", "8.6"], "on 8.9, 8.6 too,", "build for 8.9, 8.6 alone, and"),
        (["7.5"], "run in float as", "compute capability 7.5: build with --precision fp16"),
    ],
)
def test_convolutions_on_turing(tmp_path, asked, others, remedy):
    record = built(tmp_path / "m.engine", 1, 32, 8, 8, compute_capabilities=asked)
    (message,) = messages(record, "turing")
    assert message.startswith("2 quantized convolution(s), such as first, ")
    assert others in message
    assert remedy in message


def test_without_turing_they_are_int8(tmp_path):
    record = built(tmp_path / "m.engine", 1, 32, 8, 8, compute_capabilities=["8.6"])
    assert record.operators_by_precision == {"INT8": 2}
    assert messages(record, "turing") == []


@pytest.mark.parametrize("shape, options", [((1, 32, 64, 64), {}), (("N", 32, 64, 64), {"shapes": "x:1x32x64x64"})])
def test_zeros_that_are_stored(tmp_path, shape, options):
    """A fourth channel for each pixel of three: 3/4 of what the convolution reads."""
    record = built(tmp_path / "m.engine", *shape, groups=32, **options)
    (message,) = messages(record, "stored-zeros")
    zeros = megabytes(3 * 32 * 64 * 64)
    assert message.startswith(f"{zeros} of the engine are zeros")
    assert "1 convolution(s), such as first, to 4 for each group" in message
    assert "--shapes" in message


@pytest.mark.parametrize(
    "shape, groups", [(("N", 32, 64, 64), 32), ((1, 32, 64, 64), 8), ((1, 32, 64, 64), 1)], ids=["free", "of 4", "one"]
)
def test_no_zeros_are_stored(tmp_path, shape, groups):
    assert messages(built(tmp_path / "m.engine", *shape, groups=groups), "stored-zeros") == []


def test_sizes_in_words():
    assert [megabytes(size) for size in (36_212, 438_868, 8_100_000)] == ["0.04 MB", "0.44 MB", "8.1 MB"]
    assert larger_than(8_100_000, 4_000_000, "an FP32 one").message.startswith(
        "the INT8 engine has 8.1 MB, an FP32 one 4.0 MB: "
    )
