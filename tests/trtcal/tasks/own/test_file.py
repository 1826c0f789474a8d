"""Adapters as TOML: every key, and every way to say it wrongly."""

import numpy as np
import pytest

from calibrators.errors import ConfigError, ModelError
from trtcal.tasks.own.file import declared

SIZE = (20, 40)
PLAIN = '[boxes]\noutput = "b"\n[scores]\noutput = "s"\n'


def adapter(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return declared(path)


def decoded(folder, text, **outputs):
    return adapter(folder, text).decode({name: np.asarray(array) for name, array in outputs.items()}, SIZE)


@pytest.mark.parametrize(
    ("keys", "box"),
    [
        ("", [1, 2, 3, 6]),
        ('format = "corners"', [1, 2, 3, 6]),
        ('format = "centre"', [-0.5, -1, 2.5, 5]),
        ('format = "corner-size"', [1, 2, 4, 8]),
        ('unit = "normalized"', [40, 40, 120, 120]),
        ('format = "centre"\nunit = "normalized"', [-20, -20, 100, 100]),
    ],
)
def test_formats_of_boxes(tmp_path, keys, box):
    (found,) = decoded(
        tmp_path, f'[boxes]\noutput = "b"\n{keys}\n[scores]\noutput = "s"\n', b=[[[1, 2, 3, 6]]], s=[[[0, 0.5]]]
    )
    assert found.boxes.tolist() == [box]
    assert (found.scores.tolist(), found.classes.tolist()) == ([0.5], [1])


@pytest.mark.parametrize(
    ("keys", "scores", "classes"),
    [
        ('activation = "sigmoid"', [0.75, 0.5, 0.25], [0, 1, 2]),
        ('activation = "softmax"', [9 / 13, 3 / 13, 1 / 13], [0, 1, 2]),
        ('activation = "softmax"\nbackground = 0', [3 / 13, 1 / 13], [0, 1]),
        ('activation = "softmax"\nbackground = 1', [9 / 13, 1 / 13], [0, 1]),
        ('activation = "sigmoid"\nchannels = [1, 2]', [0.5, 0.25], [0, 1]),
        ('activation = "sigmoid"\nchannels = 2', [0.25], [0]),
    ],
)
def test_activations_and_background(tmp_path, keys, scores, classes):
    logits = [[np.log([3.0, 1.0, 1 / 3])]]
    (found,) = decoded(tmp_path, f"{PLAIN}{keys}\n", b=[[[0, 0, 1, 1]]], s=logits)
    assert found.scores.tolist() == pytest.approx(scores)
    assert found.classes.tolist() == classes


def test_objectness_and_numbers_of_classes(tmp_path):
    boxes = np.arange(16.0).reshape(1, 4, 4)
    text = PLAIN + '[objectness]\noutput = "o"\nactivation = "sigmoid"\n[classes]\noutput = "c"\n'
    (found,) = decoded(tmp_path, text, b=boxes, s=[[0.5, 0.9, 0.9, 0.8]], o=[[0, 0, 0, 100]], c=[[3, 4, -1, 6.01]])
    assert found.scores.tolist() == pytest.approx([0.8, 0.45, 0.25])
    assert found.classes.tolist() == [6, 4, 3]
    assert found.boxes.tolist() == boxes[0, [3, 1, 0]].tolist()


def test_anchors_in_rows_and_columns_of_a_map(tmp_path):
    text = "[boxes]\naxis = 1\nchannels = [0, 3]\n[scores]\naxis = 1\nchannels = [4, 5]\n"
    output = np.random.default_rng(0).random((2, 6, 3, 5))
    for sample, found in zip(output, decoded(tmp_path, text, output=output), strict=True):
        flat = sample.reshape(6, 15)
        order = np.argsort(-flat[4:].T.ravel())
        assert np.array_equal(found.scores, flat[4:].T.ravel()[order])
        assert np.array_equal(found.boxes, flat[:4].T[order // 2])


@pytest.mark.parametrize(
    ("keys", "points"),
    [
        ("", [[1, 2, 3], [4, 5, 6]]),
        ('unit = "normalized"', [[40, 40, 3], [160, 100, 6]]),
        ("values = 2", [[1, 2, 1], [3, 4, 1], [5, 6, 1]]),
    ],
)
def test_points(tmp_path, keys, points):
    text = f'kind = "keypoints"\n{PLAIN}[points]\noutput = "p"\n{keys}\n'
    (found,) = decoded(tmp_path, text, b=[[[0, 0, 1, 1]]], s=[[0.5]], p=[[[1, 2, 3, 4, 5, 6]]])
    assert found.points.tolist() == [points]


def test_points_that_are_no_numbers_are_not_found(tmp_path):
    text = f'kind = "keypoints"\n{PLAIN}[points]\noutput = "p"\n'
    boxes, points = np.zeros((1, 2, 4)), np.array([[[1, 2, np.nan], [4, 5, 6]]])
    (found,) = decoded(tmp_path, text, b=boxes, s=[[0.5, 0.4]], p=points)
    assert (found.scores.tolist(), found.points.tolist()) == ([0.4], [[[4, 5, 6]]])


def test_class_maps(tmp_path):
    scores = np.zeros((1, 3, 2, 2))
    scores[0, 2, 0, 0], scores[0, 1, 1, 1], scores[0, 0, 0, 1] = 1, 2, np.nan
    text = 'kind = "segment"\n[scores]\n'
    assert decoded(tmp_path, text, s=scores)[0].classes.tolist() == [[2, -1], [0, 1]]
    assert decoded(tmp_path, text + "axis = -1\n", s=scores.transpose(0, 2, 3, 1))[0].classes.tolist() == [
        [2, -1],
        [0, 1],
    ]
    assert decoded(tmp_path, 'kind = "segment"\n[classes]\n', c=[[[3, 1], [0, 2]]])[0].classes.tolist() == [
        [3, 1],
        [0, 2],
    ]
    assert decoded(tmp_path, 'kind = "segment"\n[classes]\n', c=[[[[3, 1]]]])[0].classes.tolist() == [[3, 1]]


def test_a_model_that_gives_no_numbers_finds_nothing(tmp_path):
    nothing = np.full((1, 3, 4), np.nan)
    assert len(decoded(tmp_path, PLAIN, b=nothing, s=nothing)[0]) == 0
    assert len(decoded(tmp_path, PLAIN + 'activation = "softmax"', b=nothing, s=nothing)[0]) == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[boxes", "is not TOML: "),
        ("", r"has no table \[boxes\], which task detect needs; it says where boxes are"),
        (
            f'kind = "keypoint"\n{PLAIN}',
            r"kind is 'keypoint' \(did you mean 'keypoints'\?\): give one of detect, segment, ",
        ),
        (f'kind = "keypoints"\n{PLAIN}', r"has no table \[points\], which task keypoints needs"),
        (
            f"[box]\n{PLAIN}",
            r"unknown key 'box' \(did you mean 'boxes'\?\); valid: kind, overlap, names, boxes, scores, ",
        ),
        (f"{PLAIN}axes = 1", r"unknown key 'scores.axes' \(did you mean 'axis'\?\); valid: output, axis, channels, "),
        (f"{PLAIN}format = 1", "unknown key 'scores.format'"),
        (
            f'{PLAIN}activation = "sigmoyd"',
            r"scores.activation is 'sigmoyd' \(did you mean 'sigmoid'\?\): give one of none",
        ),
        (f"{PLAIN}activation = 1", "scores.activation is 1: give one of none, sigmoid, softmax"),
        (f"{PLAIN}output = 1".replace('output = "s"\n', ""), "scores.output is 1: give the name of an output"),
        (f'{PLAIN}axis = "1"', "scores.axis is '1': give a whole number from -8 to 8"),
        (f"{PLAIN}axis = true", "scores.axis is True: give a whole number"),
        (f"{PLAIN}background = -1", "scores.background is -1: give a whole number from 0 to"),
        (f"{PLAIN}channels = [1]", r"scores.channels are \[1\]: give the first and the last"),
        (f"{PLAIN}channels = [3, 1]", r"scores.channels are \[3, 1\]: the first is from 0 to the last"),
        (f"overlap = 7\n{PLAIN}", "overlap is 7: give a number from 0.0 to 1.0"),
        (f"names = [1]\n{PLAIN}", "names are the classes' names by number: a list of texts"),
        ("boxes = 1\n[scores]\n", r"boxes is no table: write \[boxes\]"),
        ('kind = "segment"\n', r"task segment needs one table: \[scores\]"),
        ('kind = "segment"\n[scores]\n[classes]\n', "task segment needs one table"),
        ('kind = "segment"\n[boxes]\n', "unknown key 'boxes'; valid: kind, overlap, names, scores, classes"),
    ],
)
def test_what_means_nothing(tmp_path, text, why):
    with pytest.raises(ConfigError, match=f"^adapter .*mine.toml: {why}") as caught:
        adapter(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        declared(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "shapes", "why"),
    [
        (PLAIN, {"a": (1, 4, 4), "s": (1, 4, 2)}, "an output 'b', not a (N, 4, 4), s (N, 4, 2)"),
        (
            PLAIN.replace('output = "b"', ""),
            {"b": (1, 4, 4), "s": (1, 4)},
            "one output, or one named by boxes.output, not b (N, 4, 4), s (N, 4)",
        ),
        (PLAIN, {"b": (1, 9, 4), "s": (1, 8, 2)}, "as many rows of boxes as of scores, not 9 of boxes, 8 of scores"),
        (PLAIN, {"b": (1, 9, 5), "s": (1, 9, 2)}, "4 channels of boxes, not 5: say which, by boxes.channels"),
        (f"{PLAIN}axis = 3", {"b": (1, 9, 4), "s": (1, 9, 2)}, "an output with an axis 3 of scores, not s (N, 9, 2)"),
        (f"{PLAIN}axis = 0", {"b": (1, 9, 4), "s": (1, 9, 2)}, "an output with an axis 0 of scores, not s (N, 9, 2)"),
        (PLAIN, {"b": (1,), "s": (1, 9, 2)}, "an output with an axis 1 of boxes, not b (N)"),
        (
            f"{PLAIN}channels = [0, 2]",
            {"b": (1, 9, 4), "s": (1, 9, 2)},
            "scores in channels 0 to 2 of axis 2, not s (N, 9, 2)",
        ),
        (
            f"{PLAIN}background = 2",
            {"b": (1, 9, 4), "s": (1, 9, 2)},
            "scores with their background in channel 2, not 2 channels",
        ),
        (
            f'{PLAIN}[classes]\noutput = "c"',
            {"b": (1, 9, 4), "s": (1, 9, 2), "c": (1, 9)},
            "1 channel of scores, not 2: say which, by scores.channels",
        ),
        (
            f'kind = "keypoints"\n{PLAIN}[points]\noutput = "p"',
            {"b": (1, 9, 4), "s": (1, 9), "p": (1, 9, 34)},
            "3 channels for each point, not 34 together",
        ),
    ],
)
def test_outputs_that_do_not_fit(tmp_path, text, shapes, why):
    mine = adapter(tmp_path, text)
    assert mine.misfit(shapes, SIZE).startswith(why)
    with pytest.raises(ModelError, match=r"^the outputs do not fit the adapter mine.toml: "):
        mine.decode({name: np.zeros(shape) for name, shape in shapes.items()}, SIZE)


def test_logits_are_not_taken_for_scores(tmp_path):
    with pytest.raises(ModelError, match=r"^scores reach 7, and are from 0 to 1: scores.activation may be \"sigmoid\""):
        decoded(tmp_path, PLAIN, b=[[[0, 0, 1, 1]]], s=[[[-3.0, 7.0]]])


def test_free_sizes_may_fit(tmp_path):
    mine = adapter(tmp_path, PLAIN)
    assert mine.misfit({"b": (None, None, 4), "s": (None, None, None)}, SIZE) == ""
    assert mine.classes({"b": (None, None, 4), "s": (None, None, None)}) is None
