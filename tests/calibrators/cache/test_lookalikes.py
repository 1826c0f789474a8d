"""What is given in the place of a cache is told in words, with what to do about it."""

import pytest

from calibrators.cache.lookalikes import lookalike


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'{"cache_sha256": ""}', "the side-car of a cache (give the cache itself, without .json)"),
        (b"{", "JSON"),
        (b"PK\x03\x04", "a ZIP or NPZ archive (statistics become a cache"),
    ],
)
def test_words(data, what):
    assert (lookalike(data) or "").startswith(what)


@pytest.mark.parametrize("data", [b"", b"some text", b"TRT-8601-EntropyCalibration2\na: 3f800000\n", b"\0\1\2"])
def test_none(data):
    assert lookalike(data) is None
