"""A loss that is no number: where it comes from."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from calibrators.errors import DataError
from tests.trtcal.qat.networks import IMAGES, Residual, images, settled
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat import QAT, require_finite


def trained():
    config = QuantConfig(LayerSettings(activation="lsq", weight="lsq"))
    made = QAT(config).quantize(settled(Residual(), *IMAGES).train())
    made(images())
    return made


def test_a_finite_loss_comes_back():
    made = trained()
    loss = made(images()).mean()
    assert require_finite(loss, made, images()) is loss


@pytest.mark.parametrize("value, word", [("nan", "NaN"), ("inf", "infinite")])
def test_parameters_that_are_no_numbers_are_named(value, word):
    made = trained()
    with torch.no_grad():
        made.layer1[0].conv2.weight_quantizer.step[3] = float("nan")
    with pytest.raises(
        DataError,
        match=f"the loss is {word}, as layer1.0.conv2.weight_quantizer.step is: go back to an earlier state, and train",
    ):
        require_finite(torch.tensor(float(value)), made)


def test_a_loss_that_is_no_tensor_is_refused():
    with pytest.raises(DataError, match="the loss is a tensor, before its backward pass, not of type float"):
        require_finite(float("nan"), trained())


def test_else_the_first_layer_that_reads_one():
    made, x = trained(), images()
    made.layer1[0].register_forward_hook(lambda *given: given[2] / 0.0)
    loss = made(x).mean()
    bad = x.clone()
    bad[0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="the loss is NaN, and so is the input of conv; all parameters are finite"):
        require_finite(loss * float("nan"), made, bad)
    with pytest.raises(
        DataError, match="and no layer reads one that is; all parameters are finite: look at the batch, its"
    ):
        require_finite(loss * float("nan"), made, x)
    assert made.training and made.conv.input_quantizer.training


def test_statistics_that_a_batch_has_spoilt_are_named():
    made = trained()
    bad = images()
    bad[0] = float("nan")
    loss = made(bad).mean()
    with pytest.raises(DataError, match=r"bn.running_mean has become so, too, and is to be restored"):
        require_finite(loss, made)
