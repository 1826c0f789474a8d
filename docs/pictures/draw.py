"""Draws the pictures of the documentation: `python docs/pictures/draw.py [FOLDER]`, by default beside this file.

threshold.svg shows how a range is found, from the statistics of a tensor of the demo's network on 100 of its images;
residual.svg where Q/DQ pairs stand in a residual block. What is drawn does not depend on when or where it is drawn.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.patches import FancyBboxPatch

import trtcal
from trtcal.demo import MODEL
from trtcal.demo.digits import load_split

TENSOR = "block5.depthwise.act"
"""A SiLU's output, which a convolution reads: most values are small, few are large."""

IMAGES = 100
LEVELS = 127
BINS = 2048
MERGED = 128
"""Bins of |x|, and the levels that they are merged into, in TensorRT's entropy search."""

GREY, LIGHT = "#555555", "#dddddd"
COLOURS = {"minmax": "#555555", "mse": "#d55e00", "percentile": "#009e73", "entropy": "#0072b2"}

Floats = npt.NDArray[np.float64]

STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "trtcal",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": "black",
    "figure.facecolor": "white",  # a card that can be read on a dark page, too
    "savefig.facecolor": "white",
}


def main(folder: Path) -> None:
    """Draw all pictures into a folder."""
    matplotlib.use("svg")
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        for name, figure in {"threshold.svg": threshold(), "residual.svg": residual()}.items():
            figure.savefig(folder / name, metadata={"Date": None, "Creator": None})
            plt.close(figure)


# How a range is found.


def threshold() -> Any:
    """A histogram with the ranges of four methods, and the losses that two of them minimise."""
    images = load_split().train[:IMAGES].images
    statistics = trtcal.collect(MODEL, [{"image": (images[:, None] / 255).astype(np.float32)}])
    ranges = {method: trtcal.calibrate(statistics, method).amax(TENSOR) for method in COLOURS}
    magnitudes = statistics[TENSOR].magnitudes()
    amax = magnitudes.maximum
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(8.2, 8.2), sharex=True, layout="constrained")

    bars = magnitudes.over(amax, 160)
    top.stairs(bars, np.linspace(0, amax, bars.size + 1), fill=True, color=LIGHT)
    for method, end in sorted(ranges.items(), key=lambda pair: pair[1]):
        top.axvline(end, color=COLOURS[method], linewidth=1.8, label=f"{method} {end:.2f}")
    top.set_yscale("log")
    top.set_ylim(0.5, bars.max() * 10)
    top.set_ylabel("values per bin")
    top.set_title(f"|x| of {TENSOR} in the demo's network, {IMAGES} images", fontsize=11, loc="left")
    top.legend(title="the range ends at", loc="upper center", frameon=False)

    ends = np.linspace(0.3, 1.06, 300) * amax
    rounding, clipping = squared_errors(magnitudes.counts, magnitudes.width, statistics[TENSOR].total, ends)
    total = rounding + clipping
    middle.plot(ends, clipping, color=GREY, linestyle=":", linewidth=2, gid="clipping", label="of clipping")
    middle.plot(ends, rounding, color=GREY, linestyle="--", gid="rounding", label="of rounding")
    middle.plot(ends, total, color=COLOURS["mse"], gid="sum", linewidth=1.8, label="sum: mse takes the least")
    middle.axvline(ranges["mse"], color=COLOURS["mse"], linewidth=1.8, gid="mse")
    middle.set_ylim(0, 4 * total.min())
    middle.set_ylabel("mean squared error")
    middle.legend(loc="center left", frameon=False)

    bins = magnitudes.over(amax, BINS)
    bins[0] = bins[1]
    kept = np.arange(MERGED, BINS + 1)
    divergences = np.array([divergence(bins, int(number)) for number in kept])
    ends = (kept + 0.5) / BINS * amax
    bottom.plot(ends, divergences, color=COLOURS["entropy"], gid="kl", linewidth=1.4, label="entropy takes the least")
    bottom.axvline(ranges["entropy"], color=COLOURS["entropy"], linewidth=1.8, gid="entropy")
    bottom.set_ylim(0, 6 * divergences.min())
    bottom.set_ylabel("KL divergence")
    bottom.legend(loc="center left", frameon=False)
    bottom.set_xlabel("the end of the range, amax")
    bottom.set_xlim(0, 1.06 * amax)
    return figure


def squared_errors(counts: npt.NDArray[np.int64], width: float, total: int, ends: Floats) -> tuple[Floats, Floats]:
    """The mean squared error of rounding and of clipping for ranges that end at each of `ends`."""
    values = (np.arange(counts.size) + 0.5) * width
    steps = ends[:, None] / LEVELS
    errors = (values - np.minimum(np.rint(values / steps), LEVELS) * steps) ** 2 * counts / total
    inside = values <= ends[:, None]
    return np.where(inside, errors, 0).sum(1), np.where(inside, 0, errors).sum(1)


def divergence(bins: Floats, kept: int) -> float:
    """KL(P || Q) of the first `kept` bins: P has the clipped tail in its last bin, Q is P in few levels."""
    wanted = bins[:kept].copy()
    wanted[-1] += bins[kept:].sum()
    level, filled = np.arange(kept) * MERGED // kept, wanted > 0
    sums, sizes = np.bincount(level, bins[:kept], MERGED), np.bincount(level, filled, MERGED)
    sums[-1] = max(sums[-1], 1)  # where there is nothing but the tail
    p = wanted[filled] / wanted.sum()
    q = (sums[level] / np.maximum(sizes[level], 1))[filled] / bins[:kept].sum()
    return float((p * np.log(p / q)).sum())


# Where Q/DQ pairs stand.


def residual() -> Any:
    """A residual block, from the tensor that it reads to the convolution behind it."""
    figure, axes = plt.subplots(figsize=(8.2, 4.3), layout="constrained")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 52)
    axes.axis("off")
    main, skip = 36, 12

    arrow(axes, (1, main), (5, main))
    axes.text(1, main + 2, "x", style="italic")
    box(axes, 8, main, "Q", pair=True)
    arrow(axes, (11, main), (15, main))
    box(axes, 18, main, "DQ", pair=True)
    arrow(axes, (21, main), (24, main))
    box(axes, 30, main, "Conv\n+ BN + ReLU", width=12)
    arrow(axes, (36, main), (39, main))
    box(axes, 42, main, "Q", pair=True)
    arrow(axes, (45, main), (47, main))
    box(axes, 50, main, "DQ", pair=True)
    arrow(axes, (53, main), (56, main))
    box(axes, 61, main, "Conv\n+ BN", width=10)
    arrow(axes, (66, main), (72, main))
    box(axes, 77, main, "Add\n+ ReLU", width=10)
    arrow(axes, (82, main), (84, main))
    box(axes, 87, main, "Q", pair=True)
    arrow(axes, (90, main), (92, main))
    box(axes, 95, main, "DQ", pair=True)
    for place in (30, 61):
        box(axes, place, main + 10, "DQ of weights", width=15, pair=True)
        arrow(axes, (place, main + 7.4), (place, main + 2.7))

    arrow(axes, (13, main), (13, skip), head=False)
    arrow(axes, (13, skip), (58, skip))
    box(axes, 61, skip, "DQ", pair=True)
    arrow(axes, (64, skip), (77, skip), head=False)
    arrow(axes, (77, skip), (77, main - 2.7))
    axes.text(16, skip + 2, "the skip: the same Q, a DQ of its own", color=COLOURS["mse"], fontsize=10)
    note = "no pair here: this Conv\ncomputes the Add, too"
    axes.text(75, main - 9, note, color=GREY, ha="right", va="center", fontsize=10)
    axes.plot([69, 69], [main - 6, main - 1], color=GREY, linestyle=":", linewidth=1.2)
    axes.text(98, main - 8, "to the next\nConv", color=GREY, ha="right", fontsize=10)
    axes.text(1, 2, "Q: QuantizeLinear, to INT8.  DQ: DequantizeLinear.  Weights are stored in INT8.", fontsize=10)
    return figure


def box(axes: Any, x: float, y: float, text: str, *, width: float = 6, pair: bool = False) -> None:
    """A node, centred at a point; `pair` for those that quantization adds."""
    colour = COLOURS["mse"] if pair else "black"
    corner = (x - width / 2, y - 2.6)
    axes.add_patch(
        FancyBboxPatch(
            corner, width, 5.2, boxstyle="round,pad=0,rounding_size=0.8", fc="#fff1e6" if pair else "white", ec=colour
        )
    )
    axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=10, linespacing=1.0)


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], *, head: bool = True) -> None:
    """A line from one point to another."""
    style = {"arrowstyle": "-|>" if head else "-", "color": "black", "shrinkA": 0, "shrinkB": 0, "linewidth": 1.1}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
