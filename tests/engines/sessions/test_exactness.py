"""Whether ONNX Runtime's default options are right here is found out, not assumed."""

import numpy as np

from engines.sessions import exactness
from engines.sessions.onnxruntime import OnnxRuntimeSession


def test_to_the_letter_the_probe_is_always_right():
    with OnnxRuntimeSession(exactness._model(), arithmetic="literal") as session:
        found = session.run({"x": exactness._levels()})["y"]
    np.testing.assert_array_equal(found, exactness._levels() @ exactness._weight())


def test_saturated_sums_of_pairs_would_be_noticed():
    """What a processor without VNNI does: sums of two products of UINT8 and INT8, cut off at 16 bits."""
    unsigned, weight = exactness._levels() + 128, exactness._weight()
    products = unsigned[:, :, None] * weight[None]
    pairs = np.clip(products.reshape(len(unsigned), -1, 2, weight.shape[1]).sum(2), -(2**15), 2**15 - 1).sum(1)
    assert not np.array_equal(pairs - 128 * weight.sum(0), exactness._levels() @ weight)


def test_the_answer_is_that_of_a_session(monkeypatch):
    exactness.default_is_exact.cache_clear()
    with OnnxRuntimeSession(exactness._model(), arithmetic="default") as session:
        found = session.run({"x": exactness._levels()})["y"]
    assert exactness.default_is_exact() == np.array_equal(found, exactness._levels() @ exactness._weight())
    exactness.default_is_exact.cache_clear()
    monkeypatch.setattr(exactness, "_weight", lambda: np.zeros((exactness.WIDTH, 3), np.float32) + 0.5)
    assert not exactness.default_is_exact()  # levels are whole numbers: half of one is lost on the way
    exactness.default_is_exact.cache_clear()
