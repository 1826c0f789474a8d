"""What can go wrong: one exception type, its message a single line that says what, where and what to do."""

from collections.abc import Iterable
from typing import ClassVar

SHOWN = 3
"""Names that a message lists of many."""


class TrtcalError(Exception):
    """Any failure that trtcal explains. The command line prints its message and leaves with `exit_code`.

    Attributes:
        exit_code: 2 for bad usage or bad input, 1 where a check failed.
    """

    exit_code: ClassVar[int] = 2


class ModelError(TrtcalError):
    """An ONNX model that cannot be read, or that does not allow what was asked of it."""


class DataError(TrtcalError):
    """Images, arrays, labels or a preprocessing that cannot be used, or do not fit the model."""


class ConfigError(TrtcalError):
    """Settings of what to quantize that mean nothing, or that a model or TensorRT cannot follow."""


class RangeError(TrtcalError, ValueError):
    """A number that no quantization grid, encoding or range method can work with."""


class CacheError(TrtcalError):
    """A calibration cache or statistics file that is malformed or belongs to something else."""


class CacheMismatchError(CacheError):
    """A calibration cache that is sound, but does not fit the model."""

    exit_code: ClassVar[int] = 1


class BuildError(TrtcalError):
    """An engine that could not be built or loaded."""


class EngineError(TrtcalError):
    """An engine that cannot be loaded or run here."""


class DeviceError(TrtcalError):
    """A GPU that is absent, too old, out of memory or in trouble, or its driver."""


class OutputError(TrtcalError):
    """A file that cannot be written."""


class MissingDependencyError(TrtcalError):
    """A library that an extra of this package installs is absent."""


class CheckFailedError(TrtcalError):
    """The work was done and its result is below the bound that was asked for."""

    exit_code: ClassVar[int] = 1


def one_line(error: BaseException, most: int | None = None) -> str:
    """What another library's exception says, in a line of at most so many characters; its type where it is empty."""
    return folded(str(error))[:most] or type(error).__name__


def folded(text: str) -> str:
    """A text in one line: each run of white space is one blank, and none is at the ends."""
    return " ".join(text.split())


def repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time; None where there is none."""
    seen = set[str]()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def listed(names: Iterable[str]) -> str:
    """The first few of some names, in one line."""
    every = [name if name.isprintable() else repr(name) for name in names]
    return ", ".join(every[:SHOWN]) + (", ..." if len(every) > SHOWN else "")
