"""AIMET's encodings: every version read and written, and what AIMET itself makes of them."""

import json

import numpy as np
import pytest

from calibrators.cache.text import CalibrationCache
from calibrators.codecs.aimet import layouts as aimet
from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.encoding import Encoding
from calibrators.errors import CacheError
from calibrators.grid import TENSORRT_WEIGHTS, Grid

UINT8 = Grid(8, signed=False, symmetric=False)
INT8 = Grid(8)
DUMPS = {"0.6.1": aimet.dump_0_6_1, "1.0.0": aimet.dump_1_0_0, "2.0.0": aimet.dump_2_0_0}

ENCODINGS = Encodings(
    {"image": of_scale(0.5), "relu": Encoding(np.float32(0.25), np.int32(3), UINT8)},
    {"w": Encoding(np.float32([0.5, 0.125]), np.zeros(2, np.int32), INT8, 0)},
)


def read(values):
    return aimet.load(json.dumps(values).encode(), source="e.json")


def one(entry, *, weight=False, version="1.0.0"):
    """What is read of one entry."""
    if version == "2.0.0":
        values = {"version": version, "encodings": [{"name": "x", **entry}]}
    else:
        section = {"x": entry} if isinstance(entry, list) else [{"name": "x", **entry}]
        empty = type(section)()
        sections = (empty, section) if weight else (section, empty)
        values = {"version": version, **dict(zip(aimet.SECTIONS, sections, strict=True))}
    found = read(values)
    return (found.weights if weight else found.activations).get("x"), found


def entry_1(**changes):
    entry = {"dtype": "INT", "bw": 8, "is_sym": True, "scale": [0.5], "offset": [-128], "enc_type": "PER_TENSOR"}
    return {key: value for key, value in {**entry, **changes}.items() if value is not ...}


def entry_2(**changes):
    return {
        key: value for key, value in {"output_dtype": "int8", "y_scale": 0.5, **changes}.items() if value is not ...
    }


def channel(**changes):
    channel = {
        "bitwidth": 8,
        "dtype": "int",
        "is_symmetric": "True",
        "max": 63.5,
        "min": -64.0,
        "offset": -128,
        "scale": 0.5,
    }
    return {key: value for key, value in {**channel, **changes}.items() if value is not ...}


class TestWritten:
    """As AIMET's own writers have it: aimet-onnx 2.42, `AffineEncoding._to_0_6_1` and its siblings."""

    def test_0_6_1(self):
        values = json.loads(aimet.dump_0_6_1(ENCODINGS)[0])
        assert values["version"] == "0.6.1"
        assert values["activation_encodings"]["image"] == [channel()]
        low, high = -0.75, 63.0
        assert values["activation_encodings"]["relu"] == [
            channel(is_symmetric="False", min=low, max=high, offset=-3, scale=0.25)
        ]
        assert [item["scale"] for item in values["param_encodings"]["w"]] == [0.5, 0.125]
        assert {item["offset"] for item in values["param_encodings"]["w"]} == {-128}

    def test_1_0_0(self):
        values = json.loads(aimet.dump_1_0_0(ENCODINGS)[0])
        assert values["version"] == "1.0.0"
        assert values["producer"]["package"] == "trtcal"
        assert values["activation_encodings"] == [
            {"name": "image", **entry_1()},
            {"name": "relu", **entry_1(is_sym=False, scale=[0.25], offset=[-3])},
        ]
        assert values["param_encodings"] == [
            {"name": "w", **entry_1(scale=[0.5, 0.125], offset=[-128, -128], enc_type="PER_CHANNEL")}
        ]

    def test_2_0_0(self):
        values = json.loads(aimet.dump_2_0_0(ENCODINGS)[0])
        assert values["version"] == "2.0.0"
        assert values["encodings"] == [
            {"name": "image", "output_dtype": "int8", "y_scale": 0.5},
            {"name": "relu", "output_dtype": "uint8", "y_scale": 0.25, "y_zero_point": 3},
            {"name": "w", "output_dtype": "int8", "y_scale": [0.5, 0.125], "axis": 0},
        ]

    def test_losses_name_the_tensors(self):
        narrow = Encodings({}, {"w": Encoding(np.float32([1, 2]), np.zeros(2, np.int32), TENSORRT_WEIGHTS, 1)})
        for version, lost in (("0.6.1", True), ("1.0.0", True), ("2.0.0", False)):
            losses = DUMPS[version](narrow)[1]
            assert losses[0] == "1 narrow grid becomes one with its lowest level, which no scale needs: w"
            assert ("1 encoding loses its axis, which a reader takes from the operator: w" in losses) is lost
        assert "1 encoding gets axis 0" in aimet.dump_2_0_0(Encodings({}, narrow.weights, {}, frozenset("w")))[1][1]

    def test_a_cache_says_what_it_leaves(self):
        cache = Encodings.of_cache(CalibrationCache({"a": 0.5, "zero": 0.0}, version=8601))
        assert aimet.dump_1_0_0(cache)[1] == (
            "1 scale left out of AIMET's 1.0.0, for being 0, subnormal, negative or not finite: zero",
            "the cache's header TRT-8601-EntropyCalibration2 left out of AIMET's 1.0.0",
        )

    def test_nothing(self):
        for dump in DUMPS.values():
            with pytest.raises(CacheError, match="there is no encoding to write"):
                dump(Encodings(unusable={"a": 0.0}))

    def test_our_own_name_is_nothing_to_lose(self):
        assert read(json.loads(aimet.dump_1_0_0(ENCODINGS)[0])).extra == {}
        theirs = {"producer": {"package": "aimet-onnx", "version": "2.42.0"}, "encodings": [{"name": "x", **entry_2()}]}
        assert read(theirs).extra == {"aimet": {"producer": theirs["producer"]}}

    def test_quantizer_args_stay(self):
        values = json.loads(aimet.dump_1_0_0(ENCODINGS)[0])
        again = read({**values, "quantizer_args": {"quant_scheme": "min_max"}})
        assert json.loads(aimet.dump_0_6_1(again)[0])["quantizer_args"] == {"quant_scheme": "min_max"}


class TestOffsets:
    """Of the unsigned type up to 1.0.0, of the type itself in 2.0.0."""

    @pytest.mark.parametrize(
        ("signed", "offset", "grid", "zero_point"),
        [(True, -128, INT8, 0), (False, -128, Grid(8, signed=False), 128), (False, -3, UINT8, 3), (False, 0, UINT8, 0),
         (True, -120, Grid(8, symmetric=False), -8), (False, -128.0, Grid(8, signed=False), 128)],
    )  # fmt: skip
    def test_up_to_1_0_0(self, signed, offset, grid, zero_point):
        wanted = Encoding(np.float32(0.5), np.int32(zero_point), grid)
        assert one(entry_1(is_sym=signed, offset=[offset]))[0] == wanted
        assert one([channel(is_symmetric=str(signed), offset=offset, min=..., max=...)], version="0.6.1")[0] == wanted

    def test_2_0_0(self):
        assert one(entry_2(), version="2.0.0")[0] == of_scale(0.5)
        value = one(entry_2(output_dtype="uint8", y_zero_point=128), version="2.0.0")[0]
        assert value == Encoding(np.float32(0.5), np.int32(128), Grid(8, signed=False))
        assert one(entry_2(y_scale=[0.5], y_zero_point=[0]), version="2.0.0")[0] == of_scale(0.5)

    def test_positive_ones_of_old_files(self):
        value, _ = one([channel(is_symmetric="False", offset=3, min=-1.5, max=126.0)], version="0.4.0")
        assert value == Encoding(np.float32(0.5), np.int32(3), UINT8)

    def test_strict_symmetry_of_old_files(self):
        value, _ = one([channel(offset=-127, min=-63.5, max=63.5, is_symmetric="False")], version="0.5.0")
        assert value == Encoding(np.float32(0.5), np.int32(0), Grid(8, narrow=True))

    def test_other_widths(self):
        assert one(entry_1(bw=4, offset=[-8]), weight=True)[0].grid == Grid(4)
        assert one(entry_1(bw=16, is_sym=False, offset=[-7]))[0].grid == Grid(16, signed=False, symmetric=False)


class TestAxes:
    def test_not_told_before_2_0_0(self):
        entry = entry_1(scale=[0.5, 0.25], offset=[-128, -128], enc_type="PER_CHANNEL")
        value, found = one(entry, weight=True)
        assert (value.axis, found.axis_unknown) == (0, {"x"})
        value, found = one([channel(), channel()], weight=True, version="0.6.1")
        assert (value.axis, found.axis_unknown) == (0, {"x"})

    def test_told_in_2_0_0(self):
        found = one(entry_2(y_scale=[0.5, 0.25], axis=1), version="2.0.0")[1]
        assert (found.weights["x"].axis, found.axis_unknown) == (1, frozenset())

    def test_blocks(self):
        found = one(entry_2(output_dtype="int4", y_scale=[[0.5, 0.25]], axis=1, block_size=32), version="2.0.0")[1]
        assert (found.weights["x"].block_size, found.weights["x"].scale.shape) == (32, (1, 2))
        values = json.loads(aimet.dump_1_0_0(found)[0])
        assert values["param_encodings"][0]["scale"] == [0.5, 0.25]


class TestLeftOut:
    @pytest.mark.parametrize(
        ("entry", "why"),
        [
            (entry_1(enc_type="LPBQ"), "LPBQ"),
            (entry_1(enc_type="VECTOR"), "VECTOR"),
            (entry_1(enc_type="PER_BLOCK"), "blocks, whose shape the file does not tell"),
            (entry_1(dtype="FLOAT", bw=16, scale=..., offset=..., is_sym=...), "float16"),
            (entry_1(bw=32, offset=[-(2**31)]), "32-bit integers"),
            (entry_1(zero_point_shift=[0.5]), "zero points between levels"),
            ([{"bitwidth": 16, "dtype": "float"}], "float16"),
        ],
    )
    def test_up_to_1_0_0(self, entry, why):
        version = "0.6.1" if isinstance(entry, list) else "1.0.0"
        value, found = one(entry, weight=True, version=version)
        assert value is None
        assert found.notes == (f"left out: x ({why})",)

    @pytest.mark.parametrize(
        ("entry", "why"),
        [
            (entry_2(output_dtype="float16", y_scale=...), "float16"),
            (entry_2(output_dtype="float8e4m3fn"), "float8e4m3fn"),
            (entry_2(output_dtype="int32"), "32-bit integers"),
            (entry_2(y_scale=..., per_block_int_scale=[1], per_channel_float_scale=[0.5]), "LPBQ"),
            (entry_2(y_scale={"x": [1], "x_scale": [0.5], "axis": 0}), "LPBQ"),
        ],
    )
    def test_2_x(self, entry, why):
        assert one(entry, version="2.0.0")[1].notes == (f"left out: x ({why})",)
