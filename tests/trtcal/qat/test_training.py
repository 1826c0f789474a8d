"""Quantization-aware training of small models: what is put in, that it learns, and what comes out."""

import copy
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import nn

from calibrators.errors import ConfigError, DataError, ModelError
from calibrators.grid import Grid
from tests.trtcal.qat.networks import (
    IMAGES,
    Attention,
    Branching,
    Functions,
    Inverted,
    Perceptron,
    Residual,
    Segmenter,
    images,
    settled,
)
from tests.trtcal.qat.training import settings, train
from trtcal.config.settings import QuantConfig
from trtcal.qat import LSQ, PTQ, QAT, FixedQuantizer, QuantizationWarning, Quantizer, encodings, quantized_modules
from trtcal.qat.folding import FoldedBatchNorm

MODELS = {
    "residual": (Residual, IMAGES),
    "inverted": (Inverted, IMAGES),
    "segmenter": (Segmenter, IMAGES),
    "attention": (Attention, (8, 6, 12)),
    "functions": (Functions, IMAGES),
    "perceptron": (Perceptron, (64, 8)),
}
PAIRS = [
    ("lsq", "lsq"),
    ("lsq+", "lsq+"),
    ("pact", "absmax"),
    ("learned-range", "learned-range"),
    ("moving-average-absmax", "absmax"),
]


def model_and_batch(name):
    kind, shape = MODELS[name]
    return settled(kind(), *shape).train(), images(*shape)


@pytest.mark.parametrize("activation, weight", PAIRS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_pair_of_quantizers_learns_at_four_bits(activation, weight, symmetric):
    model, x = model_and_batch("residual")
    made = QAT(settings(activation, weight, 4, symmetric=symmetric)).quantize(model)
    losses = train(made, x, penalty=1e-4)
    assert losses[-1] < 0.9 * losses[0]
    for name, each in encodings(made).items():
        assert all(encoding.grid.bits == 4 for encoding in each.values()), name


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_computes_what_was_trained(name):
    model, x = model_and_batch(name)
    made = QAT(settings()).quantize(model)
    losses = train(made, x, 10)
    assert losses[-1] < losses[0]
    with torch.no_grad():
        expected = made.eval()(x)
        converted = QAT().convert(made)
        torch.testing.assert_close(converted(x), expected, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(each, (Quantizer, FoldedBatchNorm)) for each in converted.modules())
    assert all(isinstance(module.input_quantizer, FixedQuantizer) for _, module in quantized_modules(converted))
    assert {name: each.keys() for name, each in encodings(made).items()} == {
        name: each.keys() for name, each in encodings(converted).items()
    }
    for layer, each in encodings(made).items():
        assert each == encodings(converted)[layer]


@pytest.mark.parametrize("weight", ["absmax", "lsq", "lsq+", "learned-range"])
def test_it_is_converted_with_weights_as_they_are_after_the_last_step(weight):
    model, x = model_and_batch("functions")
    made = QAT(settings(weight=weight)).quantize(model)
    train(made, x, 3, rate=0.2)
    with torch.no_grad():
        converted = QAT().convert(made)
        torch.testing.assert_close(converted(x), made.eval()(x), rtol=1e-5, atol=1e-5)


def test_the_same_seed_gives_the_same_model():
    found = []
    for _ in range(2):
        model, x = model_and_batch("residual")
        made = QAT(settings("lsq+", "lsq+", 4)).quantize(model)
        train(made, x, 4)
        found.append(encodings(made))
    assert found[0] == found[1]


def test_at_sixteen_bits_it_computes_nearly_what_the_float_model_does():
    model, x = model_and_batch("residual")
    made = QAT(settings("learned-range", "absmax", 16)).quantize(model)
    with torch.no_grad():
        torch.testing.assert_close(made(x), copy.deepcopy(model)(x), rtol=2e-3, atol=2e-3)


def test_layers_that_read_the_same_tensor_share_its_quantizer():
    model, x = model_and_batch("residual")
    made = QAT(settings()).quantize(model)
    assert made.layer1[0].add.input_quantizer.leader is made.layer1[0].conv1.input_quantizer
    assert made.layer2.down[0].input_quantizer.leader is made.layer2.conv1.input_quantizer
    assert isinstance(made.layer1[0].conv2.input_quantizer, LSQ)
    assert "layer1.0.add.input_quantizer.step" not in made.state_dict()
    train(made, x, 2)
    found = encodings(made)
    assert found["layer1.0.conv1"]["input_quantizer"] == found["layer1.0.add"]["input_quantizer"]
    other = copy.deepcopy(made)
    assert other.layer1[0].conv1.input_quantizer is other.layer1[0].add.input_quantizer.leader
    converted = QAT().convert(made)
    assert converted.layer1[0].conv1.input_quantizer is converted.layer1[0].add.input_quantizer
    apart = QAT(settings().add_name_config("layer1.0.conv1", activation="lsq+")).quantize(model)
    assert isinstance(apart.layer1[0].add.input_quantizer, LSQ)


class SkipFirst(nn.Module):
    """Reads the tensor of its first layer before that does, behind a move."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 3, 3, 1, 1)

    def forward(self, x):
        skip = x[:, :, ::2, ::2]
        return self.conv2(torch.relu(self.conv1(x))) + skip


def test_the_first_to_read_a_tensor_has_its_quantizer():
    made = QAT(settings()).quantize(SkipFirst())
    assert isinstance(made.add.input_quantizer, LSQ)
    assert made.conv1.input_quantizer.leader is made.add.input_quantizer
    assert train(made, images(), 3)[-1] > 0
    assert encodings(made)["conv1"]["input_quantizer"] == encodings(made)["add"]["input_quantizer"]


def test_the_float_model_s_state_dict_loads_strictly():
    model, x = model_and_batch("residual")
    other = settled(Residual(), *IMAGES, seed=3).train()
    made = QAT(settings("lsq", "lsq", 8)).quantize(model)
    train(made, x, 2)
    made.load_state_dict(other.state_dict())
    expected = QAT(settings("lsq", "lsq", 8)).quantize(other)
    made(x), expected(x)
    for name, each in encodings(expected).items():
        if "weight_quantizer" in each:  # the scales of weights begin anew
            found = encodings(made)[name]["weight_quantizer"].scale
            np.testing.assert_allclose(found, each["weight_quantizer"].scale, rtol=5e-3)


@pytest.mark.parametrize("batches", [0, 3])
@pytest.mark.parametrize("activation, weight", PAIRS)
def test_a_state_dict_goes_around_and_training_goes_on_from_it(activation, weight, batches):
    model, x = model_and_batch("residual")
    front = QAT(settings(activation, weight, 4), freeze_batch_norm_after=2)
    made, fresh = front.quantize(model), front.quantize(Residual())
    train(made, x, batches)
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    if batches:
        assert encodings(made) == encodings(fresh)
        assert torch.equal(made.eval()(x), fresh.eval()(x))
    target = images(12, 10, seed=9)
    assert train(made.train(), x, 3, target=target) == train(fresh.train(), x, 3, target=target)


def test_batch_normalization_freezes_after_so_many_steps():
    model, x = model_and_batch("residual")
    made = QAT(settings(), freeze_batch_norm_after=2).quantize(model)
    assert isinstance(made.bn, FoldedBatchNorm) and made.conv.norm is made.bn
    seen = []
    for _ in range(4):
        train(made, x, 1)
        seen.append(made.bn.running_mean.clone())
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[3])


def test_it_can_be_left_unfolded():
    model, x = model_and_batch("residual")
    made = QAT(settings(), fold_batch_norm=False).quantize(model)
    assert type(made.bn) is nn.BatchNorm2d and made.conv.norm is None
    train(made, x, 3)
    expected = made.eval()(x)
    converted = QAT().convert(made)
    assert type(converted.bn) is nn.BatchNorm2d
    torch.testing.assert_close(converted(x), expected)


def test_mixed_precision_by_configuration():
    model, x = model_and_batch("residual")
    config = settings(bits=4).add_type_config(nn.Linear, precision="fp16").skip(first_convolutions=1)
    config.add_name_config("layer2.*", weight_bits=8, activation_bits=8)
    made = QAT(config).quantize(model)
    assert type(made.conv) is nn.Conv2d and type(made.fc) is nn.Linear and type(made.bn) is nn.BatchNorm2d
    train(made, x, 2)
    found = encodings(made)
    assert found["layer1.0.conv1"]["weight_quantizer"].grid == Grid(4, narrow=True)
    assert found["layer2.conv1"]["weight_quantizer"].grid.bits == 8


def test_a_model_in_evaluation_mode_is_refused():
    with pytest.raises(ModelError, match=r"begins in training mode: call model.train\(\) first"):
        QAT().quantize(Residual().eval())


@pytest.mark.parametrize("steps", [-1, True, "100"])
def test_freezing_after_what_is_no_number_of_steps_is_refused(steps):
    with pytest.raises(ConfigError, match="freeze_batch_norm_after must be a number of steps"):
        QAT(freeze_batch_norm_after=steps)


def test_evaluating_before_training_says_what_to_do():
    made = QAT().quantize(Residual())
    with pytest.raises(ModelError, match=r"the input of conv has no range yet: run a batch .* \(model.train\(\)"):
        made.eval()(images())
    with pytest.raises(ModelError, match="the input of conv has no range yet: train the model first"):
        QAT().convert(made)


def test_converting_what_is_not_trained_or_twice_is_refused():
    model, x = model_and_batch("residual")
    with pytest.raises(ModelError, match="the model was not quantized"):
        QAT().convert(model)
    made = QAT().quantize(model)
    made(x)
    with pytest.raises(ModelError, match=r"quantized to be trained: convert it with QAT\(config\).convert\(model\)"):
        PTQ().convert(made)
    with pytest.raises(ModelError, match=r"convert it with PTQ\(config\).convert\(model\)"):
        QAT().convert(PTQ().quantize(model.eval()))
    converted = QAT().convert(made)
    with pytest.raises(ModelError, match="converted already"):
        QAT().convert(converted)
    with pytest.raises(ModelError, match="quantized already"):
        QAT().quantize(made)


@pytest.mark.parametrize(
    "setting, message",
    [
        (
            {"activation": "entropy"},
            "the input of fc: 'entropy' is no quantizer to train with: choose activation among lsq, ",
        ),
        ({"weight": "mse"}, "the weight of fc: 'mse' is no quantizer to train with: choose weight among absmax, lsq, "),
    ],
)
def test_methods_without_training_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        QAT(QuantConfig().add_name_config("fc", **setting)).quantize(Residual())


def test_a_first_batch_that_is_no_number_is_refused_with_the_layer():
    model, x = model_and_batch("residual")
    x[0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="the input of conv is NaN or infinite in the first batch"):
        QAT().quantize(model)(x)


def test_a_part_that_cannot_be_traced_is_trained_all_the_same():
    with pytest.warns(QuantizationWarning, match="branch stays in float"):
        made = QAT(settings()).quantize(Branching())
    losses = train(made, images(), 6)
    assert losses[-1] < losses[0]
    assert isinstance(made.branch.body[1], FoldedBatchNorm)


@pytest.mark.parametrize("activation, weight", PAIRS)
def test_autocast_trains_with_scales_in_float32(activation, weight):
    model, x = model_and_batch("residual")
    made = QAT(settings(activation, weight)).quantize(model)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.02)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = made(x)
            loss = ((result.float() - images(12, 10, seed=5)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert result.dtype == torch.bfloat16 and losses[-1] < losses[0]
    for parameter in made.parameters():
        assert parameter.dtype == torch.float32 and torch.isfinite(parameter.grad).all()


def test_every_parameter_has_a_gradient():
    for name in MODELS:
        model, x = model_and_batch(name)
        made = QAT(settings("lsq+", "lsq+", 4, symmetric=False)).quantize(model)
        train(made, x, 1)
        assert [key for key, each in made.named_parameters() if each.grad is None] == [], name
