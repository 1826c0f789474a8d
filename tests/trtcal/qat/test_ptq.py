"""Post-training quantization: observe, then simulate; the same scales as of the exported model."""

import copy
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import nn

import trtcal
from calibrators.encoding import Encoding
from calibrators.errors import ConfigError, DataError, ModelError
from calibrators.grid import Grid
from calibrators.ranges import range_of
from calibrators.weights import weight_encoding
from engines.simulation.simulated_model import Simulation
from tests.trtcal.qat.networks import (
    IMAGES,
    Attention,
    Branching,
    Functions,
    Inverted,
    Perceptron,
    Residual,
    Segmenter,
    exported,
    images,
    settled,
)
from tests.trtcal.qat.test_plan import RESIDUAL
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import (
    PTQ,
    FixedQuantizer,
    QuantizationWarning,
    TracedModel,
    encodings,
    left_in_float,
    quantized_modules,
)
from trtcal.qat.observers import Observer

MODELS = {
    "residual": (Residual, IMAGES),
    "padded": (lambda: Residual(padded=True), IMAGES),
    "inverted": (Inverted, IMAGES),
    "segmenter": (Segmenter, IMAGES),
    "attention": (Attention, (8, 6, 12)),
    "functions": (Functions, IMAGES),
    "perceptron": (Perceptron, (64, 8)),
}


def model_and_batch(name):
    kind, shape = MODELS[name]
    return settled(kind(), *shape), images(*shape)


def minmax(**settings):
    return QuantConfig(LayerSettings(activation="minmax", **settings))


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("name", MODELS)
def test_observed_a_model_computes_what_it_did_and_converted_nearly_so(name):
    model, x = model_and_batch(name)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = model(x)
        observed = PTQ(minmax()).quantize(model)
        torch.testing.assert_close(observed(x), expected, rtol=1e-4, atol=1e-4)
        made = PTQ().convert(observed)
        assert 0 < relative(made(x), expected) < 0.08
        sixteen = PTQ(minmax(activation_bits=16, weight_bits=16)).quantize(model)
        sixteen(x)
        assert relative(PTQ().convert(sixteen)(x), expected) < 5e-4
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(isinstance(module, Observer) for module in made.modules())


def test_batch_normalization_is_folded_and_gone():
    model, x = model_and_batch("residual")
    observed = PTQ().quantize(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in observed.modules())
    assert isinstance(observed, TracedModel) and isinstance(observed.layer1[0].bn1, nn.Identity)
    torch.testing.assert_close(observed(x), model(x), rtol=1e-4, atol=1e-4)


def test_scales_are_those_of_the_exported_model(tmp_path):
    """As `trtcal.collect` and `trtcal.encodings` find them in ONNX Runtime: but for the rounding of activations."""
    model, x = model_and_batch("residual")
    observed = PTQ(QuantConfig(LayerSettings(activation="mse"))).quantize(model)
    for batch in x.split(5):
        observed(batch)
    found = encodings(observed)
    path = exported(model, x[:2], tmp_path / "model.onnx")
    expected = trtcal.encodings(trtcal.collect(path, [x.numpy()], tensors="quantizable"), method="mse")
    simulation = Simulation(path)
    assert set(found) == set(RESIDUAL) and len(simulation.layers) == len(RESIDUAL)
    additions = [name for name in RESIDUAL if name.endswith("add")]
    for layer in simulation.layers:
        name = additions.pop(0) if layer.weight is None else named(observed, simulation.weight(layer.name))
        scale = found[name]["input_quantizer"].scale
        np.testing.assert_allclose(scale, expected[layer.activation].scale, rtol=1e-5)
        if layer.weight is not None:
            of_weight = weight_encoding(simulation.weight(layer.name), axis=layer.axis)
            np.testing.assert_allclose(found[name]["weight_quantizer"].scale, of_weight.scale, rtol=1e-5)


def named(model, weight):
    """The layer with a weight."""
    (name,) = [
        name
        for name, module in quantized_modules(model)
        if hasattr(module, "weight") and module.weight.shape == weight.shape
        if np.allclose(module.weight.detach().numpy(), weight, atol=1e-5)
    ]
    return name


def test_statistics_do_not_depend_on_the_batches():
    model, x = model_and_batch("attention")
    config = QuantConfig(LayerSettings(activation="mean"))
    found = []
    for size in (1, 3, 8):
        observed = PTQ(config).quantize(model)
        with torch.no_grad():
            for batch in x.split(size):
                observed(batch)
        found.append({name: module.input_quantizer.statistics() for name, module in quantized_modules(observed)})
    for name, statistics in found[0].items():
        assert statistics.samples == 8
        for other in found[1:]:
            assert other[name].mean_absmax == pytest.approx(statistics.mean_absmax, rel=1e-5)


def test_the_root_may_be_the_layer():
    layer, x = nn.Linear(6, 3).eval(), images(10, 6)
    observed = PTQ(minmax()).quantize(layer)
    observed(x)
    made = PTQ().convert(observed)
    assert isinstance(made, nn.Linear)
    assert encodings(made)[""]["input_quantizer"] == Encoding.symmetric(x.abs().max().item())


@pytest.mark.parametrize("name", ["residual", "segmenter"])
def test_in_place_the_model_itself_is_changed(name):
    model, x = model_and_batch(name)
    expected = model(x)
    observed = PTQ(minmax()).quantize(model, inplace=True)
    assert (observed is model) == (name == "segmenter")
    assert next(observed.children()) is next(model.children())
    torch.testing.assert_close(observed(x), expected, rtol=1e-4, atol=1e-4)
    made = PTQ().convert(observed, inplace=True)
    assert made is observed and relative(made(x), expected) < 0.05


def test_a_converted_model_goes_around_in_a_state_dict():
    model, x = model_and_batch("residual")
    made = []
    for factor in (1, 2):
        observed = PTQ(minmax()).quantize(model)
        observed(factor * x)
        made.append(PTQ().convert(observed))
    assert not torch.equal(made[0](x), made[1](x))
    made[1].load_state_dict(made[0].state_dict())
    assert torch.equal(made[0](x), made[1](x))


def test_calibration_goes_on_from_a_state_dict():
    model, x = model_and_batch("residual")
    whole, first, second = (PTQ().quantize(model) for _ in range(3))
    for batch in x.split(8):
        whole(batch)
    first(x[:8])
    second.load_state_dict(first.state_dict())
    second(x[8:])
    assert encodings(second) == encodings(whole)


def test_settings_decide_bits_grids_granularity_and_method():
    model, x = model_and_batch("residual")
    config = (
        minmax()
        .add_name_config("conv", activation_bits=4, weight_bits=4)
        .add_name_config("layer1.0.conv1", symmetric=False, granularity="tensor")
        .add_name_config("layer1.0.conv2", symmetric=False, activation_bits=4)
        .add_name_config("fc", activation="mse", weight="mse")
    )
    observed = PTQ(config).quantize(model)
    observed(x)
    found = encodings(observed)
    assert found["conv"]["input_quantizer"].grid == Grid(4)
    assert found["conv"]["weight_quantizer"].grid == Grid(4, narrow=True)
    assert found["layer1.0.conv1"]["input_quantizer"].grid == Grid(8, symmetric=False)
    assert found["layer1.0.conv1"]["input_quantizer"].zero_point == -128
    assert found["layer1.0.conv1"]["weight_quantizer"].axis is None
    assert found["layer1.0.conv2"]["input_quantizer"].grid == Grid(4, signed=False, symmetric=False)
    assert found["layer1.0.conv2"]["input_quantizer"].zero_point == 0  # as TensorRT wants it
    statistics = observed.fc.input_quantizer.statistics()
    expected = Encoding.of_range(range_of(statistics, "mse"))
    assert found["fc"]["input_quantizer"] == expected
    weight = model.fc.weight.detach().numpy()
    assert found["fc"]["weight_quantizer"] == weight_encoding(weight, axis=0, method="mse")


def test_a_configuration_counts_as_it_was_and_for_instances_too():
    model, x = model_and_batch("residual")
    config = minmax().add_layer_config([model.conv, model.layer1[0].conv2], weight_bits=4)
    front = PTQ(config)
    config.add_layer_config(model.fc, weight_bits=2)
    observed = front.quantize(model)
    found = {
        name: each["weight_quantizer"].grid.bits
        for name, each in encodings(run(observed, x)).items()
        if "add" not in name
    }
    assert {name for name, bits in found.items() if bits == 4} == {"conv", "layer1.0.conv2"}
    assert found["fc"] == 8


def run(model, *batches):
    for batch in batches:
        model(batch)
    return model


def test_what_stays_in_float_is_listed():
    model, x = model_and_batch("residual")
    observed = run(PTQ(minmax().skip(names=["layer1.*"])).quantize(model), x)
    made = PTQ().convert(observed)
    assert {name for name, _ in quantized_modules(made)} == {
        "conv",
        "layer2.conv1",
        "layer2.conv2",
        "layer2.down.0",
        "layer2.add",
        "fc",
    }
    assert set(left_in_float(made)) == {
        f"layer1.{block}.{each}" for block in (0, 1) for each in ("conv1", "conv2", "add")
    }
    assert type(made.layer1[0].conv1) is nn.Conv2d


class Dead(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.second(self.first(x) * 0)


def test_a_tensor_of_zeros_stays_in_float_with_a_warning():
    model = Dead().eval()
    observed = run(PTQ().quantize(model), images(8, 4))
    with pytest.warns(QuantizationWarning, match="second stays in float: its input was 0 throughout"):
        made = PTQ().convert(observed)
    assert torch.equal(made(images(8, 4)), model(images(8, 4)))
    assert set(encodings(made)) == {"first"} and "second" in left_in_float(made)


def test_a_model_in_training_mode_is_refused():
    model = Residual().eval()
    model.layer1.train()
    with pytest.raises(ModelError, match=r"call model.eval\(\) first"):
        PTQ().quantize(model)


def test_quantizing_and_converting_in_the_wrong_order_is_refused():
    model, x = model_and_batch("residual")
    with pytest.raises(ModelError, match="the model was not quantized: call PTQ"):
        PTQ().convert(model)
    observed = PTQ().quantize(model)
    with pytest.raises(ModelError, match="the model is quantized already: give the float model"):
        PTQ().quantize(observed)
    with pytest.raises(
        DataError, match=r"no data were run through the model: calibrate it with batches, as model\(batch\)"
    ):
        PTQ().convert(observed)
    made = PTQ().convert(run(observed, x))
    with pytest.raises(ModelError, match="the model was converted already"):
        PTQ().convert(made)
    with pytest.raises(ModelError, match="the model is quantized already"):
        PTQ().quantize(made)
    with pytest.raises(ModelError, match=r"a PyTorch model .* is wanted, not str"):
        PTQ().quantize("model.pt")


def test_a_layer_that_no_data_reached_is_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)
        observed = PTQ().quantize(Branching().eval())
    observed.first(images())
    with pytest.raises(DataError, match="the input of second was not calibrated: run data"):
        PTQ().convert(observed)


def test_weights_of_functions_need_no_data_after_a_state_dict():
    model, x = model_and_batch("functions")
    observed, fresh = (PTQ(minmax()).quantize(model) for _ in range(2))
    run(observed, x)
    fresh.load_state_dict(observed.state_dict())
    assert encodings(PTQ().convert(fresh)) == encodings(PTQ().convert(observed))


def test_data_that_are_no_numbers_are_refused_with_the_layer():
    model, x = model_and_batch("residual")
    x[3, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="the input of conv is NaN for sample 3 of batch 0"):
        run(PTQ().quantize(model), x)


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"activation": "lsq"},
            r"the input of fc: 'lsq' is a quantizer to train with \(QAT\): PTQ takes a range method",
        ),
        ({"weight": "lsq+"}, "the weight of fc: 'lsq\\+' is a quantizer to train with .*PTQ takes 'absmax' or 'mse'"),
        ({"granularity": "block:32"}, "fc: PyTorch models have scales per channel or tensor, not by block:32"),
    ],
)
def test_settings_that_are_for_something_else_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        PTQ(QuantConfig().add_name_config("fc", **settings)).quantize(Residual().eval())


def test_a_fixed_quantizer_is_where_an_observer_was():
    model, x = model_and_batch("attention")
    made = PTQ(minmax()).convert(run(PTQ(minmax()).quantize(model), x))
    for name, module in quantized_modules(made):
        assert isinstance(module.input_quantizer, FixedQuantizer), name
    assert isinstance(made.matmul.second_quantizer, FixedQuantizer)
    assert not made._forward_pre_hooks
