"""A small anchor-free detector after YOLOv8, and the loss that it is trained by.

Sources: YOLOv8's head and output (Ultralytics, 2023); TOOD's task-aligned assignment (Feng et al., ICCV 2021,
https://arxiv.org/abs/2108.07755); generalized focal loss, whose distribution of distances is DFL (Li et al., NeurIPS
2020, https://arxiv.org/abs/2006.04388); GIoU (Rezatofighi et al., CVPR 2019, https://arxiv.org/abs/1902.09630).
"""

from dataclasses import dataclass

import torch
from networks import Backbone, ConvNormAct, Fuse, Separable
from torch import Tensor, nn
from torch.nn import functional

from trtcal.demo.scenes import CLASSES, MOST, SIDE

STRIDES = (8, 16, 32)
"""Input pixels from one cell to the next, by level."""

BINS = 8
"""Distances that a side can have, in strides from -1 on: a thin digit may lie between two cells' centres."""

LEAST_BIN = -1


class Decode(nn.Module):
    """From the heads' maps to the output: centre, width and height of boxes in input pixels, then scores."""

    def __init__(self) -> None:
        super().__init__()
        centres, strides = cells()
        self.register_buffer("centres", centres.T[None], persistent=False)
        self.register_buffer("strides", strides[None, None], persistent=False)
        self.register_buffer("bins", torch.arange(BINS).float().reshape(1, 1, BINS, 1) + LEAST_BIN, persistent=False)

    def forward(self, distances: Tensor, logits: Tensor) -> Tensor:
        """Of all levels, (N, 4 * BINS, cells) and (N, classes, cells), to (N, 4 + classes, cells)."""
        probability = distances.reshape(-1, 4, BINS, self.strides.shape[2]).softmax(2)
        sides = (probability * self.bins).sum(2) * self.strides
        before, after = sides[:, :2], sides[:, 2:]
        centre = self.centres + (after - before) / 2
        return torch.cat([centre, before + after, logits.sigmoid()], 1)


class Detector(nn.Module):
    """Images (N, 3, 160, 160) of values 0 to 1 to (N, 14, 525): for each cell of three grids a box and ten scores."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 24, 48, 56, 64)
        width = 48
        self.backbone = Backbone(widths)
        self.deepest = ConvNormAct(widths[4], width, 1, nn.SiLU())
        self.fuse16 = Fuse(width, widths[3], width)
        self.fuse8 = Fuse(width, widths[2], width)
        self.box_heads = nn.ModuleList(_head(width, 4 * BINS) for _ in STRIDES)
        self.score_heads = nn.ModuleList(_head(width, len(CLASSES)) for _ in STRIDES)
        for head in self.score_heads:  # at first all is ground: focal loss' prior (https://arxiv.org/abs/1708.02002)
            nn.init.constant_(head[-1].bias, -4.6)
        self.decode = Decode()

    def forward(self, image: Tensor) -> Tensor:
        """Boxes and scores, (N, 4 + classes, cells)."""
        found: Tensor = self.decode(*self.maps(image))
        return found

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Of all levels: distributions of distances (N, 4 * BINS, cells) and scores' logits (N, classes, cells)."""
        *_, eighth, sixteenth, last = self.backbone(image)
        deepest = self.deepest(last)
        middle = self.fuse16(deepest, sixteenth)
        levels = [self.fuse8(middle, eighth), middle, deepest]
        distances, logits = (
            torch.cat([head(level).flatten(2) for head, level in zip(heads, levels, strict=True)], 2)
            for heads in (self.box_heads, self.score_heads)
        )
        return distances, logits


def cells() -> tuple[Tensor, Tensor]:
    """Of all levels: the cells' centres x and y in input pixels (cells, 2), and their strides (cells,)."""
    centres, strides = list[Tensor](), list[Tensor]()
    for stride in STRIDES:
        along = torch.arange(SIDE // stride) * stride + stride / 2
        y, x = torch.meshgrid(along, along, indexing="ij")
        centres.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((len(along) ** 2,), float(stride)))
    return torch.cat(centres), torch.cat(strides)


@dataclass(frozen=True, slots=True)
class Truth:
    """What is in some images, filled up with nothing to as many as an image may hold.

    Attributes:
        boxes: float32 of shape (N, most, 4): left, top, right, bottom.
        classes: int64 of shape (N, most).
        there: bool of shape (N, most).
    """

    boxes: Tensor
    classes: Tensor
    there: Tensor

    def __getitem__(self, chosen: Tensor) -> "Truth":
        return Truth(self.boxes[chosen], self.classes[chosen], self.there[chosen])

    @classmethod
    def of(cls, boxes: list[Tensor], classes: list[Tensor]) -> "Truth":
        """From boxes (n, 4) and classes (n,) of each image."""
        found = cls(
            torch.zeros(len(boxes), MOST, 4),
            torch.zeros(len(boxes), MOST, dtype=torch.int64),
            torch.zeros(len(boxes), MOST, dtype=torch.bool),
        )
        for at, (box, label) in enumerate(zip(boxes, classes, strict=True)):
            found.boxes[at, : len(box)], found.classes[at, : len(box)] = box, label
            found.there[at, : len(box)] = True
        return found


def loss(network: Detector, images: Tensor, truth: Truth) -> Tensor:
    """Boxes, distributions and scores against what is there, weighted as YOLOv8 does."""
    distances, logits = network.maps(images)
    found = network.decode(distances, logits).permute(0, 2, 1)
    boxes, scores = corners(found[..., :4]), found[..., 4:]
    target = assign(boxes.detach(), scores.detach(), truth)
    whole = target.scores.sum().clamp(min=1)
    by_score = functional.binary_cross_entropy_with_logits(logits.permute(0, 2, 1), target.scores, reduction="sum")
    weight = target.scores.sum(2)[target.taken]
    by_box = ((1 - giou(boxes[target.taken], target.boxes[target.taken])) * weight).sum()
    by_distance = (_distribution(distances, target) * weight).sum()
    return (0.5 * by_score + 7.5 * by_box + 1.5 * by_distance) / whole


@dataclass(frozen=True, slots=True)
class Target:
    """What each cell shall find.

    Attributes:
        taken: bool of shape (N, cells): has an object to find.
        boxes: float32 of shape (N, cells, 4).
        scores: float32 of shape (N, cells, classes): how well the cell's box fits, at the object's class.
    """

    taken: Tensor
    boxes: Tensor
    scores: Tensor


@torch.no_grad()
def assign(boxes: Tensor, scores: Tensor, truth: Truth, *, most: int = 7) -> Target:
    """Give each object the cells near it whose box and score fit it best (TOOD): score * IoU ** 6, at most seven."""
    centres, strides = cells()
    middle = (truth.boxes[..., None, :2] + truth.boxes[..., None, 2:]) / 2
    # At least as wide as a stride, so that a digit between two cells' centres has a cell of each level.
    reach = torch.maximum(truth.boxes[..., None, 2:] - truth.boxes[..., None, :2], strides[:, None]) / 2
    near = ((centres - middle).abs() <= reach).all(-1) & truth.there[..., None]
    overlap = iou(truth.boxes[:, :, None], boxes[:, None])
    of_class = scores.permute(0, 2, 1).gather(1, truth.classes[..., None].expand(-1, -1, scores.shape[1]))
    fit = (of_class * overlap**6 + 1e-12) * near
    best = torch.zeros_like(near).scatter(2, fit.topk(most, 2).indices, True) & near
    owner = torch.where(best, overlap + 1e-9, 0).argmax(1)  # of a cell that several want: the one that it fits best
    taken = best.any(1)
    best &= torch.zeros_like(best).scatter(1, owner[:, None], True)
    fit = fit * best
    fits = fit / fit.amax(2, keepdim=True).clamp(min=1e-12) * (overlap * best).amax(2, keepdim=True)
    label = truth.classes.gather(1, owner)
    wanted = functional.one_hot(label, scores.shape[2]) * (fits.amax(1) * taken)[..., None]
    return Target(taken, truth.boxes.gather(1, owner[..., None].expand(-1, -1, 4)), wanted)


def _distribution(distances: Tensor, target: Target) -> Tensor:
    """DFL: the cross entropy of the two bins beside each side's distance, by taken cell."""
    centres, strides = cells()
    before, after = centres - target.boxes[..., :2], target.boxes[..., 2:] - centres
    wanted = torch.cat([before, after], -1)[target.taken] / strides.expand(target.taken.shape)[target.taken][:, None]
    wanted = (wanted - LEAST_BIN).clamp(0, BINS - 1 - 0.01)
    logits = distances.reshape(len(distances), 4, BINS, -1).permute(0, 3, 1, 2)[target.taken].reshape(-1, BINS)
    low = wanted.long().reshape(-1)
    part = wanted.reshape(-1) - low
    entropy = functional.cross_entropy(logits, low, reduction="none") * (1 - part)
    entropy = entropy + functional.cross_entropy(logits, low + 1, reduction="none") * part
    return entropy.reshape(-1, 4).mean(1)


def corners(boxes: Tensor) -> Tensor:
    """Centre, width and height to left, top, right, bottom."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union."""
    return _areas(boxes, others)[0]


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalized intersection over union: less the empty part of what encloses both."""
    overlap, union = _areas(boxes, others)
    size = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])
    enclosing = size.clamp(min=0).prod(-1)
    return overlap - (enclosing - union) / (enclosing + 1e-7)


def _areas(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and union."""
    size = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    shared = size.clamp(min=0).prod(-1)
    area, other = ((each[..., 2:] - each[..., :2]).clamp(min=0).prod(-1) for each in (boxes, others))
    union = area + other - shared
    return shared / (union + 1e-7), union


def _head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(Separable(width, width), Separable(width, width), nn.Conv2d(width, out, 1))
