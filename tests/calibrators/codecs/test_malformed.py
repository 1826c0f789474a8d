"""What is malformed is refused in one line that names the file, the tensor or line, and what is wrong."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrators.codecs.encodings import Encodings, of_scale
from calibrators.codecs.formats import FORMATS, load, recognised, require_recognised
from calibrators.errors import CacheError

SOUND = Encodings({"image": of_scale(0.5), "a: b": of_scale(0.25)})
JSON = [name for name, form in FORMATS.items() if form.of_bytes is None]
TEXT = [name for name in FORMATS if name not in JSON and name != "onnxruntime-flatbuffers"]

each = pytest.mark.parametrize("name", FORMATS)


def _each_changed(values, new):
    """Copies of JSON values with one of them replaced."""
    if isinstance(values, (dict, list)):
        places = values if isinstance(values, dict) else range(len(values))
        for place in places:
            for changed in _each_changed(values[place], new):
                copy = values.copy()
                copy[place] = changed
                yield copy
    yield new


def refusal(name, data):
    with pytest.raises(CacheError) as failure:
        load(data, name, source="odd.file")
    message = str(failure.value)
    assert "\n" not in message
    assert "odd.file" in message
    assert len(message) < 500
    return message


@each
@pytest.mark.parametrize(
    "data", [b"", b" \n", b"\0", b"\xff\xfea\0", b"no such thing at all", b"[]", b"{}", b"null", b"1"]
)
def test_another_thing(name, data):
    assert refusal(name, data)


@each
def test_a_file_of_another_format(name):
    for other in FORMATS:
        data, _ = FORMATS[other].dump(SOUND)
        if other.partition("-")[0] != name.partition("-")[0] and {other, name} != {"ranges", "onnxruntime-text"}:
            assert refusal(name, data)


@each
@given(cut=st.floats(0.0, 0.99))
@settings(max_examples=40)
def test_cut_off(name, cut):
    """What is cut off is refused, or whole up to a line's end; never is another range read from it."""
    data, _ = FORMATS[name].dump(SOUND)
    part = data[: int(len(data) * cut)]
    try:
        found = load(part, name, source="odd.file")
    except CacheError as error:
        assert "\n" not in str(error)
        return
    if any(SOUND.activations.get(tensor) != value for tensor, value in found.activations.items()):
        assert found.notes == ("the last line has no line end: where the file was cut off, its range lacks digits",)
    else:
        assert found == SOUND or name in TEXT


@each
@given(data=st.data())
@settings(max_examples=40)
def test_damage_never_ends_in_another_error(name, data):
    whole = bytearray(FORMATS[name].dump(SOUND)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    recognised(bytes(whole))
    try:
        found = load(bytes(whole), name, source="odd.file")
    except CacheError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(found, Encodings)


@given(st.binary(max_size=80))
def test_any_bytes_are_judged(data):
    name = recognised(data)
    if name is None:
        with pytest.raises(CacheError):
            require_recognised(data, "odd.file")


@pytest.mark.parametrize("name", JSON)
class TestJson:
    def test_a_key_twice(self, name):
        text = FORMATS[name].dump(SOUND)[0].decode()
        assert "'twice' twice" in refusal(name, f'{{"twice": 1, "twice": 2, {text[1:]}'.encode())

    def test_deep_nesting(self, name):
        text = FORMATS[name].dump(SOUND)[0].decode()
        assert refusal(name, f'{{"deep": {"[" * 10**5}{"]" * 10**5}, {text[1:]}'.encode())
        replaced = text.replace("0.5,", f"{'[' * 800}0.5{']' * 800},").replace("63.5", f"{'[' * 800}63.5{']' * 800}")
        if replaced != text:
            try:
                load(replaced.encode(), name, source="odd.file")
            except CacheError as error:
                assert "\n" not in str(error)

    @pytest.mark.parametrize(
        "number", ["NaN", "Infinity", "-100.5", "1e39", "1e999", f"1{'0' * 400}", "true", '"0.5"', "null", "{}"]
    )
    def test_a_number_that_is_none(self, name, number):
        text = FORMATS[name].dump(SOUND)[0].decode()
        for value in ("0.5", "63.5"):
            changed = text.replace(f" {value}", f" {number}")
            if changed != text:
                assert "image" in refusal(name, changed.encode())
                return
        raise AssertionError("no number was changed")

    def test_half_a_letter(self, name):
        text = FORMATS[name].dump(SOUND)[0].decode()
        assert "half a letter" in refusal(name, text.replace("image", "\\ud800").encode())

    def test_an_encoding_of_nothing(self, name):
        text = FORMATS[name].dump(SOUND)[0].decode()
        assert refusal(name, text.replace("image", "").encode())

    def test_a_number_of_too_many_digits(self, name):
        text = FORMATS[name].dump(SOUND)[0].decode()
        assert "too many digits" in refusal(name, f'{{"long": {"9" * 5000}, {text[1:]}'.encode())

    def test_a_long_text_in_the_place_of_each_value(self, name):
        values = json.loads(FORMATS[name].dump(SOUND)[0])
        long = "x" * 10**4
        for changed in _each_changed(values, long):
            try:
                load(json.dumps(changed).encode(), name, source="odd.file")
            except CacheError as error:
                assert len(str(error)) < 500, error

    @pytest.mark.parametrize("odd", ["NaN", "-Infinity", '"\\ud800"', '{"\\udfff": 1}'])
    def test_what_json_has_not_beside_the_encodings(self, name, odd):
        """Either it is refused, or what is written from it is sound."""
        text = FORMATS[name].dump(SOUND)[0].decode()
        for key in ("strange", "extra", "smooth_quant", "producer"):
            try:
                read = load(f'{{"{key}": {odd}, {text[1:]}'.encode(), name, source="odd.file")
            except CacheError as error:
                assert "odd.file" in str(error)
                continue
            for each_format in FORMATS.values():
                with suppress(CacheError):  # names that one format cannot hold
                    written = each_format.dump(read)[0]
                    assert b"NaN" not in written
                    assert b"Infinity" not in written

    def test_cut_off(self, name):
        data = FORMATS[name].dump(SOUND)[0]
        for size in range(2, len(data) - 3, 7):
            with pytest.raises(CacheError, match="is not JSON"):
                require_recognised(data[:size], "odd.file")

    def test_latin_1(self, name):
        text = FORMATS[name].dump(SOUND)[0].decode()
        assert "not UTF-8" in refusal(name, text.replace("image", "é").encode("latin-1"))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"{", "is not JSON"),
        (json.dumps({"cache_sha256": "", "format": 1}).encode(), "the side-car of a cache (give the cache itself"),
        (b"PK\x03\x04\0\0", "statistics become a cache by `trtcal calibrate --statistics-from`"),
        (b"\x93NUMPY\x01", "a NumPy array"),
        (b'{"layers": [], "more": 1}', "JSON of another kind (layers, more)"),
        (b"[1, 2]", "holds no JSON object with scales, but a list"),
        (b"conv1_param_0 113.3 12.5 7\nconv1 12.5\n", "an ncnn calibration table"),
        (b"some text\n", "is of no format of scales that trtcal knows: tensorrt, aimet-0.6.1, "),
        ("TRT-8601-EntropyCalibration2\na: 3f800000\n".encode("utf-16"), "save it as UTF-8"),
    ],
)
def test_what_is_no_format_is_told_in_words(data, what):
    with pytest.raises(CacheError) as failure:
        require_recognised(data, "odd.file")
    assert "odd.file" in str(failure.value)
    assert what in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("start", [b"{\n  // by hand\n", b"{\n  # by hand\n"])
def test_json_with_a_comment_is_told_to_be_malformed(start):
    with pytest.raises(CacheError, match="is not JSON"):
        require_recognised(start + b'"activation_encodings": {"x": [{"bitwidth": 8, "scale": 0.1}]}}', "x.json")
