"""Calibrate in shards: statistics of two halves of the images add up to exactly those of all of them.

Usage: python examples/01_shards.py MODEL.onnx IMAGES PREPROCESS
"""

import sys
from pathlib import Path

import trtcal

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, images, preprocess = sys.argv[1:]
inputs = trtcal.OnnxRuntimeSession(model).inputs
loader = trtcal.ImageLoader(images, preprocess=preprocess, batch_size=4, count=100, inputs=inputs)
batches = list(loader)
half = len(batches) // 2

whole = trtcal.collect(model, batches)
trtcal.collect(model, batches[:half]).save("first.stats.npz")
trtcal.collect(model, batches[half:]).save("second.stats.npz")
merged = trtcal.Statistics.load("first.stats.npz") + trtcal.Statistics.load("second.stats.npz")

assert merged == whole
trtcal.calibrate(merged).save("shards.cache")
sys.stdout.write(
    f"{len(merged)} tensors, the same from two shards as from one pass: {Path('shards.cache').resolve()}\n"
)
