"""Progress of long work, step by step."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Step = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Opens a step of the work, by its name and units, and gives what counts them: as `trtcal.tables.console.progress`."""


def unshown(name: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
    """A step that nobody watches."""
    return nullcontext(lambda done: None)
