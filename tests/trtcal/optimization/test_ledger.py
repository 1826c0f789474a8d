"""The ledger: a stage stands as long as its inputs are the same and its files are as they were written."""

import json
import math

import pytest

from calibrators.errors import OutputError
from trtcal.optimization.ledger import Ledger, key_of
from trtcal.optimization.places import Places


@pytest.fixture
def places(tmp_path):
    found = Places(tmp_path / "out", "model")
    found.claim()
    return found


def worked(ledger, places, inputs, text="made", calls=None):
    def make():
        places.cache.write_text(text)
        if calls is not None:
            calls.append(inputs)
        return {"told": text, "nothing": math.inf}

    return ledger.done("stage", inputs, make, [places.cache, places.statistics])


def test_a_stage_is_done_once(places):
    calls = []
    first = worked(Ledger(places), places, {"a": 1}, calls=calls)
    again = worked(Ledger(places), places, {"a": 1}, calls=calls)
    assert (first.reused, again.reused, len(calls)) == (False, True, 1)
    assert first.result == again.result == {"told": "made", "nothing": None}
    assert first.files == again.files and list(first.files) == ["model.cache"]


@pytest.mark.parametrize("change", ["inputs", "content", "absent", "more"])
def test_it_is_done_again_where_anything_changed(places, change):
    worked(Ledger(places), places, {"a": 1})
    if change == "content":
        places.cache.write_text("other")
    if change == "absent":
        places.cache.unlink()
    if change == "more":
        places.statistics.write_text("of another run")
    again = worked(Ledger(places), places, {"a": 2 if change == "inputs" else 1}, text="new")
    assert not again.reused
    assert places.cache.read_text() == "new"


def test_a_stage_that_fails_is_not_noted(places):
    ledger = Ledger(places)
    worked(ledger, places, {"a": 1})
    with pytest.raises(KeyboardInterrupt):
        ledger.done("other", {}, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    known = Ledger(places)
    assert known.stands("stage", {"a": 1}, [places.cache]) and not known.stands("other", {})


def test_the_order_of_inputs_is_nothing():
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1}) != key_of({"a": 1, "b": [3]})


@pytest.mark.parametrize(
    "content", ["", "[]", '{"optimize": 99, "stages": {}}', '{"optimize": 1, "stages": {"a": {}}}']
)
def test_what_is_no_ledger_is_refused(places, content):
    places.ledger.write_text(content)
    with pytest.raises(OutputError, match="none that this version of trtcal wrote"):
        Ledger(places)


def test_it_is_json(places):
    worked(Ledger(places), places, {"a": 1})
    assert json.loads(places.ledger.read_text())["stages"]["stage"]["result"]["told"] == "made"
