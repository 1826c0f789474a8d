"""Which adapter outputs fit: the likely one is proposed and said, and what fits none is told what would."""

import numpy as np
import pytest

from calibrators.errors import ConfigError, ModelError
from trtcal.tasks.adapter import Adapter
from trtcal.tasks.proposal import adapter_named, all_adapters, proposed

SIZE = (240, 320)
RETINANET = 9 * (30 * 40 + 15 * 20 + 8 * 10 + 4 * 5 + 2 * 3)


def outputs(**shapes):
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def test_every_adapter_has_its_own_name_and_says_what_it_reads():
    assert {"ssd", "retinanet", "centernet", "dbnet", "detr", "rtdetr", "efficient-nms", "detections", "semantic"} <= {
        name for _, name in all_adapters()
    }
    for (kind, name), adapter in all_adapters().items():
        assert isinstance(adapter, Adapter)
        assert adapter_named(kind, name) is adapter
        reason = adapter.misfit({"nothing": (1, 7)}, SIZE)
        assert ", not nothing (N, 7)" in reason
        assert "\n" not in reason
        assert adapter.summary


@pytest.mark.parametrize(
    ("kind", "made", "name"),
    [
        ("detect", outputs(scores=(1, 4420, 2), boxes=(1, 4420, 4)), "ssd"),
        ("detect", outputs(scores=(1, 90, 2), boxes=(1, 90, 4)), "ssd"),
        ("detect", outputs(a=(1, 4420, 2), b=(1, 4420, 4)), "ssd"),
        ("detect", outputs(loc=(1, 90, 4), conf=(1, 90, 21), priors=(90, 4)), "ssd"),
        ("detect", outputs(pred_logits=(1, 100, 92), pred_boxes=(1, 100, 4)), "detr"),
        ("detect", outputs(logits=(1, 300, 80), boxes=(1, 300, 4)), "detr"),
        ("detect", outputs(dets=(1, 300, 4), labels=(1, 300, 91)), "detr"),
        ("detect", outputs(a=(1, 300, 4), b=(1, 300, 91)), "detr"),
        (
            "detect",
            outputs(num_dets=(1, 1), det_boxes=(1, 9, 4), det_scores=(1, 9), det_classes=(1, 9)),
            "efficient-nms",
        ),
        ("detect", outputs(boxes=(1, 9, 4), classes=(1, 9), scores=(1, 9), num_detections=(1,)), "detections"),
        ("detect", outputs(boxes=(9, 4), labels=(9,), scores=(9,)), "detections"),
        ("detect", outputs(map=(1, 1, 240, 320)), "dbnet"),
        ("detect", outputs(hm=(1, 1, 60, 80), wh=(1, 2, 60, 80), reg=(1, 2, 60, 80)), "centernet"),
        ("detect", outputs(a=(1, RETINANET, 4), b=(1, RETINANET, 80)), "retinanet"),
        ("detect", outputs(score_1=(1, 18, 30, 40), box_1=(1, 36, 30, 40)), "retinanet"),
        ("segment", outputs(logits=(1, 19, 60, 80)), "semantic"),
        ("segment", outputs(labels=(1, 240, 320)), "semantic"),
        ("segment", outputs(output0=(1, 116, 1580), output1=(1, 32, 60, 80)), "yolov8"),
        ("keypoints", outputs(output0=(1, 56, 1580)), "yolov8"),
    ],
)
def test_the_likely_one_is_proposed_and_said(kind, made, name):
    adapter, notes = proposed(kind, made, SIZE)
    assert adapter.name == name
    (note,) = notes
    assert f"are read by the adapter {name} (" in note
    assert note.startswith(f"the outputs {next(iter(made))} (N")
    assert "\n" not in note


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((1, 84, 8400), "yolov8"),
        ((1, 25200, 85), "yolov5"),
        ((1, 8400, 85), "yolox"),
        ((1, 300, 6), "yolov10"),
        ((1, 300, 84), "rtdetr"),
    ],
)
def test_one_output_is_told_by_its_rows(shape, name):
    adapter, _ = proposed("detect", outputs(output0=shape), (640, 640))
    assert adapter.name == name


def test_where_two_are_as_likely_a_name_is_asked_for():
    with pytest.raises(ModelError, match=r"yolov5 and yolox fit the outputs output0 \(N, 6, 17\): name one, --task"):
        proposed("detect", outputs(output0=(1, 6, 17)), (8, 8))


def test_others_that_would_fit_are_named():
    _, (note,) = proposed("detect", outputs(scores=(1, 4420, 2), boxes=(1, 4420, 4)), SIZE)
    assert note.endswith("detr and rtdetr would fit, too: name one with --task detect:detr")


@pytest.mark.parametrize("kind", ["detect", "segment"])
@pytest.mark.parametrize("shape", [(1, 1000), (1, 1000, 1, 1)])
def test_class_scores_are_no_detections(kind, shape):
    with pytest.raises(ModelError, match=r"probs \(N, 1000.*\) are class scores.*give --task classify"):
        proposed(kind, outputs(probs=shape), SIZE)


def test_what_fits_but_for_an_output_more_is_among_the_nearest():
    with pytest.raises(
        ModelError, match=r"the nearest are: yolov8 takes one output of \(N, 4 \+ classes, anchors\) without"
    ):
        proposed("detect", outputs(output0=(1, 116, 8400), output1=(1, 32, 160, 160)), (640, 640))


def test_what_fits_none_is_told_what_the_nearest_take():
    with pytest.raises(ModelError) as raised:
        proposed("detect", outputs(boxes=(1, 90, 4), scores=(1, 80, 2)), SIZE)
    message = str(raised.value)
    assert message.startswith("no adapter of task detect fits the outputs boxes (N, 90, 4), scores (N, 80, 2)")
    assert "ssd takes outputs boxes (N, priors, 4)" in message
    assert "\n" not in message
    assert len(message) < 700


def test_an_unknown_name_is_told_the_nearest_and_all():
    with pytest.raises(ConfigError, match=r"no adapter 'eficient-nms' of task detect \(did you mean efficient-nms\?\)"):
        adapter_named("detect", "eficient-nms")
    with pytest.raises(ConfigError, match=r"give one of .*detr, efficient-nms.*, ssd.*, or an adapter of your own"):
        adapter_named("detect", "zzz")
    with pytest.raises(ConfigError, match="semantic is an adapter of task segment, not of detect"):
        adapter_named("detect", "semantic")
