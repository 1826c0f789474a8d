import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.errors import CacheError, OutputError
from calibrators.statistics.file import Provenance, Statistics, merged_files
from calibrators.statistics.tensor import TensorStatistics
from tests.calibrators.statistics.shards import EXPLICIT, GROUPS, NAMES, SHARD, SOME, assert_same, saved, some


def test_what_was_saved_is_loaded(path: Path) -> None:
    SOME.save(str(path))
    assert_same(Statistics.load(str(path)), SOME)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


samples = arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@given(
    st.dictionaries(
        st.text(max_size=5), st.lists(samples, max_size=3).map(lambda s: TensorStatistics.of(*s)), max_size=3
    ),
    st.builds(
        Provenance,
        model=st.text(max_size=3),
        preprocess=st.none() | st.dictionaries(st.text(max_size=3), st.integers() | st.lists(st.text()), max_size=2),
        images=st.lists(st.text(max_size=3), max_size=2).map(tuple),
        count=st.integers(0),
        seed=st.none() | st.integers(),
    ),
)
@settings(max_examples=20)
def test_anything_that_was_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, TensorStatistics], provenance: Provenance
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.stats.npz"
    statistics = Statistics(tensors, provenance=provenance)
    first = saved(statistics, path)
    loaded = Statistics.load(path)
    assert_same(loaded, statistics)
    assert saved(loaded, path) == first


def test_numbers_beyond_64_bits_survive(path: Path) -> None:
    largest = float(np.finfo(np.float32).max)
    statistics = Statistics({"x": TensorStatistics.of([largest, -largest], [2.0**-149])})
    assert statistics["x"].absmax_sum > 2**200
    statistics.save(path)
    assert Statistics.load(path) == statistics


def test_the_same_statistics_are_the_same_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = saved(SOME, path)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert saved(some(), path) == first
    assert saved(Statistics.load(path), path) == first


def test_numpy_alone_reads_the_file_and_no_pickle_is_in_it(path: Path) -> None:
    SOME.save(path)
    with np.load(path, allow_pickle=False) as file:
        assert file["counts"].shape == (2 * len(NAMES), 8192)
        header = json.loads(file["header"].tobytes())
    assert header["format"] == 1
    assert list(header["tensors"]) == list(NAMES)
    assert header["provenance"]["seed"] == 7


def test_a_file_that_cannot_be_written_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = saved(SOME, path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", _full)
        with pytest.raises(OutputError, match="no space left on the disk"):
            some(1).save(path)
    assert path.read_bytes() == first
    with pytest.raises(OutputError, match="does not exist; make it first"):
        SOME.save(path.parent / "none" / "x.npz")


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


# Merging


def test_shards_are_one_pass(path: Path) -> None:
    one, two, three = some(0, count=4), some(4, count=5, images=("b" * 64,)), some(9, count=1, images=("c" * 64,))
    whole = some(0, count=10, images=("a" * 64, "b" * 64, "c" * 64))
    expected = saved(whole, path)
    for merged in (one + two + three, one + (two + three), three + one + two, (two + three) + one):
        assert_same(merged, whole)
        assert saved(merged, path) == expected


def test_shards_in_files_are_one_pass(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.stats.npz" for i in range(3)]
    for i, path in enumerate(paths):
        some(3 * i, count=3, images=("abc"[i] * 64,)).save(path)
    whole = some(0, count=9, images=("a" * 64, "b" * 64, "c" * 64))
    assert_same(merged_files(paths), whole)
    assert_same(merged_files(list(map(str, reversed(paths)))), whole)
    assert_same(merged_files(paths[:1]), Statistics.load(paths[0]))


def test_merging_changes_neither_part() -> None:
    one, two = some(0, count=2), some(2, count=2, images=("b" * 64,))
    _ = one + two
    assert_same(one, some(0, count=2))
    assert_same(two, some(2, count=2, images=("b" * 64,)))


def test_shown_it_says_what_it_is_of() -> None:
    assert repr(SOME) == f"<Statistics of {len(SOME)} tensors from {SHARD.count} images>"


def test_seeds_that_differ_are_forgotten() -> None:
    assert (some() + some(images=("b" * 64,))).provenance.seed == 7
    assert (some() + some(images=("b" * 64,), seed=8)).provenance.seed is None
    assert (some() + some(images=("b" * 64,), seed=None)).provenance.seed is None


def test_images_that_are_not_known_may_be_anything() -> None:
    unknown = some(images=())
    assert (unknown + unknown).provenance == replace(SHARD, images=(), count=20)


OTHER = {
    "model": (lambda: some(images=("b" * 64,), model="f" * 64), "statistics of another model do not merge"),
    "preprocessing": (
        lambda: some(images=("b" * 64,), preprocess={"resize": [256, 256]}),
        "statistics of another preprocessing do not merge",
    ),
    "no preprocessing": (
        lambda: some(images=("b" * 64,), preprocess=None),
        "statistics of another preprocessing do not merge",
    ),
    "choice of tensors": (
        lambda: Statistics(dict(list(SOME.items())[:-1]), provenance=replace(SHARD, images=(), tensors="all")),
        "statistics of another choice of tensors do not merge",
    ),
    "the same images": (some, "the images aaaaaaaaaaaa are in both sets of statistics: give each shard once"),
    "some of the same images": (
        lambda: some(images=("a" * 64, "b" * 64)),
        "the images aaaaaaaaaaaa are in both sets of statistics: give each shard once",
    ),
    "fewer tensors": (
        lambda: Statistics(dict(list(SOME.items())[:-1]), provenance=replace(SHARD, images=())),
        "statistics of different tensors do not merge: collect all shards from the same model",
    ),
    "other groups": (
        lambda: Statistics(SOME, groups=GROUPS[:1], explicit_groups=EXPLICIT, provenance=replace(SHARD, images=())),
        "statistics of different tensors do not merge: collect all shards from the same model",
    ),
    "other explicit groups": (
        lambda: Statistics(SOME, groups=GROUPS, provenance=replace(SHARD, images=())),
        "statistics of different tensors do not merge: collect all shards from the same model",
    ),
}


@pytest.mark.parametrize(("other", "reason"), OTHER.values(), ids=OTHER)
def test_what_does_not_belong_together_does_not_merge(
    tmp_path: Path, other: Callable[[], Statistics], reason: str
) -> None:
    with pytest.raises(CacheError, match=reason):
        SOME + other()
    paths = [tmp_path / "one.npz", tmp_path / "other.npz"]
    SOME.save(paths[0])
    other().save(paths[1])
    with pytest.raises(CacheError) as error:
        merged_files(paths)
    assert str(error.value).startswith(f"{paths[1]}: {reason}")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_shard_that_is_missing_is_named_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    some().save(first)
    with pytest.raises(CacheError) as error:
        merged_files([first, second])
    assert str(error.value) == f"no statistics file {second}: write one with `trtcal calibrate --statistics`"


def test_no_file_is_no_statistics() -> None:
    with pytest.raises(CacheError, match="there is no statistics file: give at least one"):
        merged_files([])


def test_a_shard_that_is_missing_is_named(tmp_path: Path, path: Path) -> None:
    SOME.save(path)
    with pytest.raises(CacheError, match=r"none\.npz"):
        merged_files([path, tmp_path / "none.npz"])
    with pytest.raises(CacheError, match=r"none\.npz"):
        merged_files([tmp_path / "none.npz", path])
