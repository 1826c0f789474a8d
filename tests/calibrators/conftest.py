from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.calibrators.device import FakeCuda, fake_cuda


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    """A GPU in the host's memory, which must get all of its own back."""
    with fake_cuda() as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a calibrator's cache goes."""
    return tmp_path / "m.cache"
