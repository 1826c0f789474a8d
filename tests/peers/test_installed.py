import pytest

from tests.peers.installed import differs, needed


def test_a_missing_peer_is_skipped_with_the_reason() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"needs a-peer \(.*README.md\): ModuleNotFoundError: .*'no_such'"):
        needed("a-peer", "no_such.module")


def test_an_installed_one_is_at_hand() -> None:
    assert needed("pytest", "pytest") is pytest


@pytest.mark.parametrize(("read", "newer"), [("1.0", True), ("9999", False), (pytest.__version__, False)])
def test_a_newer_one_may_differ_from_what_was_read(read: str, newer: bool) -> None:
    mark = differs("pytest", read=read).mark
    assert mark.args == (newer,)
    assert f"pytest {pytest.__version__} is newer than {read}" in mark.kwargs["reason"]
