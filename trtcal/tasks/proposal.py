"""Which adapters there are, and which of them a model's outputs fit.

Every module of `trtcal.tasks.adapters` that holds an `ADAPTER` is one.
"""

import pkgutil
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import get_args

from calibrators.batches import Array
from calibrators.errors import ConfigError, ModelError
from trtcal.tasks import adapters
from trtcal.tasks.adapter import Adapter, Kind, Shapes, shapes_of
from trtcal.tasks.adapters.yolo.layout import strides_of
from trtcal.tasks.decoding.outputs import boxes_and_scores, of_rank, says, told
from trtcal.tasks.placement import Size

NEAREST = 3
"""Adapters whose layouts a message tells."""

GENERALITY: Mapping[str, int] = {"ssd": 1, "detections": 1, "detr": 2, "rtdetr": 3, "semantic": 3}
"""Of several adapters that fit, the least general is taken. The others, 0, know their outputs by grids or maps."""

LAST = 9

ROWS_OF_GRIDS: Mapping[str, tuple[int, int]] = {"yolov5": (3, 1), "yolox": (1, 1), "yolov8": (1, 2)}
"""Adapters of a row for each place of some grids: anchors at a place, and the axis of the rows."""

QUERIES = 1000
"""The most rows that are likely queries (DETR has 100, its heirs 300 to 900); priors are thousands."""

QUERY_NAMES, PRIOR_NAMES = ("logit", "pred_", "dets", "quer"), ("score", "conf", "prior")
"""What names of outputs hold in DETR and its heirs, and in SSD."""


@cache
def all_adapters() -> Mapping[tuple[Kind, str], Adapter]:
    """By what they find and by name, in the order of their names."""
    found_modules = pkgutil.walk_packages(adapters.__path__, f"{adapters.__name__}.")
    modules = [import_module(module.name) for module in found_modules]
    found: list[Adapter] = [module.ADAPTER for module in modules if hasattr(module, "ADAPTER")]
    return {(adapter.kind, adapter.name): adapter for adapter in sorted(found, key=lambda adapter: adapter.name)}


def adapter_named(kind: Kind, name: str) -> Adapter:
    """The adapter of ``--task KIND:NAME``.

    Raises:
        ConfigError: There is none of this name that finds such things.
    """
    known = all_adapters()
    if (kind, name) in known:
        return known[kind, name]
    other = next((kind for kind in get_args(Kind) if (kind, name) in known), None)
    if other is not None:
        raise ConfigError(f"{name} is an adapter of task {other}, not of {kind}: give --task {other}:{name}")
    names = [name for of, name in known if of == kind]
    meant = get_close_matches(name.lower(), names, 1, cutoff=0.5)
    raise ConfigError(
        f"there is no adapter {name!r} of task {kind}{f' (did you mean {meant[0]}?)' if meant else ''}: give one of "
        f"{', '.join(names)}, or an adapter of your own (FILE.toml or module.py:function)"
    )


def proposed(kind: Kind, outputs: Mapping[str, Array], size: Size) -> tuple[Adapter, list[str]]:
    """The adapter that a model's outputs fit, and a line that says which and why.

    Args:
        kind: What is to be found.
        outputs: For some samples.
        size: Of the model's input.

    Raises:
        ModelError: None fits, or several do of which none is the more special.
    """
    shapes = shapes_of(outputs)
    fitting = [
        adapter for (of, _), adapter in all_adapters().items() if of == kind and not adapter.misfit(shapes, size)
    ]
    if not fitting:
        raise ModelError(_nothing_fits(kind, shapes, size))
    least = min(_generality(adapter, shapes, size) for adapter in fitting)
    chosen = [adapter for adapter in fitting if _generality(adapter, shapes, size) == least]
    if len(chosen) > 1:
        names = " and ".join(adapter.name for adapter in chosen)
        raise ModelError(
            f"the adapters {names} fit the outputs {told(shapes)}: name one, --task {kind}:{chosen[0].name}"
        )
    return chosen[0], [_note(chosen[0], [adapter for adapter in fitting if adapter not in chosen], shapes)]


def _note(chosen: Adapter, others: Sequence[Adapter], shapes: Shapes) -> str:
    names = " and ".join(adapter.name for adapter in others)
    more = f"; {names} would fit, too: name one with --task {chosen.kind}:{others[0].name}" if others else ""
    return f"the outputs {told(shapes)} are read by the adapter {chosen.name} ({chosen.summary}){more}"


def _generality(adapter: Adapter, shapes: Shapes, size: Size) -> int:
    """0 for the most special.

    SSD and DETR have one form: names tell them apart, else the number of rows does. Rows as of one single grid are
    likelier queries or detections, of which there are 300: as many as three anchors at each place of a grid of 10 x 10.
    """
    known = GENERALITY.get(adapter.name, 0)
    if adapter.name in ROWS_OF_GRIDS:
        each, axis = ROWS_OF_GRIDS[adapter.name]
        rows = [shape[axis] for shape in of_rank(shapes, 3).values()]
        return known if any(count and len(strides_of(count // each, size)) > 1 for count in rows) else LAST
    pair = boxes_and_scores(shapes)
    if adapter.name != "ssd" or pair is None:
        return known
    names, rows_told = " ".join(shapes), shapes[pair[0]][1]
    queries = says(names, QUERY_NAMES) or (
        not says(names, PRIOR_NAMES) and rows_told is not None and rows_told <= QUERIES
    )
    return LAST if queries else known


def _nothing_fits(kind: Kind, shapes: Shapes, size: Size) -> str:
    if all(len(shape) >= 2 and set(shape[2:]) <= {1} for shape in shapes.values()):
        return f"the outputs {told(shapes)} are class scores, or other numbers of a whole image: give --task classify"
    wanted = {
        adapter.name: adapter.misfit(shapes, size).partition(", not ")[0]
        for (of, _), adapter in all_adapters().items()
        if of == kind
    }
    without = {name: _fits_without_one(adapter_named(kind, name), shapes, size) for name in wanted}
    nearest = sorted(wanted, key=lambda name: (not without[name], _distance(wanted[name], shapes)))[:NEAREST]
    takes = "; ".join(f"{name} takes {wanted[name]}" for name in nearest)
    return (
        f"no adapter of task {kind} fits the outputs {told(shapes)}, and the nearest are: {takes}. Give an adapter of "
        "your own (FILE.toml or module.py:function), or --task outputs"
    )


def _fits_without_one(adapter: Adapter, shapes: Shapes, size: Size) -> bool:
    """Whether one output is too much."""
    rest = [{name: shape for name, shape in shapes.items() if name != left} for left in shapes]
    return any(not adapter.misfit(some, size) for some in rest if some)


def _distance(wanted: str, shapes: Shapes) -> int:
    """How many outputs differ in their number of axes from those that are wanted, as "(N, rows, 4)" tells them."""
    axes = Counter(text.count(",") + 1 for text in re.findall(r"\(N,[^)]*\)", wanted))
    have = Counter(len(shape) for shape in shapes.values())
    return (axes - have).total() + (have - axes).total()
