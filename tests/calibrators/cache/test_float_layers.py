"""Layers to leave in float: what a budget has room for, and a side-car that keeps them."""

import json
from dataclasses import replace

import pytest

from calibrators.cache.float_layers import FloatLayer, within
from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.errors import CacheError

LAYERS = {"first": FloatLayer(3.0, "one"), "head": FloatLayer(1.5, "two"), "skip": FloatLayer(0.0, "three", "first")}

SIDECAR = Sidecar("0" * 64, "mse", "all", ("1" * 64,), 8, float_layers=LAYERS, judged={"mse": 30.5, "mean": 28.0})


@pytest.mark.parametrize(
    "budget, names",
    [(5, ["first", "head", "skip"]), (4, ["first", "skip"]), (2, ["head"]), (0, [])],
)
def test_what_brings_most_comes_first_as_long_as_there_is_room(budget, names):
    found = within(LAYERS, budget)
    assert list(found) == names
    assert all(found[name] == LAYERS[name].reason for name in names)


def test_the_first_convolution_alone_may_have_more():
    large = {"first": FloatLayer(12.0, "one"), "skip": FloatLayer(0.0, "two", "first")}
    assert list(within(large, 5)) == ["first", "skip"]
    assert within(large, 2) == {}
    assert within(large, 0) == {}


def test_a_side_car_keeps_them(tmp_path):
    CalibrationCache({"x": 0.5}, sidecar=SIDECAR).save(tmp_path / "m.cache")
    read = CalibrationCache.load(tmp_path / "m.cache").sidecar
    assert read.float_layers == LAYERS
    assert list(read.float_layers) == list(LAYERS)
    assert read.judged == SIDECAR.judged


def test_a_side_car_of_an_earlier_trtcal_has_none():
    values = SIDECAR.to_dict()
    del values["float_layers"], values["judged"]
    read = Sidecar.parse(json.dumps(values))
    assert (read.float_layers, read.judged) == ({}, {})


@pytest.mark.parametrize(
    "layers",
    [
        [],
        {"a": 1},
        {"a": {"share": 1}},
        {"a": {"share": -1, "reason": ""}},
        {"a": {"share": True, "reason": ""}},
        {"a": {"share": 1, "reason": "", "partner": 2}},
    ],
)
def test_other_values_are_refused(layers):
    values = {**SIDECAR.to_dict(), "float_layers": layers}
    with pytest.raises(CacheError, match="float_layers of a side-car is an object of layers"):
        Sidecar.parse(json.dumps(values))


def test_other_numbers_are_refused():
    with pytest.raises(CacheError, match="judged of a side-car is an object of numbers"):
        replace(SIDECAR, judged={"mse": "good"})
