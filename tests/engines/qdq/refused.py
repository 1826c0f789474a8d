"""What is said where no calibration cache comes of a model."""

import pytest

from calibrators.errors import ModelError
from engines.qdq.to_cache import qdq_scales


def refused(model):
    with pytest.raises(ModelError) as caught:
        qdq_scales(model)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 2
    return str(caught.value)
