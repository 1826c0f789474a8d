import os
import re
import signal
import threading
import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from calibrators.errors import BuildError, MissingDependencyError
from calibrators.installation import pip_install
from engines.backends.backend import BuildOptions, Log, Plan
from engines.backends.shapes import Profile
from engines.backends.tensorrt_rtx import TensorRTRTX
from tests.engines.networks import attention

pytestmark = pytest.mark.usefixtures("rtx")

BATCHES = {"x": Profile(*((batch, 16, 16, 16) for batch in (1, 8, 32)))}


def build(model: onnx.ModelProto, log: Log | None = None, **options: Any) -> Plan:
    settings: dict[str, Any] = {"profiles": BATCHES, "compute_capabilities": (), "progress": None} | options
    return TensorRTRTX().build(model, log=log if log is not None else [], **settings)


def test_an_engine_with_its_inputs_and_outputs(convolutions: onnx.ModelProto) -> None:
    log: Log = []
    steps: list[int] = []
    plan = build(convolutions, log, progress=steps.append)
    assert len(plan.data) > 10000
    assert [(tensor.name, tensor.type, tensor.shape) for tensor in plan.inputs] == [("x", "FLOAT", (-1, 16, 16, 16))]
    assert [tensor.name for tensor in plan.outputs] == ["c2_relu_out"]
    assert set(steps) == {1}
    assert {"info", "verbose"} <= {severity for severity, _ in log}
    assert not any(severity == "error" for severity, _ in log)


def test_it_knows_the_gpus_that_the_library_knows(rtx: Any) -> None:
    backend = TensorRTRTX()
    assert backend.version == rtx.__version__
    assert {"7.5", "8.0", "8.6", "8.9", "12.0"} <= set(backend.compute_capabilities)


def test_a_second_build_has_a_log_of_its_own(convolutions: onnx.ModelProto) -> None:
    first: Log = []
    second: Log = []
    build(convolutions, first)
    size = len(first)
    build(convolutions, second)
    assert len(first) == size
    assert not any(severity == "warning" for severity, _ in second)


def test_builds_from_several_threads_do_not_mix_their_logs(
    convolutions: onnx.ModelProto, float_convolutions: onnx.ModelProto
) -> None:
    logs: list[Log] = [[], []]
    threads = [
        threading.Thread(target=build, args=(model, log))
        for model, log in zip((convolutions, float_convolutions), logs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["QuantizeLinear" in "".join(text for _, text in log) for log in logs] == [True, False]


def test_ctrl_c_stops_the_build(convolutions: onnx.ModelProto) -> None:
    log: Log = []

    pressed: list[int] = []

    def interrupt(step: int) -> None:
        pressed.append(step)
        if len(pressed) == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)  # the build is so short that it would be over before the other thread has had its turn

    with pytest.raises(KeyboardInterrupt):
        build(convolutions, log, progress=interrupt)
    assert any("canceled" in text.lower() for severity, text in log if severity == "error")
    assert len(build(convolutions).data) > 10000  # and the next one works


def test_operators_that_it_does_not_have_are_all_named(network: Any) -> None:
    built = network("N", 16, 16, 16)
    for index, source in enumerate(("x", "own_0")):
        built.nodes.append(
            onnx.helper.make_node(f"Own{index}", [source], [f"own_{index}"], name=f"n{index}", domain="a.b")
        )
    with pytest.raises(BuildError) as raised:
        build(built.model("own_1", domains=["a.b"]))
    message = str(raised.value)
    assert message.startswith("TensorRT-RTX cannot take 2 operators of the model: Own0 n0: Plugin not found")
    assert "; Own1 n1: Plugin not found" in message
    assert "\n" not in message


def test_an_operator_without_a_reason(network: Any) -> None:
    built = network("N", 16, 16, 16)
    with pytest.raises(BuildError, match="an operator of the model: Bernoulli coin: unsupported node; replace"):
        build(built.model(built.node("Bernoulli", ["x"], "coin")))


def test_what_only_the_builder_refuses(network: Any) -> None:
    built = network(1, 100, 4)
    scores = built.node("Transpose", [built.node("ReduceMean", ["x"], "mean", axes=[2])], "scores", perm=[0, 2, 1])
    limits = [built.constant("count", np.array([10], np.int64)), built.constant("overlap", np.array([0.5], np.float32))]
    boxes = built.node("NonMaxSuppression", ["x", scores, *limits], "suppress")
    with pytest.raises(BuildError) as raised:
        build(built.model(boxes, output_type=TensorProto.INT64), profiles={})
    message = str(raised.value)
    assert "suppress" in message
    assert "/_src/" not in message
    assert "cudaError" not in message


def test_a_float_product_for_turing_is_refused_by_name(network: Any) -> None:
    built = network("N", 16, 16, 16)
    product = built.node("MatMul", ["x", built.weights("w", (16, 16), quantized=False)], "product")
    with pytest.raises(
        BuildError,
        match=r"'product' for Turing .*FP32 GEMM is not supported; build for it with --precision fp16",
    ):
        build(built.model(product), compute_capabilities=("7.5",))


def test_an_input_that_holds_a_shape(network: Any) -> None:
    built = network("N", 12)
    built.inputs.append(onnx.helper.make_tensor_value_info("shape", TensorProto.INT64, [2]))
    with pytest.raises(BuildError, match="input shape holds a shape, not data"):
        build(built.model(built.node("Reshape", ["x", "shape"], "reshaped")), profiles={"x": Profile.fixed((2, 12))})


def test_a_model_too_large_for_one_message_goes_through_a_file(
    float_convolutions: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a model over 2 GB does; what fails there is made to fail here."""
    serialize = onnx.ModelProto.SerializeToString
    whole = float_convolutions.ByteSize()

    def limited(model: onnx.ModelProto, **options: Any) -> bytes:
        if model.ByteSize() >= whole:
            raise ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB")
        return serialize(model, **options)

    monkeypatch.setattr(onnx.ModelProto, "SerializeToString", limited)
    before = [tensor.raw_data for tensor in float_convolutions.graph.initializer]
    assert len(build(float_convolutions).data) > 10000
    assert [tensor.raw_data for tensor in float_convolutions.graph.initializer] == before


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match=re.escape(pip_install("rtx"))):
        TensorRTRTX()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimization_level": 0}, "--optimization-level is of no use to TensorRT-RTX"),
        ({"hardware_compatibility": "ampere+"}, "--hardware-compatibility is of no use .*--compute-capability"),
        ({"version_compatible": True}, "--version-compatible is not for TensorRT-RTX"),
        ({"sparsity": True}, "--sparsity is of no use"),
        ({"timing_cache": "times"}, "--timing-cache is of no use .* ask for a GPU: leave it out"),
        ({"layer_precisions": {"c1": "fp32"}}, "--layer-precision is not for TensorRT-RTX"),
    ],
)
def test_options_that_it_cannot_honour(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BuildError, match=said) as raised:
        TensorRTRTX().check(BuildOptions(**options))
    assert "\n" not in str(raised.value)


def test_the_workspace_is_a_limit(convolutions: onnx.ModelProto) -> None:
    options = BuildOptions(workspace=1 << 30)
    TensorRTRTX().check(options)
    assert len(build(convolutions, options=options).data) > 10000
    with pytest.raises(BuildError, match="workspace limit"):
        build(convolutions, options=BuildOptions(workspace=1))


def test_the_phases_of_a_build_have_names(convolutions: onnx.ModelProto) -> None:
    phases: list[str] = []
    build(convolutions, phase=phases.append)
    assert phases
    assert all(isinstance(name, str) and name for name in phases)


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_attention_in_fp32(heads: int) -> None:
    lengths = {"x": Profile(*((batch, 16, 64) for batch in (1, 8, 32)))}
    assert len(build(attention(heads=heads), profiles=lengths).data) > 10000
