"""Ultralytics' own heads, and what its validation makes of their outputs, beside our adapters of the same outputs."""

import numpy as np
import pytest

from tests.peers.installed import needed
from trtcal.tasks.adapters import yolov8, yolov10
from trtcal.tasks.nms import without_overlaps

torch = needed("torch", "torch")
heads = needed("ultralytics", "ultralytics.nn.modules.head")
theirs = needed("ultralytics", "ultralytics.utils.nms")

SIZE = (160, 192)
WIDTHS = (16, 24, 32)


def features():
    """What a neck gives: two samples, strides 8, 16 and 32."""
    torch.manual_seed(0)
    sizes = [(SIZE[0] // stride, SIZE[1] // stride) for stride in (8, 16, 32)]
    return [torch.randn(2, width, *size) for width, size in zip(WIDTHS, sizes, strict=True)]


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
    asked = {"multi_label": True, "max_det": 300, "max_time_img": 60.0}  # past its time it leaves images out
    expected = theirs.non_max_suppression(output.clone(), 0.001, overlap, **asked)
    for ours, rows in zip(yolov8.ADAPTER.decode({"output0": output.numpy()}, SIZE), expected, strict=True):
        found = without_overlaps(ours, overlap)
        assert 100 < len(found) == len(rows)
        assert np.abs(found.boxes - rows[:, :4].numpy()).max() < 0.01
        assert np.abs(found.scores - rows[:, 4].numpy()).max() < 1e-6
        assert found.classes.tolist() == rows[:, 5].tolist()


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
