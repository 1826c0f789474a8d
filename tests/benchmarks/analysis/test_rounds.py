"""Old and new in turn, whatever they are."""

import sys
from pathlib import Path

import pytest

from benchmarks.analysis.job import Job
from benchmarks.analysis.older import HERE, Tree
from benchmarks.analysis.rounds import measured
from calibrators.errors import TrtcalError

HERE_BY_THIS_PYTHON = Tree(HERE, Path(sys.executable))

SLEEPS = (
    "import sys, time; time.sleep(float(open('seconds').read()) * {0}); print({0}); "
    "open('{{out}}/file', 'a').write('{0}')"
)


def prepare(folder: Path) -> None:
    (folder / "seconds").write_text("0.2")


def judge(old: Path, new: Path) -> dict[str, object]:
    return {
        name: (path / "stdout").read_text() + (path / "file").read_text() for name, path in (("o", old), ("n", new))
    }


def job(old: str, new: str) -> Job:
    return Job("sleep", prepare, ("-c", old), ("-c", new), 2, judge)


def test_each_round_runs_both_and_the_ratio_is_of_their_times(tmp_path: Path) -> None:
    found = measured(
        job(SLEEPS.format(4), SLEEPS.format(1)), tmp_path / "job", HERE_BY_THIS_PYTHON, HERE_BY_THIS_PYTHON, rounds=2
    )
    assert found.figures == {"o": "4\n44", "n": "1\n11"}
    assert len(found.old) == len(found.new) == 2
    assert found.ratio("seconds") > 1
    assert all(cost.memory > 1 for cost in (*found.old, *found.new))
    assert found.to_dict()["times_as_fast"] == found.ratio("seconds")


def test_memory_is_that_of_the_command_alone(tmp_path: Path) -> None:
    large = "held = bytes(range(256)) * 2**20"
    found = measured(job("open('{out}/file', 'w'); " + large, "open('{out}/file', 'w')"), tmp_path / "job",
                     HERE_BY_THIS_PYTHON, HERE_BY_THIS_PYTHON, rounds=1)  # fmt: skip
    assert found.old[0].memory - found.new[0].memory > 200


def test_a_command_that_fails_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrtcalError, match=r"sleep failed in .* with 3: no luck"):
        measured(
            job("import sys; sys.stderr.write('no luck'); sys.exit(3)", "0"),
            tmp_path / "job",
            HERE_BY_THIS_PYTHON,
            HERE_BY_THIS_PYTHON,
            rounds=1,
        )
