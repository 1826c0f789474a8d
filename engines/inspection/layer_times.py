"""Measured times of layers: read from the profile of an engine, and given to the layers of the model."""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from calibrators.errors import DataError
from calibrators.files import opened
from engines.simulation.simulated_model import Layer

Precision = Literal["int8", "fp16", "fp32"]

WIDTHS: Mapping[Precision, int] = {"int8": 8, "fp16": 16, "fp32": 32}
"""Bits, by which a time is reckoned from that in another precision where none was measured."""

Times = Mapping[str, float]
"""Milliseconds by name."""

_KEYS = ("averageMs", "medianMs", "timeMs")
"""Where trtexec has an entry's time: per run, or over all of them."""

MOST_BYTES = 2**26
"""No profile is larger: a layer takes some 100 bytes."""

MOST_MILLISECONDS = 1e9
"""No layer takes longer: 11 days."""

_FORM = (
    "give what trtexec --exportProfile writes, or JSON such as "
    '{"conv1": {"int8": 0.012, "fp16": 0.02, "fp32": 0.05}} in milliseconds'
)


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Times by layer and precision.

    Attributes:
        times: By layer name, in each precision, in milliseconds.
        notes: What was not measured, and what was not used, one line each.
    """

    times: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...] = ()


def read_times(path: str | os.PathLike[str], precision: Precision | None = None) -> dict[Precision, dict[str, float]]:
    """Read a profile: times by precision and name, the names as the file has them.

    Two forms are read: what ``trtexec --exportProfile`` writes, a list of ``{"name": ..., "averageMs": ...}``
    (``medianMs`` or ``timeMs`` by count where there is no average), of one engine; and a mapping of names to
    milliseconds, or to milliseconds by precision. Entries of one name add up.

    Args:
        path: A JSON file.
        precision: Of the engine; None where the file says so itself, and INT8 where it does not.

    Raises:
        DataError: It cannot be read, or holds something else.
    """
    try:
        with opened(path) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DataError(f"{path} is over {MOST_BYTES >> 20} MiB, which no profile is: {_FORM}")
        content = json.loads(data)
    except FileNotFoundError:
        raise DataError(f"there is no profile {path}: {_FORM}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; {_FORM}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}): {_FORM}") from error
    found: dict[Precision, dict[str, float]] = {}
    for name, kind, time in _entries(content, path):
        if precision is not None and kind not in (None, precision):
            raise DataError(f"{path} has times in {kind}: leave out {precision}=")
        times = found.setdefault(kind or precision or "int8", {})
        times[name] = times.get(name, 0.0) + time
    if not any(map(sum, (times.values() for times in found.values()))):
        raise DataError(f"{path} holds no time above 0: {_FORM}")
    return found


def layer_times(measured: Mapping[Precision, Times], layers: Sequence[Layer], macs: Mapping[str, int]) -> LayerTimes:
    """Give measured times to a model's layers.

    1. An entry is of every layer whose name stands in the entry's, between spaces, commas, brackets and the signs by
       which TensorRT joins what it fuses (``conv1 + relu1``, ``a || b``, ``PWN(...)``, ``{ForeignNode[a...b]}``); the
       copies that it makes for a layer ("Reformatting CopyNode for Input Tensor 0 to conv1") count to it.
    2. An entry of several layers is divided among them in proportion to their multiply-accumulates.
    3. A layer without an entry gets as much per multiply-accumulate as the others have; a residual's skip gets nothing.
    4. A precision that was not measured is reckoned from the nearest that was, in proportion to its bits.

    Args:
        measured: As `read_times` gives them, of several files or one.
        layers: The model's.
        macs: Multiply-accumulates by layer name.

    Raises:
        DataError: No entry of a precision is of any layer.
    """
    found: dict[Precision, dict[str, float]] = {}
    notes = list[str]()
    for precision, times in measured.items():
        found[precision], remarks = _given(times, layers, macs, precision)
        notes += remarks
    for precision in get_args(Precision):
        if precision not in found:
            nearest = min(measured, key=lambda each: abs(math.log2(WIDTHS[each] / WIDTHS[precision])))
            factor = WIDTHS[precision] / WIDTHS[nearest]
            found[precision] = {name: factor * time for name, time in found[nearest].items()}
            notes.append(f"no times in {precision}: taken for {factor:g} times those in {nearest}")
    return LayerTimes({layer.name: {kind: found[kind][layer.name] for kind in found} for layer in layers}, tuple(notes))


def _given(
    times: Times, layers: Sequence[Layer], macs: Mapping[str, int], precision: Precision
) -> tuple[dict[str, float], list[str]]:
    """One precision's times by layer, and notes."""
    named = {layer.name: re.compile(_STARTS + re.escape(layer.name) + _ENDS) for layer in layers}
    given, unmatched = dict[str, float](), dict[str, float]()
    for entry, time in times.items():
        theirs = [entry] if entry in named else [name for name, pattern in named.items() if pattern.search(entry)]
        weights = [macs[name] for name in theirs] if any(macs[name] for name in theirs) else [1] * len(theirs)
        for name, weight in zip(theirs, weights, strict=True):
            given[name] = given.get(name, 0.0) + time * weight / sum(weights)
        if not theirs:
            unmatched[entry] = time
    known = sum(macs[name] for name in given)
    if not known:
        entries = f"{len(times)} entries in {precision}, such as {next(iter(times))!r},"
        raise DataError(
            f"none of the profile's {entries} names a layer of the model, such as {layers[0].name!r}: profile an "
            "engine that was built from this model"
        )
    rate = sum(given.values()) / known
    missing = [layer.name for layer in layers if layer.name not in given and macs[layer.name]]
    notes = []
    if missing:
        notes.append(
            f"{len(missing)} layer(s), such as {missing[0]}, have no time in {precision}: reckoned by their "
            "multiply-accumulates"
        )
    if unmatched:
        notes.append(
            f"{len(unmatched)} entries in {precision}, such as {next(iter(unmatched))}, name no layer: "
            f"{sum(unmatched.values()):.3g} ms of {sum(times.values()):.3g} are not counted"
        )
    return {layer.name: given.get(layer.name, rate * macs[layer.name]) for layer in layers}, notes


_STARTS = r"(?:^|(?<=[\s+|,(\[{])|(?<=\.\.\.))"
_ENDS = r"(?=$|[\s+|,)\]}]|\.\.\.)"


def _entries(content: Any, path: object) -> Iterable[tuple[str, Precision | None, float]]:
    """Name, precision where it is stated, and milliseconds."""
    if isinstance(content, list):
        runs = next((each["count"] for each in content if isinstance(each, dict) and "count" in each), 1)
        if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
            raise DataError(f"{path}: the count of runs must be a whole number, 1 or more, not {runs!r}")
        for each in content:
            if isinstance(each, dict) and "name" in each:
                yield str(each["name"]), None, _milliseconds(each, runs, path)
    elif isinstance(content, dict):
        for name, value in content.items():
            for kind, time in value.items() if isinstance(value, dict) else [(None, value)]:
                if kind not in (None, *get_args(Precision)):
                    raise DataError(f"{path}: {name} has a time in {kind!r}, which is none of int8, fp16 and fp32")
                yield name, kind, _time(time, name, path)
    else:
        raise DataError(f"{path} is neither a list nor a mapping: {_FORM}")


def _milliseconds(entry: Mapping[str, Any], runs: int, path: object) -> float:
    key = next((key for key in _KEYS if key in entry), None)
    if key is None:
        raise DataError(f"{path}: {entry['name']} has none of {', '.join(_KEYS)}: {_FORM}")
    return _time(entry[key], entry["name"], path) / (runs if key == "timeMs" else 1)


def _time(value: Any, name: object, path: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_MILLISECONDS:
        raise DataError(f"{path}: the time of {name} must be a number from 0 to {MOST_MILLISECONDS:.0e}, not {value!r}")
    return float(value)
