import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrators.cache.sidecar import Sidecar, sidecar_path
from calibrators.errors import CacheError

WHOLE = Sidecar(
    model_sha256="0123456789abcdef" * 4,
    method="entropy",
    tensors="quantizable",
    image_sets=("f" * 64, "0" * 64),
    images=500,
    seed=7,
    preprocess={"resize": [224, 224], "mean": [0.485, 0.456, 0.406], "layout": "NCHW", "überschrift": None},
    versions={"trtcal": "0.1.0", "onnxruntime": "1.31.1", "numpy": "2.4.0"},
    cache_sha256="e" * 64,
)

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
words = st.text(max_size=8)
json_values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
)  # JSON has no others
sidecars = st.builds(
    Sidecar,
    model_sha256=st.just("") | digests,
    method=st.text(min_size=1, max_size=8),
    tensors=st.sampled_from(["all", "quantizable"]),
    image_sets=st.lists(digests, max_size=3).map(tuple),
    images=st.integers(0),
    seed=st.none() | st.integers(),
    preprocess=st.none() | st.dictionaries(words, json_values | st.lists(json_values, max_size=3), max_size=3),
    versions=st.dictionaries(words, words, max_size=3),
    cache_sha256=st.just("") | digests,
)


@given(sidecars)
def test_what_was_written_is_read_back(sidecar: Sidecar) -> None:
    assert Sidecar.parse(sidecar.dumps()) == sidecar


def test_it_lies_beside_the_cache(tmp_path: Path) -> None:
    assert sidecar_path("models/model.cache") == Path("models/model.cache.json")
    assert Sidecar.beside(tmp_path / "m.cache") is None
    (tmp_path / "m.cache.json").write_text(WHOLE.dumps(), encoding="utf-8")
    assert Sidecar.beside(tmp_path / "m.cache") == WHOLE == Sidecar.load(tmp_path / "m.cache.json")


def test_the_layout_carries_its_version_and_later_keys_are_skipped() -> None:
    values = json.loads(WHOLE.dumps())
    assert values["format"] == 1
    assert Sidecar.parse(json.dumps({**values, "weather": "fine"})) == WHOLE


def test_it_is_a_value() -> None:
    with pytest.raises(FrozenInstanceError):
        WHOLE.seed = 1  # type: ignore[misc]


def changed(**values: Any) -> str:
    return json.dumps(
        {key: value for key, value in {**json.loads(WHOLE.dumps()), **values}.items() if value != "absent"}
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\xff", "is not JSON"),
        (changed(preprocess={"mean": float("nan")}), "is not JSON"),
        (changed(method="\ud800"), "is not JSON"),
        ("[]", "no side-car of a calibration cache"),
        ('{"a": 1}', "no side-car of a calibration cache"),
        (changed(format=2), "has format 2, not 1: update trtcal"),
        (changed(method="absent", images="absent"), "lacks method, images"),
        (changed(model_sha256="xyz"), "model_sha256 of a side-car is 64 hexadecimal digits, not 'xyz'"),
        (changed(image_sets="f" * 64), "image_sets of a side-car is a list of SHA-256 digests"),
        (changed(image_sets=["f"]), "image_sets of a side-car is a list of SHA-256 digests, not ['f']"),
        (changed(images=-1), "images of a side-car is a number, 0 or more, not -1"),
        (changed(images=True), "images of a side-car is a number, 0 or more, not True"),
        (changed(seed="0"), "seed of a side-car is an integer or null"),
        (changed(method=""), "method of a side-car is the name of a range method"),
        (changed(tensors="some"), "tensors of a side-car is 'all' or 'quantizable', not 'some'"),
        (changed(tensors=["all"]), "tensors of a side-car is 'all' or 'quantizable'"),
        (changed(preprocess="imagenet"), "preprocess of a side-car is an object or null"),
        (changed(versions={"numpy": 2}), "versions of a side-car is an object of texts"),
        (changed(cache_sha256="e"), "cache_sha256 of a side-car is 64 hexadecimal digits"),
    ],
)
def test_malformed_files_are_refused_by_key(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.cache.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CacheError) as failure:
        Sidecar.load(path)
    assert str(path) in str(failure.value)
    assert reason in str(failure.value)
    assert "\n" not in str(failure.value)


def test_one_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"cannot read .*none\.json"):
        Sidecar.load(tmp_path / "none.json")


def test_nonsense_is_refused_at_birth() -> None:
    with pytest.raises(CacheError, match="images of a side-car"):
        replace(WHOLE, images=-1)
