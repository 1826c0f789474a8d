"""A pytest of its own for one version of the bindings, and what its tests came to."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.contract.bindings import Bindings, NoWheelError, UnavailableError, prepared

ROOT = Path(__file__).resolve().parents[2]
SUITES = Path(__file__).resolve().parent / "suites"


@dataclass(frozen=True)
class Result:
    """One test of a suite, or a file that could not be collected.

    Attributes:
        suite: The file, as seen from the folder of suites.
        test: Its name in the file; empty for the file itself.
        outcome: "passed", "failed" or "skipped".
        text: Why, and what was printed.
    """

    suite: str
    test: str
    outcome: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """What a child came to.

    Attributes:
        results: Of each test.
        code: Its exit code, negative where a signal ended it.
        output: All that it wrote.
    """

    results: tuple[Result, ...]
    code: int
    output: str


def require(bindings: Bindings) -> None:
    """Skip the test where the bindings cannot be had; in CI only where there is no wheel for the running Python."""
    try:
        prepared(bindings)
    except NoWheelError as error:
        pytest.skip(str(error))
    except UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def command(bindings: Bindings, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command of a pytest to which `tensorrt` is that version, and its environment.

    Raises:
        NoWheelError: There is no wheel for the running Python.
        UnavailableError: The bindings cannot be had here.
    """
    paths = [str(prepared(bindings)), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TRTCAL_CONTRACT_VERSION": bindings.version,
    }
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments], environment


def run_suites(bindings: Bindings, suites: Sequence[Path] = (SUITES,)) -> Outcome:
    """Run suites against one version; raises as `command` does."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "results.jsonl"
        line, environment = command(
            bindings, ["-q", "--continue-on-collection-errors", "-p", "tests.contract.child", *map(str, suites)]
        )
        done = subprocess.run(
            line,
            env=environment | {"TRTCAL_CONTRACT_REPORT": str(report)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=600,
        )
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    return Outcome(tuple(Result(**json.loads(line)) for line in lines), done.returncode, done.stdout)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the child: what a test came to; a test that passes is told of once, a failure at each step."""
    if report.when == "call" or report.outcome != "passed":
        _tell(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """In the child: a file that cannot be collected."""
    if report.outcome != "passed":
        _tell(report)


def _tell(report: pytest.TestReport | pytest.CollectReport) -> None:
    file, _, test = report.nodeid.partition("::")
    path = ROOT / file
    suite = str(path.relative_to(SUITES)) if path.is_relative_to(SUITES) else path.name
    printed = [f"--- {title} ---\n{content}" for title, content in report.sections if content]
    text = "\n".join([report.longreprtext, *printed])
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        text = report.longrepr[2].removeprefix("Skipped: ")
    result = Result(suite, test, report.outcome, text.strip())
    with Path(os.environ["TRTCAL_CONTRACT_REPORT"]).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(result)) + "\n")
