#!/usr/bin/env bash
# An INT8 engine of TensorRT for RTX may be many times larger than the FP32 engine of the same model: each INT8 kernel
# brings its code into the engine, and FP32 products of that size bring none. With small layers the code outweighs the
# weights, of which INT8 saves three quarters.
# For a user: do not judge INT8 by the size of a small model's engine, nor expect a quarter of FP32's.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check tensorrt-rtx==1.7.1.116 onnx==1.23.2

"$work/venv/bin/python" - <<'END'
import numpy as np
import onnx
import tensorrt_rtx as trt
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)


def products(quantized, width):
    """Two matrix products of a width, one behind the other, in float or with INT8 pairs on inputs and weights."""
    constants, nodes, x = {"scale": np.float32(0.02), "zero": np.int8(0)}, [], "x"
    for name in ("a", "b"):
        weight = RANDOM.normal(size=(width, width)).astype(np.float32)
        scales = [f"{name}_scale", f"{name}_zero"]
        constants[f"{name}_w"] = weight
        inputs = [x, f"{name}_w"]
        if quantized:
            constants |= {
                f"{name}_scale": np.abs(weight).max(axis=0) / 127,
                f"{name}_zero": np.zeros(width, np.int8),
            }
            nodes += [
                helper.make_node("QuantizeLinear", [x, "scale", "zero"], [f"{name}_q"]),
                helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"]),
                helper.make_node("QuantizeLinear", [f"{name}_w", *scales], [f"{name}_wq"], axis=1),
                helper.make_node("DequantizeLinear", [f"{name}_wq", *scales], [f"{name}_wdq"], axis=1),
            ]
            inputs = [f"{name}_dq", f"{name}_wdq"]
        nodes.append(helper.make_node("MatMul", inputs, [f"{name}_y"]))
        x = f"{name}_y"
    if not quantized:
        del constants["scale"], constants["zero"]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [16, width])],
        [helper.make_tensor_value_info("b_y", TensorProto.FLOAT, [16, width])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def size_of_engine(quantized, width):
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, logger).parse(products(quantized, width).SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    return engine.nbytes


print("tensorrt_rtx", trt.__version__)
print("expected: the INT8 engine is the smaller one, as its weights take a quarter")
sizes = {width: (size_of_engine(False, width), size_of_engine(True, width)) for width in (64, 1024)}
for width, (fp32, int8) in sizes.items():
    print(f"two {width} x {width} products: FP32 {fp32:>10,} bytes, INT8 {int8:>10,} bytes")
if sizes[64][1] < 3 * sizes[64][0]:
    raise SystemExit("changed: the INT8 engine of the small products is no longer several times larger")
if sizes[1024][1] > sizes[1024][0]:
    raise SystemExit("changed: the INT8 engine of the large products is larger now, too")
END
