"""The command line as users meet it, without a process of its own."""

import sys
from collections.abc import Callable

import pytest

from trtcal import cli

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `trtcal ...`; gives the exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trtcal", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
            sys.exit(0)
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run
