"""The folder of an optimization: new, empty, or its own."""

import pytest

from calibrators.errors import OutputError
from trtcal.optimization.ledger import Ledger
from trtcal.optimization.places import Places


def test_a_new_folder_an_empty_one_and_its_own(tmp_path):
    places = Places(tmp_path / "deep" / "out", "model")
    places.claim()
    Ledger(places).begin()
    assert places.tried.is_dir()
    places.claim()
    (tmp_path / "empty").mkdir()
    Places(tmp_path / "empty", "model").claim()


def test_a_folder_with_anything_else_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        Places(tmp_path, "model").claim()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(OutputError, match="it is a file"):
        Places(tmp_path / "notes.txt", "model").claim()


def test_what_is_read_is_not_written_over(tmp_path):
    with pytest.raises(OutputError, match="is read from it"):
        Places(tmp_path, "model").require_other_than(tmp_path / "model.onnx")
    with pytest.raises(OutputError, match="is read from it"):
        Places(tmp_path, "model").require_other_than(tmp_path)
    Places(tmp_path / "out", "model").require_other_than(tmp_path / "model.onnx", None)
