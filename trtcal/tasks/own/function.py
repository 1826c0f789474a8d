"""Adapters and measures of one's own as functions: found, called, and held to what they are to give."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np

from calibrators.batches import Array
from calibrators.errors import ConfigError, DataError, one_line
from trtcal.config.toml_file import nearest
from trtcal.tasks.adapter import Adapter, Kind
from trtcal.tasks.found import Finding, Floats
from trtcal.tasks.own.findings import finding_of
from trtcal.tasks.placement import Size

BETTER = ("higher", "lower")


@dataclass(frozen=True, slots=True)
class OwnMeasure:
    """A number of one's own for each sample; a model's is the mean over the samples.

    Attributes:
        name: The function's.
        higher: Whether more is better.
        values: From a model's outputs and the float model's, of the same samples, to float64 of shape (samples,). What
            the float model itself reaches are the values of its outputs beside themselves.
    """

    name: str
    higher: bool
    values: Callable[[Mapping[str, Array], Mapping[str, Array]], Floats]


def called(text: str) -> Adapter | OwnMeasure:
    """What a function of a module is: ``FILE.py:FUNCTION`` or ``PACKAGE.MODULE:FUNCTION``.

    Raises:
        ConfigError: There is no such module or function, the module fails, or an attribute of the function means
            nothing.
    """
    place, _, name = text.rpartition(":")
    module = _module(place, text)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"{text}: {place} has no function {name!r}{nearest(name, known)}")
    if hasattr(function, "better"):
        higher = _attribute(text, function, "better", BETTER) == "higher"
        return OwnMeasure(name, higher, partial(_measured, text, function))
    kind: Kind = _attribute(text, function, "kind", get_args(Kind)) if hasattr(function, "kind") else "detect"
    return Adapter(
        name=text,
        kind=kind,
        decode=partial(_decoded, text, function, kind),
        misfit=lambda shapes, size: "",
        summary="an adapter of one's own",
        overlap=_overlap(text, function),
        names=_names(text, function),
    )


def _module(place: str, text: str) -> ModuleType:
    """A module by its file or its name.

    Raises:
        ConfigError: There is none, or it fails while it is loaded.
    """
    path = Path(place)
    from_file = path.suffix == ".py" or path.exists()
    if from_file and not path.is_file():
        raise ConfigError(f"{text}: there is no file {place}")
    try:
        with redirect_stdout(sys.stderr):
            return _loaded(path) if from_file else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{place}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{text}: Python finds no module {error.name!r}: give its file, such as {error.name}.py:FUNCTION"
            ) from error
        raise ConfigError(f"{text} cannot be loaded: {_told(error, str(path) if from_file else None)}") from error


def _loaded(path: Path) -> ModuleType:
    name = f"trtcal_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # of a name that ends with .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while they are made
    spec.loader.exec_module(module)
    return module


def _attribute(text: str, function: object, key: str, valid: Sequence[Any]) -> Any:
    value = getattr(function, key)
    if value not in valid:
        raise ConfigError(f"{text}.{key} is {value!r}{nearest(str(value), valid)}: give one of {', '.join(valid)}")
    return value


def _overlap(text: str, function: object) -> float | None:
    overlap = getattr(function, "overlap", None)
    if overlap is not None and not (isinstance(overlap, (int, float)) and 0 <= overlap <= 1):
        raise ConfigError(f"{text}.overlap is {overlap!r}: give a number from 0 to 1, or none")
    return overlap


def _names(text: str, function: object) -> tuple[str, ...]:
    names = getattr(function, "names", ())
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{text}.names is {names!r}: give the classes' names by number, a list of texts")
    return tuple(names)


def _decoded(
    text: str, function: Callable[..., Any], kind: Kind, outputs: Mapping[str, Array], size: Size
) -> Sequence[Finding]:
    results = _result(text, function, _copies(outputs), size)
    samples = _samples(outputs)
    countable = isinstance(results, (list, tuple)) or (isinstance(results, np.ndarray) and results.ndim > 0)
    if not countable or len(results) != samples:
        raise DataError(f"{text} gives {_shown(results)} for {samples} samples: give a list with one for each")
    return [
        finding_of(results[number], kind, finite=_finite(outputs, number), source=f"{text}, sample {number}")
        for number in range(samples)
    ]


def _measured(
    text: str, function: Callable[..., Any], outputs: Mapping[str, Array], reference: Mapping[str, Array]
) -> Floats:
    result = _result(text, function, _copies(outputs), _copies(reference))
    try:
        values = np.asarray(result, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{text} gives {_shown(result)}: give a number for each sample") from error
    samples = _samples(outputs)
    if values.shape != (samples,):
        raise DataError(f"{text} gives numbers of shape {values.shape} for {samples} samples: give one for each")
    if not np.isfinite(values).all():
        number = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(
            f"{text} gives {values[number]} for sample {number}: give a finite number, also where all failed"
        )
    return values


def _result(text: str, function: Callable[..., Any], *arguments: object) -> Any:
    """What a function gives; what it prints goes to stderr, as stdout may be JSON."""
    try:
        with redirect_stdout(sys.stderr):
            result = function(*arguments)
            return list(result) if hasattr(result, "__next__") else result
    except (Exception, SystemExit) as error:
        code = getattr(function, "__code__", None)
        raise DataError(f"{text} fails: {_told(error, getattr(code, 'co_filename', None))}") from error


def _told(error: BaseException, file: str | None) -> str:
    """An exception's kind, the last line of that file that it passed, and what it says."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} in line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{type(error).__name__}{f' in line {lines[-1]}' if lines else ''}: {one_line(error, 200)}"


def _copies(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """What a function may change as it likes."""
    return {name: array.copy() for name, array in outputs.items()}


def _finite(outputs: Mapping[str, Array], number: int) -> bool:
    """Whether a model's outputs for that sample are."""
    return all(bool(np.isfinite(array[number]).all()) for array in outputs.values() if array.dtype.kind in "fc")


def _samples(outputs: Mapping[str, Array]) -> int:
    return len(next(iter(outputs.values())))


def _shown(result: object) -> str:
    length = f" of {len(result)}" if isinstance(result, (list, tuple, str, Mapping)) else ""
    return f"a {type(result).__name__}{length}"
