"""Prints, by number of threads, how many float steps a step with LSQ on weights and activations takes, in JSON.

ResNet-20 (He et al. 2015) on 32 images of 32 x 32. Run with a trtcal on PYTHONPATH, whichever it is. Steps take turns,
so that what else runs slows both kinds alike. The figure is the ratio of the median wall times, or of the processor
times where that is larger.
"""

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

ROUNDS = 15


def main() -> None:
    """The ratios."""
    import torch

    import trtcal
    from trtcal.qat import QAT

    torch.manual_seed(0)
    network = _network()
    config = trtcal.QuantConfig(trtcal.LayerSettings(activation="lsq", weight="lsq"))
    steps = [_step(model) for model in (network, QAT(config).quantize(network))]
    ratios = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        ratios[threads] = _ratio(*steps)
    sys.stdout.write(json.dumps(ratios) + "\n")


def _ratio(plain: Callable[[], None], quantized: Callable[[], None]) -> float:
    """Time of the second over the first, by median."""
    for step in (plain, quantized):
        step()
    costs: list[list[tuple[float, float]]] = [[], []]
    for _ in range(ROUNDS):
        for kept, step in zip(costs, (plain, quantized), strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            step()
            kept.append((time.perf_counter() - wall, time.process_time() - processor))
    first, second = ([median(each) for each in zip(*kept, strict=True)] for kept in costs)
    return max(b / a for a, b in zip(first, second, strict=True))


def _step(model):  # type: ignore[no-untyped-def]  # torch is imported late
    """A step of training on random images."""
    import torch
    from torch.nn import functional

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images, labels = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def _network():  # type: ignore[no-untyped-def]
    """ResNet-20, with a convolution on the way around where the shape changes."""
    from torch import nn

    def normalized(channels: int, out: int, size: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out)]

    class Block(nn.Module):
        def __init__(self, channels: int, out: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(*normalized(channels, out, 3, stride), nn.ReLU(), *normalized(out, out, 3, 1))
            self.around = nn.Identity() if stride == 1 else nn.Sequential(*normalized(channels, out, 1, stride))

        def forward(self, x):  # type: ignore[no-untyped-def]
            return nn.functional.relu(self.body(x) + self.around(x))

    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in pairwise(widths)]
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(*normalized(3, 16, 3, 1), nn.ReLU(), *blocks, *end)


if __name__ == "__main__":
    main()
