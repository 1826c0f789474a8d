"""Files that are no statistics, or malformed ones."""

import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from calibrators.errors import CacheError
from calibrators.statistics.file import Statistics
from tests.calibrators.statistics.shards import SOME, assert_same, saved


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


def packed(**changes: Any) -> bytes:
    """As `npz`, compressed."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{**parts(), **changes})
    assert len(buffer.getvalue()) < 2**18
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["counts", "exponents", "maxima"])
def test_an_array_that_would_unpack_to_much_more_than_its_tensors_need(name: str, path: Path) -> None:
    path.write_bytes(packed(**{name: np.zeros(2**27, np.uint8)}))
    with pytest.raises(CacheError, match=f"its {name} are too large for 6 tensors"):
        Statistics.load(path)


@pytest.mark.parametrize(("limit", "size"), [("MOST_BYTES", 2**19), ("MOST_HEADER", 100)])
def test_a_file_that_would_unpack_to_more_than_any(
    limit: str, size: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(packed())
    assert Statistics.load(path) == SOME
    monkeypatch.setattr(f"calibrators.statistics.file.{limit}", size)
    with pytest.raises(CacheError, match=r"it would unpack to 0\.0 GiB"):
        Statistics.load(path)


def test_a_header_that_would_unpack_to_more_than_names_need(path: Path) -> None:
    path.write_bytes(packed(header=np.full(2**27, ord(" "), np.uint8)))
    with pytest.raises(CacheError, match=r"it would unpack to 0\.1 GiB"):
        Statistics.load(path)
