from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache, version_number, version_text
from calibrators.errors import CacheError, CacheMismatchError
from calibrators.tensorrt.cache_exchange import labelled, offered, remarked

MODEL, OTHER = "a" * 64, "c" * 64
BY_TENSORRT = Sidecar(
    model_sha256=MODEL,
    method="entropy",
    tensors="all",
    image_sets=("b" * 64,),
    images=500,
    versions={"trtcal": "0.1.0", "tensorrt": "10.14.1.48"},
)
COMPUTED = replace(BY_TENSORRT, versions={"trtcal": "0.1.0", "onnxruntime": "1.20.0"})
NOW = {"version": "10.14.1.48", "algorithm": "EntropyCalibration2", "model_sha256": MODEL}


def saved(folder: Path, header: str = "TRT-101401-EntropyCalibration2", sidecar: Sidecar | None = None) -> Path:
    path = folder / "m.cache"
    cache = CalibrationCache.parse(f"{header}\nx: 3c010a14\nconv: 1: 3d000000\n")
    cache.sidecar = sidecar
    cache.save(path)
    return path


@pytest.mark.parametrize(
    ("version", "number"),
    [("8.6.1", 8601), ("10.0.1", 100001), ("10.14.1.48", 101401), ("10.16.1.11", 101601), ("8.6.1.post1", 8601)],
)
def test_the_number_in_a_header(version: str, number: int) -> None:
    assert version_number(version) == number


@given(st.integers(8, 20), st.integers(0, 99), st.integers(0, 9))
def test_the_number_in_a_header_is_read_back_as_the_version(major: int, minor: int, patch: int) -> None:
    version = f"{major}.{minor % 10 if major < 10 else minor}.{patch}"
    assert version_text(version_number(version)) == version


def test_a_version_that_is_none() -> None:
    with pytest.raises(CacheError, match="'dev'"):
        version_number("dev")


def test_a_cache_that_fits_is_given_byte_for_byte(tmp_path: Path) -> None:
    path = saved(tmp_path, sidecar=BY_TENSORRT)
    offer = offered(path, **NOW)
    assert offer.text == path.read_bytes()
    assert offer.cache == CalibrationCache.load(path) and offer.cache.sidecar is not None
    assert offer.notes == ()


def test_without_a_sidecar_the_header_decides(tmp_path: Path) -> None:
    assert offered(saved(tmp_path), **NOW).notes == ()


@pytest.mark.parametrize("header", ["TRT-8601-EntropyCalibration2", "TRT-101400-EntropyCalibration2"])
@pytest.mark.parametrize("sidecar", [None, BY_TENSORRT])
def test_another_version_is_refused(header: str, sidecar: Sidecar | None, tmp_path: Path) -> None:
    path = saved(tmp_path, header, sidecar)
    with pytest.raises(CacheMismatchError) as raised:
        offered(path, **NOW)
    assert str(raised.value) == (
        f"{path} is a cache of TensorRT {'8.6.1' if '8601' in header else '10.14.0'}, EntropyCalibration2, which "
        "TensorRT 10.14.1, EntropyCalibration2 here would ignore in silence: allow_version_mismatch=True takes its "
        "scales all the same, recalibrate=True replaces it"
    )
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("sidecar", [None, BY_TENSORRT, COMPUTED])
def test_another_algorithm_is_refused(sidecar: Sidecar | None, tmp_path: Path) -> None:
    with pytest.raises(CacheMismatchError, match=r"TensorRT 10\.14\.1, MinMaxCalibration, which TensorRT 10\.14\.1, E"):
        offered(saved(tmp_path, "TRT-101401-MinMaxCalibration", sidecar), **NOW)


@pytest.mark.parametrize("header", ["TRT-8601-EntropyCalibration2", "TRT-101401-MinMaxCalibration", "1 3ff0 3fe0"])
def test_on_request_the_scales_are_given_under_the_wanted_header(header: str, tmp_path: Path) -> None:
    path = saved(tmp_path, header, BY_TENSORRT)
    before = path.read_bytes()
    offer = offered(path, **NOW, allow_version_mismatch=True)
    assert offer.text == b"TRT-101401-EntropyCalibration2\nx: 3c010a14\nconv: 1: 3d000000\n"
    assert offer.cache.header == header
    (note,) = offer.notes
    assert note.endswith("its scales are read as if of TensorRT 10.14.1, EntropyCalibration2")
    assert path.read_bytes() == before


def test_a_byte_order_mark_and_line_ends_are_no_part_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "m.cache"
    path.write_bytes(b"\xef\xbb\xbfTRT-8601-EntropyCalibration2\r\nx: 3c010a14\r\n")
    text = offered(path, **NOW, allow_version_mismatch=True).text
    assert text == b"TRT-101401-EntropyCalibration2\r\nx: 3c010a14\r\n"


def test_a_cache_computed_without_tensorrt_is_no_version_s(tmp_path: Path) -> None:
    path = saved(tmp_path, "TRT-101600-EntropyCalibration2", COMPUTED)
    offer = offered(path, **NOW)
    assert offer.text.startswith(b"TRT-101401-EntropyCalibration2\nx: ")
    assert offer.notes == (f"{path} was computed without TensorRT: it is read as one of 10.14.1",)


@pytest.mark.parametrize("allow", [False, True])
def test_another_model_is_refused_whatever_is_allowed(allow: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, sidecar=replace(BY_TENSORRT, model_sha256=OTHER))
    with pytest.raises(CacheMismatchError, match=r"was made of another model \(SHA-256 cccccccccccc\.\.\.\) than the"):
        offered(path, **NOW, allow_version_mismatch=allow)


@pytest.mark.parametrize(("made_of", "built"), [("", MODEL), (OTHER, ""), ("", "")])
def test_an_unknown_model_is_not_compared(made_of: str, built: str, tmp_path: Path) -> None:
    path = saved(tmp_path, sidecar=replace(BY_TENSORRT, model_sha256=made_of))
    assert offered(path, **{**NOW, "model_sha256": built}).notes == ()


def test_a_sidecar_of_another_cache_is_told_of(tmp_path: Path) -> None:
    path = saved(tmp_path, sidecar=replace(BY_TENSORRT, model_sha256=OTHER))
    path.write_bytes(path.read_bytes() + b"new: 3c010a14\n")
    (note,) = offered(path, **NOW).notes
    assert note == f"{path}.json describes another cache: which model {path} was made of is not known"


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="cannot read"):
        offered(tmp_path / "none.cache", **NOW)
    (tmp_path / "bad.cache").write_text("hello\n")
    with pytest.raises(CacheError, match="no header"):
        offered(tmp_path / "bad.cache", **NOW)


def test_a_cache_from_tensorrt_gets_a_sidecar_as_any_other() -> None:
    text = b"TRT-8601-MinMaxCalibration\nx: 3c010204\n(Unnamed Layer* 3) [Shuffle]_output: 0\n"
    preprocess = SimpleNamespace(to_dict=lambda: {"resize": 256})
    loader = SimpleNamespace(preprocess=preprocess, digest="d" * 64, seed=7)
    cache = labelled(text, loader, images=64, model_sha256=MODEL, method="minmax", version="8.6.1")
    assert cache.dumps() == text
    sidecar = cache.sidecar
    assert sidecar is not None
    assert Sidecar.parse(sidecar.dumps()) == sidecar
    assert (sidecar.model_sha256, sidecar.method, sidecar.tensors) == (MODEL, "minmax", "all")
    assert (sidecar.image_sets, sidecar.images, sidecar.seed) == (("d" * 64,), 64, 7)
    assert sidecar.preprocess == {"resize": 256}
    assert sidecar.versions["tensorrt"] == "8.6.1" and sidecar.versions["numpy"] == np.__version__


def test_plain_arrays_leave_the_sidecar_without_images() -> None:
    cache = labelled(b"TRT-8601-X\nx: 1\n", [], images=3, model_sha256="", method="entropy", version="8.6.1")
    assert cache.sidecar is not None
    assert (cache.sidecar.image_sets, cache.sidecar.seed, cache.sidecar.preprocess) == ((), None, None)


def test_what_tensorrt_writes_and_is_no_cache_is_refused() -> None:
    with pytest.raises(CacheError, match="the cache that TensorRT wrote"):
        labelled(b"", [], images=3, model_sha256="", method="entropy", version="8.6.1")


def test_ranges_that_are_no_numbers_are_told_of() -> None:
    text = b"TRT-8601-X\nx: 3c010204\nnan: 7fc00000\ninf: 7f800000\nzero: 0\n"
    assert remarked(CalibrationCache.parse(text)) == ("TensorRT found no finite range for nan, inf",)
    assert remarked(CalibrationCache.parse(b"TRT-8601-X\nx: 3c010204\n")) == ()
