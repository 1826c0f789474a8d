"""AIMET's encodings that contradict themselves: refused, with the name of the entry."""

import json

import pytest

from calibrators.codecs.aimet import layouts as aimet
from calibrators.errors import CacheError
from tests.calibrators.codecs.aimet.test_layouts import channel, entry_1, entry_2, one


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (entry_1(scale=[0.0]), "0.0 is no scale"),
        (entry_1(scale=[-1.0]), "-1.0 is no scale"),
        (entry_1(scale=[True]), "True is no scale"),
        (entry_1(scale=["1"]), "'1' is no scale"),
        (entry_1(scale=0.5), "lists of the same length"),
        (entry_1(scale=[]), "lists of the same length"),
        (entry_1(scale=[0.5, 0.5]), "lists of the same length"),
        (entry_1(scale=[0.5, 0.5], offset=[-128, -128]), "has one scale, not 2"),
        (entry_1(offset=[-0.5]), "-0.5 is no whole number"),
        (entry_1(offset=[-256]), "zero points must lie within -128..127"),
        (entry_1(offset=[1]), "zero points must lie within"),
        (entry_1(offset=[-1e20]), "beyond every integer type"),
        (entry_1(bw=0), "0 is no width"),
        (entry_1(bw=True), "True is no whole number"),
        (entry_1(bw="8"), "'8' is no whole number"),
        (entry_1(bw=...), "it lacks bw"),
        (entry_1(bw="1\n6", dtype="FLOAT"), "is no whole number"),
        (entry_1(is_sym="True"), "is_sym is true or false"),
        (entry_1(enc_type="ODD"), "enc_type 'ODD' is none of AIMET's"),
        (entry_1(dtype="int"), "dtype 'int' is neither INT nor FLOAT"),
        (entry_1(offset=...), "it lacks offset"),
        (entry_1(scale=[1e-60]), "scales must be positive"),
    ],
)
def test_1_0_0(entry, what):
    refused(entry, "1.0.0", what)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (entry_2(bw=8), "bw belongs to AIMET's 1.0.0"),
        (entry_2(output_dtype=...), "it lacks output_dtype"),
        (entry_2(output_dtype="int"), "'int' is no type"),
        (entry_2(output_dtype=8), "8 is no type"),
        (entry_2(y_scale=...), "it lacks y_scale"),
        (entry_2(y_scale=[0.5, 0.5]), "does not go with axis None"),
        (entry_2(axis=0), "does not go with axis 0"),
        (entry_2(y_scale=[[0.5], [0.5, 0.5]], axis=0), "unequal lengths"),
        (entry_2(y_scale=[[]], axis=0), "not empty"),
        (entry_2(y_scale=[0.5, 0.5], y_zero_point=[0], axis=0), "y_zero_point is not of y_scale's shape"),
        (entry_2(y_zero_point=128), "zero points must lie within -128..127"),
        (entry_2(y_zero_point=0.5), "0.5 is no whole number"),
        (entry_2(y_scale=[0.5, 0.5], axis=True), "True is no whole number"),
        (entry_2(y_scale=[0.5], block_size=2), "blocks have an axis"),
        (entry_2(y_scale=[[0.5]], axis=1, block_size=0), "a block holds one value or more"),
        (entry_2(y_scale=None), "None is no scale"),
    ],
)
def test_2_0_0(entry, what):
    refused(entry, "2.0.0", what)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ([], "a list of an object for each channel"),
        ([1], "a list of an object for each channel"),
        ([channel(bitwidth=...)], "it lacks bitwidth"),
        ([channel(is_symmetric="yes")], "is_symmetric is 'True' or 'False'"),
        ([channel(), channel(bitwidth=4)], "channels are of different types"),
        ([channel(min=-1.0)], "min -1 is not offset -128 times scale 0.5"),
        ([channel(scale=0)], "0 is no scale"),
    ],
)
def test_0_6_1(entry, what):
    refused(entry, "0.6.1", what)


def refused(entry, version, what):
    with pytest.raises(CacheError) as failure:
        one(entry, version=version)
    assert "e.json, 'x'" in str(failure.value)
    assert what in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({}, "has neither activation_encodings and param_encodings nor encodings"),
        ({"activation_encodings": [], "param_encodings": {}}, "param_encodings is a list as the other section is"),
        ({"activation_encodings": {}, "param_encodings": []}, "param_encodings is an object as the other"),
        ({"version": "1.0.0", "encodings": []}, "its version is '1.0.0', and its layout that of 2.0.0"),
        ({"version": "2.0.0", "activation_encodings": []}, "its version is '2.0.0', and its layout that of 1.0.0"),
        ({"version": "3.0.0", "encodings": []}, "its version is '3.0.0'"),
        ({"version": 2, "encodings": []}, "its version is 2"),
        ({"encodings": []}, "has no encodings"),
        ({"activation_encodings": [], "param_encodings": []}, "has no encodings"),
        ({"encodings": [1]}, "is an object with a name, not a number"),
        ({"encodings": [{"output_dtype": "int8"}]}, "is an object with a name"),
        ({"encodings": [{"name": 1, **entry_2()}]}, "the name of an encoding is a text, not 1"),
        ({"encodings": [{"name": "x", **entry_2()}] * 2}, "'x' has more than one encoding"),
        ({"activation_encodings": [{"name": "x", **entry_1()}], "param_encodings": [{"name": "x", **entry_1()}]},
         "'x' has more than one encoding"),
        ({"activation_encodings": {"x": [channel()]}, "param_encodings": {"x": [channel()]}}, "more than one encoding"),
    ],
)  # fmt: skip
def test_files(values, what):
    with pytest.raises(CacheError) as failure:
        aimet.load(json.dumps(values).encode(), source="e.json")
    assert "e.json" in str(failure.value)
    assert what in str(failure.value)
