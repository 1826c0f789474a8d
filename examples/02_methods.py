"""Look once, decide later: the ranges of several methods from the same statistics, where they differ most.

Usage: python examples/02_methods.py MODEL.onnx IMAGES PREPROCESS
"""

import sys

import trtcal

METHODS = ("minmax", "entropy", "percentile:99.9", "mse", "sqnr")

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, images, preprocess = sys.argv[1:]
statistics = trtcal.collect(model, trtcal.ImageLoader(images, preprocess=preprocess, count=100))
caches = {method: trtcal.calibrate(statistics, method=method) for method in METHODS}

whole = caches["minmax"]
kept = {
    name: {method: cache.amax(name) / whole.amax(name) for method, cache in caches.items()}
    for name in whole
    if whole[name] > 0
}
for name in sorted(kept, key=lambda name: min(kept[name].values()))[:5]:
    shares = ", ".join(f"{method} {share:.1%}" for method, share in kept[name].items())
    sys.stdout.write(f"{name}: of the range up to {whole.amax(name):.4g} is kept by {shares}\n")

asymmetric = trtcal.encodings(statistics, "mse", trtcal.Grid(bits=4, signed=False, symmetric=False))
for name, encoding in list(asymmetric.items())[:3]:
    sys.stdout.write(f"{name} in 4 bits: scale {float(encoding.scale):.4g}, zero point {int(encoding.zero_point)}\n")
