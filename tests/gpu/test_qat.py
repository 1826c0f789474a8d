"""Quantization in PyTorch on a GPU gives what it gives on the CPU.

Every test runs on both: here the CPU is held against itself. Observers, calibration and half precision were run on an
H100 with PyTorch 2.11; the rest was not run on a GPU yet. Training in several processes is in
tests/trtcal/qat/test_distributed.py.
"""

import copy
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from calibrators.statistics.tensor import TensorStatistics
from calibrators.weights import weight_encoding
from tests.trtcal.qat.conftest import single_thread  # noqa: F401
from tests.trtcal.qat.networks import IMAGES, Residual, images, settled
from tests.trtcal.qat.test_training import PAIRS
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import (
    PTQ,
    QAT,
    Observer,
    WeightObserver,
    disable_observers,
    disable_quantizers,
    enable_observers,
    enable_quantizers,
    encodings,
    export_onnx,
    freeze_batch_norm,
    pact_penalty,
)


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Whole float32: convolutions of a GPU may use TF32, whose ten bits of mantissa are no matter of quantization."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def residual(device):
    return settled(Residual(), *IMAGES).to(device)


def to_train(activation, weight, device, bits=8):
    settings = LayerSettings(activation=activation, weight=weight, activation_bits=bits, weight_bits=bits)
    return QAT(QuantConfig(settings)).quantize(residual(device).train())


def train(made, device, steps=3, rate=0.01):
    """Losses of some steps."""
    x, target = images().to(device), images(12, 10, seed=5).to(device)
    optimizer = torch.optim.SGD(made.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        loss = ((made(x) - target) ** 2).mean() + 1e-4 * pact_penalty(made)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_close(found, expected, tolerance):
    """Encodings of two models, by layer and quantizer."""
    assert found.keys() == expected.keys()
    for name, each in found.items():
        assert each.keys() == expected[name].keys(), name
        for kind, encoding in each.items():
            other = expected[name][kind]
            assert (encoding.grid, encoding.axis) == (other.grid, other.axis), (name, kind)
            np.testing.assert_allclose(encoding.scale, other.scale, rtol=tolerance, err_msg=f"{name}.{kind}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_an_observer_gathers_the_same_statistics(device, dtype):
    x = images().to(dtype)
    observer = Observer("entropy")
    for batch in x.split(5):
        observer._axes.size, observer._axes.run = len(batch), observer._axes.run + 1
        observer(batch.to(device))
    assert observer.statistics() == TensorStatistics.of(*x.float().numpy())


@pytest.mark.parametrize("method", ["absmax", "mse"])
def test_a_weight_has_the_same_encoding(device, method):
    weight = images(8, 3, 3, 3)
    observer = WeightObserver(method, axis=0)
    assert observer.encoding(weight.to(device)) == weight_encoding(weight.numpy(), axis=0, method=method)


@pytest.mark.parametrize("activation", ["entropy", "mse", "percentile", "mean"])
def test_a_calibrated_model_has_the_same_scales_and_stays_on_its_device(device, activation):
    found = []
    for place in (device, "cpu"):
        observed = PTQ(QuantConfig(LayerSettings(activation=activation))).quantize(residual(place))
        with torch.no_grad():
            for batch in images().split(5):
                observed(batch.to(place))
        made = PTQ().convert(observed)
        assert {each.device.type for each in (*made.parameters(), *made.buffers())} == {place}
        assert made(images().to(place)).device.type == place
        found.append(encodings(made))
    # activations differ in their last bits, and the search of a range may choose the neighbouring bin of 2,048
    assert_close(*found, 1e-3)


@pytest.mark.parametrize("activation, weight", PAIRS)
def test_training_comes_to_the_same_losses_and_scales(device, activation, weight):
    found, losses = [], []
    for place in (device, "cpu"):
        made = to_train(activation, weight, place)
        losses.append(train(made, place))
        assert {each.device.type for each in (*made.parameters(), *made.buffers())} == {place}
        found.append(encodings(made))
    np.testing.assert_allclose(*losses, rtol=1e-2)  # a value in the middle of two levels may fall on the other one
    assert_close(*found, 1e-2)


@pytest.mark.parametrize("activation, weight", PAIRS)
def test_what_is_exported_from_it_is_what_is_exported_after_cpu(device, activation, weight, tmp_path):
    made = to_train(activation, weight, device)
    train(made, device)
    made.eval()
    written = []
    for model, folder in ((made, tmp_path / "there"), (copy.deepcopy(made).cpu(), tmp_path / "here")):
        folder.mkdir()
        place = next(model.parameters()).device
        export_onnx(model, images().to(place), folder / "m.onnx", float_model=folder / "float.onnx")
        assert {each.device for each in (*model.parameters(), *model.buffers())} == {place}
        written.append({path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"})
    assert written[0] == written[1]
    assert written[0].keys() == {"m.onnx", "m.cache", "m.encodings", "float.onnx"}


@pytest.mark.parametrize("activation, weight", PAIRS)
def test_it_trains_in_half_precision_with_scaled_gradients(device, activation, weight):
    made, x, target = to_train(activation, weight, device), images().to(device), images(12, 10, seed=5).to(device)
    optimizer, scaler = torch.optim.SGD(made.parameters(), lr=0.02), torch.amp.GradScaler(device)
    losses = []
    for _ in range(10):
        with torch.autocast(device, dtype=torch.float16):
            result = made(x)
            loss = ((result.float() - target) ** 2).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert result.dtype == torch.float16 and losses[-1] < losses[0]
    assert all(each.dtype == torch.float32 and torch.isfinite(each).all() for each in made.parameters())
    with torch.no_grad():
        expected = made.eval()(x)
        torch.testing.assert_close(QAT().convert(made)(x), expected, rtol=1e-3, atol=1e-3)


def test_quantizers_and_observers_are_switched_where_they_are(device):
    made = to_train("moving-average-absmax", "absmax", device, bits=4)
    train(made, device)
    x = images(seed=3).to(device)
    quantized = made.eval()(x)
    disable_quantizers(made)
    plain = made(x)
    assert not torch.equal(plain, quantized)
    folded = copy.deepcopy(made)
    torch.testing.assert_close(folded.cpu()(x.cpu()), plain.cpu(), rtol=1e-4, atol=1e-4)
    enable_quantizers(made)
    assert torch.equal(made(x), quantized)
    before = encodings(made)
    disable_observers(made.train(), "activation")
    made(100 * x)
    assert {name: each["input_quantizer"] for name, each in encodings(made).items()} == {
        name: each["input_quantizer"] for name, each in before.items()
    }
    enable_observers(made)
    made(100 * x)
    assert encodings(made)["conv"]["input_quantizer"] != before["conv"]["input_quantizer"]


def test_batch_normalization_is_frozen_where_it_is(device):
    made, x = to_train("lsq", "lsq", device), images(seed=7).to(device)
    made(x)
    freeze_batch_norm(made)
    before = made.bn.running_mean.clone()
    made(2 * x)
    assert torch.equal(before, made.bn.running_mean)


def test_a_model_moves_there_and_back_between_steps(device):
    made = to_train("learned-range", "lsq+", "cpu")
    losses = train(made, "cpu", 2) + train(made.to(device), device, 2) + train(made.cpu(), "cpu", 2)
    alone = to_train("learned-range", "lsq+", "cpu")
    np.testing.assert_allclose(losses, train(alone, "cpu", 6), rtol=1e-2)


def test_a_state_dict_from_there_goes_on_here(device):
    made = to_train("lsq+", "lsq", device)
    train(made, device)
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    fresh = to_train("lsq+", "lsq", "cpu")
    fresh.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    assert encodings(fresh) == encodings(made)
    np.testing.assert_allclose(train(fresh, "cpu"), train(made, device), rtol=1e-2)
