"""A model of another library, given where an ONNX model is wanted, is told what to do with it."""

import subprocess
import sys

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.errors import ModelError, TrtcalError
from engines.graph.foreign import kind_of, path_of

FEED = [{"x": np.zeros((1, 3, 4, 4), np.float32)}]

ASKED = {
    "QuantSim": trtcal.QuantSim,
    "collect": lambda model: trtcal.collect(model, FEED),
    "quantize": lambda model: trtcal.quantize(model, trtcal.CalibrationCache({"x": 1.0})),
    "quantize_dynamic": trtcal.quantize_dynamic,
    "OnnxRuntimeSession": trtcal.OnnxRuntimeSession,
    "evaluate": lambda model: trtcal.evaluate({"model": model}, FEED),
    "choose_precisions": lambda model: trtcal.choose_precisions(model, "images", target_sqnr=30),
}


def of_library(module: str) -> object:
    """An object of a class that is derived from one of a library that is not installed."""
    base = type("Base", (), {"__module__": module})
    return type("Network", (base,), {"__module__": "mine"})()


@pytest.mark.parametrize("ask", ASKED)
@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("torch.nn.modules.module", r"Network, a PyTorch model: quantize it with trtcal\.qat, or export it"),
        ("keras.src.models.model", "Network, a TensorFlow or Keras model: write it as ONNX with tf2onnx"),
        ("tensorflow.python.module", "Network, a TensorFlow or Keras model: write it as ONNX with tf2onnx"),
    ],
)
def test_models_of_other_libraries(ask, module, told):
    with pytest.raises(TrtcalError, match=told) as raised:
        ASKED[ask](of_library(module))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("given", [None, 3, b"model.onnx", onnx.GraphProto(), ["a.onnx"]])
@pytest.mark.parametrize("ask", ["QuantSim", "collect", "OnnxRuntimeSession"])
def test_what_is_no_model_at_all(ask, given):
    with pytest.raises(ModelError, match=f"an ONNX model is wanted, .* not an object of type {type(given).__name__}"):
        ASKED[ask](given)


def test_paths_are_paths(tmp_path):
    assert path_of(tmp_path) == path_of(str(tmp_path)) == tmp_path
    assert kind_of(tmp_path) == kind_of(onnx.ModelProto()) == ""


def test_a_pytorch_model_is_known_without_loading_pytorch():
    code = (
        "import sys, trtcal\n"
        "Base = type('Module', (), {'__module__': 'torch.nn'})\n"
        "try: trtcal.QuantSim(type('Net', (Base,), {})())\n"
        "except trtcal.TrtcalError as error: assert 'trtcal.qat' in str(error), error\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
