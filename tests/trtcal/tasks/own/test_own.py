"""The examples of an adapter of one's own, in both ways, against the adapter of the same layout."""

import re

import numpy as np
import pytest

from trtcal.tasks import own as own_module
from trtcal.tasks.adapters.yolo.yolov8 import ADAPTER
from trtcal.tasks.decoding.boxes import top
from trtcal.tasks.own import is_own, own

SIZE = (64, 96)


def examples() -> list[str]:
    """The indented texts of the docstring: TOML, a function, a measure."""
    blocks = re.findall(r"::\n\n((?:(?:    .*)?\n)+)", own_module.__doc__)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def outputs(unit: str = "normalized"):
    """YOLOv8's layout, two samples of two classes."""
    generator = np.random.default_rng(0)
    rows = generator.random((2, 6, 126)).astype(np.float32)
    return {"output0": rows if unit == "normalized" else rows * np.float32([96, 64, 96, 64, 1, 1])[:, None]}


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(examples()[0])
    return own(str(path))


@pytest.fixture
def function(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(examples()[1])
    return own(f"{path}:find")


def test_the_file_of_the_example_reads_what_ours_does(toml):
    ours = ADAPTER.decode(outputs("pixels"), SIZE)
    theirs = toml.decode(outputs(), SIZE)
    assert (toml.name, toml.kind, toml.overlap, toml.names) == ("mine.toml", "detect", 0.7, ("cat", "dog"))
    for own_one, one in zip(theirs, ours, strict=True):
        assert len(own_one) == len(one) > 200
        assert np.abs(own_one.boxes - one.boxes).max() < 1e-4
        assert np.array_equal(own_one.scores, one.scores)
        assert np.array_equal(own_one.classes, one.classes)


def test_what_the_file_tells_of_the_outputs(toml):
    shapes = {"output0": (1, 6, 126)}
    assert toml.misfit(shapes, SIZE) == ""
    assert toml.classes(shapes) == 2
    parts = [(part.name, part.output, part.axis, part.first, part.last) for part in toml.parts(shapes)]
    assert parts == [("boxes", "output0", 1, 0, 3), ("scores", "output0", 1, 4, 5)]


def test_the_function_of_the_example_reads_the_best_class_of_each_box(function):
    given = outputs()
    assert (function.kind, function.overlap, function.names) == ("detect", 0.7, ("cat", "dog"))
    for rows, found in zip(outputs("pixels")["output0"], function.decode(given, SIZE), strict=True):
        best = np.where(rows[4:] == rows[4:].max(axis=0), rows[4:], 0)
        centre, extent = rows[:2], rows[2:4]
        expected = top(np.vstack([centre - extent / 2, centre + extent / 2]).T, best.T)
        assert len(found) == len(expected) == 126
        assert np.abs(found.boxes - expected.boxes).max() < 1e-4
        assert np.array_equal(found.scores, expected.scores)
        assert np.array_equal(found.classes, expected.classes)
    assert np.array_equal(given["output0"], outputs()["output0"])


def test_the_measure_of_the_example(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\n\n\n" + examples()[2])
    measure = own(f"{path}:distance")
    reference = np.zeros((2, 1, 3, 3), np.float32)
    values = measure.values({"depth": reference + np.float32([[[[1]]], [[[2]]]])}, {"depth": reference})
    assert (measure.name, measure.higher, values.tolist()) == ("distance", False, [1.0, 2.0])
    assert values.dtype == np.float64


def test_both_ways_take_about_twenty_lines():
    lines = [[line for line in example.splitlines() if line.strip()] for example in examples()[:2]]
    assert len(examples()) == 3
    assert [len(each) <= 20 for each in lines] == [True, True]


@pytest.mark.parametrize(
    ("text", "whether"),
    [
        ("mine.toml", True),
        ("folder/MINE.TOML", True),
        ("mine.py:find", True),
        ("C:\\mine.py:find", True),
        ("package.module:find", True),
        ("detect:yolov8", False),
        ("segment", False),
        ("detect:efficient-nms", False),
        ("outputs", False),
    ],
)
def test_what_is_ones_own(text, whether):
    assert is_own(text) is whether
