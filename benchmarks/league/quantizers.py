"""A peer quantizes a model: `PYTHON quantizers.py PEER METHOD MODEL.onnx CALIBRATION.npz OUTPUT.onnx`.

This file runs in the peer's own environment, which has no trtcal: it imports nothing of this project, and each peer
only where it is asked for. The last line of standard output is JSON: the peer's version, and what it ran on.
"""

import json
import sys
from importlib.metadata import version

import numpy as np
import onnx


def model_optimizer(method, model, arrays, output):
    """NVIDIA's Model-Optimizer: INT8 with TensorRT's placement; what it leaves in float stays in 32 bits."""
    from modelopt.onnx.quantization import quantize

    quantize(
        model,
        calibration_data=arrays,
        calibration_method=method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=output,
    )


def onnxruntime(method, model, arrays, output):
    """ONNX Runtime's `quantize_static`: symmetric INT8, weights per channel, only in front of weighted operators.

    Biases in float and a pair on a residual addition's inputs, as TensorRT has it, cannot be had together with its
    other settings: additions are left alone.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self._samples = iter(range(len(next(iter(arrays.values())))))

        def get_next(self):
            place = next(self._samples, None)
            return None if place is None else {name: each[place : place + 1] for name, each in arrays.items()}

    prepared = output + ".prepared.onnx"
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        output,
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod[method],
        op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "MatMul"],
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )


PEERS = {
    "nvidia-modelopt": model_optimizer,
    "onnxruntime": onnxruntime,
}


def main():
    """Quantize, and say by which version."""
    peer, method, model, samples, output = sys.argv[1:]
    with np.load(samples) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    installed = version(peer)
    PEERS[peer](method, model, arrays, output)
    told = {"version": installed, "onnx": onnx.__version__, "onnxruntime": version("onnxruntime")}
    sys.stdout.write("\n" + json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
