"""Look once, decide later: entropy and minmax ranges of the same statistics, and the tensors where they differ most.

Usage: python examples/02_methods.py MODEL.onnx IMAGES PREPROCESS
"""

import sys

import trtcal

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, images, preprocess = sys.argv[1:]
inputs = trtcal.OnnxRuntimeSession(model).inputs
statistics = trtcal.collect(model, trtcal.ImageLoader(images, preprocess=preprocess, count=100, inputs=inputs))
entropy, minmax = (trtcal.calibrate(statistics, method=method) for method in ("entropy", "minmax"))

kept = {name: entropy.amax(name) / minmax.amax(name) for name in minmax if minmax[name] > 0}
for name in sorted(kept, key=kept.__getitem__)[:10]:
    sys.stdout.write(f"{name}: entropy keeps {kept[name]:.1%} of the range up to {minmax.amax(name):.4g}\n")
