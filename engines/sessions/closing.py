"""What a `with` block closes."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

Self = TypeVar("Self", bound="Closing")


class Closing(ABC):
    """Something that is closed at the end of a `with` block, whether that ends well or not."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what it holds."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
