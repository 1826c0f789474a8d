"""ONNX Runtime's `quantize_static`: Q/DQ nodes from the same samples."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader

from calibrators.ranges import calibrate
from engines.collection.collect import collect
from engines.qdq.to_cache import qdq_scales
from engines.qdq.write import quantize
from tests.engines.networks import samples_of
from tests.peers.installed import differs
from tests.peers.networks import plain

as_read = differs("onnxruntime", read="1.31.1")


class Reader(CalibrationDataReader):
    def __init__(self, batches) -> None:
        self._batches = iter(batches)

    def get_next(self):
        return next(self._batches, None)


def theirs(folder: Path, **options: object) -> onnx.ModelProto:
    model = plain()
    onnx.save(model, folder / "model.onnx")
    quantize_static(
        folder / "model.onnx",
        folder / "quantized.onnx",
        Reader(samples_of(model, 5)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        **options,
    )
    return onnx.load(folder / "quantized.onnx")


def ours() -> onnx.ModelProto:
    model = plain()
    return quantize(model, calibrate(collect(model, samples_of(model, 5)), "minmax")).model


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def weights(model: onnx.ModelProto) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The integer weight and the scales of each operator with a weight, by the name of its output."""
    known, makers = constants(model), {name: node for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            dequantize = makers[node.input[1]]
            source = dequantize.input[0]
            integers = known[source if source in known else makers[source].input[0]]
            found[node.output[0].removesuffix("_QuantizeLinear_Input")] = integers, known[dequantize.input[1]]
    return found


SYMMETRIC = {"activation_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}}


def test_scales_of_activations_are_the_same(tmp_path: Path) -> None:
    own, other = qdq_scales(ours()).scales, qdq_scales(theirs(tmp_path, **SYMMETRIC)).scales
    assert {"image", "pooled", "flat"} <= set(own) & set(other)
    for name in set(own) & set(other):
        assert own[name] == pytest.approx(other[name], rel=1e-6)


def test_weights_and_their_scales_are_the_same(tmp_path: Path) -> None:
    own, other = weights(ours()), weights(theirs(tmp_path, **SYMMETRIC))
    assert list(own) == list(other) == ["a", "b", "scores"]
    for name, (integers, scales) in own.items():
        assert integers.dtype == np.int8
        assert np.array_equal(integers, other[name][0])
        assert scales == pytest.approx(other[name][1], rel=1e-6)


@as_read
def test_by_default_their_activations_are_not_symmetric(tmp_path: Path) -> None:
    """A signed grid with a zero point, which TensorRT does not take; and biases in 32 bits, which ours leaves alone."""
    model = theirs(tmp_path)
    known = constants(model)
    zero_points = [known[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert any(each.any() for each in zero_points)
    assert {str(each.dtype) for each in known.values()} >= {"int32"}
    assert not any(each.any() for name, each in constants(ours()).items() if "zero" in name)
    assert {str(each.dtype) for each in constants(ours()).values()} == {"int8", "float32"}
