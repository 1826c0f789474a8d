"""What a simulation exports: names that match, numbers that come back, files that are whole or absent."""

import json
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest

import trtcal
from calibrators.cache.sidecar import Sidecar
from calibrators.cache.text import CalibrationCache
from calibrators.codecs.formats import load
from calibrators.encoding import Encoding
from calibrators.errors import CacheError, OutputError
from calibrators.files import sha256_of
from calibrators.grid import Grid
from engines.sessions.onnxruntime import OnnxRuntimeSession
from tests.engines.networks import classifier, samples_of
from tests.engines.zoo import ZOO
from tests.trtcal.simulating import two_products
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.data.recorded_preprocess import recorded_preprocess
from trtcal.pipeline import quantize
from trtcal.quantsim.simulator import QuantSim


@pytest.fixture
def sim():
    made = QuantSim(classifier(), "entropy")
    made.compute_encodings(samples_of(classifier(), 4))
    return made


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", [name for name in ZOO if name != "shared_both_ways"])
def test_names_are_those_of_the_exported_model(name, tmp_path):
    model = ZOO[name]().model
    samples = samples_of(model, 2)
    sim = QuantSim(model)
    sim.compute_encodings(samples)
    written = sim.export(tmp_path, "m")
    exported = onnx.load(written.model)
    onnx.checker.check_model(exported, full_check=True)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in exported.graph.node}
    values = json.loads(written.encodings.read_bytes())
    initializers = {each.name: onnx.numpy_helper.to_array(each) for each in exported.graph.initializer}
    tensors = {name for node in exported.graph.node for name in node.input}
    assert {entry["name"] for entry in values["activation_encodings"]} <= tensors - initializers.keys()
    for entry in values["param_encodings"]:
        assert max(entry["scale"]) == pytest.approx(np.abs(initializers[entry["name"]]).max() / 127, rel=1e-6)
    with OnnxRuntimeSession(written.model) as session, OnnxRuntimeSession(model) as original:
        for batch in samples:
            for key, found in original.run(batch).items():
                np.testing.assert_allclose(session.run(batch)[key], found, rtol=1e-4, atol=1e-4)


def test_the_numbers_are_aimets(tmp_path):
    """min, max, scale, offset, bit width: of a symmetric INT8 activation with range 2, an asymmetric and a wide one."""
    model = two_products()
    sim = QuantSim(model, "tf_enhanced")
    sim.set_and_freeze("x", Encoding.symmetric(2.0))
    sim.set_and_freeze("rectified", Encoding(np.float32(0.5), np.int32(3), Grid(4, signed=False, symmetric=False)))
    sim.set_and_freeze("a", Encoding.symmetric(3.0, Grid(16, narrow=True)))
    old = json.loads(sim.export(tmp_path, "old", version="0.6.1").encodings.read_bytes())
    (x,), (rectified,) = (old["activation_encodings"][name] for name in ("x", "rectified"))
    assert (x["bitwidth"], x["offset"], x["is_symmetric"]) == (8, -128, "True")
    assert [x["scale"], x["min"], x["max"]] == pytest.approx([2 / 127, -256 / 127, 2])
    assert (rectified["bitwidth"], rectified["offset"], rectified["is_symmetric"]) == (4, -3, "False")
    assert [rectified["scale"], rectified["min"], rectified["max"]] == [0.5, -1.5, 6]
    assert len(old["param_encodings"]["b"]) == 4
    assert old["param_encodings"]["a"][0]["bitwidth"] == 16
    new = json.loads(sim.export(tmp_path, "new").encodings.read_bytes())
    assert new["version"] == "1.0.0"
    first = next(entry for entry in new["activation_encodings"] if entry["name"] == "x")
    assert (first["bw"], first["enc_type"], first["is_sym"], first["offset"]) == (8, "PER_TENSOR", True, [-128])
    assert new["quantizer_args"] == {
        "activation_bitwidth": 8,
        "dtype": "int",
        "is_symmetric": True,
        "param_bitwidth": 8,
        "per_channel_quantization": True,
        "quant_scheme": "post_training_tf_enhanced",
    }
    latest = sim.export(tmp_path, "latest", version="2.0.0").encodings.read_bytes()
    assert {entry["name"]: entry["output_dtype"] for entry in json.loads(latest)["encodings"]} == {
        "x": "int8",
        "rectified": "uint4",
        "a": "int16",
        "b": "int8",
    }
    for version, data in (("0.6.1", "old"), ("1.0.0", "new"), ("2.0.0", "latest")):
        read = load((tmp_path / f"{data}.encodings").read_bytes(), f"aimet-{version}", source="it")
        assert {name: read.activations[name] for name in ("x", "rectified")} == sim.encodings.activations


def test_every_file_on_request(sim, tmp_path):
    written = sim.export(tmp_path / "new" / "folder", "m", qdq=True, cache=True)
    folder = tmp_path / "new" / "folder"
    assert files(folder) == ["m.cache", "m.cache.json", "m.encodings", "m.onnx", "m.qdq.onnx", "m.qdq.onnx.json"]
    assert (written.model, written.qdq) == (folder / "m.onnx", folder / "m.qdq.onnx")
    assert (written.cache, written.encodings) == (folder / "m.cache", folder / "m.encodings")
    plain = sim.export(tmp_path / "plain", "m")
    assert (plain.qdq, plain.cache) == (None, None)
    assert files(tmp_path / "plain") == ["m.encodings", "m.onnx"]


def test_the_cache_writes_the_same_model(sim, tmp_path):
    """Into the model that was given and into the one exported beside it."""
    written = sim.export(tmp_path, "m", qdq=True, cache=True)
    cache = CalibrationCache.load(written.cache)
    assert dict(cache) == {name: float(value.scale) for name, value in sim.encodings.activations.items()}
    assert cache.algorithm == "EntropyCalibration2"
    assert cache.sidecar is not None
    assert (cache.sidecar.method, cache.sidecar.images, cache.sidecar.tensors) == ("entropy", 4, "quantizable")
    onnx.save(classifier(), tmp_path / "original.onnx")
    (batch,) = samples_of(classifier(), 1)
    expected = OnnxRuntimeSession(written.qdq).run(batch)["scores"]
    for model in (tmp_path / "original.onnx", written.model):
        found = OnnxRuntimeSession(quantize(model, written.cache).model).run(batch)["scores"]
        np.testing.assert_array_equal(found, expected)


def test_the_preprocessing_is_kept(job):
    sim = QuantSim(job / "model.onnx")
    sim.compute_encodings(trtcal.ImageLoader(job / "images", preprocess="unit"))
    written = sim.export(job, "m", qdq=True, cache=True)
    found = recorded_preprocess(written.qdq).preprocess
    assert found == trtcal.Preprocess.from_dict(Sidecar.load(f"{written.cache}.json").preprocess)
    assert found.scale == pytest.approx(1 / 255)
    record = json.loads((job / "m.qdq.onnx.json").read_bytes())
    assert (record["sha256"], record["model_sha256"]) == (sha256_of(written.qdq), sha256_of(written.model))
    assert record["quantized"] == [layer.name for layer in sim.layers]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"activation_bits": 4}, "of 4 bits"),
        ({"activation_bits": 16}, "of 16 bits"),
        ({"symmetric": False}, "unsigned"),
    ],
)
def test_what_a_cache_cannot_hold_is_refused(settings, why, tmp_path):
    model = classifier()
    sim = QuantSim(model, config=QuantConfig(LayerSettings(**settings)))
    sim.compute_encodings(samples_of(model, 4))
    with pytest.raises(CacheError, match=f"cannot hold image, which is {why}"):
        sim.export(tmp_path, "m", cache=True)
    assert files(tmp_path) == []
    notes = sim.export(tmp_path, "m", qdq=True).notes
    assert any("for ONNX Runtime, not for TensorRT" in note for note in notes) == (why != "of 4 bits")
    onnx.checker.check_model(onnx.load(tmp_path / "m.qdq.onnx"), full_check=True)


@pytest.mark.parametrize("symmetric", [True, False])
def test_tensorrt_for_rtx_builds_four_bits_on_any_grid(symmetric, tmp_path):
    """As INT8 with zero point 0: it refuses the UINT8 that an asymmetric grid begins as."""
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install trtcal[rtx])")
    model = classifier()
    sim = QuantSim(model, config=QuantConfig(LayerSettings(activation_bits=4, symmetric=symmetric)))
    batches = samples_of(model, 4)
    sim.compute_encodings(batches)
    encodings = sim.encodings.activations.values()
    assert all(int(each.zero_point) == 0 for each in encodings) == symmetric
    written = sim.export(tmp_path, "m", qdq=True)
    nodes = onnx.load(written.qdq).graph.node
    session = OnnxRuntimeSession(written.qdq, arithmetic="literal")
    for batch in batches:
        np.testing.assert_allclose(session.run(batch)["scores"], sim.run(batch)["scores"], rtol=1e-5, atol=1e-5)
    record = trtcal.build_engine(written.qdq, output=tmp_path / "m.engine", backend="tensorrt-rtx").record
    assert record.operators_by_precision == {"INT8": sum(node.op_type in ("Conv", "Gemm", "MatMul") for node in nodes)}


def test_all_files_or_none(sim, tmp_path):
    for name in ("m.onnx", "m.encodings", "m.qdq.onnx"):
        (tmp_path / name).write_text("old")
    (tmp_path / "m.cache").mkdir()
    with pytest.raises(OutputError, match=r"m\.cache: it is a folder"):
        sim.export(tmp_path, "m", qdq=True, cache=True)
    assert files(tmp_path) == ["m.cache", "m.encodings", "m.onnx", "m.qdq.onnx"]
    assert (tmp_path / "m.onnx").read_text() == (tmp_path / "m.qdq.onnx").read_text() == "old"


def test_a_full_disk_changes_nothing(sim, tmp_path, monkeypatch):
    sim.export(tmp_path, "m", qdq=True)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    sim.set_bitwidth("image", 16)
    from pathlib import Path

    write = Path.write_bytes

    def failing(path, data):
        if ".qdq.onnx." in path.name:
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(OutputError, match="no space left"):
        sim.export(tmp_path, "m", qdq=True)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_ctrl_c_among_the_last_moves_waits_for_all_of_them(sim, tmp_path, monkeypatch):
    sim.export(tmp_path, "m", qdq=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sim.set_encoding("image", Encoding.symmetric(9.0))
    moved = Path.replace

    def interrupted(self, target):
        signal.raise_signal(signal.SIGINT)
        return moved(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sim.export(tmp_path, "m", qdq=True)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"m.encodings", "m.qdq.onnx", "m.qdq.onnx.json"}


def test_the_model_that_is_read_is_not_overwritten(tmp_path):
    onnx.save(classifier(), tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    sim = QuantSim(tmp_path / "m.onnx")
    sim.compute_encodings(samples_of(classifier(), 2))
    with pytest.raises(OutputError, match="it is read, and would be lost"):
        sim.export(tmp_path, "m")
    assert files(tmp_path) == ["m.onnx"] and (tmp_path / "m.onnx").read_bytes() == before


@pytest.mark.parametrize("prefix", ["", "a/b", "../m", "."])
def test_a_prefix_is_a_name(sim, prefix, tmp_path):
    with pytest.raises(OutputError, match="cannot begin a file's name"):
        sim.export(tmp_path / "new", prefix)
    assert files(tmp_path) == []


def test_other_versions_are_refused(sim, tmp_path):
    with pytest.raises(CacheError, match=r"no version '3\.0\.0'"):
        sim.export(tmp_path, "m", version="3.0.0")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        sim.export(tmp_path / "file", "m")


def test_what_aimet_has_no_place_for_is_said(sim, tmp_path):
    notes = sim.export(tmp_path, "m").notes
    assert any("lose their axis" in note for note in notes)
