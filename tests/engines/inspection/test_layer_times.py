"""Measured layer times: both forms of file, TensorRT's names of fused layers, and what is said of the rest."""

import json

import pytest

from calibrators.errors import DataError
from engines.inspection.layer_times import layer_times, read_times
from engines.simulation.simulated_model import Layer


def layers(*names):
    return [Layer(name, "Conv", "x", "y", "w", (1, 1, 1, 1), 0) for name in names]


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "profile.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_what_trtexec_exports(written):
    path = written(
        [
            {"count": 200},
            {"name": "conv1 + relu1", "timeMs": 4.0, "averageMs": 0.02, "medianMs": 0.019, "percentage": 40.0},
            {"name": "conv1 + relu1", "timeMs": 2.0, "averageMs": 0.01},
            {"name": "conv2", "timeMs": 6.0},
            {"name": "conv3", "medianMs": 0.5},
        ]
    )
    expected = {"conv1 + relu1": 0.03, "conv2": 0.03, "conv3": 0.5}
    assert read_times(path) == {"int8": pytest.approx(expected)}
    assert read_times(path, "fp16") == {"fp16": pytest.approx(expected)}


def test_a_mapping_of_names(written):
    path = written({"conv1": {"int8": 1, "fp16": 2.5}, "conv2": {"fp16": 3}})
    assert read_times(path) == {"int8": {"conv1": 1.0}, "fp16": {"conv1": 2.5, "conv2": 3.0}}
    assert read_times(written({"conv1": 1.5}), "fp32") == {"fp32": {"conv1": 1.5}}


@pytest.mark.parametrize(
    "name, theirs",
    [
        ("/layer1/conv1/Conv", ["/layer1/conv1/Conv"]),
        ("/layer1/conv1/Conv + /layer1/relu/Relu", ["/layer1/conv1/Conv"]),
        ("PWN(/layer1/relu/Relu, /layer1/conv2/Conv)", ["/layer1/conv2/Conv"]),
        ("{ForeignNode[/layer1/conv1/Conv.../layer1/conv2/Conv]}", ["/layer1/conv1/Conv", "/layer1/conv2/Conv"]),
        ("/layer1/conv1/Conv || /layer1/conv2/Conv", ["/layer1/conv1/Conv", "/layer1/conv2/Conv"]),
        ("Reformatting CopyNode for Input Tensor 0 to /layer1/conv1/Conv", ["/layer1/conv1/Conv"]),
        ("Conv -> 12 + Relu -> 13", ["Conv -> 12"]),
    ],
)
def test_names_of_fused_layers(name, theirs):
    known = ["/layer1/conv1/Conv", "/layer1/conv2/Conv", "/layer1/conv1/Conv_1", "Conv -> 12", "Conv -> 1"]
    macs = dict.fromkeys(known, 100)
    found = layer_times({"int8": {name: 1.0, "/layer1/conv1/Conv_1": 50.0}}, layers(*known), macs)
    assert {each: found.times[each]["int8"] for each in theirs} == pytest.approx(dict.fromkeys(theirs, 1 / len(theirs)))
    assert found.times["/layer1/conv1/Conv_1"]["int8"] == 50


def test_a_fused_time_is_divided_by_work_and_a_missing_one_reckoned_by_it():
    known = layers("a", "b", "c", "skip")
    macs = {"a": 300, "b": 100, "c": 200, "skip": 0}
    found = layer_times({"int8": {"a + b": 4.0, "elsewhere": 6.0}}, known, macs)
    assert {name: times["int8"] for name, times in found.times.items()} == {"a": 3, "b": 1, "c": 2, "skip": 0}
    assert any("1 layer(s), such as c," in note for note in found.notes)
    assert any("such as elsewhere" in note and "6 ms of 10" in note for note in found.notes)


def test_precisions_that_were_not_measured_are_reckoned_from_the_nearest():
    found = layer_times({"int8": {"a": 1.0}, "fp16": {"a": 3.0}}, layers("a"), {"a": 10})
    assert found.times["a"] == {"int8": 1.0, "fp16": 3.0, "fp32": 6.0}
    assert found.notes == ("no times in fp32: taken for 2 times those in fp16",)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is no JSON"),
        ("3", "neither a list nor a mapping"),
        ([{"name": "a", "percentage": 3}], "a has none of averageMs, medianMs, timeMs"),
        ([{"name": "a", "averageMs": "fast"}], "the time of a must be a number from 0 to 1e+09, not 'fast'"),
        ([{"count": 0}, {"name": "a", "timeMs": 1.0}], "the count of runs must be a whole number, 1 or more, not 0"),
        ({"a": {"int4": 1}}, "a has a time in 'int4', which is none of int8, fp16 and fp32"),
        ({"a": -1}, "the time of a must be a number from 0 to 1e+09, not -1"),
        ({"a": 1e308}, "the time of a must be a number from 0 to 1e+09, not 1e+308"),
        ({"a": 10**400}, "the time of a must be a number from 0 to 1e+09, not 1000"),
        ({"a": 0}, "holds no time above 0"),
        ([], "holds no time above 0"),
    ],
)
def test_what_is_no_profile_is_refused(written, content, message):
    with pytest.raises(DataError) as error:
        read_times(written(content))
    assert message in str(error.value)


def test_more_refusals(written, tmp_path):
    with pytest.raises(DataError, match="there is no profile"):
        read_times(tmp_path / "absent.json")
    with pytest.raises(DataError, match="has times in int8: leave out fp16="):
        read_times(written({"a": {"int8": 1}}), "fp16")
    with pytest.raises(DataError, match="none of the profile's 1 entries in int8, such as 'other', names a layer"):
        layer_times({"int8": {"other": 1.0}}, layers("a"), {"a": 10})
