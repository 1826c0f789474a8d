"""Does a calibration cache fit a model? A judgement over names and scales; no model is opened here."""

import math
import re
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import SMALLEST_NORMAL, CalibrationCache, header_text, usable
from calibrators.errors import listed
from calibrators.statistics.origin import of_another, require_model
from calibrators.tabular import Row, Tabular

Remark = Literal["largest", "outlier", "zero", "denormal", "negative", "infinite", "not a number"]

UNUSABLE: tuple[Remark, ...] = ("zero", "denormal", "negative", "infinite", "not a number")
"""Remarks on a scale that says nothing of a range: its tensor stays float."""

OUTLIER_DECADES = 3
"""How far its log10 is from the median log10 where a scale is an outlier.

Within a network the scales of activations lie close together. In the 41 caches of public projects that this was set by
(21 to 3,656 tensors each) three decades single out indices, plug-ins and integers cast to float, and nothing that a
convolution reads.
"""

ALGORITHMS = ("EntropyCalibration2", "MinMaxCalibration", "EntropyCalibration")
"""The words by which TensorRT's calibrators know a cache for theirs."""

OLDEST_VERSION = 8600
"""TensorRT 8.6, the oldest whose calibrators trtcal drives."""


@dataclass(frozen=True, slots=True)
class CacheFit(Tabular):
    """A cache's names and scales against a model's tensors.

    It fits when every quantizable tensor has a usable scale (positive, finite, normal in float32), its own or one of a
    tensor that it shares a scale with, and the side-car, if there is one, is this cache's and names this model. All
    else is a warning: Q/DQ nodes are written from names and scales alone.

    Attributes:
        quantizable: The tensors that Q/DQ nodes need a scale for.
        matched: Float activations of the model that have a scale.
        missing: Quantizable tensors without a scale.
        unusable: Quantizable tensors whose scale is of no use.
        uncovered: Other float activations without a scale.
        internal: Names in the cache that TensorRT made, or of the model's constants and integers.
        stale: Names in the cache that the model does not know.
        remarks: What is notable about a scale, by name in the cache.
        other_model: The side-car names another model.
        other_cache: The side-car describes another cache.
        oddities: What is odd about the header and the layout.
    """

    quantizable: tuple[str, ...]
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unusable: tuple[str, ...]
    uncovered: tuple[str, ...]
    internal: tuple[str, ...]
    stale: tuple[str, ...]
    remarks: dict[str, tuple[Remark, ...]]
    other_model: bool
    other_cache: bool
    oddities: tuple[str, ...]

    def rows(self) -> list[Row]:
        """A row a tensor: what the cache has for it, whether Q/DQ nodes need it, and remarks on its scale."""
        kinds = ("missing", "unusable", "matched", "uncovered", "stale", "internal")
        found = {name: kind for kind in reversed(kinds) for name in getattr(self, kind)}
        needed = set(self.quantizable)
        return [
            {"tensor": name, "found": kind, "needed": name in needed, "remarks": ", ".join(self.remarks.get(name, ()))}
            for name, kind in found.items()
        ]

    @property
    def fits(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    @property
    def errors(self) -> tuple[str, ...]:
        """Why it does not fit, one line each."""
        missing = f"{_counted(self.missing, 'quantizable tensor')} without a scale"
        if not self.matched:
            missing = "no name in it is a tensor of the model: it is another model's"
        return _said(
            (self.other_model, "its side-car names another model (SHA-256 differs): calibrate this one"),
            (self.other_cache, "its side-car describes another cache (SHA-256 differs): calibrate again or delete it"),
            (bool(self.missing) or not self.matched, missing),
            (bool(self.unusable), f"{_counted(self.unusable, 'quantizable tensor')} with a scale of no use"),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know all the same, one line each."""
        unusable = set(self.unusable)
        elsewhere = tuple(name for name in self.marked(*UNUSABLE) if name not in unusable)
        outliers = self.marked("outlier")
        return _said(
            (bool(self.stale), f"{_counted(self.stale, 'name')} in the cache that the model does not know"),
            (bool(elsewhere), f"{_counted(elsewhere, 'scale')} of no use as a range where Q/DQ needs none"),
            (bool(outliers), f"{_counted(outliers, 'scale')} over {OUTLIER_DECADES} decades from the median"),
            (
                bool(self.uncovered),
                f"{_counted(self.uncovered, 'other float tensor')} without a scale: Q/DQ needs none, "
                "a TensorRT calibrator would leave their layers in float",
            ),
            *((True, oddity) for oddity in self.oddities),
        )

    def marked(self, *wanted: Remark) -> tuple[str, ...]:
        """The names whose scale has any of these remarks, in the cache's order."""
        return tuple(name for name, found in self.remarks.items() if set(found) & set(wanted))


def judge(
    cache: CalibrationCache,
    *,
    activations: Sequence[str],
    quantizable: Sequence[str],
    shared: Iterable[Collection[str]] = (),
    others: Collection[str] = (),
    model_sha256: str = "",
    sidecar: Sidecar | None = None,
) -> CacheFit:
    """Compare a cache with a model.

    Args:
        cache: To be judged.
        activations: The model's float activations, inputs included.
        quantizable: Those that Q/DQ nodes need a scale for.
        shared: Groups of tensors that have one scale (both sides of max pooling, of reshapes, of concatenations): what
            one has serves all.
        others: All else that has a name in the model: weights, constants, integers, nodes.
        model_sha256: The model's; "" leaves the side-car's uncompared.
        sidecar: The cache's, if there is one.
    """
    model, known = set(activations), {*activations, *others}
    wanted, groups = set(quantizable), tuple(shared)
    scaled = _with_peers(set(cache), groups)
    served = _with_peers({name for name, scale in cache.items() if usable(scale)}, groups)
    unknown = [name for name in cache if name not in model]
    other_cache = sidecar is not None and sidecar.cache_sha256 != cache.sha256
    # Of another cache's side-car nothing follows for this one.
    claimed = "" if sidecar is None or other_cache else sidecar.model_sha256
    internal = {name for name in unknown if is_internal(name, known)}
    return CacheFit(
        quantizable=tuple(quantizable),
        matched=tuple(name for name in activations if name in cache),
        missing=tuple(name for name in quantizable if name not in scaled),
        unusable=tuple(name for name in quantizable if name in scaled and name not in served),
        uncovered=tuple(name for name in activations if name not in scaled and name not in wanted),
        internal=tuple(name for name in unknown if name in internal),
        stale=tuple(name for name in unknown if name not in internal),
        remarks=remarks_of(cache),
        other_model=of_another(claimed, model_sha256),
        other_cache=other_cache,
        oddities=oddities_of(cache),
    )


def require_cache_of(cache: CalibrationCache, model_sha256: str, *, name: str, model: str, advice: str) -> None:
    """Refuse a cache whose side-car names another model.

    Args:
        cache: To be judged.
        model_sha256: The model's that it is for; "" leaves it uncompared.
        name: What a message calls the cache.
        model: What it calls the model.
        advice: What to do.

    Raises:
        CacheMismatchError: It names another.
    """
    theirs = "" if cache.sidecar is None else cache.sidecar.model_sha256
    require_model(theirs, model_sha256, ranges=f"{name} was made of", model=model, advice=advice)


def remarks_of(cache: CalibrationCache) -> dict[str, tuple[Remark, ...]]:
    """What is notable about each scale: of the usable ones the largest and outliers, and why others are of no use."""
    ranges = [scale for scale in cache.values() if usable(scale)]
    largest = max(ranges, default=math.nan)
    middle = statistics.median(map(math.log10, ranges)) if ranges else math.nan
    marks: dict[str, tuple[Remark, ...]] = {}
    for name, scale in cache.items():
        outlying = usable(scale) and abs(math.log10(scale) - middle) > OUTLIER_DECADES
        tests: tuple[tuple[bool, Remark], ...] = (
            (scale == largest, "largest"),
            (outlying, "outlier"),
            (scale == 0, "zero"),
            (0 < scale < SMALLEST_NORMAL, "denormal"),
            (scale < 0, "negative"),
            (math.isinf(scale), "infinite"),
            (math.isnan(scale), "not a number"),
        )
        if found := tuple(remark for applies, remark in tests if applies):
            marks[name] = found
    return marks


def oddities_of(cache: CalibrationCache) -> tuple[str, ...]:
    """What a TensorRT calibrator may stumble over in the header and the layout; scales for Q/DQ are none the worse."""
    version, algorithm, data = cache.version, cache.algorithm, cache.dumps()
    ignored = (
        "a TensorRT calibrator may ignore the cache and calibrate again; recalibrate, or use the cache with "
        "`trtcal quantize`, which goes by names and scales alone"
    )
    return _said(
        (cache.header.startswith("\ufeff"), f"a byte order mark stands before the header: {ignored}"),
        (version is None, f"the header {cache.header!r} ({header_text(cache)}) is of an odd form: {ignored}"),
        (version is not None and version < OLDEST_VERSION, f"the header is old ({header_text(cache)}): {ignored}"),
        (algorithm not in (None, *ALGORITHMS), f"the algorithm {algorithm} is none of TensorRT's: {ignored}"),
        (cache.line_end != "\n", "its lines end in CRLF where TensorRT writes LF"),
        (bool(re.search(rb"[ \t]\r?\n|\n\r?\n", data)), "it has blank lines or spaces at the end of a line"),
        (not data.endswith(b"\n"), "its last line has no end: lines after it may be lost"),
    )


def is_internal(name: str, known: Collection[str]) -> bool:
    """Whether a cache has a name from TensorRT, which makes tensors of its own, and not from another model.

    Args:
        name: Of a tensor in a cache.
        known: All that has a name in the model but float activations: weights, constants, integers, nodes.
    """
    derived = _DERIVED.fullmatch(name)
    return name in known or bool(_INTERNAL.fullmatch(name)) or (derived is not None and derived["source"] in known)


# What TensorRT and its ONNX parser name themselves: layers without a name, broadcasts, copies, casts.
_INTERNAL = re.compile(r"\(Unnamed Layer\* \d+\) \[.*|ONNXTRT_.*|.* copy|.* \[Cast ITensor .*", re.DOTALL)
_DERIVED = re.compile(r"(?P<source>.+)_output(?:_\d+)?", re.DOTALL)


def _with_peers(names: set[str], groups: Iterable[Collection[str]]) -> set[str]:
    """`names`, and all that share a scale with one of them."""
    return names.union(*(group for group in groups if not names.isdisjoint(group)))


def _said(*lines: tuple[bool, str]) -> tuple[str, ...]:
    return tuple(line for applies, line in lines if applies)


def _counted(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) != 1 else ''} ({listed(names)})"
