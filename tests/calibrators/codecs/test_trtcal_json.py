"""trtcal's own format: readable, and whole."""

import json

import numpy as np
import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.codecs import trtcal_json
from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.encoding import Encoding
from calibrators.errors import CacheError
from calibrators.grid import Grid

PLAIN = {"format": "trtcal-encodings", "format_version": 1}


def read(values):
    return trtcal_json.load(json.dumps(values).encode(), source="own.json")


def back(encodings):
    return trtcal_json.load(trtcal_json.dump(encodings)[0], source="own.json")


def test_the_layout():
    weight = Encoding(np.float32([[0.5], [0.25]]), np.int32([[1], [2]]), Grid(4, signed=False, symmetric=False), 1, 32)
    encodings = Encodings({"image": of_scale(0.1)}, {"w": weight}, {"zero": 0.0}, extra={"aimet": {"é": 1}})
    assert trtcal_json.dump(encodings)[0].decode() == (
        "{\n"
        '  "format": "trtcal-encodings",\n'
        '  "format_version": 1,\n'
        '  "activations": {\n'
        '    "image": {"scale": 0.10000000149011612, "grid": "int8 symmetric"},\n'
        '    "zero": {"unusable": "0", "bits": "00000000"}\n'
        "  },\n"
        '  "weights": {\n'
        '    "w": {"scale": [[0.5], [0.25]], "zero_point": [[1], [2]], "grid": "uint4", "axis": 1, "block_size": 32}\n'
        "  },\n"
        '  "extra": {"aimet": {"é": 1}}\n'
        "}\n"
    )
    assert back(encodings) == encodings
    assert back(encodings).extra == encodings.extra


@pytest.mark.parametrize(
    "text",
    [
        b"TRT-8601-EntropyCalibration2\na: 3f800000\nzero: 0\nb: 3c010a14\n",
        b"TRT-8601-EntropyCalibration2 \r\na: 3f800000\r\ninf: 7f800000\r\n\r\nnan: 7fc00001\r\nb: 0000000F",
        b"0 3ff0000000000000 3fefffeb074a771d\na: 3f800000\n",
        b"\xef\xbb\xbf1\na: b: 3F800000\n",
    ],
)
def test_a_cache_comes_back_byte_for_byte(text):
    cache = CalibrationCache.parse(text)
    assert back(Encodings.of_cache(cache)).cache.dumps() == text


def test_a_side_car_comes_back():
    sidecar = Sidecar(
        "", "entropy", "all", ("0" * 64,), 5, 1, {"size": [2, 2]}, {"pool": 0.25}, {"trtcal": "1"}, "1" * 64
    )
    cache = CalibrationCache({"a": 0.5}, sidecar=sidecar)
    assert back(Encodings.of_cache(cache)).cache.sidecar.to_dict() == sidecar.to_dict()


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({}, "format is 'trtcal-encodings' in trtcal's encodings, not None"),
        ({"format": "trtcal-encodings"}, "format_version is None, this trtcal reads 1"),
        ({**PLAIN, "format_version": 2}, "format_version is 2, this trtcal reads 1: update trtcal"),
        ({**PLAIN, "more": 1}, "'more' is no key"),
        ({**PLAIN, "weights": []}, "weights is an object, not a list"),
        ({**PLAIN, "sidecar": {}}, "there is a sidecar and no cache"),
        ({**PLAIN, "cache": {}}, "cache: it has a header"),
        ({**PLAIN, "cache": {"header": "odd"}, "activations": {"a": {"scale": 1.0, "grid": "int8 symmetric"}}}, "odd"),
        ({**PLAIN, "cache": {"header": "TRT-8601-EntropyCalibration2", "text": "\ud800"}}, "not UTF-8"),
    ],
)
def test_a_file_that_is_none(values, what):
    refused(values, what)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (1, "an encoding is an object, not a number"),
        ({}, "grid: None is none, such as 'int8 symmetric'"),
        ({"scale": 1.0, "grid": "int8 symetric"}, "grid: 'int8 symetric' is none"),
        ({"scale": 1.0, "grid": "int1"}, "grid: a grid has from 2 to 16 bits"),
        ({"scale": 1.0, "grid": "uint8 narrow", "zero_point": 0}, "only a signed grid can be narrow"),
        ({"scale": 1.0, "grid": "int8"}, "an asymmetric grid has a zero_point"),
        ({"scale": 1.0, "grid": "int8 symmetric", "zero_point": 1}, "a symmetric grid has zero point 0"),
        ({"scale": 0, "grid": "int8 symmetric"}, "scale: 0 is no scale"),
        ({"scale": 1e-60, "grid": "int8 symmetric"}, "scales must be positive"),
        ({"scale": [], "grid": "int8 symmetric", "axis": 0}, "scale: an empty list"),
        ({"scale": [[1.0], 1.0], "grid": "int8 symmetric", "axis": 0}, "unequal lengths"),
        ({"scale": [1.0, 1.0], "grid": "int8 symmetric"}, "does not go with axis None"),
        ({"scale": 1.0, "grid": "int8", "zero_point": 0.5}, "0.5 is no whole number"),
        ({"scale": 1.0, "grid": "int8", "zero_point": 1000}, "zero points must lie within"),
        ({"scale": 1.0, "grid": "int8 symmetric", "axes": 0}, "'axes' is no key"),
        ({"scale": 1.0, "grid": "int8 symmetric", "axis_known": 3}, "axis_known: it is true or false"),
        ({"bits": "3f800000"}, "the scale 1 is usable"),
        ({"bits": "0"}, "'0' is not a float32's bits in 8"),
        ({"bits": "00000000", "scale": 0}, "'scale' is no key"),
    ],
)
def test_an_entry_that_is_none(entry, what):
    refused({**PLAIN, "activations": {"some": entry}}, what)


def refused(values, what):
    with pytest.raises(CacheError) as failure:
        read(values)
    assert "own.json" in str(failure.value)
    assert what in str(failure.value)
    assert "\n" not in str(failure.value)
