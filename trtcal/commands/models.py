"""Models on the command line: several side by side, each under a name that tells it from the others."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from calibrators.errors import TrtcalError

if TYPE_CHECKING:
    from engines.sessions.onnxruntime import Session


@contextmanager
def opened(paths: Sequence[Path], *, threads: int | None) -> "Iterator[dict[str, Session]]":
    """Open every model; they are closed when the block ends.

    Yields:
        Sessions by display name, in the order of `paths`.

    Raises:
        TrtcalError: One of them cannot be opened (`engines.sessions.onnxruntime.open_session` says why), or threads
            were asked for and none of them has any.
    """
    from engines.sessions.onnxruntime import is_engine, open_session

    if threads is not None and all(map(is_engine, paths)):
        raise TrtcalError("--threads is for ONNX models, and there is none among the models: leave it out")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(open_session(path, threads=threads))
            for name, path in zip(display_names(paths), paths, strict=True)
        }


def remarks_of(sessions: "Mapping[str, Session]") -> list[str]:
    """What sessions of ONNX models say of how they compute, one line each."""
    from engines.sessions.onnxruntime import OnnxRuntimeSession

    return [
        f"{name} is {line}"
        for name, session in sessions.items()
        if isinstance(session, OnnxRuntimeSession)
        for line in session.remarks
    ]


def display_names(paths: Sequence[Path]) -> list[str]:
    """File names; paths for files of one name in several folders; numbered where one path is given several times."""
    sharing = Counter(path.name for path in {path.absolute() for path in paths})
    names = [path.name if sharing[path.name] == 1 else str(path) for path in paths]
    return [
        f"{name} #{names[:index].count(name) + 1}" if name in names[:index] else name
        for index, name in enumerate(names)
    ]
