"""Adapters and measures as functions: what they may give, and every way to give something else."""

import textwrap

import numpy as np
import pytest
from pycocotools import mask as coco

from calibrators.errors import ConfigError, DataError
from trtcal.tasks.found import ClassMap, Found
from trtcal.tasks.own.function import OwnMeasure, called

SIZE = (20, 40)
OUTPUTS = {"x": np.zeros((2, 3), np.float32)}
ONE = '{"boxes": [[0, 0, 1, 1]], "scores": [0.5], "classes": [0]}'


def written(folder, text, name="find"):
    path = folder / "mine.py"
    path.write_text("import numpy as np\nfrom trtcal.tasks.found import ClassMap, Found\n" + textwrap.dedent(text))
    return f"{path}:{name}"


def giving(folder, expression, kind=""):
    """An adapter whose function gives that for two samples."""
    set_kind = f"find.kind = '{kind}'\n" if kind else ""
    return called(written(folder, f"def find(outputs, size):\n    return {expression}\n{set_kind}"))


def test_detections_as_dicts(tmp_path):
    mine = giving(
        tmp_path,
        """[{"boxes": [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]], "scores": [0.5, 0.9, 0.0005], "classes": [0, 1.0, 2]},
        {"boxes": [], "scores": [], "classes": []}]""",
    )
    first, second = mine.decode(OUTPUTS, SIZE)
    assert isinstance(first, Found)
    assert first.boxes.tolist() == [[2, 2, 3, 3], [0, 0, 1, 1]]
    assert (first.scores.tolist(), first.classes.tolist(), first.classes.dtype) == ([0.9, 0.5], [1, 0], np.int64)
    assert second.boxes.shape == (0, 4)
    assert (mine.kind, mine.overlap, mine.names, mine.misfit({}, SIZE)) == ("detect", None, (), "")


def test_what_the_function_is_given(tmp_path):
    mine = giving(tmp_path, "[Found(np.full((1, 4), outputs['x'].sum() + size[0]), [0.5], [size[1]])] * 2")
    assert mine.decode(OUTPUTS, SIZE)[1].boxes.tolist() == [[20.0] * 4]
    assert mine.decode(OUTPUTS, SIZE)[1].classes.tolist() == [40]


def test_what_it_is_given_is_its_own(tmp_path):
    mine = called(written(tmp_path, f"def find(outputs, size):\n    outputs['x'] += 1\n    return [{ONE}] * 2\n"))
    given = {"x": np.zeros((2, 3))}
    mine.decode(given, SIZE)
    assert not given["x"].any()


def test_a_generator_will_do(tmp_path):
    mine = called(written(tmp_path, f"def find(outputs, size):\n    for _ in outputs['x']:\n        yield {ONE}\n"))
    assert [len(one) for one in mine.decode(OUTPUTS, SIZE)] == [1, 1]


def test_class_maps_masks_and_points(tmp_path):
    maps = giving(tmp_path, "[np.array([[0, -1]]), ClassMap(np.ones((1, 2), int))]", "segment")
    first, second = maps.decode(OUTPUTS, SIZE)
    assert isinstance(first, ClassMap)
    assert (first.classes.tolist(), second.classes.tolist()) == ([[0, -1]], [[1, 1]])
    array = giving(tmp_path, "np.zeros((2, 4, 5), np.uint8)", "segment")
    assert [one.classes.shape for one in array.decode(OUTPUTS, SIZE)] == [(4, 5), (4, 5)]

    masks = giving(tmp_path, f'[{{**{ONE}, "masks": [np.eye(4, dtype=bool)]}}] * 2', "segment")
    assert coco.decode(masks.decode(OUTPUTS, SIZE)[0].masks[0]).tolist() == np.eye(4).tolist()
    polygons = giving(tmp_path, f'[{{**{ONE}, "masks": [[[0, 0, 1, 0, 1, 1]]]}}] * 2', "segment")
    assert polygons.decode(OUTPUTS, SIZE)[0].masks == ([[0, 0, 1, 0, 1, 1]],)

    points = giving(tmp_path, f'[{{**{ONE}, "points": np.ones((1, 5, 3))}}] * 2', "keypoints")
    assert points.decode(OUTPUTS, SIZE)[0].points.shape == (1, 5, 3)


def test_attributes_of_the_function(tmp_path):
    mine = called(
        written(tmp_path, f"def find(o, s):\n    return [{ONE}] * 2\nfind.overlap = 0.5\nfind.names = ['a', 'b']\n")
    )
    assert (mine.overlap, mine.names) == (0.5, ("a", "b"))


def test_a_module_by_its_name():
    with pytest.raises(
        ConfigError, match=r"^trtcal\.tasks\.decoding\.boxes:tops: .* has no function 'tops' \(did you mean 'top'"
    ):
        called("trtcal.tasks.decoding.boxes:tops")
    assert called("trtcal.tasks.decoding.boxes:top").kind == "detect"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def fimd(o, s): pass", r"has no function 'find' \(did you mean 'fimd'\?\)"),
        ("find = 3", "has no function 'find'"),
        ("def find(o, s:\n    pass", "cannot be loaded: SyntaxError in line 3: "),
        ("x = 1 / 0", "cannot be loaded: ZeroDivisionError in line 3: division by zero"),
        ("import nonesuch", "cannot be loaded: ModuleNotFoundError in line 3: No module named 'nonesuch'"),
        ("import sys\nsys.exit(3)", "cannot be loaded: SystemExit in line 4: 3"),
        (
            "def find(o, s): pass\nfind.kind = 'detec'",
            r"\.kind is 'detec' \(did you mean 'detect'\?\): give one of detect, ",
        ),
        ("def find(o, s): pass\nfind.better = 'up'", r"\.better is 'up': give one of higher, lower"),
        (
            "def find(o, s): pass\nfind.names = 'cat'",
            r"\.names is 'cat': give the classes' names by number, a list of texts",
        ),
        ("def find(o, s): pass\nfind.overlap = '1'", r"\.overlap is '1': give a number from 0 to 1"),
    ],
)
def test_modules_and_functions_that_cannot_be_used(tmp_path, text, why):
    with pytest.raises(ConfigError, match=why) as caught:
        called(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "mine.py:find" in str(caught.value)


def test_no_such_module(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*none\.py$"):
        called(f"{tmp_path / 'none.py'}:find")
    with pytest.raises(
        ConfigError, match=r"^none.such:find: Python finds no module 'none': give its file, such as none"
    ):
        called("none.such:find")


@pytest.mark.parametrize(
    ("expression", "kind", "why"),
    [
        ("outputs['y']", "", r"mine\.py:find fails: KeyError in line 4: 'y'"),
        ("None", "", "gives a NoneType for 2 samples: give a list with one for each"),
        (f"[{ONE}]", "", "gives a list of 1 for 2 samples"),
        (ONE, "", "gives a dict of 3 for 2 samples"),
        ("{1, 2}", "", "gives a set for 2 samples"),
        ("np.float32(1)", "", "gives a float32 for 2 samples"),
        ("np.array(1)", "", "gives a ndarray for 2 samples"),
        ("[[[1], [1, 2]]] * 2", "", "sample 0: a list tells no boxes"),
        (f"[{{**{ONE}, 'scores': [7]}}] * 2", "", "scores reach 7: give numbers from 0 to 1"),
        (
            f"[{{**{ONE}, 'masks': [3]}}] * 2",
            "segment",
            "a mask that is no array, no run-length encoding, and no list of p",
        ),
        (f"[{{**{ONE}, 'masks': [[[1, 2, 3]]]}}] * 2", "segment", "a mask that is no array"),
        (f"[{{**{ONE}, 'masks': [dict(size=3, counts=[1])]}}] * 2", "segment", "a mask with size, counts: COCO's has"),
        ("[1, 2]", "", "sample 0: a int tells no boxes: give a dict with boxes, scores, classes"),
        ("[{'boxes': []}] * 2", "", "sample 0: there are no scores, which detect needs"),
        (f"[{ONE}, {{**{ONE}, 'score': 1}}]", "", r"sample 1: unknown key 'score' \(did you mean 'scores'\?\)"),
        (
            f"[{{**{ONE}, 'boxes': [0, 0, 1, 1]}}] * 2",
            "",
            r"boxes of shape \(4,\), not \(1, 4\), as there are 1 scores",
        ),
        (f"[{{**{ONE}, 'boxes': [[0, 0], [1]]}}] * 2", "", "boxes are not numbers in rows of one length"),
        (f"[{{**{ONE}, 'scores': [[0.5]]}}] * 2", "", r"scores of shape \(1, 1\): give one for each detection"),
        (f"[{{**{ONE}, 'scores': ['a']}}] * 2", "", "scores are not numbers"),
        (f"[{{**{ONE}, 'classes': [0, 1]}}] * 2", "", r"classes of shape \(2,\), not \(1,\)"),
        (f"[{{**{ONE}, 'classes': [0.5]}}] * 2", "", "classes that are not whole numbers from 0"),
        (f"[{{**{ONE}, 'classes': [-1]}}] * 2", "", "classes that are not whole numbers from 0"),
        (f"[{{**{ONE}, 'scores': [np.nan]}}] * 2", "", "sample 0: detection 0 is not finite, and the outputs are"),
        (f"[{{**{ONE}, 'boxes': [[0, 0, np.inf, 1]]}}] * 2", "", "detection 0 is not finite"),
        ("np.zeros((2, 4, 4), int)", "", 'a class for each pixel is no detect: set the function\'s kind = "segment"'),
        ("np.zeros((2, 4, 4))", "segment", r"a class map of float64 and shape \(4, 4\): give integers"),
        ("np.full((2, 4, 4), -2)", "segment", "class -2 in a class map"),
        (f"[{ONE}] * 2", "segment", "there are no masks, which segment needs"),
        (f"[{{**{ONE}, 'masks': []}}] * 2", "segment", "masks are not as many as the 1 scores"),
        (
            f"[{{**{ONE}, 'masks': [np.zeros((4, 4))]}}] * 2",
            "segment",
            r"a mask of float64 and shape \(4, 4\): give booleans",
        ),
        (f"[{{**{ONE}, 'masks': [dict(a=1)]}}] * 2", "segment", 'a mask with a: COCO\'s has "size" and "counts"'),
        (f"[{ONE}] * 2", "keypoints", "there are no points, which keypoints needs"),
        (
            f"[{{**{ONE}, 'points': np.zeros((1, 5, 2))}}] * 2",
            "keypoints",
            r"points of shape \(1, 5, 2\), not \(1, points, 3\)",
        ),
    ],
)
def test_results_that_mean_nothing(tmp_path, expression, kind, why):
    mine = giving(tmp_path, expression, kind)
    with pytest.raises(DataError, match=why) as caught:
        mine.decode(OUTPUTS, SIZE)
    assert "\n" not in str(caught.value)
    assert "mine.py:find" in str(caught.value)


def test_a_model_that_gives_no_numbers_finds_nothing(tmp_path):
    mine = giving(tmp_path, f"[{{**{ONE}, 'scores': outputs['x'][0, :1]}}] * 2")
    assert [len(one) for one in mine.decode({"x": np.full((2, 3), np.nan)}, SIZE)] == [0, 0]


def test_measures(tmp_path):
    text = (
        "def gap(o, r):\n    return [float(abs(a - b).max()) for a, b in zip(o['x'], r['x'])]\ngap.better = 'higher'\n"
    )
    measure = called(written(tmp_path, text, "gap"))
    assert isinstance(measure, OwnMeasure)
    assert (measure.name, measure.higher) == ("gap", True)
    values = measure.values({"x": np.array([[1, 2], [3, 4]])}, {"x": np.zeros((2, 2))})
    assert (values.tolist(), values.dtype) == ([2.0, 4.0], np.float64)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("o['y']", "gap fails: KeyError in line 4: 'y'"),
        ("None", "gap gives numbers of shape"),
        ("1.0", r"gap gives numbers of shape \(\) for 2 samples: give one for each"),
        ("[1.0]", r"gap gives numbers of shape \(1,\) for 2 samples"),
        ("'a'", "gap gives a str of 1: give a number for each sample"),
        ("[1.0, np.nan]", "gap gives nan for sample 1: give a finite number, also where all failed"),
    ],
)
def test_measures_that_mean_nothing(tmp_path, expression, why):
    measure = called(written(tmp_path, f"def gap(o, r):\n    return {expression}\ngap.better = 'lower'\n", "gap"))
    with pytest.raises(DataError, match=why):
        measure.values(OUTPUTS, OUTPUTS)


def test_what_a_function_prints_is_no_part_of_what_a_command_prints(tmp_path, capfd):
    text = f"""
    print("loaded")
    def find(outputs, size):
        print("called")
        for number in range(2):
            print("gone through")
            yield {ONE}
    """
    assert len(called(written(tmp_path, text)).decode(OUTPUTS, SIZE)) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.split() == ["loaded", "called", "gone", "through", "gone", "through"]


def test_a_function_that_ends_the_process_fails(tmp_path):
    mine = called(written(tmp_path, "def find(outputs, size):\n    raise SystemExit(3)\n"))
    with pytest.raises(DataError, match=r"mine\.py:find fails: SystemExit in line 4: 3"):
        mine.decode(OUTPUTS, SIZE)
