"""Caches whose scales are powers of two."""

import math

from hypothesis import given
from hypothesis import strategies as st

from calibrators.cache.powers import with_powers_of_two
from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache


def test_each_scale_is_the_next_power_and_the_rest_stays() -> None:
    cache = CalibrationCache({"a": 0.3, "b": 0.25, "zero": 0.0, "c": 5.0}, algorithm="MinMaxCalibration", version=8601)
    raised = with_powers_of_two(cache)
    assert dict(raised) == {"a": 0.5, "b": 0.25, "zero": 0.0, "c": 8.0}
    assert (raised.header, raised.sidecar) == (cache.header, None)
    assert dict(cache)["c"] == 5.0


def test_what_is_no_scale_stays_byte_for_byte() -> None:
    text = b"TRT-8601-EntropyCalibration2\nnan: 7fc00001\na: 3e99999a\nminus: be99999a\n"
    assert with_powers_of_two(CalibrationCache.parse(text)).dumps() == text.replace(b"3e99999a", b"3f000000")


def test_scales_for_nodes_are_raised_too_and_left_out_where_they_are_the_caches() -> None:
    sidecar = Sidecar("", "minmax", "all", (), 1, explicit={"a": 0.26, "b": 0.1})
    raised = with_powers_of_two(CalibrationCache({"a": 0.3, "b": 0.3}, sidecar=sidecar))
    assert raised.sidecar is not None
    assert dict(raised.sidecar.explicit) == {"b": 0.125}
    assert raised.sidecar.method == "minmax"


@given(st.floats(2.0**-100, 2.0**100))
def test_no_range_is_cut_and_none_is_twice_as_wide(scale: float) -> None:
    before = CalibrationCache({"a": scale})
    after = with_powers_of_two(before)["a"]
    assert math.frexp(after)[0] == 0.5
    assert before["a"] <= after < 2 * before["a"]
