"""Where in a model's outputs the numbers of one meaning stand, as an adapter's TOML file says it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np

from calibrators.batches import Array
from calibrators.errors import ConfigError
from trtcal.config.toml_file import nearest
from trtcal.tasks.adapter import Part, Shapes
from trtcal.tasks.decoding.outputs import told
from trtcal.tasks.found import Floats

Word = TypeVar("Word", bound=str)

COMMON = ("output", "axis", "channels")
"""The keys of every table."""


@dataclass(frozen=True, slots=True)
class Source:
    """Channels of an output.

    Attributes:
        table: What they are: "boxes", "scores", "objectness", "classes" or "points".
        output: Its name; empty for the only one that there is.
        axis: Of the channels, as ONNX counts, samples being 0; None for the last one, or 1 where there are four axes.
        channels: The first and the last; None for all.
        settings: What else the table says, and `width`, where it always has so many channels.
        bare: Axes of an output that has no axis of channels, but one value for each of what it tells; 0 where all have.
    """

    table: str
    output: str
    axis: int | None
    channels: tuple[int, int] | None
    settings: Mapping[str, Any]
    bare: int = 0

    @classmethod
    def of(cls, table: str, content: Mapping[str, Any], settings: Mapping[str, Any], *, bare: int) -> "Source":
        """As a table says it.

        Raises:
            ConfigError: A value means nothing.
        """
        output, axis, channels = (content.get(key) for key in COMMON)
        if output is not None and not isinstance(output, str):
            raise ConfigError(f"{table}.output is {output!r}: give the name of an output, a text")
        return cls(
            table,
            output or "",
            None if axis is None else int(number_of(f"{table}.axis", axis, -8, 8, whole=True)),
            None if channels is None else _ends(f"{table}.channels", channels),
            settings,
            bare,
        )

    def misfit(self, shapes: Shapes) -> str:
        """Why outputs of these shapes have no such channels; empty where they have."""
        name = self._name(shapes)
        if name not in shapes:
            wanted = f"an output {self.output!r}" if self.output else f"one output, or one named by {self.table}.output"
            return f"{wanted}, not {told(shapes)}"
        shape = shapes[name]
        axis = self._axis(shape)
        wanted = ""
        if axis is None and len(shape) != self.bare:
            wanted = f"an output with an axis {1 if self.axis is None else self.axis} of {self.table}"
        elif axis is not None and self.channels and (shape[axis] or 2**31) <= self.channels[1]:
            wanted = f"{self.table} in channels {self.channels[0]} to {self.channels[1]} of axis {axis}"
        return f"{wanted}, not {told({name: shape})}" if wanted else self._miscounted(shapes)

    def _miscounted(self, shapes: Shapes) -> str:
        """Why there are not the right number of channels."""
        count = self.count(shapes)
        if count is None:
            return ""
        width, each, background = (self.settings.get(key, 0) for key in ("width", "values", "background"))
        if width and count != width:
            return (
                f"{width} channel{'s' * (width > 1)} of {self.table}, not {count}: say which, by {self.table}.channels"
            )
        if each and count % each:
            return f"{each} channels for each point, not {count} together"
        if background >= count:
            return f"scores with their background in channel {background}, not {count} channels"
        return ""

    def rows(self, shapes: Shapes) -> int | None:
        """How many rows of channels a sample has; None where that is free."""
        shape = shapes[self._name(shapes)]
        sizes = [size for axis, size in enumerate(shape) if axis not in {0, self._axis(shape)}]
        return None if None in sizes else prod(size for size in sizes if size is not None)

    def count(self, shapes: Shapes) -> int | None:
        """How many channels there are; None where that is free."""
        if self.channels:
            return self.channels[1] - self.channels[0] + 1
        shape = shapes[self._name(shapes)]
        axis = self._axis(shape)
        return 1 if axis is None else shape[axis]

    def values(self, outputs: Mapping[str, Array]) -> Floats:
        """The channels, on the last axis, of each sample: float64 of shape (samples, ..., channels)."""
        array = outputs[self._name(outputs)]
        axis = self._axis(array.shape)
        placed = array[..., None] if axis is None else np.moveaxis(array, axis, -1)
        first, last = self.channels or (0, placed.shape[-1] - 1)
        return placed[..., first : last + 1].astype(np.float64)

    def part(self, shapes: Shapes) -> Part | None:
        """What a part of an output they are; None where they are all of it, or their number is free."""
        name, axis, count = self._name(shapes), self._axis(shapes[self._name(shapes)]), self.count(shapes)
        if axis is None or count is None or count == shapes[name][axis]:
            return None
        first = self.channels[0] if self.channels else 0
        return Part(self.table, name, axis, first, first + count - 1)

    def _name(self, outputs: Mapping[str, object]) -> str:
        return self.output or (next(iter(outputs)) if len(outputs) == 1 else "")

    def _axis(self, shape: Sequence[int | None]) -> int | None:
        """The axis of channels, counted from the front; None where there is none, or it is that of the samples."""
        if self.axis is None and len(shape) == self.bare and self.channels is None:
            return None
        given = (1 if len(shape) == 4 else -1) if self.axis is None else self.axis
        axis = given + len(shape) if given < 0 else given
        return axis if 0 < axis < len(shape) else None


def one_of(content: Mapping[str, Any], key: str, valid: Sequence[Word], *, default: Word, within: str = "") -> Word:
    """The word of a key.

    Raises:
        ConfigError: It is none of those that there are.
    """
    word = content.get(key, default)
    for known in valid:
        if word == known:
            return known
    near = nearest(word, valid) if isinstance(word, str) else ""
    raise ConfigError(f"{within and within + '.'}{key} is {word!r}{near}: give one of {', '.join(valid)}")


def number_of(key: str, value: object, least: float, most: float, *, whole: bool = False) -> float:
    """The number of a key.

    Raises:
        ConfigError: It is no number from `least` to `most`, or not a whole one.
    """
    allowed = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not least <= value <= most:
        raise ConfigError(f"{key} is {value!r}: give a {'whole ' * whole}number from {least} to {most}")
    return value


def _ends(key: str, value: Any) -> tuple[int, int]:
    channels = value if isinstance(value, list) else [value, value]
    if len(channels) != 2 or any(isinstance(end, bool) or not isinstance(end, int) for end in channels):
        raise ConfigError(f"{key} are {value!r}: give the first and the last, such as [0, 3], counted from 0")
    first, last = int(channels[0]), int(channels[1])
    if not 0 <= first <= last < 2**20:
        raise ConfigError(f"{key} are {value!r}: the first is from 0 to the last")
    return first, last
