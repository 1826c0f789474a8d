"""Models side by side, each under a name that tells it from the others."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from calibrators.errors import BuildError, DeviceError, EngineError, MissingDependencyError, TrtcalError
from engines.sessions.onnxruntime import OnnxRuntimeSession, Session, is_engine, open_session

PathLike = str | os.PathLike[str]


@contextmanager
def opened(paths: Sequence[PathLike], *, threads: int | None) -> Iterator[dict[str, Session]]:
    """Open every model; they are closed when the block ends.

    Yields:
        Sessions by display name, in the order of `paths`.

    Raises:
        TrtcalError: One of them cannot be opened (`engines.sessions.onnxruntime.open_session` says why), or threads
            were asked for and none of them has any.
    """
    require_threads(paths, threads)
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(open_session(path, threads=threads))
            for name, path in zip(display_names(paths), paths, strict=True)
        }


@contextmanager
def opened_here(
    models: Mapping[str, PathLike], *, threads: int | None
) -> Iterator[tuple[dict[str, Session], dict[str, str]]]:
    """Open every model that can run on this machine; they are closed when the block ends.

    Yields:
        Sessions by name, in the order of `models`; and by name, why an engine cannot run here.

    Raises:
        TrtcalError: As `opened`; an engine that cannot run here is no error as long as there is a model that can.
    """
    require_threads(list(models.values()), threads)
    found: dict[str, Session] = {}
    absent: dict[str, TrtcalError] = {}
    with ExitStack() as stack:
        for name, path in models.items():
            try:
                found[name] = stack.enter_context(open_session(path, threads=threads))
            except (BuildError, DeviceError, EngineError, MissingDependencyError) as error:
                if not (is_engine(path) and Path(path).is_file()):
                    raise
                absent[name] = error
        if not found and absent:
            raise next(iter(absent.values()))
        yield found, {name: str(error) for name, error in absent.items()}


def require_threads(paths: Sequence[PathLike], threads: int | None) -> None:
    """Refuse a number of threads that no model has a use for.

    Raises:
        TrtcalError: There is no ONNX model among them.
    """
    if threads is not None and all(map(is_engine, paths)):
        raise TrtcalError("--threads is for ONNX models, and there is none among the models: leave it out")


def remarks_of(sessions: Mapping[str, Session]) -> list[str]:
    """What sessions of ONNX models say of how they compute, one line each."""
    return [
        f"{name} is {line}"
        for name, session in sessions.items()
        if isinstance(session, OnnxRuntimeSession)
        for line in session.remarks
    ]


def display_names(paths: Sequence[PathLike]) -> list[str]:
    """File names; paths for files of one name in several folders; numbered where one path is given several times."""
    files = [Path(path) for path in paths]
    sharing = Counter(path.name for path in {path.absolute() for path in files})
    names = [path.name if sharing[path.name] == 1 else str(path) for path in files]
    return [
        f"{name} #{names[:index].count(name) + 1}" if name in names[:index] else name
        for index, name in enumerate(names)
    ]
