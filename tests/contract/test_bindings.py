"""The bindings are got, or the reason is told; what a child comes to is told in full."""

import sys
from pathlib import Path

import pytest

from tests.contract.bindings import VERSIONS, Bindings, NoWheelError, UnavailableError, cache_folder, prepared
from tests.contract.child import require, run_suites

NEWEST = VERSIONS[-1]


def test_a_version_without_a_wheel_for_this_python() -> None:
    with pytest.raises(NoWheelError, match=r"tensorrt-bindings 8\.6\.1 has wheels for Python 3\.6 to 3\.7 only"):
        prepared(Bindings("8.6.1", (6, 7)))


def test_the_newest_is_there_for_this_python() -> None:
    assert NEWEST.pythons[0] <= sys.version_info.minor


def test_without_network_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTCAL_CONTRACT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "https://localhost:1/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(UnavailableError, match=f"cannot download {NEWEST.package}=={NEWEST.version}"):
        prepared(NEWEST)
    assert list(tmp_path.iterdir()) == []


def test_without_network_tests_skip_but_not_in_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTCAL_CONTRACT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    missing = Bindings("11.4.0.0", NEWEST.pythons)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="cannot download"):
        require(missing)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(UnavailableError):
        require(missing)
    with pytest.raises(pytest.skip.Exception, match="has wheels for"):
        require(Bindings("8.6.1", (6, 7)))


def test_the_cache_is_where_it_is_told_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTCAL_CONTRACT_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("TRTCAL_CONTRACT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "trtcal" / "contract"


@pytest.fixture
def here() -> None:
    require(NEWEST)


SUITE = """
import os
import pytest

def test_of_the_real_module():
    import tensorrt
    assert tensorrt.__version__ == os.environ["TRTCAL_CONTRACT_VERSION"]
    assert tensorrt.Builder.__module__ == "tensorrt.tensorrt"

def test_that_fails():
    print("said before")
    assert 1 + 1 == 3

def test_that_skips():
    pytest.skip("not today")

@pytest.fixture
def broken():
    raise OSError("no such thing")

def test_that_cannot_begin(broken):
    pass
"""


@pytest.mark.usefixtures("here")
def test_each_result_of_a_child(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(SUITE)
    (tmp_path / "test_broken.py").write_text("import nothing_of_that_name")
    outcome = run_suites(NEWEST, [tmp_path / "test_one.py"])
    assert {(result.test, result.outcome) for result in outcome.results} == {
        ("test_of_the_real_module", "passed"),
        ("test_that_fails", "failed"),
        ("test_that_skips", "skipped"),
        ("test_that_cannot_begin", "failed"),
    }
    told = {result.test: result.text for result in outcome.results}
    assert "assert (1 + 1) == 3" in told["test_that_fails"]
    assert "said before" in told["test_that_fails"]
    assert told["test_that_skips"] == "not today"
    assert "no such thing" in told["test_that_cannot_begin"]
    (broken,) = run_suites(NEWEST, [tmp_path / "test_broken.py"]).results
    assert (broken.suite, broken.outcome) == ("test_broken.py", "failed")
    assert "nothing_of_that_name" in broken.text


@pytest.mark.usefixtures("here")
def test_a_child_that_dies(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("import os\ndef test_a(): pass\ndef test_b(): os.abort()\n")
    outcome = run_suites(NEWEST, [tmp_path / "test_one.py"])
    assert outcome.code not in (0, 1)
    assert [result.test for result in outcome.results] == ["test_a"]
