"""Engine sessions through the real PyCUDA and cuda.bindings, on the driver of `tests/calibrators/cuda/driver.c`."""

import pytest

from tests.calibrators.cuda.test_real_libraries import driver, library, python  # noqa: F401 - fixtures


@pytest.mark.usefixtures("rtx")
def test_a_session_and_a_benchmark(library, python):  # noqa: F811 - fixtures
    done = python("-m", "tests.engines.sessions.on_driver", library)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
