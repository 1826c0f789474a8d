"""What quantizers refuse and let pass: states of other levels, batches without samples."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra [torch])")

from calibrators.encoding import Encoding
from calibrators.errors import ModelError
from calibrators.grid import Grid
from tests.trtcal.qat.test_quantizers import activation, normal
from trtcal.config.quantizer_names import TRAINED_ACTIVATIONS
from trtcal.qat.quantizer import FixedQuantizer


@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
def test_the_state_of_other_levels_is_refused(name):
    eight, four = activation(name, Grid(8)), activation(name, Grid(4))
    four(normal(4, 5))
    with pytest.raises(ModelError, match="has 8 bits, and the state dict is of one with 4: quantize the model with"):
        eight.load_state_dict(four.state_dict())
    with pytest.raises(ModelError, match="has 8 bits, and the state dict is of one with 4"):
        FixedQuantizer(Encoding(0.1, 0)).load_state_dict(FixedQuantizer(four.encoding()).state_dict())


@pytest.mark.parametrize("name", TRAINED_ACTIVATIONS)
def test_a_batch_without_samples_passes(name):
    made = activation(name, Grid(4))
    assert made(normal(0, 5)).shape == (0, 5) and not made.started
    made(normal(4, 5))
    assert made(normal(0, 5)).shape == (0, 5) and made.started
