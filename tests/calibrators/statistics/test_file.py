import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrators.errors import CacheError, OutputError
from calibrators.statistics.file import Provenance, ScaleGroup, Statistics, merged_files
from calibrators.statistics.tensor import TensorStatistics

GROUPS = (ScaleGroup(("pool_in", "pool_out"), ("pool_in",)), ScaleGroup(("a", "b", "concat"), ("a", "b")))
EXPLICIT = (ScaleGroup(("a", "b", "concat"), ("a", "b")),)
NAMES = ("pool_in", "pool_out", "a", "b", "concat", 'names with "quotes": 1, ünïcode, /slashes/ and \udcff')
SHARD = Provenance(
    model="0123456789abcdef" * 4,
    preprocess={"resize": [224, 224], "mean": [0.485, 0.456, 0.406], "layout": "NCHW", "crop": None},
    images=("a" * 64,),
    count=10,
    seed=7,
    tensors="quantizable",
)


def some(first: int = 0, *, count: int = 10, images: tuple[str, ...] = ("a" * 64,), **provenance: Any) -> Statistics:
    """Statistics of the samples from number `first` on; each is drawn from its own seed."""
    tensors = {
        name: TensorStatistics.of(
            *(scale * np.random.default_rng(first + i).standard_normal(300) for i in range(count))
        )
        for scale, name in enumerate(NAMES)
    }
    return Statistics(
        tensors,
        groups=GROUPS,
        explicit_groups=EXPLICIT,
        provenance=replace(SHARD, images=images, count=count, **provenance),
    )


SOME = some()


def assert_same(one: Statistics, other: Statistics) -> None:
    assert one == other
    assert list(one) == list(other)
    assert (one.groups, one.explicit_groups) == (other.groups, other.explicit_groups)
    assert one.provenance == other.provenance


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.stats.npz"


def saved(statistics: Statistics, path: Path) -> bytes:
    statistics.save(path)
    return path.read_bytes()


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


# Files that are no statistics


@cache
def parts() -> Mapping[str, Any]:
    """The arrays of a good file."""
    with tempfile.TemporaryDirectory() as folder:
        SOME.save(Path(folder) / "x.npz")
        with np.load(Path(folder) / "x.npz") as file:
            return MappingProxyType(dict(file))


def npz(**changes: Any) -> bytes:
    buffer = io.BytesIO()
    arrays = {**parts(), **changes}
    np.savez(buffer, **{name: array for name, array in arrays.items() if array is not None})
    return buffer.getvalue()


def with_header(**changes: Any) -> bytes:
    header = {**json.loads(parts()["header"].tobytes()), **changes}
    kept = {name: value for name, value in header.items() if value != "absent"}
    return npz(header=np.frombuffer(json.dumps(kept).encode(), np.uint8))


def with_tensors(change: Callable[[dict[str, Any]], Any]) -> bytes:
    return with_header(tensors=change(json.loads(parts()["header"].tobytes())["tensors"]))


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


FOREIGN = {
    "empty": lambda: b"",
    "text": lambda: b"TRT-8601-EntropyCalibration2\ndata: 3c010a14\n",
    "a pickle": lambda: pickle.dumps({"data": 1.0}),
    "a single array": npy,
    "ONNX": lambda: b"\x08\x08\x12\x07pytorch",
}

MALFORMED = {
    "only the first bytes": (lambda: b"PK\x03\x04", "not a zip file"),
    "an archive of nothing": (zipped, "header"),
    "arrays of images": (lambda: npz(header=None, images=np.zeros((2, 3))), "header"),
    "members that are no arrays": (lambda: zipped(header=b"x", counts=b"", exponents=b"", maxima=b""), ""),
    "a newer format": (lambda: with_header(format=2), "its format is 2, not 1"),
    "no format": (lambda: with_header(format="absent"), "format"),
    "a header that is a list": (lambda: npz(header=np.frombuffer(b"[]", np.uint8)), ""),
    "a header that is not JSON": (lambda: npz(header=np.frombuffer(b"{", np.uint8)), "line 1 column 2"),
    "a header that is not UTF-8": (lambda: npz(header=np.frombuffer(b"\xff", np.uint8)), "utf-8"),
    "no counts": (lambda: npz(counts=None), "counts"),
    "NaN in the header": (lambda: with_header(provenance={"count": 1e999}), "not JSON compliant"),
    "a group of lists": (
        lambda: with_header(groups=[[{"members": [["a"]], "sources": ["a"]}], []]),
        "something else than their names",
    ),
    "complex maxima": (lambda: npz(maxima=parts()["maxima"] + 1j), "numbers of another type"),
    "no groups": (lambda: with_header(groups="absent"), "groups"),
    "tensors in a list": (lambda: with_tensors(list), ""),
    "a tensor too few": (lambda: with_tensors(lambda t: dict(list(t.items())[1:])), "12 histograms for 5 tensors"),
    "a tensor too many": (lambda: with_tensors(lambda t: {**t, "z": ["0"] * 5}), "12 histograms for 7 tensors"),
    "words for numbers": (lambda: with_tensors(lambda t: {**t, "a": ["x"] * 5}), "invalid literal"),
    "a number too few": (lambda: with_tensors(lambda t: {**t, "a": ["1"] * 4}), "absmax_sum"),
    "negative numbers": (lambda: with_tensors(lambda t: {**t, "a": ["-1"] * 5}), "not negative"),
    "nothing for numbers": (lambda: with_tensors(lambda t: {**t, "a": None}), ""),
    "groups of nothing": (lambda: with_header(groups=[[{"members": 1}], []]), ""),
    "three sets of groups": (lambda: with_header(groups=[[], [], []]), ""),
    "an unknown provenance": (lambda: with_header(provenance={"images": [], "weather": "fine"}), "weather"),
    "no provenance": (lambda: with_header(provenance=None), ""),
    "fewer bins": (lambda: npz(counts=parts()["counts"][:, :4096]), "8192 counts"),
    "fewer histograms": (lambda: npz(counts=parts()["counts"][1:]), ""),
    "negative counts": (lambda: npz(counts=-parts()["counts"]), "not negative"),
    "fractions of counts": (lambda: npz(counts=parts()["counts"] / 2), "8192 counts"),
    "counts of nothing": (lambda: npz(counts=parts()["counts"] * 0), "do not belong together"),
    "other exponents": (lambda: npz(exponents=parts()["exponents"] + 1), "do not belong together"),
    "infinite exponents": (lambda: npz(exponents=np.full(12, np.inf)), ""),
    "NaN for maxima": (lambda: npz(maxima=np.full(12, np.nan, np.float32)), "unlike nan"),
    "infinite maxima": (lambda: npz(maxima=np.full(12, np.inf, np.float32)), "unlike inf"),
    "a single maximum": (lambda: npz(maxima=np.float32(1)), ""),
    "pickled objects": (lambda: npz(maxima=np.array([{}] * 12)), "pickle"),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_another_kind_of_file_is_refused_in_one_line(path: Path, data: Callable[[], bytes]) -> None:
    path.write_bytes(data())
    with pytest.raises(CacheError) as error:
        Statistics.load(path)
    assert str(error.value) == f"{path} is not a statistics file: give one that `trtcal calibrate --statistics` wrote"
    assert error.value.exit_code == 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("data", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_is_refused_in_one_line(path: Path, data: Callable[[], bytes], reason: str) -> None:
    path.write_bytes(data())
    with pytest.raises(CacheError) as error:
        Statistics.load(path)
    message = str(error.value)
    assert message.startswith(f"{path} is not a statistics file that this version reads (")
    assert message.endswith("): update trtcal, or collect the statistics again")
    assert reason in message
    assert "\n" not in message


def test_what_these_files_were_made_from_is_sound(path: Path) -> None:
    path.write_bytes(npz())
    assert_same(Statistics.load(path), SOME)


def test_a_file_cut_off_anywhere_is_refused(path: Path) -> None:
    whole = saved(SOME, path)
    for length in (0, 1, 2, 3, 30, 100, *range(500, len(whole), len(whole) // 40), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CacheError, match="is not a statistics file"):
            Statistics.load(path)


def test_a_byte_changed_anywhere_is_refused_or_without_effect(path: Path) -> None:
    whole = saved(SOME, path)
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 80)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        try:
            assert_same(Statistics.load(path), SOME)
        except CacheError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


def test_a_missing_file_says_what_writes_one(path: Path) -> None:
    with pytest.raises(CacheError) as error:
        Statistics.load(path)
    assert str(error.value) == f"no statistics file {path}: write one with `trtcal calibrate --statistics`"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"cannot read .*: Is a directory; give a statistics file"):
        Statistics.load(tmp_path)
