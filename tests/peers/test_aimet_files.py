"""Encodings files to and from AIMET: aimet-onnx."""

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from calibrators.codecs import formats
from calibrators.codecs.encodings import Encodings
from calibrators.encoding import Encoding
from calibrators.ranges import encodings
from calibrators.weights import weight_encoding
from engines.collection.collect import collect
from tests.engines.networks import samples_of
from tests.peers.installed import differs, needed
from tests.peers.networks import plain
from tests.peers.tensors import UNSIGNED

quantsim = needed("aimet-onnx", "aimet_onnx.quantsim")
as_read = differs("aimet-onnx", read="2.42.0")

VERSIONS = ["0.6.1", "1.0.0", "2.0.0"]
WEIGHTS = {"a_w": 0, "b_w": 0, "w": 1}
"""Their axes of output channels."""


def samples():
    return samples_of(plain(), 5)


@pytest.fixture
def simulation():
    """Their model, calibrated."""
    model = plain()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    made = quantsim.QuantizationSimModel(model, dummy_input=samples()[0])
    made.compute_encodings(samples())
    return made


@pytest.fixture(scope="module")
def ours() -> dict[str, Encoding]:
    return encodings(collect(plain(), samples()), "minmax", UNSIGNED)


def held(simulation, name: str) -> tuple[np.ndarray, list[int]]:
    """Scales and zero points of the unsigned type that their quantizer holds."""
    found = simulation.qc_quantize_op_dict[name].get_encodings()
    return np.float32([each.delta for each in found]), [-int(each.offset) for each in found]


def exported(simulation, folder: Path, version: str) -> Encodings:
    simulation.export(str(folder), "model", export_model=False, encoding_version=version)
    data = (folder / "model.encodings").read_bytes()
    assert formats.recognised(data) == f"aimet-{version}"
    return formats.load(data, f"aimet-{version}", source="model.encodings")


@pytest.mark.filterwarnings("ignore:.*0.6.1 was deprecated")
@pytest.mark.parametrize("version", VERSIONS)
def test_their_files_are_read(simulation, tmp_path: Path, version: str) -> None:
    found = exported(simulation, tmp_path, version)
    enabled = {name for name in simulation.activation_names if simulation.qc_quantize_op_dict[name].enabled}
    assert enabled <= set(found.activations)
    for name in enabled:
        scales, zero_points = held(simulation, name)
        assert (found.activations[name].scale, found.activations[name].zero_point) == (scales[0], zero_points[0])
    assert set(found.weights) == set(WEIGHTS)
    for name, axis in WEIGHTS.items():
        assert np.array_equal(found.weights[name].scale, held(simulation, name)[0])
        assert not found.weights[name].zero_point.any()
        assert found.weights[name].axis == (axis if version == "2.0.0" else 0)
    assert found.axis_unknown == (set() if version == "2.0.0" else set(WEIGHTS))


@as_read
def test_their_ranges_are_those_of_quantized_weights(simulation, ours: dict[str, Encoding]) -> None:
    """The input's is the same; behind a convolution theirs differ by up to 1 %: their weights are INT8 by then."""
    scale, zero_point = held(simulation, "image")
    assert (ours["image"].scale, [ours["image"].zero_point]) == (pytest.approx(scale[0], rel=1e-6), zero_point)
    ratios = np.array([held(simulation, name)[0][0] / ours[name].scale for name in ("a_relu", "b_relu", "scores")])
    assert (np.abs(ratios - 1) < 0.01).all()
    assert (np.abs(ratios - 1) > 1e-4).all()


@pytest.mark.parametrize("version", VERSIONS)
def test_they_load_what_is_written(simulation, ours: dict[str, Encoding], tmp_path: Path, version: str) -> None:
    initializers = {each.name: numpy_helper.to_array(each) for each in plain().graph.initializer}
    names = [name for name in simulation.activation_names if simulation.qc_quantize_op_dict[name].enabled]
    written = Encodings(
        activations={name: ours[name] for name in names},
        weights={name: weight_encoding(initializers[name], axis=axis) for name, axis in WEIGHTS.items()},
    )
    data, _ = formats.FORMATS[f"aimet-{version}"].dump(written)
    (tmp_path / "ours.encodings").write_bytes(data)
    quantsim.load_encodings_to_sim(simulation, str(tmp_path / "ours.encodings"), strict=False)
    for name in names:
        scales, zero_points = held(simulation, name)
        assert scales == pytest.approx(float(ours[name].scale), rel=1e-6)
        assert zero_points == [ours[name].zero_point]
    for name in WEIGHTS:
        assert held(simulation, name)[0] == pytest.approx(written.weights[name].scale, rel=1e-6)
