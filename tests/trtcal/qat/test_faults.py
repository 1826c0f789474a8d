"""What others raise comes out in one line, which says where it was and what to do."""

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import Tensor, nn

from calibrators.errors import DataError, ModelError
from tests.trtcal.qat.networks import IMAGES, Residual, images, settled
from trtcal.config.settings import QuantConfig
from trtcal.qat import PTQ, QAT, QuantizedConv2d, QuantizedLayer, export_onnx, require_finite
from trtcal.qat.faults import LONGEST, said, told


class Picky(nn.Module):
    """Its forward raises an exception of its own for more samples than it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.most = nn.Conv2d(3, 4, 1), 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if isinstance(y, Tensor) and len(y) > self.most:
            raise KeyError("too many samples")
        return y


def calibrated(model, x):
    observed = PTQ().quantize(model.eval())
    with torch.no_grad():
        observed(x)
    return PTQ().convert(observed)


def one_line_of(raised):
    """The message, which is one line of a length that can be read."""
    message = str(raised.value)
    assert "\n" not in message and len(message) < LONGEST + 300
    return message


def test_a_forward_that_raises_is_named_with_its_module_and_line(tmp_path):
    model = calibrated(nn.Sequential(Picky(), nn.ReLU()), images(2, 3, 4, 4))
    for x, what in ((images(2, 3, 4, 4), "twice the samples"), (images(3, 3, 4, 4), "on the example")):
        with pytest.raises(ModelError, match=what) as raised:
            export_onnx(model, x, tmp_path / "m.onnx")
        found = re.search(r"KeyError in 0 \(test_faults\.py, line (\d+)\): 'too many samples'", one_line_of(raised))
        line = Path(__file__).read_text("utf-8").splitlines()[int(found.group(1)) - 1]
        assert line.strip() == 'raise KeyError("too many samples")'
        assert isinstance(raised.value.__cause__, KeyError)
    assert not list(tmp_path.iterdir())


def test_a_layer_of_torch_that_raises_is_named_by_its_path(tmp_path):
    model = calibrated(settled(Residual(), *IMAGES), images())
    with pytest.raises(ModelError, match=r"RuntimeError in conv") as raised:
        export_onnx(model, images(2, 5, 12, 12), tmp_path / "m.onnx")
    assert "expected input" in one_line_of(raised)


class Stubborn(nn.Sequential):
    """Its own train() raises."""

    def train(self, mode: bool = True) -> "Stubborn":
        raise OSError("no such mode")


def test_code_of_the_model_that_raises_while_it_is_prepared(tmp_path):
    for quantizing in (PTQ().quantize, QAT().quantize):
        model = Stubborn(nn.Conv2d(3, 4, 1))
        nn.Module.train(model, quantizing.__self__.__class__ is QAT)
        with pytest.raises(ModelError, match=r"cannot be quantized \(OSError in test_faults\.py, line \d+") as raised:
            quantizing(model)
        assert "QuantConfig.skip" in one_line_of(raised)


class Refusing(QuantizedConv2d):
    """Cannot be made."""

    @classmethod
    def from_float(cls, layer: nn.Module, **quantizers: nn.Module) -> QuantizedLayer:
        raise LookupError("no kernel for this size")


def test_a_layer_of_the_user_that_cannot_be_made():
    config = QuantConfig().add_qat_layer_mapping(nn.Conv2d, Refusing)
    with pytest.raises(
        ModelError, match=r"Refusing, .* place of 0, cannot be made \(LookupError in test_faults"
    ) as got:
        QAT(config).quantize(nn.Sequential(nn.Conv2d(3, 4, 1)))
    assert "no kernel for this size" in one_line_of(got)


@pytest.mark.parametrize(
    ("x", "what"),
    [
        (torch.ones(2, 3).to_sparse(), r"a sparse tensor, .*to_dense\(\)"),
        (torch.ones(2, 3, device="meta"), "on the device meta and has no values"),
        ("a text", "of type str: give the model tensors"),
    ],
)
@pytest.mark.parametrize("kind", [PTQ, QAT])
def test_what_no_quantizer_can_look_into(x, what, kind):
    model = kind().quantize(nn.Sequential(nn.Linear(3, 2)).train(kind is QAT))
    with pytest.raises(DataError, match=f"the input of 0 is {what}"):
        model(x)


def test_an_output_that_numpy_does_not_know(tmp_path):
    class Short(nn.Sequential):
        def forward(self, x):
            return super().forward(x).bfloat16()

    model = calibrated(Short(nn.Conv2d(3, 4, 1)), images(2, 3, 4, 4))
    with pytest.raises(ModelError, match=r"cannot be exported \(TypeError: .*BFloat16") as raised:
        export_onnx(model, images(2, 3, 4, 4), tmp_path / "m.onnx")
    one_line_of(raised)


def test_a_batch_that_the_model_does_not_run_on_where_the_loss_is_no_number():
    model = QAT().quantize(nn.Sequential(nn.Linear(3, 2)).train())
    model(torch.ones(4, 3))
    with pytest.raises(ModelError, match=r"does not run on the batch .*TypeError.*: give what its forward takes"):
        require_finite(torch.tensor(float("nan")), model, torch.ones(4, 3), torch.ones(4))
    assert model.training


def test_errors_of_ours_and_warnings_pass_as_they_are():
    for error in (DataError("ours"), MemoryError(), UserWarning("asked for"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, told("it cannot be done", "leave it"):
            raise error
        assert raised.value is error


def test_the_first_cause_is_told():
    try:
        try:
            raise IndexError("the third")
        except IndexError as first:
            raise RuntimeError("a graph\n" * 1000) from first
    except RuntimeError as error:
        assert re.fullmatch(r"IndexError in test_faults\.py, line \d+: the third", said(error))
