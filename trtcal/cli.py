"""The command line: runs a verb of `trtcal.verbs`, turns errors into one line and an exit code."""

import _thread
import errno
import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from trtcal.tables.ticking import TICKING

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130
"""The exit code after Ctrl-C or SIGTERM."""

UNREAD = 141
"""The exit code where nobody reads the output any more (`| head`), as a shell has it for such programs."""

_USERS = (errno.ENAMETOOLONG, errno.EACCES, errno.ELOOP, errno.ENOTDIR)
"""What is wrong with a path that a user gave; any other error that reaches the command line is ours."""

FILES = "--statistics-from"


def main() -> None:
    """Run the command line; exit code 0 done, 1 a check failed, 2 bad usage or bad input, 130 interrupted."""
    sys.stdout, sys.stderr = _stream(sys.stdout), _stream(sys.stderr)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    with _Interrupts() as interrupts:
        code = _run(arguments, interrupts, debug=debug)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # threads that still run must not meet a torn-down interpreter
    sys.exit(code if isinstance(code, int) else 0)


def _run(arguments: list[str], interrupts: "_Interrupts", *, debug: bool) -> object:
    """The verb's exit code; what it raises is told."""
    code: object = 0
    try:
        with TICKING.on():  # in here, as it starts a thread: an interrupt may come just then
            code = _app()(args=_repeated(arguments), prog_name="trtcal", standalone_mode=False)
        if code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt, without a word
            raise KeyboardInterrupt
        sys.stdout.flush()
    except BaseException as error:
        if not interrupts.came and isinstance(error, SystemExit) and not error.code:
            return 0  # typer's, when it has completed a command line
        if not interrupts.came and isinstance(error, BrokenPipeError | SystemExit):
            _give_up(sys.stdout)  # rich and typer make an exit of a reader that has left; we never raise one
            return UNREAD
        said = _said(KeyboardInterrupt() if interrupts.came else error)
        if said is None:
            raise
        message, code = said
        _tell(_traceback(error) if debug else _line(message))
    return code


class _Interrupts:
    """Handles SIGTERM as Ctrl-C, and remembers that one of them came.

    A library that is being imported may make any error of the interrupt, such as NumPy's RuntimeError.

    Attributes:
        came: Whether one came.
    """

    came = False

    def __enter__(self) -> "_Interrupts":
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        if self._before[signal.SIGINT] is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupted)
        if self._before[signal.SIGTERM] is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminated)
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._again
        return self

    def __exit__(self, *raised: object) -> None:
        sys.unraisablehook = self._unraisable
        for number, ours in ((signal.SIGINT, self._interrupted), (signal.SIGTERM, self._terminated)):
            if signal.getsignal(number) == ours:
                signal.signal(number, self._before[number])

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt

    def _again(self, lost: "sys.UnraisableHookArgs") -> None:
        """Let an interrupt come once more that came in a callback, from which no exception comes out."""
        if issubclass(lost.exc_type, KeyboardInterrupt):
            threading.Timer(0.01, _interrupt).start()
        else:
            self._unraisable(lost)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        """What Ctrl-C does at present: it may be postponed, or reported on."""
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else self._interrupted)(number, frame)


def _interrupt() -> None:
    """Interrupt the main thread, also where it waits for something."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()  # Windows has no other: it ends no wait


def _app() -> "typer.Typer":
    """The verbs; loaded here, so that Ctrl-C in the meantime is told of as well."""
    from trtcal.verbs import app

    return app


def _said(error: BaseException) -> tuple[str, int] | None:
    """One line and an exit code for an error that a user can do something about; None for any other."""
    from calibrators.errors import TrtcalError

    if isinstance(error, TrtcalError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return "interrupted; no file is half-written", INTERRUPTED
    if isinstance(error, MemoryError):
        return f"there is not enough memory for this ({error or 'no size is known'}): use smaller inputs or batches", 2
    if isinstance(error, OSError) and (error.filename is None or error.errno in _USERS):
        return _system_said(error), 2
    if hasattr(error, "format_message"):  # what typer says of wrong usage, whichever click it rests on
        command = getattr(getattr(error, "ctx", None), "command_path", "trtcal")
        return f"{error.format_message().rstrip('.')}; see `{command} --help`", 2
    return None


def _line(message: str) -> str:
    from calibrators.errors import folded
    from trtcal.tables.console import printable

    return f"trtcal: {printable(folded(message))}\n"


def _traceback(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _system_said(error: OSError) -> str:
    if error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}; give another path"
    _give_up(sys.stdout)
    return f"cannot write the output: {error.strerror or error}; what was to be written to files is done"


def _stream(stream: TextIO | None) -> TextIO:
    """A stream that takes any text: none is closed, and what its encoding lacks is spelled out."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - it stays open to the end
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _tell(line: str) -> None:
    """Write a line on standard error, if anybody can hear it."""
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    """Let what is left in a stream's buffer go nowhere, instead of failing once more at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return


def _repeated(arguments: list[str]) -> list[str]:
    """Let `--statistics-from` take several files in a row: the option is repeated before each."""
    repeated: list[str] = []
    several = False
    for argument in arguments:
        named = argument.split("=", 1)[0] == FILES
        several = named or (several and argument.endswith(".npz"))
        if several and not named and repeated[-1] != FILES:
            repeated.append(FILES)
        repeated.append(argument)
    return repeated
