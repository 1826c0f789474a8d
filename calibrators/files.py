"""Files that are whole or absent: nothing good is overwritten by something half-written."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from calibrators.errors import DataError, OutputError


def require_path(given: object, name: str, instead: str) -> None:
    """Refuse what is in memory where a path is wanted; None is none.

    Args:
        given: As it was given.
        name: What it is.
        instead: What to give.

    Raises:
        DataError: It is neither text nor a path.
    """
    if given is not None and not isinstance(given, (str, os.PathLike)):
        raise DataError(f"{name}: no path but of type {type(given).__name__}; {instead}")


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; what the block wrote there replaces `path` when the block ends well.

    If the block raises (a full disk, Ctrl-C), the temporary file is removed and `path` stays as it was. A file that is
    replaced passes its permissions on, and its owner and group where this user may give them. A link is replaced
    itself: the file that it leads to may be another's.

    Raises:
        OutputError: The folder is missing or not writable, or the disk is full.
    """
    target = Path(path)
    require_writable(target)
    sweep(target.parent)
    temporary = target.with_name(f".{target.name[:50]}.{temporary_name()}.tmp")
    try:  # around its making, too: Ctrl-C may come just then
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        _keep_owner(temporary, target)
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise explained(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give an empty folder among the system's temporary files, which is removed at the end of the block.

    Raises:
        OSError: It cannot be made.
    """
    place = Path(tempfile.gettempdir())
    sweep(place)
    folder = place / temporary_name()
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data` (text as UTF-8, line ends as they are) to `path`, atomically.

    Raises:
        OutputError: The folder is missing or not writable, or the disk is full.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def locked(path: str | os.PathLike[str], *, patience: float, otherwise: str) -> Iterator[None]:
    """Keep other processes from a file while the block runs, by a lock beside it, ``<path>.lock``.

    Args:
        path: The file that they share.
        patience: Seconds to wait for another process.
        otherwise: What a user may do instead of waiting, for the message.

    Raises:
        OutputError: Another process holds it for longer, or the lock cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = Path(f"{os.fspath(path)}.lock")
    try:
        with FileLock(lock, timeout=patience):
            yield
    except Timeout as error:
        raise OutputError(
            f"another process has held {lock} for {patience:.0f} s: wait for it, or {otherwise}"
        ) from error
    except OSError as error:
        raise explained(lock, error) from error


def claim_folder(folder: Path, *, ours: Callable[[], bool], option: str) -> None:
    """Make a folder of one's own, or find it again; one that holds anything else is refused.

    Args:
        folder: With its parents.
        ours: Whether what it holds is one's own.
        option: That names another folder, for the message.

    Raises:
        OutputError: It is a file, or holds something else, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write to {folder}: it is a file; give a folder with {option}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir()) and not ours()
    except OSError as error:
        raise explained(folder, error) from error
    if taken:
        raise OutputError(f"cannot write to {folder}: it holds other files; give a new or empty folder with {option}")


def require_writable(path: str | os.PathLike[str]) -> None:
    """Refuse an output path that cannot be written, before any long work is done for it.

    Raises:
        OutputError: `path` is a folder or a device, or its folder is missing or not writable.
    """
    target = Path(path)
    folder = target.parent
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = stat.S_IFREG
    except OSError as error:
        raise explained(target, error) from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {target}: it is a folder; give the name of a file")
    if not stat.S_ISREG(mode):
        raise OutputError(f"cannot write {target}: it is a device or a pipe; give the name of a file")
    if not folder.is_dir():
        raise OutputError(f"cannot write {target}: the folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"cannot write {target}: no permission to write in {folder}; choose another place")


def require_outputs(paths: Sequence[str | os.PathLike[str]], *, inputs: Sequence[str | os.PathLike[str]] = ()) -> None:
    """Refuse output paths that cannot be written, that are two of one file, or that are one of the inputs.

    Raises:
        OutputError: The message names the path.
    """
    for path in paths:
        require_writable(path)
    places = [Path(path).resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise OutputError(f"cannot write {path}: two outputs would be this one file; give each its own name")
    require_apart(paths, inputs)


def require_apart(outputs: Sequence[str | os.PathLike[str]], inputs: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse outputs that are one of the inputs, be it under another name (a symbolic or hard link).

    An input's side-car, ``<input>.json``, is read as well.

    Raises:
        OutputError: The message names the output.
    """
    named = [Path(source) for source in inputs]
    read = [path for source in named for path in (source, Path(f"{source}.json")) if path.exists()]
    for path in filter(Path.exists, map(Path, outputs)):
        if any(path.samefile(source) for source in read):
            raise OutputError(f"cannot write {path}: it is read, and would be lost; choose another name")


def explained(path: Path, error: OSError) -> OutputError:
    """Turn an operating system's error while writing `path` into ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(f"cannot write {path}: no space left on the disk; what was there before is unchanged")
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another place")


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file or a pipe to read; a pipe that nobody writes to is empty instead of waited for.

    Raises:
        OSError: It cannot be opened.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        os.set_blocking(file.fileno(), True)
        yield file


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _keep_owner(temporary: Path, target: Path) -> None:
    """Give the new file the owner and the group of the old one, each as far as that is permitted."""
    with suppress(FileNotFoundError):
        old = target.lstat()
        for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
            with suppress(PermissionError):
                os.chown(temporary, owner, group)


def temporary_name() -> str:
    """A name that no other file has, and that tells which process it belongs to."""
    return f"trtcal-{os.getpid()}-{secrets.token_hex(4)}"


def sweep(folder: Path) -> None:
    """Remove what killed processes of this user left in `folder`: older than a day, by a process that is gone.

    A folder is looked at once in a process. What cannot be removed stays.
    """
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match is not None and _left_behind(entry, int(match["process"])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    Path(entry.path).unlink(missing_ok=True)


_swept = set[Path]()
_TEMPORARY = re.compile(r"(?:\..*\.)?trtcal-(?P<process>[0-9]{1,9})-[0-9a-f]{8}(?:\.tmp)?", re.DOTALL)
_OLD = 24 * 3600.0


def _left_behind(entry: "os.DirEntry[str]", process: int) -> bool:
    found = entry.stat(follow_symlinks=False)
    if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _OLD:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        return False
    return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
