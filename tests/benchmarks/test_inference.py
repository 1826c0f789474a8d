"""The floor and the reference line: what runs, and what it gives."""

from pathlib import Path

import numpy as np
import onnx

from benchmarks.images import INPUT, SyntheticImages
from benchmarks.inference import fetching_session, plain_session, run
from benchmarks.models import OUTPUT
from engines.graph.model import activations


def test_the_floor_gives_the_models_own_output(mobilenet_v2_file: Path) -> None:
    session = plain_session(mobilenet_v2_file)
    assert [value.name for value in session.get_outputs()] == [OUTPUT]
    run(session, SyntheticImages(9))


def test_the_reference_line_fetches_every_activation_but_the_input(mobilenet_v2_file: Path) -> None:
    session = fetching_session(mobilenet_v2_file)
    names = [value.name for value in session.get_outputs()]
    assert len(names) == len(set(names)) == 100
    assert {*names, INPUT} == set(activations(onnx.load(mobilenet_v2_file)))
    (batch,) = SyntheticImages(2)
    values = dict(zip(names, session.run(None, batch), strict=True))
    (logits,) = plain_session(mobilenet_v2_file).run(None, batch)
    np.testing.assert_allclose(values[OUTPUT], logits, rtol=1e-4, atol=1e-4)
