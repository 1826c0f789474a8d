"""The floor and the reference line: what runs, and what it gives."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.images import INPUT, SyntheticImages
from benchmarks.inference import fetching_session, plain_session, run
from benchmarks.models import OUTPUT, mobilenet_v2
from engines.graph import activations


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "mobilenetv2.onnx"
    onnx.save(mobilenet_v2(), path)
    return path


def test_the_floor_gives_the_models_own_output(path: Path) -> None:
    session = plain_session(path)
    assert [value.name for value in session.get_outputs()] == [OUTPUT]
    run(session, SyntheticImages(9))


def test_the_reference_line_fetches_every_activation_but_the_input(path: Path) -> None:
    session = fetching_session(path)
    names = [value.name for value in session.get_outputs()]
    assert len(names) == len(set(names)) == 100
    assert {*names, INPUT} == set(activations(onnx.load(path)))
    (batch,) = SyntheticImages(2)
    values = dict(zip(names, session.run(None, batch), strict=True))
    (logits,) = plain_session(path).run(None, batch)
    np.testing.assert_allclose(values[OUTPUT], logits, rtol=1e-4, atol=1e-4)
