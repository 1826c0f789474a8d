"""Ranges: the interval of real numbers that a grid represents."""

from dataclasses import dataclass

from calibrators.errors import RangeError


@dataclass(frozen=True, slots=True)
class Range:
    """What a grid represents of a tensor: the interval from `minimum` to `maximum`, 0 included."""

    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        if not self.minimum <= 0.0 <= self.maximum:
            raise RangeError(f"a range must contain 0, but {self.minimum}..{self.maximum} does not")

    @classmethod
    def symmetric(cls, amax: float) -> "Range":
        """The range from -amax to amax."""
        return cls(-amax, amax)

    @property
    def amax(self) -> float:
        """The larger magnitude of both ends."""
        return max(-self.minimum, self.maximum)
