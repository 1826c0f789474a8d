"""Files that are no calibration cache, or a malformed one."""

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.cache.text import MOST_BYTES, CalibrationCache
from calibrators.errors import CacheError


@pytest.mark.parametrize(
    ("body", "line", "reason"),
    [
        ("a: 3f800000\nb 3f800000\n", 3, "no ': ' between a name and a scale in 'b 3f800000'"),
        ("a: 3f800000\nb:3f800000\n", 3, "no ': '"),
        ("a: 3f8000001\n", 2, "'3f8000001' has 9 hexadecimal digits; a float32 has at most 8"),
        ("a: 3f800000\n\n\nb: 0.25\n", 5, "'0.25' is not a float32's bits in hexadecimal, such as 3c010a14"),
        ("a: 0x3f80\n", 2, "'0x3f80' is not"),
        ("a:  3f800000 x\n", 2, "is not a float32's bits"),
        ("a: \n", 2, "'' is not a float32's bits"),
        (": 3f800000\n", 2, "'' is no tensor's name"),
        ("a: 3f800000\rb: 3f800000\n", 2, "is no tensor's name"),
        ("a: 3f800000\nb: 0\na: 3f800000\n", 4, "'a' has a scale on line 2 already; keep one of the two"),
        ("a: 3f800000\nb: 3f80", 3, "the file ends within this line: it was cut off"),
        ("", 1, "no scale follows the header"),
        ("\n \n", 1, "no scale follows the header"),
    ],
)
def test_malformed_lines_are_named(body: str, line: int, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.cache"
    path.write_bytes(b"TRT-8601-EntropyCalibration2\n" + body.encode())
    with pytest.raises(CacheError) as failure:
        CalibrationCache.load(path)
    assert str(failure.value).startswith(f"{path}, line {line}: ")
    assert reason in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("header", ["a: 3f800000", "TRT-8601", "TRT-8601-", "", "TRT-8601-Entropy Calibration"])
def test_a_missing_header_is_named(header: str) -> None:
    with pytest.raises(CacheError, match=r"line 1: .* is no header of a calibration cache, such as TRT-8601-"):
        CalibrationCache.parse(f"{header}\nb: 3f800000\n")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (b"TRT-8601-EntropyCalibration2\na: 3f8\x00\x01\n", "no TensorRT calibration cache but a binary file"),
        (b"TRT-8601-EntropyCalibration2\na: 3f800000\n\xe9: 3f800000\n", "line 3: not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(CacheError) as failure:
        CalibrationCache.parse(data, source="odd.cache")
    assert "odd.cache" in str(failure.value)
    assert what in str(failure.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"cannot read .*none.cache: No such file"):
        CalibrationCache.load(tmp_path / "none.cache")
    with pytest.raises(CacheError, match="cannot read"):
        CalibrationCache.load(tmp_path)


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 2**40])
def test_a_file_without_end_is_not_read_to_it(size: int, tmp_path: Path) -> None:
    path = tmp_path / "vast.cache"
    path.touch()
    os.truncate(path, size)
    with pytest.raises(CacheError, match="is no calibration cache: none is larger than 64 MiB"):
        CalibrationCache.load(path)


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_what_is_refused_in_another_process_is_refused_here(again: Callable[[CacheError], CacheError]) -> None:
    with pytest.raises(CacheError) as failure:
        CalibrationCache.parse("TRT-8601-EntropyCalibration2\ncut off", source="m.cache")
    assert str(again(failure.value)) == str(failure.value)
    assert again(failure.value).__dict__ == failure.value.__dict__


@given(st.binary(max_size=200))
def test_any_bytes_are_read_exactly_or_refused(data: bytes) -> None:
    for candidate in (data, b"TRT-8601-EntropyCalibration2\n" + data):
        try:
            cache = CalibrationCache.parse(candidate)
        except CacheError as error:
            assert str(error)
        else:
            assert cache.dumps() == candidate
