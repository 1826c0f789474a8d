"""AIMET's own simulation beside ours: each with the other's encodings gives the same results."""

import numpy as np
import onnx
import pytest

from tests.engines.networks import classifier, samples_of
from tests.engines.zoo import ZOO
from tests.peers.installed import needed
from tests.trtcal.simulating import two_products
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.quantsim.simulator import QuantSim

quantsim = needed("aimet-onnx", "aimet_onnx.quantsim")

MODELS = {
    "classifier": classifier,
    "two_products": two_products,
    **{name: lambda name=name: ZOO[name]().model for name in ("conv_bn_relu", "gemm", "depthwise")},
}


def largest_difference(peer, sim, samples):
    """Largest and mean difference of the first output, as shares of its range."""
    found = [(peer.session.run(None, dict(batch))[0], next(iter(sim.run(batch).values()))) for batch in samples]
    theirs, ours = (np.concatenate(each) for each in zip(*found, strict=True))
    return float(np.abs(theirs - ours).max() / np.ptp(theirs)), float(np.abs(theirs - ours).mean() / np.ptp(theirs))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("version", ["0.6.1", "1.0.0", "2.0.0"])
@pytest.mark.parametrize(("bits", "symmetric"), [(8, True), (8, False), (4, True), (4, False), (16, True)])
def test_ours_in_theirs(name, version, bits, symmetric, tmp_path):
    model = MODELS[name]()
    samples = samples_of(model, 8)
    config = QuantConfig(LayerSettings(symmetric=symmetric))
    sim = QuantSim(model, "tf", default_output_bw=bits, default_param_bw=min(bits, 8), config=config)
    sim.compute_encodings(samples)
    written = sim.export(tmp_path, "m", version=version)
    peer = quantsim.QuantizationSimModel(onnx.load(written.model))
    quantsim.load_encodings_to_sim(peer, str(written.encodings), strict=False)
    # As ONNX Runtime runs the exported INT8 model, biases are rounded to INT32; AIMET leaves them in float.
    int8 = bits == 8 and symmetric
    largest, mean = largest_difference(peer, sim, samples)
    assert largest < (0.02 if int8 else 1e-4)
    assert mean < (1e-3 if int8 else 1e-5)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scheme", ["min_max", "tf_enhanced"])
def test_theirs_in_ours(bits, scheme, tmp_path):
    """They quantize outputs, too, which TensorRT need not: here they do not."""
    model = two_products()
    samples = samples_of(model, 20)
    peer = quantsim.QuantizationSimModel(
        onnx.ModelProto.FromString(model.SerializeToString()),
        quant_scheme=scheme,
        param_type=f"int{bits}",
        activation_type=f"int{bits}",
    )
    peer.qc_quantize_op_dict["y"].enabled = False
    peer.compute_encodings(iter([dict(batch) for batch in samples]))
    peer.export(str(tmp_path), "theirs", export_model=False)
    sim = QuantSim(model)
    sim.load_encodings(tmp_path / "theirs.encodings")
    found = sim.encodings
    assert {(value.grid.bits, value.grid.signed) for value in found.activations.values()} == {(bits, False)}
    assert {value.axis for value in found.weights.values()} <= {1, None}
    assert largest_difference(peer, sim, samples)[0] < 1e-5
