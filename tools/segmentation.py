"""A small segmentation network, and the loss that it is trained by.

Source: U-Net (Ronneberger et al., MICCAI 2015, https://arxiv.org/abs/1505.04597).
"""

from networks import Backbone, Fuse
from torch import Tensor, nn
from torch.nn import functional

from trtcal.demo.scenes import CLASSES

WIDTHS = (12, 20, 32, 48)


class Segmenter(nn.Module):
    """Images (N, 3, 160, 160) of values 0 to 1 to scores (N, 11, 160, 160) of ground and ten digits, by pixel."""

    def __init__(self) -> None:
        super().__init__()
        stem, quarter, eighth, sixteenth = WIDTHS
        self.backbone = Backbone(WIDTHS)
        self.fuse8 = Fuse(sixteenth, eighth, 40)
        self.fuse4 = Fuse(40, quarter, 40)
        self.fuse2 = Fuse(40, stem, 24)
        self.score = nn.Conv2d(24, len(CLASSES) + 1, 1)
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, image: Tensor) -> Tensor:
        """Scores before softmax, ground first."""
        half, quarter, eighth, sixteenth = self.backbone(image)
        features = self.fuse2(self.fuse4(self.fuse8(sixteenth, eighth), quarter), half)
        scores: Tensor = self.resize(self.score(features))
        return scores


def loss(network: Segmenter, images: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy and Dice, so that a small digit counts as much as a large one.

    Args:
        network: That finds.
        images: (N, 3, H, W).
        classes: Of shape (N, H, W): what is there.
    """
    scores = network(images)
    classes = classes.long()
    entropy = functional.cross_entropy(scores, classes)
    found = scores.softmax(1)
    there = functional.one_hot(classes, scores.shape[1]).permute(0, 3, 1, 2)
    shared, sizes = (found * there).sum((0, 2, 3)), (found + there).sum((0, 2, 3))
    return entropy + (1 - (2 * shared + 1) / (sizes + 1)).mean()
