"""Ranges of another model are refused with both models' SHA-256 and what to do; unknown ones are not compared."""

import pytest

from calibrators.errors import CacheMismatchError
from calibrators.statistics.origin import of_another, require_model

ONE, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(("theirs", "ours"), [(ONE, ONE), ("", ONE), (ONE, ""), ("", "")])
def test_the_same_or_an_unknown_model_is_no_other(theirs, ours):
    assert not of_another(theirs, ours)
    require_model(theirs, ours, ranges="they come from", model="m.onnx", advice="make them anew")


def test_another_is_refused():
    assert of_another(ONE, OTHER)
    with pytest.raises(CacheMismatchError) as refused:
        require_model(ONE, OTHER, ranges="they come from", model="m.onnx", advice="make them anew")
    assert str(refused.value) == (
        "they come from another model (SHA-256 aaaaaaaaaaaa...) than m.onnx (bbbbbbbbbbbb...): make them anew"
    )
