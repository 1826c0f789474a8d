"""The whole job on the demo's files, by commands and from Python: what the pages promise of it as a whole."""

import json

import pytest

from tests.docs.pages import ROOT, Block
from tests.docs.workshop import DEMO, Workshop

CONFIGURED = """
import trtcal

config = trtcal.QuantConfig(trtcal.LayerSettings(weight="mse"))
config.add_layer_config("classifier", precision="fp32")
config.add_name_config("/layer4/*", weight_bits=6).skip(first_convolutions=1)
config.save("mine.toml")
trtcal.quantize("demo/digits.onnx", "demo/digits.cache", config=config, output="mine.onnx")
trtcal.build_engine("mine.onnx", config=config, output="mine.engine")
"""

SIMULATED = """
import trtcal

calibration = trtcal.ImageLoader("demo/calibration", preprocess="unit", count=200)
test = trtcal.ImageLoader("demo/test", preprocess="unit", count=100)
sim = trtcal.QuantSim("demo/digits.onnx", scheme="tf_enhanced", default_output_bw=8, default_param_bw=8)
sim.compute_encodings(calibration)
sim.set_bitwidth("classifier.weight", 4)
sim.set_and_freeze("image", trtcal.Encoding.symmetric(1.0))
report = trtcal.evaluate({"float": "demo/digits.onnx", "simulated": sim}, test, reference="float")
print(report.scores["simulated"].top1.percent, report.scores["simulated"].distortion.sqnr)
sim.export("simulated", "digits", qdq=True)
"""

EXAMPLES = [
    path.name
    for path in sorted((ROOT / "examples").glob("[0-9]*.py"))
    if f"examples/{path.name} MODEL.onnx IMAGES PREPROCESS" in path.read_text(encoding="utf-8")  # others: tests/tools
]


@pytest.fixture
def run(workshop: Workshop, tmp_path):
    """Runs a block in a folder that has the demo's."""
    workshop.run(Block("sh", f"trtcal {DEMO}\n", 1), tmp_path)
    return lambda text, info="sh": workshop.run(Block(info, text, 1), tmp_path)


def test_a_cache_goes_to_qdq_and_back(run, tmp_path) -> None:
    from trtcal import CalibrationCache

    run("trtcal cache convert demo/digits.cache --to qdq demo/digits.onnx -o converted.onnx")
    run("trtcal cache convert --from qdq converted.onnx -o again.cache")
    run(
        "trtcal cache convert --from qdq converted.onnx --algorithm MinMaxCalibration "
        "--tensorrt-version 8.6.1 -o minmax.cache"
    )
    again, minmax = (CalibrationCache.load(tmp_path / name) for name in ("again.cache", "minmax.cache"))
    assert minmax.header == "TRT-8601-MinMaxCalibration"
    assert dict(minmax) == dict(again)
    assert (tmp_path / "converted.onnx").read_bytes() == (tmp_path / "demo" / "digits.int8.onnx").read_bytes()
    assert len(again) > 10


def test_an_encoding_file_holds_what_the_cache_does(run, tmp_path) -> None:
    from trtcal import CalibrationCache

    run("trtcal cache convert demo/digits.cache --to aimet -o digits.encodings")
    run("trtcal cache convert digits.encodings demo/digits.onnx -o from_aimet.cache")
    there, before = (CalibrationCache.load(tmp_path / name) for name in ("from_aimet.cache", "demo/digits.cache"))
    assert {name: there[name] for name in before} == pytest.approx(dict(before), rel=1e-6)


def test_a_configuration_in_python_does_what_it_says(run, tmp_path) -> None:
    run(CONFIGURED, "python")
    assert "[[name]]" in (tmp_path / "mine.toml").read_text(encoding="utf-8")
    configured = json.loads((tmp_path / "mine.engine.json").read_bytes())["configured"]
    assert configured["stem.conv"] == "float"
    assert configured["classifier"] == "fp32"
    assert configured["block1.widen.conv"] == "int8"


def test_a_simulation_does_what_it_says(run, tmp_path) -> None:
    top1, sqnr = map(float, run(SIMULATED, "python").split())
    assert 95 < top1 <= 100 and sqnr > 20
    names = sorted(path.name for path in (tmp_path / "simulated").iterdir())
    assert names == ["digits.encodings", "digits.onnx", "digits.qdq.onnx", "digits.qdq.onnx.json"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_run(run, example: str) -> None:
    assert run(f"python {ROOT / 'examples' / example} demo/digits.onnx demo/calibration unit").strip()
