"""Which axis has the samples: found by running one sample, else guessed."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from torch import nn

from calibrators.statistics.tensor import TensorStatistics
from trtcal.qat.batches import SampleAxes
from trtcal.qat.observers import Observer


class Turning(nn.Module):
    """Carries the samples on several axes."""

    def __init__(self, axes, reshapes=False):
        super().__init__()
        self.first, self.last, self.rows, self.whole = (Observer("mean", axes=axes) for _ in range(4))
        self.reshapes = reshapes
        self.register_forward_pre_hook(axes, with_kwargs=True)

    def forward(self, x, scale=None):
        samples, positions, features = x.shape
        if self.reshapes and samples != 4:
            raise ValueError("only batches of 4")
        self.first(x)
        self.last(x.transpose(0, 1))
        self.rows(x.reshape(samples * positions, features))
        self.whole(x.mean(0))
        return x


def batch(samples=4, positions=4, features=6):
    return torch.randn(samples, positions, features, generator=torch.Generator().manual_seed(0)) * torch.arange(
        1, samples + 1
    ).reshape(-1, 1, 1)


@pytest.mark.parametrize("positions", [3, 4, 8])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_samples_are_found_on_any_axis(positions, size):
    model, x = Turning(SampleAxes()).eval(), batch(positions=positions)
    for part in x.split(size):
        model(part)
    expected = TensorStatistics.of(*x.numpy())
    for observer in (model.first, model.last, model.rows):
        assert observer.statistics() == expected
    assert model.whole.statistics().samples == 4 // size


def test_a_model_that_takes_one_batch_size_only_is_guessed_at():
    model, x = Turning(SampleAxes(), reshapes=True).eval(), batch(positions=3)
    model(x)
    expected = TensorStatistics.of(*x.numpy())
    for observer in (model.first, model.last, model.rows):
        assert observer.statistics() == expected


def test_keyword_arguments_and_nested_ones_count_as_inputs():
    axes = SampleAxes()
    model = Turning(axes).eval()
    model(x=batch(), scale={"a": [torch.ones(4)], "b": None})
    assert axes.size == 4 and model.last.statistics().samples == 4


def test_inputs_that_do_not_agree_on_the_samples_make_one_sample_of_each_batch():
    axes = SampleAxes()
    model = Turning(axes).eval()
    model(batch(), torch.ones(2))
    assert model.first.statistics().samples == 1
    model(batch(), torch.ones(()))
    assert model.first.statistics().samples == 2


def test_without_a_model_s_hook_the_first_axis_is_that_of_the_samples():
    observer = Observer("mean")
    observer(batch())
    assert observer.statistics().samples == 4
    observer(torch.tensor(1.0))
    assert observer.statistics().samples == 5
