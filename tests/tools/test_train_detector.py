"""The script that trains the demo's detector: what it learns from, and what it exports (training takes minutes)."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", "2.8", reason="PyTorch 2.8 is not installed (extra [train])")
pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra [demo])")

from trtcal.demo.digits import load_split  # noqa: E402
from trtcal.demo.scenes import make_scenes  # noqa: E402
from trtcal.demo.subjects import judged_scenes  # noqa: E402

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def tools() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))  # as for a script that is run
        names = ("train_detector", "detection", "networks")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture
def detection(tools: SimpleNamespace) -> ModuleType:
    module: ModuleType = tools.detection
    return module


@pytest.mark.slow
def test_an_exported_detector_computes_what_pytorch_does(tools: SimpleNamespace) -> None:
    torch.manual_seed(0)
    job = tools.train_detector.JOBS["detect"]
    network = job.network()
    model = tools.train_detector.exported(network, job, {"seed": "0"})
    images = tools.train_detector.images_of(judged_scenes(3)).float() / 255
    assert tools.networks.check(model, network, images, within=1e-3) < 1e-3
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"backbone.stem.conv", "fuse8.resize", "box_heads.0.2", "score_heads.2.0.depthwise.act.Sigmoid"} <= set(
        names
    )


def test_each_object_has_a_cell_whose_box_can_reach_it(detection: ModuleType, tools: SimpleNamespace) -> None:
    scenes = judged_scenes(30)
    truth = tools.train_detector.objects_of(scenes)
    generator = torch.Generator().manual_seed(0)
    centres, _ = detection.cells()
    boxes = torch.cat([centres - 10, centres + 10], 1) + torch.rand(30, 525, 4, generator=generator)
    target = detection.assign(boxes, torch.rand(30, 525, 10, generator=generator), truth)
    for number, scene in enumerate(scenes):
        mine = target.boxes[number][target.taken[number]].numpy()
        assert {tuple(box) for box in mine.tolist()} == {tuple(box) for box in scene.boxes.tolist()}
        scores, labels = target.scores[number][target.taken[number]].max(1)
        boxes_by_label = {(label, *box) for label, box in zip(labels.tolist(), mine.tolist(), strict=True)}
        assert boxes_by_label == {(c, *b) for c, b in zip(scene.classes.tolist(), scene.boxes.tolist(), strict=True)}
        assert float(target.scores[number][~target.taken[number]].sum()) == 0
        assert len(scores) <= 7 * len(scene)


def test_boxes_come_back_from_the_distances_to_their_sides(detection: ModuleType) -> None:
    """Distributions of all weight on two bins give the box that they were made from."""
    centres, strides = detection.cells()
    cell = 20 * 7 + 5  # of stride 8, its centre at (44, 60)
    box = torch.tensor([42.0, 40.0, 47.0, 75.0])
    sides = torch.cat([centres[cell] - box[:2], box[2:] - centres[cell]]) / strides[cell] - detection.LEAST_BIN
    distances = torch.full((1, 4, detection.BINS, 525), -30.0)
    for side, value in enumerate(sides.tolist()):
        low = int(value)
        distances[0, side, low, cell] = np.log(1 - (value - low))
        distances[0, side, low + 1, cell] = np.log(value - low + 1e-9)
    found = detection.Decode()(distances.reshape(1, -1, 525), torch.zeros(1, 10, 525))
    torch.testing.assert_close(detection.corners(found[0, :4, cell]), box, rtol=0, atol=1e-3)
    assert found[0, 4:].unique().tolist() == [0.5]


def test_overlaps_of_boxes(detection: ModuleType) -> None:
    box, other = torch.tensor([0.0, 0, 10, 10]), torch.tensor([[5.0, 0, 15, 10], [20, 0, 30, 10], [0, 0, 10, 10]])
    assert detection.iou(box, other).tolist() == pytest.approx([1 / 3, 0, 1])
    assert detection.giou(box, other).tolist() == pytest.approx([1 / 3, -1 / 3, 1], abs=1e-6)


@pytest.mark.slow
def test_the_loss_falls(detection: ModuleType, tools: SimpleNamespace) -> None:
    torch.manual_seed(0)
    script, scenes = tools.train_detector, judged_scenes(4)
    network, truth = detection.Detector(), script.objects_of(scenes)
    images = script.images_of(scenes).float() / 255
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = detection.loss(network, images, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_channels_that_depthwise_convolutions_read_are_held_level(
    detection: ModuleType, tools: SimpleNamespace
) -> None:
    network = detection.Detector()
    level = tools.networks.Level(network)
    assert not network.backbone.stem.norm.weight.requires_grad
    assert network.backbone.stages[0][0].depthwise.norm.weight.requires_grad
    assert network.backbone.stages[1][0].narrow.norm.weight.requires_grad
    network.train()(torch.rand(2, 3, 160, 160))
    loss = level.loss()
    assert loss.item() >= 0 and loss.requires_grad
    with torch.no_grad():
        network.backbone.stem.norm.bias.fill_(50)
    network(torch.rand(2, 3, 160, 160))
    assert level.loss() > loss + 40**2


def test_what_convolutions_read_is_rounded_for_a_while(tools: SimpleNamespace) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1, bias=False))
    torch.nn.init.ones_(network[0].weight)
    values = torch.tensor([-1.0, 0.004, 0.5, 2.54], requires_grad=True)
    with tools.networks.rounded(network):
        found = network(values.reshape(1, 1, 2, 2)).flatten()
    torch.testing.assert_close(found, torch.tensor([-1.0, 0.0, 0.5, 2.54]))  # steps of 0.02
    found.sum().backward()
    assert values.grad.tolist() == [1, 1, 1, 1]
    torch.testing.assert_close(network(values.reshape(1, 1, 2, 2)).flatten(), values)


def test_digits_are_varied_and_remain_digits(tools: SimpleNamespace) -> None:
    digits = load_split().train[:40]
    varied = tools.train_detector.varied(digits, 3)
    assert len(varied) == 120 and varied.labels[:3].tolist() == [digits.labels[0]] * 3
    assert varied.images.dtype == np.uint8 and varied.images.shape[1:] == digits.images.shape[1:]
    ink = varied.images.reshape(120, -1).mean(1) / np.repeat(digits.images.reshape(40, -1).mean(1), 3)
    assert ink.min() > 0.5 and ink.max() < 1.1
    assert len({image.tobytes() for image in varied.images}) == 120


def test_training_images_keep_their_pixels_in_other_colours(tools: SimpleNamespace) -> None:
    images = tools.train_detector.images_of(list(make_scenes(load_split().train, 6, seed=3)))
    found = tools.train_detector.recoloured(images, torch.Generator().manual_seed(0))
    assert found.shape == images.shape and found.dtype == torch.float32
    for before, after in zip(images.float() / 255, found, strict=True):
        kinds = [after.sort(0).values, (1 - after).sort(0).values]
        assert any(torch.allclose(before.sort(0).values, each, atol=1e-6) for each in kinds)
