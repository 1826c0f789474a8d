"""What nobody has to ask for: the range method and the layers left in float that measure best, and what they bring.

Usage: python examples/07_calibrate.py MODEL.onnx IMAGES PREPROCESS
"""

import sys

import trtcal

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, images, preprocess = sys.argv[1:]
loader = trtcal.ImageLoader(images, preprocess=preprocess, count=128)
others = loader.sampled(50, without=loader.names)

found = trtcal.calibrate_model(model, loader)
found.cache.save("best.cache")
for name, sqnr in found.judged.items():
    sys.stdout.write(f"{name}: {sqnr:.1f} dB on {found.looked_at} images held out\n")
for name, layer in found.float_layers.items():
    sys.stdout.write(f"left in float: {name}, {layer.share:.2f} % of the multiply-accumulates\n")

trtcal.quantize(model, found.cache, output="best.onnx")
trtcal.quantize(model, found.cache, float_budget=0, output="all.onnx")
trtcal.quantize(model, trtcal.calibrate(found.statistics, "entropy"), output="entropy.onnx")
models = {"float": model, "best": "best.onnx", "all in INT8": "all.onnx", "by entropy": "entropy.onnx"}
report = trtcal.evaluate(models, others, reference="float")
for name, score in report.scores.items():
    if name != "float":
        sys.stdout.write(f"{name}: {score.sqnr:.1f} dB\n")
