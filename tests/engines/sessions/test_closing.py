"""What a `with` block closes is closed, whether the block ends well or not, and gives itself."""

import pytest

from engines.sessions.closing import Closing


class Door(Closing):
    closed = 0

    def close(self):
        self.closed += 1


def test_at_the_end_of_the_block():
    with Door() as door:
        assert door.closed == 0
    assert door.closed == 1


def test_when_the_block_fails_and_the_failure_comes_out():
    with pytest.raises(ValueError, match="inside"), Door() as door:
        raise ValueError("inside")
    assert door.closed == 1
