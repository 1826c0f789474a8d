"""ONNX Runtime's tables, against its own writers and readers."""

import json
import struct

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.CalTableFlatBuffers import TrtTable
from onnxruntime.quantization.quant_utils import write_calibration_table

from calibrators.cache.text import CalibrationCache
from calibrators.codecs import onnxruntime_flatbuffers, onnxruntime_json, onnxruntime_text
from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.codecs.formats import load, recognised
from calibrators.errors import CacheError

ENCODINGS = Encodings({"b:0": of_scale(0.5), "a b": of_scale(float(np.float32(0.1)))})
SYMMETRIC = {"image": 2.5, "b:0": 1e-3, "z z": 700.0}


def data_of(ends):
    return {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ends.items()
    }


@pytest.fixture
def theirs(tmp_path):
    """What ONNX Runtime's own writer writes."""
    write_calibration_table(data_of({name: (-amax, amax) for name, amax in SYMMETRIC.items()}), str(tmp_path))
    return {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("calibration.flatbuffers", "onnxruntime-flatbuffers"),
        ("calibration.json", "onnxruntime-json"),
        ("calibration.cache", "onnxruntime-text"),
    ],
)
def test_its_files_are_read(file, name, theirs):
    assert recognised(theirs[file]) == name
    found = load(theirs[file], name, source=file).activations
    scales = {tensor: np.float32(float(np.float32(amax)) / 127) for tensor, amax in SYMMETRIC.items()}
    assert {tensor: value.scale for tensor, value in found.items()} == scales


def test_its_reader_reads_our_flatbuffers():
    data, losses = onnxruntime_flatbuffers.dump(ENCODINGS)
    table = TrtTable.TrtTable.GetRootAs(data, 0)
    entries = [table.Dict(number) for number in range(table.DictLength())]
    assert [entry.Key() for entry in entries] == [b"b:0", b"a b"]
    assert [float(entry.Value()) for entry in entries] == [63.5, 127 * float(np.float32(0.1))]
    assert losses == ()


def test_its_reader_reads_our_json():
    data, losses = onnxruntime_json.dump(ENCODINGS)
    read = TensorsData.from_dict(json.loads(data))
    assert list(read.keys()) == ["b:0", "a b"]
    assert read["b:0"].range_value == (-63.5, 63.5)
    assert read.calibration_method is CalibrationMethod.MinMax
    assert losses == ()


def test_the_larger_magnitude_counts(tmp_path):
    """Its own tables have max(highest, lowest): 0.5 of [-6, 0.5]."""
    write_calibration_table(data_of({"a": (-6.0, 0.5)}), str(tmp_path))
    found = {}
    for path in tmp_path.iterdir():
        value = load(path.read_bytes(), recognised(path.read_bytes()), source=path.name)
        found[path.name] = float(value.activations["a"].scale) * 127
    assert found["calibration.json"] == pytest.approx(6.0)
    assert found["calibration.cache"] == found["calibration.flatbuffers"] == pytest.approx(0.5)


@pytest.mark.parametrize("file", ["calibration.cache", "calibration.flatbuffers"])
def test_a_tensor_that_is_negative_throughout(file, tmp_path):
    write_calibration_table(data_of({"a": (-6.0, -0.5)}), str(tmp_path))
    data = (tmp_path / file).read_bytes()
    with pytest.raises(CacheError, match=r"-0.5 of 'a' is negative; .* convert its calibration.json"):
        load(data, recognised(data), source=file)


def test_json_keeps_ends_and_histograms():
    tensor = {
        "lowest": {"data": [-6.0], "dtype": "float32", "CLS": "numpy.array"},
        "highest": 0.5,
        "hist": {"data": [1, 2], "dtype": "int64", "CLS": "numpy.array"},
        "CLS": "TensorData",
    }
    method = {"CLS": "CalibrationMethod", "value": "CalibrationMethod.Entropy"}
    values = {"CLS": "TensorsData", "data": {"a": tensor}, "calibration_method": method, "smooth_quant": True}
    found = onnxruntime_json.load(json.dumps(values).encode(), source="c.json")
    data, losses = onnxruntime_json.dump(found)
    assert (json.loads(data), losses) == (values, ())
    assert onnxruntime_text.dump(found)[1] == (
        "what ONNX Runtime (lowest, highest, histograms) kept besides the scales is left out of ONNX Runtime's "
        "text table",
    )


def test_a_changed_range_is_not_written_as_it_was_read():
    tensor = {"lowest": -6.0, "highest": 0.5, "CLS": "TensorData"}
    found = onnxruntime_json.load(json.dumps({"a": tensor}).encode(), source="c.json")
    changed = Encodings({"a": of_scale(1.0)}, extra=found.extra)
    written = json.loads(onnxruntime_json.dump(changed)[0])
    assert written["data"]["a"]["lowest"]["data"] == -127.0


def test_the_method_is_the_caches():
    cache = CalibrationCache({"a": 0.5})
    values = json.loads(onnxruntime_json.dump(Encodings.of_cache(cache))[0])
    assert values["calibration_method"]["value"] == "CalibrationMethod.Entropy"


@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (1, "a tensor's data is an object, not a number"),
        ({"avg": 0.0, "std": 1.0}, "it has no lowest and highest"),
        ({"lowest": 1.0, "highest": 0.5}, "the lowest value 1 is above the highest 0.5"),
        ({"lowest": float("nan"), "highest": 0.5}, "lowest: nan is no finite number"),
        ({"lowest": [0.0, 1.0], "highest": 0.5}, "2 values where a tensor has one"),
        ({"lowest": {"data": "x"}, "highest": 0.5}, "'x' is no finite number"),
        ({"lowest": -1e300, "highest": 0.5}, "no finite number"),
        ({"lowest": -1e200, "highest": 0.5}, "not a number that float32 holds"),
    ],
)
def test_a_tensor_without_a_range(tensor, what):
    values = {"CLS": "TensorsData", "data": {"some": tensor}}
    with pytest.raises(CacheError) as failure:
        onnxruntime_json.load(json.dumps(values).encode(), source="c.json")
    assert "c.json" in str(failure.value)
    assert "'some'" in str(failure.value)
    assert what in str(failure.value)


def test_zeros_are_of_no_use():
    found = onnxruntime_text.load(b"a 0\nb 1.5\n", source="c")
    assert (list(found.activations), found.unusable) == (["b"], {"a": 0.0})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"a 1.5\nb\n", "line 2: 'b' is not a name, ' ' and a range"),
        (b"a 1.5\na 2.5\n", "line 2: 'a' has a range already"),
        (b"a nan\n", "line 1: 'nan' is no range in decimal"),
        (b"a -1.5\n", "the range -1.5 of 'a' is negative"),
        (b"a 1e39\n", "float32"),
    ],
)
def test_lines(text, what):
    with pytest.raises(CacheError) as failure:
        onnxruntime_text.load(text, source="c")
    assert what in str(failure.value)


def test_names_that_other_readers_misread_are_named():
    assert onnxruntime_text.dump(ENCODINGS)[1] == (
        "a reader that splits a line at its first space misreads a b; trtcal does not",
    )


def test_names_that_make_it_another_format_are_refused():
    with pytest.raises(CacheError, match="such names make another format"):
        onnxruntime_text.dump(Encodings({"a:": of_scale(0.5)}))


class TestTables:
    @pytest.mark.parametrize("place", [0, 4, 8, 12, 20, 40])
    @pytest.mark.parametrize("offset", [0, 2**31, 2**32 - 1, 10**6])
    def test_offsets_that_lead_nowhere(self, place, offset):
        data = bytearray(onnxruntime_flatbuffers.dump(ENCODINGS)[0])
        struct.pack_into("<I", data, place, offset)
        try:
            found = load(bytes(data), "onnxruntime-flatbuffers", source="odd.file")
        except CacheError as error:
            assert "odd.file" in str(error)
        else:
            assert found == ENCODINGS

    def test_a_name_twice(self):
        data = onnxruntime_flatbuffers.dump(Encodings({"aa": of_scale(0.5), "bb": of_scale(0.5)}))[0]
        with pytest.raises(CacheError, match="'aa' occurs twice"):
            onnxruntime_flatbuffers.load(data.replace(b"bb", b"aa"), source="c")

    def test_a_range_that_is_no_number(self):
        data = onnxruntime_flatbuffers.dump(Encodings({"aa": of_scale(0.5)}))[0]
        with pytest.raises(CacheError, match="'nano' of 'aa' is no decimal number"):
            onnxruntime_flatbuffers.load(data.replace(b"63.5", b"nano"), source="c")
