"""TensorRT's messages: one logger for each of its modules, and whoever is listening at the time.

A TensorRT library keeps the first logger that it is given for as long as something of that logger lives, and sends it
the messages of all that is made later, too. So builders and runtimes share one logger, which hands each message to
every list that is listening.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from engines.backends.backend import Log, Severity


@contextmanager
def listening(trt: ModuleType, log: Log) -> Iterator[Any]:
    """Append the messages of TensorRT's module `trt` to `log` while the block runs.

    Yields:
        The logger to give to what is made in the block.
    """
    logger = logger_of(trt)
    logger.sinks[id(log)] = log
    try:
        yield logger
    finally:
        del logger.sinks[id(log)]


@functools.cache
def logger_of(trt: ModuleType) -> Any:
    """The one logger of TensorRT's module `trt`."""
    severities: dict[Any, Severity] = {
        trt.ILogger.INTERNAL_ERROR: "error",
        trt.ILogger.ERROR: "error",
        trt.ILogger.WARNING: "warning",
        trt.ILogger.INFO: "info",
        trt.ILogger.VERBOSE: "verbose",
    }

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """Hands messages to whoever listens."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.sinks: dict[int, Log] = {}  # by identity: threads come and go in any order

        def log(self, severity: Any, message: str) -> None:
            for sink in tuple(self.sinks.values()):
                sink.append((severities[severity], message))

    return Logger()
