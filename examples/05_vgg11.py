"""A VGG11 for images of 32x32 pixels in simulated INT8: FP32 against simulated accuracy, and the encodings.

Usage: python tools/train_vgg.py --output FOLDER; python examples/05_vgg11.py FOLDER
"""

import sys
from pathlib import Path

import trtcal

if len(sys.argv) != 2:
    sys.exit(__doc__)
folder = Path(sys.argv[1])
calibration, test = (
    trtcal.ImageLoader(folder / name, preprocess="cifar10", batch_size=50) for name in ("calibration.npz", "test.npz")
)

sim = trtcal.QuantSim(folder / "vgg11.onnx", scheme="tf_enhanced", default_output_bw=8, default_param_bw=8)
sim.compute_encodings(calibration)
report = trtcal.evaluate({"FP32": folder / "vgg11.onnx", "simulated": sim}, test, reference="FP32")
for name, score in report.scores.items():
    sys.stdout.write(f"{name}: top-1 {score.top1.percent:.2f} % of {score.top1.total} images\n")
sys.stdout.write(f"lost in simulated INT8: {report.scores['simulated'].drop:.2f} points\n")
written = sim.export(folder, "vgg11.simulated", qdq=True, cache=True)
sys.stdout.write(f"written: {written.encodings}, {written.model}, {written.qdq}, {written.cache}\n")
