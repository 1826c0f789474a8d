"""Switches for a whole model."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from calibrators.errors import ConfigError
from tests.trtcal.qat.networks import IMAGES, Attention, Residual, images, settled
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import (
    PTQ,
    QAT,
    Absmax,
    Observer,
    Quantizer,
    disable_observers,
    disable_quantizers,
    enable_observers,
    enable_quantizers,
    encodings,
    freeze_batch_norm,
    pact_penalty,
)


def trained(activation="lsq", weight="lsq", steps=2):
    config = QuantConfig(LayerSettings(activation=activation, weight=weight, activation_bits=4, weight_bits=4))
    made = QAT(config).quantize(settled(Residual(), *IMAGES).train())
    optimizer = torch.optim.SGD(made.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        (made(images()) ** 2).mean().backward()
        optimizer.step()
    return made


def test_without_quantizers_it_is_the_float_model_and_with_them_as_before():
    model = settled(Residual(), *IMAGES)
    made = QAT(QuantConfig()).quantize(model.train()).eval()
    made.train()(images()), made.eval()
    x = images(seed=3)
    quantized = made(x)
    disable_quantizers(made)
    plain = made(x)
    made.load_state_dict({**made.state_dict(), **model.state_dict()})
    torch.testing.assert_close(made(x), model.eval()(x), rtol=1e-4, atol=1e-4)
    assert not torch.equal(plain, quantized)
    enable_quantizers(made)
    assert all(module.enabled for module in made.modules() if isinstance(module, Quantizer))


@pytest.mark.parametrize("weight", ["absmax", "lsq"])
def test_a_range_that_was_no_longer_observed_is_the_one_that_is_converted(weight):
    made = trained(weight=weight)
    disable_observers(made)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (made(images()) ** 2).mean().backward()
        optimizer.step()
    x = images(seed=3)
    expected = made.eval()(x)
    encodings(made)
    assert torch.equal(made(x), expected)
    torch.testing.assert_close(QAT().convert(made)(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", ["activation", "weight"])
def test_one_kind_alone_can_be_switched(which):
    made, x = trained().eval(), images(seed=3)
    disable_quantizers(made, which)
    for module in made.modules():
        if isinstance(module, Quantizer):
            assert module.enabled == (module.of != which)
    one = made(x)
    disable_quantizers(made)
    assert not torch.equal(one, made(x))
    enable_quantizers(made, which)
    disable_observers(made, which)
    assert all(module.observing == (module.of != which) for module in made.modules() if isinstance(module, Quantizer))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="there are no 'weights' quantizers: choose among all, activation, weight"):
        disable_quantizers(trained(), "weights")


def test_a_converted_model_can_be_compared_with_the_float_one():
    model = settled(Attention(), 8, 6, 12)
    observed = PTQ(QuantConfig(LayerSettings(activation="minmax"))).quantize(model)
    x = images(8, 6, 12)
    observed(x)
    made = PTQ().convert(observed)
    assert not torch.allclose(made(x), model(x), atol=1e-4)
    disable_quantizers(made)
    torch.testing.assert_close(made(x), model(x), rtol=1e-5, atol=1e-5)


def test_observers_that_are_off_leave_ranges_as_they_are():
    made = trained("moving-average-absmax", "absmax")
    before = encodings(made)
    disable_observers(made, "activation")
    made(100 * images())
    assert {name: each["input_quantizer"] for name, each in encodings(made).items()} == {
        name: each["input_quantizer"] for name, each in before.items()
    }
    enable_observers(made)
    made(100 * images())
    assert encodings(made)["conv"]["input_quantizer"] != before["conv"]["input_quantizer"]


def test_calibration_can_be_paused():
    observed = PTQ().quantize(settled(Residual(), *IMAGES))
    disable_observers(observed)
    observed(images())
    assert all(each.statistics().samples == 0 for each in observed.modules() if isinstance(each, Observer))
    enable_observers(observed)
    observed(images())
    assert observed.conv.input_quantizer.statistics().samples == IMAGES[0]


def test_batch_normalization_can_be_frozen_at_any_time():
    made = trained()
    before = made.bn.running_mean.clone()
    made(images(seed=7))
    assert not torch.equal(before, made.bn.running_mean)
    freeze_batch_norm(made)
    before = made.bn.running_mean.clone()
    made(images(seed=8))
    assert torch.equal(before, made.bn.running_mean)


def test_the_penalty_is_that_of_all_pact_quantizers():
    made = trained("pact", "absmax")
    alphas = [parameter for name, parameter in made.named_parameters() if name.endswith("alpha")]
    assert len(alphas) == 9  # twelve layers and additions read nine tensors
    penalty = pact_penalty(made)
    assert penalty.item() == pytest.approx(sum(alpha.item() ** 2 for alpha in alphas))
    made.zero_grad()
    penalty.backward()
    assert all(alpha.grad.item() == pytest.approx(2 * alpha.item()) for alpha in alphas)
    assert pact_penalty(trained(steps=1)).item() == 0.0


def test_a_weight_that_is_followed_stays_followed():
    made = trained("lsq", "absmax")
    assert all(
        isinstance(module, Absmax) == (module.of == "weight")
        for module in made.modules()
        if isinstance(module, Quantizer)
    )
