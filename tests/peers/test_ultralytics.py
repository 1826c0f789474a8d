"""Ultralytics' own heads, and what its validation makes of their outputs, beside our adapters of the same outputs."""

import numpy as np
import pytest
from hotcoco import mask as rle

from tests.peers.installed import needed
from trtcal.tasks.adapters.yolo import end_to_end_pose, end_to_end_segment, yolov8, yolov10
from trtcal.tasks.adapters.yolo import pose as yolo_pose
from trtcal.tasks.adapters.yolo import segment as yolo_segment
from trtcal.tasks.decoding.nms import without_overlaps

torch = needed("torch", "torch")
heads = needed("ultralytics", "ultralytics.nn.modules.head")
theirs = needed("ultralytics", "ultralytics.utils.nms")
ops = needed("ultralytics", "ultralytics.utils.ops")

SIZE = (160, 192)
WIDTHS = (16, 24, 32)


def features():
    """What a neck gives: two samples, strides 8, 16 and 32."""
    torch.manual_seed(0)
    sizes = [(SIZE[0] // stride, SIZE[1] // stride) for stride in (8, 16, 32)]
    return [torch.randn(2, width, *size) for width, size in zip(WIDTHS, sizes, strict=True)]


def validated(output, *, classes: int, overlap: float = 0.7):
    """What their validation keeps, by sample: left, top, right, bottom, score, class, and what stands behind."""
    asked = {"multi_label": True, "max_det": 300, "max_time_img": 60.0}  # past its time it leaves images out
    return theirs.non_max_suppression(output.clone(), 0.001, overlap, nc=classes, **asked)


def same(found, rows) -> None:
    assert 100 < len(found) == len(rows)
    assert np.abs(found.boxes - rows[:, :4].numpy()).max() < 0.01
    assert np.abs(found.scores - rows[:, 4].numpy()).max() < 1e-6
    assert found.classes.tolist() == rows[:, 5].tolist()


def exported(kind, *arguments, end2end: bool = False):
    """A head as it is exported, with weights large enough for sure scores."""
    torch.manual_seed(1)
    head = kind(*arguments, end2end=end2end, ch=WIDTHS)
    head.stride, head.export, head.end2end = torch.tensor([8.0, 16.0, 32.0]), True, end2end
    for last in [*head.one2one_cv2, *head.one2one_cv3] if end2end else [*head.cv2, *head.cv3]:
        torch.nn.init.normal_(last[-1].weight, std=2.0)
        torch.nn.init.normal_(last[-1].bias, std=1.0)
    return head.eval()


def outputs_of(head):
    with torch.no_grad():
        return head(features())


@pytest.mark.parametrize("overlap", [0.45, 0.7])
def test_what_validation_finds(overlap: float) -> None:
    output = outputs_of(exported(heads.Detect, 5))
    expected = validated(output, classes=5, overlap=overlap)
    for ours, rows in zip(yolov8.ADAPTER.decode({"output0": output.numpy()}, SIZE), expected, strict=True):
        same(without_overlaps(ours, overlap), rows)


def test_masks() -> None:
    output, prototypes = outputs_of(exported(heads.Segment, 2, 32, 16))
    found = yolo_segment.ADAPTER.decode({"output0": output.numpy(), "output1": prototypes.numpy()}, SIZE)
    for ours, rows, one in zip(found, validated(output, classes=2), prototypes, strict=True):
        same(ours, rows)
        masks = ops.process_mask(one, rows[:, 6:], rows[:, :4], SIZE, upsample=True).numpy() > 0
        drawn = np.moveaxis(rle.decode(list(ours.masks)), -1, 0) > 0
        assert masks.any(axis=(1, 2)).sum() > 100
        assert (drawn != masks).mean() < 1e-5, "a sum of 0 is in or out as float32 rounds"


def test_points() -> None:
    output = outputs_of(exported(heads.Pose, 1, (5, 3)))
    ours = yolo_pose.ADAPTER.decode({"output0": output.numpy()}, SIZE)
    for everything, rows in zip(ours, validated(output, classes=1), strict=True):
        found = without_overlaps(everything, 0.7)
        same(found, rows)
        assert np.abs(found.points - rows[:, 6:].numpy().reshape(-1, 5, 3)).max() < 0.01


def test_an_end_to_end_head() -> None:
    output = outputs_of(exported(heads.Detect, 5, end2end=True))
    assert output.shape == (2, 300, 6)
    for found, everything in zip(
        yolov10.ADAPTER.decode({"output0": output.numpy()}, SIZE), output.numpy(), strict=True
    ):
        rows = everything[everything[:, 4] > 0.001]
        assert 100 < len(found) == len(rows)
        assert np.abs(found.boxes - rows[:, :4]).max() < 0.01
        assert found.classes.tolist() == rows[:, 5].tolist()


def test_masks_and_points_of_end_to_end_heads() -> None:
    output, prototypes = (value.numpy() for value in outputs_of(exported(heads.Segment, 2, 32, 16, end2end=True)))
    found = end_to_end_segment.ADAPTER.decode({"output0": output, "output1": prototypes}, SIZE)
    for ours, everything, one in zip(found, torch.tensor(output), torch.tensor(prototypes), strict=True):
        rows = everything[everything[:, 4] > 0.001]
        same(ours, rows)
        masks = ops.process_mask(one, rows[:, 6:], rows[:, :4], SIZE, upsample=True).numpy() > 0
        assert (np.moveaxis(rle.decode(list(ours.masks)), -1, 0).astype(bool) != masks).mean() < 1e-5
    poses = outputs_of(exported(heads.Pose, 1, (5, 3), end2end=True))
    for ours, everything in zip(end_to_end_pose.ADAPTER.decode({"output0": poses.numpy()}, SIZE), poses, strict=True):
        rows = everything[everything[:, 4] > 0.001]
        same(ours, rows)
        assert np.abs(ours.points - rows[:, 6:].numpy().reshape(-1, 5, 3)).max() < 0.01
