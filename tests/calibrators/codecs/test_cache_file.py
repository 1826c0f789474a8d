"""Files in the place of a calibration cache are refused with what they are and what makes a cache of them."""

from pathlib import Path

import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.codecs.cache_file import load_cache
from calibrators.errors import CacheError


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("TRT-8601-EntropyCalibration2\na: 3f800000\n".encode("utf-16"), "UTF-16 text (save it as UTF-8)"),
        (b"PK\x03\x04\x14\0\0\0", "a ZIP or NPZ archive"),
        (b"\x93NUMPY\x01\0v\0", "a NumPy array"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html></html>", "a web page"),
        (b'{"format": 1, "cache_sha256": ""}', "the side-car of a cache"),
        (b'{"act_quant_info": {"a": 1.0}}', "PPQ's ranges"),
        (b'{"activation_encodings": {}, "param_encodings": {}}', "AIMET's encodings"),
        (b'{"version": "2.0.0", "encodings": []}', "AIMET's encodings"),
        (b'{"a": {"CLS": "TensorData"}}', "ONNX Runtime's calibration data"),
        (b'{"data": {"scale": 0.1, "min": 0, "max": 0, "offset": 0}}', "an NVDLA calibration table"),
        (b"[1, 2]", "looks like JSON"),
        (b"conv1 0.25\nonnx::Conv_3 1e-05\n366 12.0\n", "ONNX Runtime's calibration.cache"),
        (b"conv1: 0.25\nconv2: 1.5e-5\n", "plain ranges"),
        (b"conv1_param_0 113.3 12.5 7\nconv1 12.5\n", "an ncnn calibration table"),
    ],
)  # fmt: skip
def test_other_files_are_refused_with_what_they_look_like(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.cache"
    path.write_bytes(data)
    with pytest.raises(CacheError) as failure:
        load_cache(path)
    assert f"{path} is no TensorRT calibration cache but " in str(failure.value)
    assert what in str(failure.value)


def test_the_command_that_converts_it_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my file"
    path.write_bytes(b'{"act_quant_info": {"a": 1.0}}')
    with pytest.raises(
        CacheError, match=r"PPQ's ranges in JSON \(`trtcal cache convert '.*/my file' -o NEW.cache` makes"
    ):
        load_cache(path)


def test_a_model_in_the_place_of_a_cache_is_recognised(shared_data: Path) -> None:
    with pytest.raises(CacheError, match="is no TensorRT calibration cache but an ONNX model"):
        load_cache(shared_data / "models" / "cifar10_resnet20.onnx")


def test_a_malformed_cache_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "m.cache"
    path.write_text("TRT-8601-EntropyCalibration2\na: 3f800000\nb: 3f80zz00\n")
    with pytest.raises(CacheError, match=r"m\.cache, line 3: the scale '3f80zz00' is not"):
        load_cache(path)


def test_a_cache_is_read(tmp_path: Path) -> None:
    CalibrationCache({"a": 0.5}).save(tmp_path / "m.cache")
    assert dict(load_cache(tmp_path / "m.cache")) == {"a": 0.5}
