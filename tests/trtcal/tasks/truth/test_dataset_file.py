"""The file beside YOLO labels: the forms in which names are written, and the places where it lies."""

from pathlib import Path

import pytest

from calibrators.errors import DataError
from trtcal.tasks.truth.dataset_file import beside

THREE = {0: "person", 1: "traffic light", 2: 'dog\'s, "bed"'}

FORMS = {
    "a list on one line": "names: [person, 'traffic light', 'dog''s, \"bed\"']\nnc: 3\n",
    "a list with double quotes": 'nc: 3\nnames: ["person", "traffic light", "dog\'s, \\"bed\\""] # all\n',
    "a list on several lines": "names: [person, # the first\n  traffic light,\n  'dog''s, \"bed\"',\n]\n",
    "a list by dashes": "train: x\nnames:\n  - person\n  - traffic light  # comment\n\n  - 'dog''s, \"bed\"'\nnc: 3",
    "a list by dashes that stand left": "names:\n- person\n- traffic light\n- 'dog''s, \"bed\"'\nnc: 3",
    "a table": "path: ../data\nnames:\n  0: person\n  1: traffic light\n  # two\n  2: 'dog''s, \"bed\"'\nval: y\n",
    "a table in braces": "names: {0: person, 1: traffic light, 2: 'dog''s, \"bed\"'}",
    "a table in another order": 'names:\n  2: dog\'s, "bed"\n  0: person\n  1: traffic light\n',
    "lines of Windows": '\ufeffnames:\r\n  0: person\r\n  1: traffic light\r\n  2: dog\'s, "bed"\r\nval: y\r\n',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_forms_of_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    found = beside(tmp_path)
    assert found is not None
    assert found.names == THREE
    assert found.path == tmp_path / "data.yaml"
    assert found.points is None


def test_quotes_inside_words_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [dog's bed, c#, 'a # b']", encoding="utf-8")
    found = beside(tmp_path)
    assert found is not None
    assert list(found.names.values()) == ["dog's bed", "c#", "a # b"]


def test_shape_of_points(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("kpt_shape: [17, 3]  # x, y, visible\nnames:\n  0: person\n")
    found = beside(tmp_path)
    assert found is not None
    assert found.points == (17, 3)


def test_lines_of_names(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("person\ntraffic light\n\n")
    found = beside(tmp_path)
    assert found is not None
    assert found.names == {0: "person", 1: "traffic light"}


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("set/data.yaml", "set/labels"),
        ("set/data.yaml", "set/labels/val"),
        ("set/data.yaml", "set/train/labels"),
        ("set/labels/val/data.yaml", "set/labels/val"),
    ],
)
def test_where_it_lies(tmp_path: Path, file: str, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / file).write_text("names: [a]")
    found = beside(tmp_path / folder)
    assert found is not None
    assert found.names == {0: "a"}


def test_what_lies_elsewhere_is_another_dataset_s(tmp_path: Path) -> None:
    (tmp_path / "set" / "labels").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [a]")
    assert beside(tmp_path / "set" / "labels") is None
    assert beside(tmp_path / "set") is None


def test_a_file_without_names_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("train: x\n")
    (tmp_path / "classes.txt").write_text("a\n")
    found = beside(tmp_path)
    assert found is not None
    assert found.path.name == "classes.txt"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("names: *other", "names are a list of names, or a table of class numbers and names; write them so"),
        ("names:\n", "names are a list of names, or a table of class numbers and names; write them so"),
        ("names:\n  person: 0\n", "'person: 0' is no class number and name, such as `0: person`"),
        ("names: [a, b", "the brackets of names do not end"),
    ],
)
def test_names_in_another_way(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError) as error:
        beside(tmp_path)
    assert str(error.value) == f"{tmp_path / 'data.yaml'}: {reason}"


def test_no_text(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_bytes(b"\xff\xfe\x00names")
    with pytest.raises(DataError, match=r"data\.yaml: it is not text in UTF-8"):
        beside(tmp_path)
