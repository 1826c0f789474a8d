"""PPQ's JSON and lines of `name: range`: what they look like, and what they say of the rest."""

import json

import numpy as np
import pytest

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.codecs import ppq, text_ranges
from calibrators.codecs.encodings import Encodings, of_scale, to_cache
from calibrators.codecs.formats import recognised
from calibrators.encoding import Encoding
from calibrators.errors import CacheError
from calibrators.grid import TENSORRT_INT8, TENSORRT_WEIGHTS, Grid

ENCODINGS = Encodings({"image": of_scale(0.5), "a: b": of_scale(0.25)})
UINT8 = Grid(8, signed=False, symmetric=False)


def test_ppq():
    assert json.loads(ppq.dump(ENCODINGS)[0]) == {"act_quant_info": {"image": 63.5, "a: b": 31.75}}
    assert ppq.load(b'{"act_quant_info": {"image": 63.5, "a: b": 31.75}}', source="p") == ENCODINGS
    assert ppq.load(b'{"act_quant_info": {"a": 1}, "more": 1}', source="p").notes == ("more in PPQ's JSON left out",)
    with pytest.raises(CacheError, match="p: act_quant_info of PPQ's JSON is an object of ranges, not a list"):
        ppq.load(b'{"act_quant_info": []}', source="p")


def test_lines():
    data, losses = text_ranges.dump(ENCODINGS)
    assert data == b"image: 63.5\na: b: 31.75\n"
    assert losses == ("sampleINT8API splits a line at its first colon, and misreads a: b; trtcal does not",)
    assert text_ranges.load(b"\xef\xbb\xbfimage: 63.5\r\n\r\na: b: +3.175e1 \r\n", source="r") == ENCODINGS


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"image 63.5\n", "r, line 1: 'image 63.5' is not a name, ': ' and a range"),
        (b": 63.5\n", "line 1"),
        (b"image: 1.0\nimage: 1.0\n", "line 2: 'image' has a range already"),
        (b"image: 1,5\n", "'1,5' is no range in decimal"),
        (b"image: 1_0\n", "'1_0' is no range in decimal"),
        (b"image: inf\n", "'inf' is no range in decimal"),
        (b"image: -2\n", "the range -2.0 of 'image' is negative"),
        (b"image: 4e38\n", "float32"),
        (b"image: 1\n\xff: 2\n", "r, line 2: not UTF-8"),
    ],
)
def test_lines_that_are_none(text, what):
    with pytest.raises(CacheError) as failure:
        text_ranges.load(text, source="r")
    assert what in str(failure.value)


def test_a_name_with_a_line_break():
    with pytest.raises(CacheError, match="it holds a line break"):
        text_ranges.dump(Encodings({"a\nb": of_scale(0.5)}))


class TestRangesOfOtherGrids:
    """TensorRT has a range, symmetric, of INT8."""

    @pytest.mark.parametrize(
        ("value", "amax", "what"),
        [
            (Encoding(np.float32(0.5), np.int32(0), UINT8), 127.5, "asymmetric encoding becomes the symmetric range"),
            (Encoding(np.float32(0.5), np.int32(200), UINT8), 100.0, "asymmetric encoding"),
            (Encoding(np.float32(0.5), np.int32(0), Grid(4)), 3.5, "encoding of other than 8 bits becomes INT8"),
            (Encoding(np.float32(0.5), np.int32(128), Grid(8, signed=False)), 63.5, "symmetric encoding becomes INT8"),
            (Encoding(np.float32(0.5), np.int32(0), TENSORRT_WEIGHTS), 63.5, "symmetric encoding becomes INT8"),
            (Encoding(np.float32(0.5), np.int32(0), TENSORRT_INT8), 63.5, ""),
        ],
    )
    def test_one(self, value, amax, what):
        data, losses = ppq.dump(Encodings({"a": value}))
        assert json.loads(data)["act_quant_info"]["a"] == pytest.approx(amax, rel=2**-23)
        assert len(losses) == bool(what)
        assert not what or what in losses[0]

    def test_several_scales(self):
        several = Encodings({"a": Encoding(np.float32([1, 2]), np.zeros(2, np.int32), axis=1)})
        for dump in (ppq.dump, to_cache):
            with pytest.raises(CacheError, match=r"a has several scales, .* holds one per tensor"):
                dump(several)

    def test_weights_alone(self):
        alone = Encodings({}, {"w": of_scale(0.5)})
        for dump in (ppq.dump, to_cache):
            with pytest.raises(CacheError, match="there is no activation's "):
                dump(alone)

    def test_weights_are_named(self):
        losses = ppq.dump(Encodings({"a": of_scale(0.5)}, {"w": of_scale(0.5), "v": of_scale(0.5)}))[1]
        assert losses == ("2 weights left out of PPQ's JSON, which lists activations only: w, v",)

    def test_a_range_beyond_float32(self):
        wide = Encodings({"a": of_scale(1.0), "b": of_scale(3e38)})
        data, losses = ppq.dump(wide)
        assert list(json.loads(data)["act_quant_info"]) == ["a"]
        assert losses == ("1 range left out of PPQ's JSON, for being beyond float32: b",)
        assert to_cache(wide)[0]["b"] == float(np.float32(3e38))


class TestCaches:
    def test_a_cache_with_its_side_car(self):
        sidecar = Sidecar("", "entropy", "all", (), 5, explicit={"pool": 0.25})
        cache = CalibrationCache({"a": 0.5}, version=8601, sidecar=sidecar)
        assert to_cache(Encodings.of_cache(cache)) == (cache, ())
        assert ppq.dump(Encodings.of_cache(cache))[1] == (
            "the cache's header TRT-8601-EntropyCalibration2 and its side-car (the Q/DQ nodes' own scales: pool) left "
            "out of PPQ's JSON",
        )

    def test_changed_scales_get_the_same_header(self):
        cache = CalibrationCache({"a": 0.5}, version=8601, algorithm="MinMaxCalibration")
        changed, losses = to_cache(Encodings({"a": of_scale(1.0)}, cache=cache))
        assert (changed.header, changed["a"], losses) == (cache.header, 1.0, ())

    def test_scales_of_no_use(self):
        cache, losses = to_cache(Encodings({"a": of_scale(1.0)}, {}, {"zero": 0.0, "inf": float("inf")}))
        assert dict(cache) == {"a": 1.0, "zero": 0.0}
        assert "1 scale left out of a TensorRT calibration cache" in losses[0]


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_what_cannot_name_a_tensor(name):
    with pytest.raises(CacheError, match="cannot name a tensor"):
        Encodings({name: of_scale(0.5)})


def test_a_name_in_two_places():
    with pytest.raises(CacheError, match="'a' has an encoding as an activation and as a weight"):
        Encodings({"a": of_scale(0.5)}, {"a": of_scale(0.5)})


def test_a_loss_is_one_line_whatever_the_names():
    losses = ppq.dump(Encodings({"a": of_scale(0.5)}, {"b\nc": of_scale(0.5)}))[1]
    assert losses == ("1 weight left out of PPQ's JSON, which lists activations only: 'b\\nc'",)


def test_a_name_that_begins_with_a_brace_makes_no_json_of_a_text():
    assert recognised(b"{: 127.0\n") == "ranges"
    assert recognised(b'{"version": "2.0.0", "encodings": []}') == "aimet-2.0.0"
