"""Fresh processes: what they measure is their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.processes import in_fresh_process, peak_memory
from calibrators.errors import TrtcalError

ROOT = Path(__file__).resolve().parents[2]


def test_the_peak_of_a_fresh_process_is_not_its_parents() -> None:
    held = np.ones(50_000_000)  # 400 MB
    assert peak_memory() > 400
    assert in_fresh_process(peak_memory) < 200
    assert held[0] == 1


def test_the_peak_stays_when_memory_is_given_back() -> None:
    held = np.ones(25_000_000)
    peak = peak_memory()
    del held
    assert peak_memory() >= peak


def test_each_call_has_a_process_of_its_own() -> None:
    assert len({os.getpid(), in_fresh_process(os.getpid), in_fresh_process(os.getpid)}) == 3


def test_what_is_raised_in_a_process_comes_out() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        in_fresh_process(int, "two")


def test_a_process_that_dies_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(TrtcalError, match=r"died, most likely for want of memory: give fewer --images") as caught:
        in_fresh_process(os._exit, 9)
    assert "\n" not in str(caught.value)


def test_no_process_is_left_behind_when_the_first_is_killed() -> None:
    work = "print('begun', flush=True); import time; time.sleep(600)"
    program = f"from benchmarks.processes import in_fresh_process; in_fresh_process(exec, {work!r})"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        first.kill()
        rest, _ = first.communicate(timeout=60)  # ends when no process holds the pipe any more
        assert rest == ""
