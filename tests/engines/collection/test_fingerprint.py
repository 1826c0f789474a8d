"""Fingerprints: alike in any order, and different for other bits."""

import numpy as np
import pytest

from engines.collection.fingerprint import fingerprint, fingerprints

VALUES = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_order_of_values_does_not_matter(dtype):
    values = VALUES.astype(dtype)
    turned = values.transpose(2, 0, 1)
    shuffled = np.random.default_rng(1).permutation(values.reshape(-1))
    assert fingerprint(values) == fingerprint(turned) == fingerprint(shuffled)


def test_a_single_bit_does():
    other = VALUES.copy()
    other.view(np.uint32)[1, 2, 3] ^= 1
    assert fingerprint(other) != fingerprint(VALUES)


def test_a_zero_has_a_sign():
    assert fingerprint(np.zeros(3, np.float32)) != fingerprint(np.array([0, 0, -0.0], np.float32))


def test_size_and_type_count():
    found = {fingerprint(np.zeros(size, dtype)) for size in (0, 1, 2) for dtype in (np.float16, np.float32)}
    assert len(found) == 6


def test_by_name():
    assert fingerprints({"a": VALUES}) == {"a": fingerprint(VALUES)}
