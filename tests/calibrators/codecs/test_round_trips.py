"""Every format: written, read back, and written again; recognised as itself and as no other."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrators.cache.text import CalibrationCache
from calibrators.codecs.encodings import Encodings, dynamic_ranges, to_cache
from calibrators.codecs.formats import FORMATS, load, recognised
from calibrators.codecs.losses import Losses
from calibrators.errors import CacheError
from tests.calibrators.codecs.samples import everything, int8, per_tensor

FEW = settings(max_examples=40)

each = pytest.mark.parametrize("name", FORMATS)


def back(name, data):
    return load(data, name, source="there")


@each
@FEW
@given(encodings=int8)
def test_what_tensorrt_needs_goes_through_every_format(name, encodings):
    data, _ = FORMATS[name].dump(encodings)
    again = back(name, data)
    assert again == encodings
    assert list(again.activations) == list(encodings.activations)
    assert FORMATS[name].dump(again)[0] == data


@each
@FEW
@given(encodings=everything())
def test_what_is_not_said_to_be_lost_comes_back(name, encodings):
    try:
        data, losses = FORMATS[name].dump(encodings)
    except CacheError as error:
        assert "\n" not in str(error)
        return
    again = back(name, data)
    assert losses or again == encodings
    assert all("\n" not in loss for loss in losses)
    if again == encodings:
        assert FORMATS[name].dump(again)[0] == data


@each
@FEW
@given(encodings=st.one_of(int8, everything()))
def test_every_file_is_recognised_as_what_it_is(name, encodings):
    try:
        data, _ = FORMATS[name].dump(encodings)
    except CacheError:
        return
    assert recognised(data) == name


@FEW
@given(encodings=everything())
def test_our_own_format_loses_nothing(encodings):
    data, losses = FORMATS["trtcal"].dump(encodings)
    assert (back("trtcal", data), losses) == (encodings, ())


@pytest.mark.parametrize(
    "name", ["tensorrt", "onnxruntime-flatbuffers", "onnxruntime-json", "onnxruntime-text", "ppq", "ranges"]
)
@FEW
@given(encodings=per_tensor)
def test_formats_of_ranges_keep_the_larger_end(name, encodings):
    ranges = dynamic_ranges(encodings, Losses("it"))
    try:
        data, losses = FORMATS[name].dump(encodings)
    except CacheError:
        return
    again = back(name, data)
    assert FORMATS[name].dump(again)[0] == data
    for tensor, value in again.activations.items():
        assert float(value.scale) * 127 == ranges[tensor] == pytest.approx(_amax(encodings, tensor), rel=2**-23)
    for tensor, value in encodings.activations.items():
        if tensor not in again.activations or value != again.activations[tensor]:
            assert losses


@given(int8, st.lists(st.sampled_from(sorted(FORMATS)), min_size=1, max_size=4))
def test_any_way_through_the_formats_ends_where_it_began(encodings, way):
    here = encodings
    for name in way:
        try:
            data, _ = FORMATS[name].dump(replace(here, extra={}))
        except CacheError:  # names that it cannot hold, such as "0:" alone in ONNX Runtime's text
            return
        here = back(name, data)
    assert here == encodings


def test_equal_is_what_quantizes_alike():
    cache = CalibrationCache({"a": 0.5})
    one = Encodings.of_cache(cache)
    assert one == replace(one, cache=None, extra={"x": 1}, notes=("n",))
    assert one != Encodings.of_cache(CalibrationCache({"a": 0.25}))
    assert len(one) == 1


def _amax(encodings, name):
    """The larger end of a range, from its definition: the extreme levels, dequantized."""
    value = encodings.activations[name]
    grid, zero_point = value.grid, int(value.zero_point)
    middle = 0 if grid.signed else 2 ** (grid.bits - 1)
    ends = [grid.maximum - zero_point, *([zero_point - grid.minimum] if zero_point != middle else [])]
    return max(ends) * float(value.scale)


def test_minus_zero_does_not_become_zero_in_silence():
    cache, losses = to_cache(Encodings(unusable={"minus": -0.0, "zero": 0.0}))
    assert dict(cache) == {"zero": 0.0}
    assert len(losses) == 1
    assert losses[0].endswith(": minus")
