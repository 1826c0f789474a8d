"""Exported models: in ONNX Runtime they compute what PyTorch simulates, and TensorRT for RTX builds them in INT8."""

import json

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

import onnxruntime
from onnx import numpy_helper

import trtcal
from calibrators.errors import ConfigError, ModelError
from engines.structure.lint import structure_of
from tests.trtcal.qat.networks import IMAGES, Inverted, Perceptron, Residual, images, settled
from tests.trtcal.qat.test_ptq import MODELS, minmax, model_and_batch
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import PTQ, QAT, QuantizationWarning, disable_quantizers, export_onnx


def made_by_ptq(name, **settings):
    """A model that simulates INT8, and the batch that it was calibrated on."""
    model, x = model_and_batch(name)
    observed = PTQ(minmax(**settings)).quantize(model)
    with torch.no_grad():
        observed(x)
    return PTQ().convert(observed), x


def in_onnx_runtime(path, x):
    """The first output of the nodes as they are written."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def assert_computes_the_same(path, model, x):
    with torch.no_grad():
        expected = model(x).numpy()
    found = in_onnx_runtime(path, x)
    step = np.abs(expected).max() / 127
    # A sum in another order may fall on the other side of half a step, and what follows moves by as much.
    assert np.abs(found - expected).max() <= 4 * step
    assert np.median(np.abs(found - expected)) < step / 10


@pytest.mark.parametrize("name", MODELS)
def test_the_exported_model_computes_what_pytorch_does(name, tmp_path):
    model, x = made_by_ptq(name)
    if name == "attention":  # its forward takes the number of samples as a Python number
        with pytest.raises(ModelError, match="dynamic_axes"):
            export_onnx(model, x, tmp_path / "m.onnx")
    free = {} if name == "attention" else None
    written = export_onnx(model, x, tmp_path / "m.onnx", dynamic_axes=free)
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    assert_computes_the_same(tmp_path / "m.onnx", model, x)
    if free is None:
        assert_computes_the_same(tmp_path / "m.onnx", model, torch.cat([x, -x])[: len(x) + 1])
    proto = onnx.load(tmp_path / "m.onnx")
    assert not [each for each in structure_of(proto).findings if each.severity == "error"]
    kinds = {each.name: each.data_type for each in proto.graph.initializer}
    weights = [node for node in proto.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in kinds]
    assert weights
    assert all(kinds[node.input[0]] == onnx.TensorProto.INT8 for node in weights)
    assert written.quantized
    record = json.loads((tmp_path / "m.onnx.json").read_text())
    assert record["quantized"] == list(written.quantized)


@pytest.mark.skipif(not hasattr(torch.onnx, "ops"), reason="torch.export takes the marks from PyTorch 2.8 on")
def test_what_cannot_be_traced_is_exported_by_torch_export_and_nothing_is_printed(tmp_path, capfd):
    torch.manual_seed(0)
    encoder = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 8), encoder, torch.nn.Linear(8, 3)).eval(), torch.randn(6, 5, 4)
    ptq = PTQ(minmax().skip(types=["TransformerEncoderLayer"]))
    observed = ptq.quantize(model)
    with torch.no_grad():
        observed(x)
    made = ptq.convert(observed)
    written = export_onnx(made, x, tmp_path / "m.onnx")
    assert len(written.quantized) == 2
    assert_computes_the_same(tmp_path / "m.onnx", made, x)
    assert capfd.readouterr() == ("", "")


def test_operators_have_the_names_of_their_modules(tmp_path):
    model, x = made_by_ptq("residual")
    written = export_onnx(model, x, tmp_path / "m.onnx", float_model=tmp_path / "float.onnx")
    assert {"/conv/Conv", "/layer1/0/conv1/Conv", "/layer1/1/conv2/Conv", "/layer2/down/0/Conv", "/fc/Gemm"} <= set(
        written.quantized
    )
    parameters = {each.name for each in onnx.load(tmp_path / "float.onnx").graph.initializer}
    assert {"conv.weight", "layer1.0.conv1.weight", "layer2.down.0.bias", "fc.bias"} <= parameters


class Twins(torch.nn.Module):
    """Parameters of equal values, and a weight under two names, around an addition."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.tied = (torch.nn.Conv2d(3, 3, 1) for _ in range(3))
        self.tied.weight = self.first.weight
        for each in (self.first, self.second):
            torch.nn.init.constant_(each.weight, 0.3)
            torch.nn.init.ones_(each.bias)
        self.scale, self.gain = (torch.nn.Parameter(torch.full((1, 3, 1, 1), 2.0)) for _ in range(2))

    def forward(self, x):
        x = x + self.second(self.first(x) * self.scale)
        return self.tied(x * self.gain), self.first.bias


UNTRAINED = {"residual": Residual, "inverted": Inverted, "perceptron": Perceptron, "twins": Twins}


@pytest.mark.parametrize("name", UNTRAINED)
@pytest.mark.parametrize("kind", [PTQ, QAT])
def test_parameters_that_coincide_keep_their_own_names(name, kind, tmp_path):
    """An exporter makes one of them, and gives it each further name by an Identity."""
    torch.manual_seed(0)
    model = UNTRAINED[name]().train(kind is QAT)
    x = torch.randn(8, 8) if name == "perceptron" else images(2, 3, 12, 12)
    prepared = kind().quantize(model)
    prepared(x)
    made = kind().convert(prepared)
    export_onnx(made, x, tmp_path / "m.onnx", float_model=tmp_path / "float.onnx", opset=13)
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    graph = onnx.load(tmp_path / "float.onnx").graph
    read = {name for node in graph.node for name in node.input} - {name for node in graph.node for name in node.output}
    assert read | {"output_1"} >= {each.name for each in (*graph.initializer, *graph.input)} >= read
    biases = {name for name, each in made.named_parameters() if name.endswith("bias")}
    assert biases <= {each.name for each in graph.initializer}
    with torch.no_grad():
        expected = made(x)
    expected = expected[0] if isinstance(expected, tuple) else expected
    np.testing.assert_allclose(
        in_onnx_runtime(tmp_path / "m.onnx", x), expected, atol=4 * float(expected.abs().max()) / 127
    )


def test_its_cache_holds_the_scales_of_its_nodes(tmp_path):
    model, x = made_by_ptq("residual")
    written = export_onnx(model, x, tmp_path / "m.onnx", float_model=tmp_path / "float.onnx")
    cache = trtcal.CalibrationCache.load(written.cache)
    asked = QuantConfig().add_type_config(["Gemm", "MatMul"], precision="int8")  # its scores are few
    again = trtcal.quantize(tmp_path / "float.onnx", cache, config=asked)
    assert set(again.scales) == set(json.loads((tmp_path / "m.onnx.json").read_text())["scales"])
    for name, scale in json.loads((tmp_path / "m.onnx.json").read_text())["scales"].items():
        assert cache[name] == pytest.approx(scale, rel=1e-7)


class InverseSine(torch.nn.Module):
    """Has a function that the tracing exporter does not know."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.second(torch.asinh(self.first(x)).mean((2, 3)))


def test_what_one_exporter_does_not_know_the_other_exports(tmp_path):
    model, x = settled(InverseSine(), *IMAGES), images(*IMAGES)
    observed = PTQ(minmax()).quantize(model)
    observed(x)
    made = PTQ().convert(observed)
    if hasattr(torch.onnx, "ops"):
        written = export_onnx(made, x, tmp_path / "m.onnx")
        assert len(written.quantized) == 2
        assert_computes_the_same(tmp_path / "m.onnx", made, x)
    else:
        with pytest.raises(ModelError, match=r"asinh.*from PyTorch 2\.8 on"):
            export_onnx(made, x, tmp_path / "m.onnx")
        assert not list(tmp_path.iterdir())


class HalfSilent(torch.nn.Module):
    """One of its layers reads nothing but zeros."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return torch.cat([self.first(x), self.second(torch.zeros_like(x))], 1)


def test_a_layer_without_a_scale_is_named_whether_the_model_is_converted_or_not(tmp_path):
    x = images(*IMAGES)
    observed = PTQ(minmax()).quantize(settled(HalfSilent(), *IMAGES))
    observed(x)
    with pytest.warns(QuantizationWarning, match="second stays in float"):
        found = export_onnx(observed, x, tmp_path / "m.onnx", dynamic_axes={}).left_float
    with pytest.warns(QuantizationWarning, match="second stays in float"):
        made = PTQ().convert(observed)
    assert found == export_onnx(made, x, tmp_path / "m.onnx", dynamic_axes={}).left_float
    assert "second" in found


def test_weights_keep_the_levels_that_were_simulated(tmp_path):
    model, x = made_by_ptq("residual", weight_bits=4)
    export_onnx(model, x, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    levels = [
        numpy_helper.to_array(each)
        for each in proto.graph.initializer
        if each.data_type == onnx.TensorProto.INT8 and each.dims and len(each.dims) > 1
    ]
    assert levels
    assert all(np.abs(each).max() == 7 for each in levels)
    assert_computes_the_same(tmp_path / "m.onnx", model, x)


@pytest.mark.parametrize("activation", ["lsq", "pact", "learned-range", "moving-average-absmax"])
def test_after_training(activation, tmp_path):
    torch.manual_seed(0)
    model, x = settled(MODELS["residual"][0](), *IMAGES), images(*IMAGES)
    model = QAT(QuantConfig(LayerSettings(activation=activation, weight="lsq"))).quantize(model.train())
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], 1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    model.eval()
    export_onnx(model, x, tmp_path / "m.onnx")
    assert_computes_the_same(tmp_path / "m.onnx", model, x)


def test_tensorrt_for_rtx_builds_it_in_int8(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    model, x = made_by_ptq("residual")
    written = export_onnx(model, x, tmp_path / "m.onnx")
    record = trtcal.build_engine(tmp_path / "m.onnx", output=tmp_path / "m.engine", backend="tensorrt-rtx").record
    weighted = [
        node for node in onnx.load(tmp_path / "m.onnx").graph.node if node.op_type in ("Conv", "Gemm", "MatMul")
    ]
    assert record.operators_by_precision == {"INT8": len(weighted)}
    assert len(written.quantized) >= len(weighted)


def test_what_tensorrt_cannot_hold_is_refused(tmp_path):
    model, x = made_by_ptq("perceptron", symmetric=False)
    with pytest.raises(ModelError, match="onnxruntime"):
        export_onnx(model, x, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="no calibration cache is written"):
        export_onnx(model, x, tmp_path / "m.onnx", target="onnxruntime")
    assert_computes_the_same(tmp_path / "m.onnx", model, x)


def test_what_is_no_quantized_model_is_refused(tmp_path):
    model, x = model_and_batch("perceptron")
    with pytest.raises(ModelError):
        export_onnx(model, x, tmp_path / "m.onnx")
    observed = PTQ(minmax()).quantize(model)
    with pytest.raises((ModelError, trtcal.TrtcalError)):
        export_onnx(observed, x, tmp_path / "m.onnx")
    made, x = made_by_ptq("perceptron")
    with pytest.raises(ConfigError, match="no target"):
        export_onnx(made, x, tmp_path / "m.onnx", target="paper")
    with pytest.raises(ModelError, match="no name of an ONNX model"):
        export_onnx(made, x, tmp_path / "m.engine")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["ptq", "qat"])
def test_what_is_disabled_is_not_exported(kind, tmp_path):
    model, x = model_and_batch("perceptron")
    made, _ = made_by_ptq("perceptron")
    if kind == "qat":
        made = QAT().quantize(model.train())
        made(x)
    disable_quantizers(made, "activation")
    with pytest.warns(QuantizationWarning, match="no calibration cache is written: no activation is quantized"):
        written = export_onnx(made, x, tmp_path / "m.onnx")
    assert written.cache is None
    assert "QuantizeLinear" not in {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert_computes_the_same(tmp_path / "m.onnx", made.eval(), x)
    disable_quantizers(made)
    with pytest.raises(ModelError, match=r"all quantizers of the model are disabled: call enable_quantizers\(model\)"):
        export_onnx(made, x, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"opset": "17"}, "opset must be from 13 to 20, not '17'"),
        ({"dynamic_axes": {"x": [0]}}, "dynamic_axes names axes by input, as .*not {'x': \\[0\\]}"),
        ({"example_input": np.zeros((2, 8), np.float32)}, "the example is a tensor, or .*not of type ndarray"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message, tmp_path):
    made, x = made_by_ptq("perceptron")
    with pytest.raises(ModelError, match=message):
        export_onnx(made, **{"example_input": x, "path": tmp_path / "m.onnx", **options})


class OfMapping(torch.nn.Module):
    """A dilated convolution of one tensor of a mapping, and one of another."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3, padding="same", dilation=2)
        self.second = torch.nn.Conv2d(3, 4, 1)

    def forward(self, batch):
        return self.first(batch["left"]) + self.second(batch["right"])


def test_an_argument_may_be_a_mapping(tmp_path):
    batch = {"left": images(), "right": images(seed=2)}
    observed = PTQ(minmax()).quantize(OfMapping().eval())
    observed(batch)
    made = PTQ().convert(observed)
    export_onnx(made, (batch,), tmp_path / "m.onnx")
    with trtcal.OnnxRuntimeSession(tmp_path / "m.onnx") as session:  # right without VNNI, too
        (found,) = session.run({"batch_0": batch["left"].numpy(), "batch_1": batch["right"].numpy()}).values()
    np.testing.assert_allclose(found, made(batch).detach().numpy(), rtol=0.02, atol=0.02)
