"""Pairing: by equal paths, else by how they end, and never by a guess."""

import pytest

from trtcal.tasks.truth.pairing import paired


@pytest.mark.parametrize(
    ("names", "files", "found"),
    [
        (["a", "x/b"], ["x/b", "a", "c"], {"a": "a", "x/b": "x/b"}),
        (["a", "b"], ["./a", "b"], {"a": "./a", "b": "b"}),
        (["x/1", "y/1"], ["val/x/1", "val/y/1", "val/z/1"], {"x/1": "val/x/1", "y/1": "val/y/1"}),
        (["val/x/1", "val/y/1"], ["x/1", "y/1"], {"val/x/1": "x/1", "val/y/1": "y/1"}),
        (["p/1", "q/2"], ["r/1", "s/2"], {"p/1": "r/1", "q/2": "s/2"}),
        (["caf\u00e9"], ["cafe\u0301"], {"caf\u00e9": "cafe\u0301"}),
        (["sub/a b"], ["other\\sub\\a b"], {"sub/a b": "other\\sub\\a b"}),
        (["a"], ["b"], {}),
        (["a"], [], {}),
    ],
)
def test_found(names: list[str], files: list[str], found: dict[str, str]) -> None:
    pairs = paired(names, files)
    assert pairs.found == found
    assert pairs.unclear == ()


def test_equal_paths_go_before_what_ends_alike() -> None:
    pairs = paired(["a/1", "a/2", "a/3"], ["a/1", "b/2", "b/3"])
    assert pairs.found == {"a/1": "a/1"}
    assert pairs.exact


def test_what_is_unclear() -> None:
    assert paired(["1"], ["a/1", "b/1"]).unclear == ("1",)
    pairs = paired(["a/1", "b/1", "c/2"], ["1", "2"])
    assert pairs.found == {"c/2": "2"}
    assert pairs.unclear == ("a/1", "b/1")
