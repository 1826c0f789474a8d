"""Simulate INT8 and fewer bits on any machine: FP32 against simulated accuracy, and the encodings for other tools.

Usage: python examples/04_quantsim.py MODEL.onnx IMAGES PREPROCESS
"""

import sys

import trtcal

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, images, preprocess = sys.argv[1:]
calibration = trtcal.ImageLoader(images, preprocess=preprocess, batch_size=8, count=100)
others = calibration.sampled(100, without=calibration.names)

int8 = trtcal.QuantSim(model, scheme="tf_enhanced", default_output_bw=8, default_param_bw=8)
int8.compute_encodings(calibration)

# 4-bit weights, chosen for the least squared error; the first layer and the last keep 8 bits.
config = trtcal.QuantConfig().add_name_config("*", weight="mse", weight_bits=4)
config.add_layer_config([int8.layers[0], int8.layers[-1]], weight_bits=8)
four = trtcal.QuantSim(model, scheme="tf_enhanced", config=config)
four.compute_encodings(lambda session: trtcal.evaluate(session, calibration))  # code of your own that runs a session

models = {"FP32": model, "INT8": int8, "4-bit weights": four}
report = trtcal.evaluate(models, others, reference="FP32")
for name, score in report.scores.items():
    sys.stdout.write(f"{name}: top-1 {score.top1.percent:.1f} % of {score.top1.total} images")
    sys.stdout.write("\n" if name == "FP32" else f", SQNR {score.sqnr:.1f} dB\n")

written = int8.export("quantsim", "int8", qdq=True, cache=True)
again = trtcal.QuantSim(written.model)
again.load_encodings(written.encodings)
assert again.encodings.activations == int8.encodings.activations
sys.stdout.write(f"written: {written.encodings}, {written.model}, {written.qdq}, {written.cache}\n")
