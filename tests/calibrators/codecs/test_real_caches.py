"""Real calibration caches through every format and back."""

import time

import pytest

from calibrators.cache.text import CalibrationCache, usable
from calibrators.codecs.encodings import Encodings, bits_of, to_cache
from calibrators.codecs.formats import FORMATS, load, recognised


@pytest.fixture(scope="module")
def caches(shared_data):
    return {path.name: path.read_bytes() for path in sorted((shared_data / "caches").iterdir())}


def test_they_are_recognised(caches):
    assert {name: recognised(data) for name, data in caches.items()} == dict.fromkeys(caches, "tensorrt")


@pytest.mark.parametrize("name", FORMATS)
def test_scales_come_back_to_the_bit(name, caches):
    for file, data in caches.items():
        cache = CalibrationCache.parse(data)
        written, losses = FORMATS[name].dump(Encodings.of_cache(cache))
        assert recognised(written) == name, file
        again, _ = to_cache(load(written, name, source=file))
        scales = {tensor: bits_of(scale) for tensor, scale in cache.items() if usable(scale)}
        assert {tensor: bits_of(scale) for tensor, scale in again.items() if usable(scale)} == scales, file
        lost = [tensor for tensor, scale in cache.items() if not usable(scale)]
        assert not lost or name in ("tensorrt", "trtcal") or any("for being 0, subnormal" in loss for loss in losses), (
            file
        )


@pytest.mark.parametrize("name", ["tensorrt", "trtcal"])
def test_nothing_is_lost(name, caches):
    for file, data in caches.items():
        written, losses = FORMATS[name].dump(Encodings.of_cache(CalibrationCache.parse(data)))
        cache, more = to_cache(load(written, name, source=file))
        assert (cache.dumps(), losses, more) == (data, (), ()), file


@pytest.mark.parametrize("name", FORMATS)
def test_thousands_of_tensors_take_no_time(name):
    encodings = Encodings.of_cache(CalibrationCache({f"onnx::Conv_{number}": 0.5 + number for number in range(4409)}))
    start = time.perf_counter()
    written, _ = FORMATS[name].dump(encodings)
    assert recognised(written) == name
    assert load(written, name, source="large") == encodings
    assert time.perf_counter() - start < 5.0
