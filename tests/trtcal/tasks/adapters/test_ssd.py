"""SSD: boxes of priors, beside plain loops after the formulas, on UltraFace and on models made for it."""

import math

import numpy as np
import pytest
from PIL import Image

from calibrators.errors import ModelError
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.trtcal.tasks.adapters.exact import ran, same
from trtcal.measure.accuracy import evaluate
from trtcal.tasks.adapters.ssd import ADAPTER
from trtcal.tasks.decoding.nms import LEAST

SIZE = (96, 128)
PRIORS, CLASSES = 40, 4


def by_hand(boxes, scores, size):
    """Every class but the background of every prior, one number after the other."""
    found = []
    for box, row in zip(boxes, scores, strict=True):
        left, top, right, bottom = (
            float(value) * side for value, side in zip(box, (size[1], size[0], size[1], size[0]), strict=True)
        )
        found += [
            (float(score), number - 1, left, top, right, bottom)
            for number, score in enumerate(row)
            if number > 0 and score > LEAST
        ]
    return found


def decoded_by_hand(offsets, priors):
    boxes = []
    for (dx, dy, dw, dh), (x, y, w, h) in zip(offsets.tolist(), priors.tolist(), strict=True):
        across, down = x + 0.1 * dx * w, y + 0.1 * dy * h
        width, height = w * math.exp(0.2 * dw), h * math.exp(0.2 * dh)
        boxes.append((across - width / 2, down - height / 2, across + width / 2, down + height / 2))
    return boxes


def softmax_by_hand(logits):
    powers = [[math.exp(float(value)) for value in row] for row in logits]
    return [[power / sum(row) for power in row] for row in powers]


def tables(dtype=np.float32, samples=3, seed=0):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((samples, PRIORS, 2, 2)), axis=2).reshape(samples, PRIORS, 4)
    scores = rng.dirichlet(np.full(CLASSES + 1, 0.3), (samples, PRIORS))
    return {"boxes": corners.astype(dtype), "scores": scores.astype(dtype)}


def test_ultraface_finds_the_faces_of_photographs(shared_data):
    with OnnxRuntimeSession(shared_data / "models" / "ultraface_rfb_320.onnx") as session:
        photographs = sorted((shared_data / "images" / "faces").iterdir())
        for photograph in photographs:
            image = Image.open(photograph).convert("RGB").resize((320, 240), Image.Resampling.BILINEAR)
            pixels = (np.asarray(image, np.float32) - 127) / 128
            outputs = session.run({"input": pixels.transpose(2, 0, 1)[None]})
            assert not ADAPTER.misfit({name: array.shape for name, array in outputs.items()}, (240, 320))
            (found,) = ADAPTER.decode(outputs, (240, 320))
            same(found, by_hand(outputs["boxes"][0], outputs["scores"][0], (240, 320)))
            assert found.scores[0] > 0.9
            assert set(found.classes) == {0}
            sides = found.boxes[0, 2:] - found.boxes[0, :2]
            assert sides.min() > 5  # pixels: a face, not a number from 0 to 1


@pytest.mark.parametrize("order", [("boxes", "scores"), ("scores", "boxes")])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_boxes_of_a_batch_are_those_of_plain_loops(order, dtype):
    made = tables(dtype)
    outputs = ran({name: made[name] for name in order}, [2, 0, 1, 0], SIZE)
    for found, row in zip(ADAPTER.decode(outputs, SIZE), [2, 0, 1, 0], strict=True):
        same(found, by_hand(made["boxes"][row], made["scores"][row], SIZE))
        assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("axes", [2, 3])
def test_offsets_from_priors_are_decoded_and_logits_become_probabilities(axes):
    rng = np.random.default_rng(1)
    priors = np.concatenate([rng.random((PRIORS, 2)), rng.uniform(0.05, 0.5, (PRIORS, 2))], axis=1).astype(np.float32)
    offsets = rng.normal(0, 2, (2, PRIORS, 4)).astype(np.float32)
    logits = rng.normal(0, 3, (2, PRIORS, CLASSES + 1)).astype(np.float32)
    offsets[:, 3, 2] = -np.inf  # would be a box without a width, and is none
    outputs = ran({"loc": offsets, "conf": logits}, [0, 1], SIZE)
    outputs["priors"] = priors if axes == 2 else priors[None]
    kept = np.arange(PRIORS) != 3
    for row, found in enumerate(ADAPTER.decode(outputs, SIZE)):
        boxes = decoded_by_hand(offsets[row, kept], priors[kept])
        same(found, by_hand(boxes, softmax_by_hand(logits[row, kept]), SIZE))


def test_what_is_not_a_number_is_never_found():
    made = tables()
    made["scores"][0, :5] = np.nan
    made["boxes"][0, 5:9, 2] = np.inf
    made["scores"][1] = np.nan
    made["scores"][2] = [1.0] + [0.0] * CLASSES
    found, nothing, background = ADAPTER.decode(ran(made, [0, 1, 2], SIZE), SIZE)
    same(found, by_hand(made["boxes"][0, 9:], made["scores"][0, 9:], SIZE))
    assert len(nothing) == len(background) == 0
    assert nothing.boxes.shape == (0, 4)


def test_scores_of_three_classes_are_not_taken_for_boxes():
    rng = np.random.default_rng(3)
    corners = np.sort(rng.random((1, 9, 2, 2)), axis=2).reshape(1, 9, 4)
    scores = rng.dirichlet(np.ones(4), (1, 9))
    (found,) = ADAPTER.decode({"scores": scores, "boxes": corners}, SIZE)
    same(found, by_hand(corners[0], scores[0], SIZE))
    assert "boxes (N, priors, 4)" in ADAPTER.misfit({"a": (1, 9, 4), "b": (1, 9, 4)}, SIZE)


@pytest.mark.parametrize(
    "shapes",
    [
        {"probs": (1, 1000)},
        {"boxes": (1, 9, 4)},
        {"boxes": (1, 9, 4), "scores": (1, 8, 3)},
        {"boxes": (1, 9, 4), "scores": (1, 9, 1)},
        {"boxes": (1, 9, 4), "scores": (1, 9)},
        {"loc": (1, 9, 4), "conf": (1, 9, 3), "priors": (8, 4)},
    ],
)
def test_other_outputs_are_told_in_a_line(shapes):
    reason = ADAPTER.misfit(shapes, SIZE)
    assert reason.startswith("outputs boxes (N, priors, 4) and scores (N, priors, background + classes)")
    assert "\n" not in reason
    assert f"{next(iter(shapes))} (N, {next(iter(shapes.values()))[1]}" in reason
    with pytest.raises(ModelError, match="do not fit: outputs boxes"):
        ADAPTER.decode({name: np.zeros(shape) for name, shape in shapes.items()}, SIZE)


def test_classes_are_counted_without_the_background():
    assert ADAPTER.classes({"boxes": (None, None, 4), "scores": (None, None, 21)}) == 20
    assert ADAPTER.classes({"boxes": (None, 9, 4), "scores": (None, 9, None)}) is None
    assert ADAPTER.overlap == 0.45


@pytest.mark.parametrize("dead", [[0.0, 0.0], [1.0, 0.0]])
def test_scores_that_are_gone_do_not_hide_behind_the_background_even_where_no_task_is_named(shared_data, dead):
    ultraface = OnnxRuntimeSession(shared_data / "models" / "ultraface_rfb_320.onnx")

    class Dead:
        inputs, outputs = ultraface.inputs, ultraface.outputs

        def run(self, batch):
            found = ultraface.run(batch)
            return found | {"scores": found["scores"] * np.array(dead, np.float32)}

    photograph = Image.open(shared_data / "images" / "faces" / "1.jpg").convert("RGB").resize((320, 240))
    pixels = ((np.asarray(photograph, np.float32) - 127) / 128).transpose(2, 0, 1)[None]
    with ultraface:
        report = evaluate({"float": ultraface, "dead": Dead()}, [{"input": pixels}], reference="float")
    assert report.scores["dead"].sqnr == 0
    assert report.scores["dead"].groups["scores classes"].sqnr == 0


def test_the_background_and_the_classes_are_parts_of_the_scores():
    shapes = {"scores": (1, PRIORS, 21), "boxes": (1, PRIORS, 4)}
    parts = [(part.name, part.output, part.axis, part.first, part.last) for part in ADAPTER.parts(shapes)]
    assert parts == [("background", "scores", 2, 0, 0), ("classes", "scores", 2, 1, 20)]
    assert not ADAPTER.parts({"scores": (1, PRIORS, None), "boxes": (1, PRIORS, 4)})
