import json
import math
import random
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import (
    ENTROPY,
    MINMAX,
    NEWEST_VERSION,
    CalibrationCache,
    header_text,
    usable,
    version_number,
    version_text,
)
from calibrators.errors import CacheError, OutputError

CACHES = Path(__file__).resolve().parents[4] / "shared" / "data" / "caches"
FILES = sorted(CACHES.iterdir()) if CACHES.is_dir() else []

HEADERS = (
    "TRT-8601-EntropyCalibration2",
    "TRT-101401-MinMaxCalibration",
    "TRT-8XXX-EntropyCalibration2 ",
    "1",
    "0 3ff0000000000000 3fefffeb074a771d",
    "\ufeffTRT-8601-EntropyCalibration2",
)
PIECES = ("a", "conv", "onnx::Conv_3", ": ", ":", " ", "(Unnamed Layer* 4) [Shuffle]_output", "/", "#", "0", "é")

names = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), min_size=1, max_size=40),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join),
)
float32_bits = st.one_of(
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from(
        [0, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0xFF800000, 0x80000000]
    ),
)
spellings = st.sampled_from(["{:x}", "{:X}", "{:08x}", "{:08X}"])
entries = st.lists(st.tuples(names, float32_bits, spellings), min_size=1, max_size=8, unique_by=lambda item: item[0])


def entry(name: str, bits: int, spelling: str) -> str:
    return f"{name}: {spelling.format(bits)}"


def float32(bits: int) -> float:
    return float(np.array([bits], np.uint32).view(np.float32)[0])


# Real caches


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_caches_from_the_wild_come_back_byte_for_byte(path: Path, tmp_path: Path) -> None:
    cache = CalibrationCache.load(path)
    cache.save(tmp_path / "again.cache")
    assert (tmp_path / "again.cache").read_bytes() == path.read_bytes()
    again = cache.with_scales({name: scale for name, scale in cache.items() if math.isfinite(scale)})
    assert again == cache


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_scales_of_real_caches_are_float32_amax_over_127(path: Path) -> None:
    cache = CalibrationCache.load(path)
    for name, scale in cache.items():
        assert f"{struct.unpack('!I', struct.pack('!f', scale))[0]:x}" == cache.bits(name)
        assert cache.amax(name) == scale * 127


def test_a_real_cache_reads_as_tensorrt_wrote_it(shared_data: Path) -> None:
    cache = CalibrationCache.load(shared_data / "models" / "lenet_mnist.tensorrt7.cache")
    assert (cache.version, cache.algorithm, cache.header) == (
        7202,
        "EntropyCalibration2",
        "TRT-7202-EntropyCalibration2",
    )
    assert list(cache)[:3] == ["data", "conv1", "pool1"]
    assert cache["conv1"] == cache["pool1"]
    assert cache.amax("data") == pytest.approx(2040.5 / 2048 * 1.0, rel=1e-4)
    assert header_text(cache) == "TensorRT 7.2.2, EntropyCalibration2"


def test_names_with_the_separator_and_crlf_are_kept(shared_data: Path) -> None:
    usam = CalibrationCache.load(shared_data / "caches" / "jedld__usam-net-inference__int8_calib.cache")
    assert any(": " in name for name in usam)
    windows = CalibrationCache.load(
        shared_data / "caches" / "mlperf_v1.0__closed_Inspur_resnet50_tensorrt_calibrator.cache"
    )
    assert windows.line_end == "\r\n"
    assert not any("\r" in name for name in windows)
    assert windows.with_scales({"new": 1.0}).dumps().endswith(b"\r\nnew: 3f800000\r\n")


# Any text


@given(st.sampled_from(HEADERS), entries, st.sampled_from(["\n", "\r\n"]))
def test_what_was_parsed_is_written_back(header: str, items: list[tuple[str, int, str]], line_end: str) -> None:
    text = "".join(line + line_end for line in [header, *(entry(*item) for item in items)])
    cache = CalibrationCache.parse(text)
    assert cache.dumps() == text.encode()
    assert CalibrationCache.parse(cache.dumps()) == cache
    assert cache.header == header
    assert list(cache) == [name for name, _, _ in items]
    assert cache.line_end == line_end
    for name, bits, _ in items:
        assert cache[name] == float32(bits) or math.isnan(cache[name]) == math.isnan(float32(bits)) is True


@given(entries, st.lists(st.sampled_from(["", " ", "\r", "\n", "\n\n", "\r\n \n", "\t"]), min_size=9, max_size=9))
def test_any_white_space_after_a_scale_is_kept(items: list[tuple[str, int, str]], gaps: list[str]) -> None:
    items = [(name.lstrip() or "x", bits, spelling) for name, bits, spelling in items]
    items = list({name: (name, bits, spelling) for name, bits, spelling in items}.values())
    lines = ["TRT-8601-EntropyCalibration2", *(entry(*item) for item in items)]
    text = "".join(f"{line}{gap}\n" for line, gap in zip(lines, gaps, strict=False))
    assert CalibrationCache.parse(text).dumps() == text.encode()


@settings(max_examples=500)
@given(
    st.dictionaries(names, st.floats(0, float32(0x7F7FFFFF), width=32), min_size=1, max_size=8),
    st.sampled_from([ENTROPY, MINMAX]),
)
@example({"zero": 0.0, "minus zero": -0.0, "denormal": float32(1), "largest": float32(0x7F7FFFFF)}, ENTROPY)
def test_a_new_cache_is_read_back_as_it_is(scales: dict[str, float], algorithm: str) -> None:
    cache = CalibrationCache(scales, algorithm=algorithm)
    again = CalibrationCache.parse(cache.dumps())
    assert again == cache
    assert dict(again) == scales
    assert (again.algorithm, again.version) == (algorithm, NEWEST_VERSION)


def test_every_exponent_and_many_mantissas_keep_their_bits() -> None:
    chosen = random.Random(0)
    patterns = {sign << 31 | exponent << 23 | mantissa
                for sign in (0, 1) for exponent in range(256)
                for mantissa in (0, 1, 0x400000, 0x7FFFFF, chosen.getrandbits(23))}  # fmt: skip
    text = "1\n" + "".join(f"t{bits}: {bits:x}\n" for bits in patterns)
    cache = CalibrationCache.parse(text)
    assert cache.dumps().decode() == text
    assert all(
        struct.pack("!f", cache[f"t{bits}"]) == struct.pack("!I", bits)
        for bits in patterns
        if not math.isnan(float32(bits))
    )
    rewritten = CalibrationCache({name: scale for name, scale in cache.items() if 0 <= scale < math.inf})
    assert all(rewritten.bits(name) == cache.bits(name) for name in rewritten if cache[name])


# Writing


def test_new_caches_look_as_tensorrt_writes_them() -> None:
    cache = CalibrationCache({"input": 1 / 127, "conv: 1": 2.0, "dead": 0.0, "tiny": 1e-40}, version=8601)
    assert cache.dumps() == b"TRT-8601-EntropyCalibration2\ninput: 3c010204\nconv: 1: 40000000\ndead: 0\ntiny: 116c2\n"
    assert CalibrationCache({"a": 1.0}).header == "TRT-101600-EntropyCalibration2"


def test_scales_are_float32_values() -> None:
    cache = CalibrationCache({"a": 0.1})
    assert cache["a"] == float(np.float32(0.1))
    assert cache.amax("a") == float(np.float32(0.1)) * 127


def test_with_scales_makes_another_cache_and_leaves_the_rest_byte_for_byte() -> None:
    cache = CalibrationCache.parse("TRT-8601-EntropyCalibration2 \n\na: 3F800000\r\nb: 00000000 \nc: 7fc00001")
    changed = cache.with_scales({"b": 2.0, "a": 1.0, "d": 0.5})
    assert (
        changed.dumps() == b"TRT-8601-EntropyCalibration2 \n\na: 3F800000\r\nb: 40000000 \nc: 7fc00001\nd: 3f000000\n"
    )
    assert cache["b"] == 0
    assert "d" not in cache
    with pytest.raises(TypeError):
        cache["b"] = 2.0  # type: ignore[index]


@pytest.mark.parametrize("scale", [math.inf, math.nan, -1.0, -1e-50, 1e39, 3.4028236e38])
def test_a_scale_that_is_no_range_is_refused(scale: float) -> None:
    with pytest.raises(CacheError, match=r"the scale of 'a' is .* finite in float32 and not negative"):
        CalibrationCache({"a": scale})
    with pytest.raises(CacheError, match="the scale of 'a'"):
        CalibrationCache({"b": 1.0}).with_scales({"a": scale})


@pytest.mark.parametrize("name", ["", "a\nb", "a\r", "\0", "\ud800"])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    with pytest.raises(CacheError, match="cannot name a tensor"):
        CalibrationCache({name: 1.0})


def test_a_header_that_would_break_the_file_is_refused() -> None:
    for algorithm in ("", "two words", "line\nbreak", "end "):
        with pytest.raises(CacheError, match="is no header of a cache"):
            CalibrationCache({"a": 1.0}, algorithm=algorithm)
    with pytest.raises(CacheError, match="at least one scale"):
        CalibrationCache({})


# Headers


@pytest.mark.parametrize(
    ("header", "version", "algorithm", "words"),
    [
        ("TRT-8601-EntropyCalibration2", 8601, "EntropyCalibration2", "TensorRT 8.6.1, EntropyCalibration2"),
        ("TRT-101401-MinMaxCalibration", 101401, "MinMaxCalibration", "TensorRT 10.14.1, MinMaxCalibration"),
        ("TRT-5101-Odd_Word-2", 5101, "Odd_Word-2", "TensorRT 5.1.1, Odd_Word-2"),
        (
            "TRT-8XXX-EntropyCalibration2 ",
            None,
            "EntropyCalibration2",
            "TensorRT of unknown version, EntropyCalibration2",
        ),
        ("1", None, None, "legacy calibrator of an old TensorRT"),
        ("0 3ff0000000000000 3fefffeb074a771d", None, None, "legacy calibrator of an old TensorRT, 1, 0.99999"),
    ],
)
def test_headers_are_decoded(header: str, version: int | None, algorithm: str | None, words: str) -> None:
    cache = CalibrationCache.parse(f"{header}\na: 3f800000\n")
    assert (cache.header, cache.version, cache.algorithm, header_text(cache)) == (header, version, algorithm, words)


def test_a_usable_scale_is_positive_finite_and_normal() -> None:
    assert all(usable(scale) for scale in (float32(0x00800000), 1.0, float32(0x7F7FFFFF)))
    assert not any(usable(scale) for scale in (None, 0.0, float32(0x007FFFFF), -1.0, math.inf, math.nan))


def test_version_numbers_change_their_base_at_10() -> None:
    assert [version_text(number) for number in (7000, 8203, 9200, 100001, 100300, 101600)] == [
        "7.0.0", "8.2.3", "9.2.0", "10.0.1", "10.3.0", "10.16.0"]  # fmt: skip


# Saving

SIDECAR = Sidecar(model_sha256="a" * 64, method="entropy", tensors="all", image_sets=("b" * 64,), images=500, seed=0)


def test_the_sidecar_is_written_beside_with_the_caches_digest(tmp_path: Path) -> None:
    cache = CalibrationCache({"a": 1.0}, sidecar=SIDECAR)
    cache.save(tmp_path / "m.cache")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.cache", "m.cache.json"]
    assert Sidecar.beside(tmp_path / "m.cache") == replace(SIDECAR, cache_sha256=cache.sha256)
    assert CalibrationCache.load(tmp_path / "m.cache").sidecar == replace(SIDECAR, cache_sha256=cache.sha256)
    assert CalibrationCache.load(tmp_path / "m.cache", alone=True).sidecar is None
    assert json.loads((tmp_path / "m.cache.json").read_text())["cache_sha256"] == cache.sha256


@pytest.mark.parametrize("moment", ["writing", "replacing"])
def test_an_interrupted_save_leaves_no_pair_that_passes_for_one(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.cache"
    old = CalibrationCache({"a": 1.0}, sidecar=SIDECAR)
    new = CalibrationCache({"a": 2.0}, sidecar=replace(SIDECAR, seed=1))
    old.save(path)
    before = (tmp_path / "m.cache.json").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if moment == "writing":
        monkeypatch.setattr(Path, "write_bytes", full)
    else:
        replaced = Path.replace
        monkeypatch.setattr(Path, "replace", lambda a, b: full() if str(b).endswith(".json") else replaced(a, b))
    with pytest.raises(OutputError, match="no space left"):
        new.save(path)
    assert (tmp_path / "m.cache.json").read_bytes() == before
    assert CalibrationCache.load(path) == (old if moment == "writing" else new)
    assert not list(tmp_path.glob(".*"))
    sidecar = Sidecar.beside(path)
    assert sidecar is not None
    assert (sidecar.cache_sha256 == CalibrationCache.load(path).sha256) is (moment == "writing")


def test_a_cache_cannot_be_saved_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        CalibrationCache({"a": 1.0}).save(tmp_path / "no" / "m.cache")


# Headers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8.6.1", 8601),
        ("8.6.1.post1", 8601),
        ("7.2.2", 7202),
        ("10.3", 100300),
        ("10.3.0.26", 100300),
        ("10.0.0b6", 100000),
        ("10.14.1.48", 101401),
        ("11.1.0", 110100),
        ("8601", 8601),
        ("101401", 101401),
    ],
)
def test_versions_become_the_numbers_of_headers(text: str, number: int) -> None:
    assert version_number(text) == number
    assert text.startswith(version_text(number)) or text in ("10.3", str(number))


@pytest.mark.parametrize("text", ["", "10", "8,6,1", "ten", "8.6.-1", "-8.6.1", "123", "8.600"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(CacheError, match=r"is no version of TensorRT, such as 8\.6\.1"):
        version_number(text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_another_header_leaves_every_scale_byte_for_byte(path: Path) -> None:
    cache = CalibrationCache.load(path)
    changed = cache.with_header(algorithm=MINMAX, version=100300)
    assert changed.header == "TRT-100300-MinMaxCalibration"
    assert changed.dumps().partition(b"\n")[2].lstrip(b"\r\n") == path.read_bytes().partition(b"\n")[2].lstrip(b"\r\n")
    assert changed.line_end == cache.line_end
    assert CalibrationCache.parse(changed.dumps()) == changed


def test_another_header_keeps_the_side_car() -> None:
    sidecar = Sidecar("", "entropy", "all", (), 1)
    cache = CalibrationCache({"a": 1.0}, sidecar=sidecar)
    assert cache.with_header(version=8601).sidecar == sidecar
    with pytest.raises(CacheError, match="the algorithm is one word"):
        cache.with_header(algorithm="two words")
