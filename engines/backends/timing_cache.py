"""The file of kernel times that builds on one GPU share.

It is read before a build and replaced after it as a whole, under a lock (``<file>.lock``), and what another process
wrote in between is kept.
"""

import os
from pathlib import Path
from typing import Any

from calibrators.errors import BuildError, OutputError
from calibrators.files import locked, write_whole
from engines.backends.backend import Log

PATIENCE = 60.0
"""Seconds to wait for another process, which holds the lock only while it merges and writes."""


class TimingCache:
    """The timing cache of one build.

    Args:
        path: Its file; there need be none yet.
        config: The builder configuration that it is attached to.
        label: The TensorRT, for messages.
        log: What the builder says, and has said.

    Raises:
        BuildError: The file is corrupt, or of another TensorRT or GPU; the message names it.
        OutputError: It cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], config: Any, label: str, log: Log) -> None:
        self._path, self._config, self._label = Path(path), config, label
        self._read = self._bytes()
        before = len(log)
        cache = config.create_timing_cache(self._read)
        taken = cache is not None and config.set_timing_cache(cache, False)
        if not taken or any(severity == "error" for severity, _ in log[before:]):
            raise self._refusal()
        self._cache = cache  # TensorRT does not keep it

    def save(self) -> None:
        """Write the times of the build that has ended, together with what others wrote meanwhile.

        Raises:
            BuildError: Another process has put something there that does not fit.
            OutputError: The file cannot be written or locked.
        """
        cache = self._config.get_timing_cache()
        with locked(self._path, patience=PATIENCE, otherwise="give --timing-cache another file"):
            present = self._bytes()
            if present != self._read:
                other = self._config.create_timing_cache(present)
                if other is None or not cache.combine(other, False):
                    raise self._refusal()
            write_whole(self._path, bytes(cache.serialize()))

    def _bytes(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise OutputError(f"cannot read {self._path}: {error.strerror or error}; choose another place") from error

    def _refusal(self) -> BuildError:
        return BuildError(
            f"the timing cache {self._path} is corrupt, or of another GPU than this one or another version than "
            f"{self._label}: remove it, or give --timing-cache another file"
        )
