"""Rank range methods on images that were not calibrated on, and write the winner's cache.

Usage: python examples/03_compare.py MODEL.onnx IMAGES PREPROCESS
"""

import sys

import trtcal

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, images, preprocess = sys.argv[1:]
calibration = trtcal.ImageLoader(images, preprocess=preprocess, count=100)
others = calibration.sampled(50, without=calibration.names)

statistics = trtcal.collect(model, calibration)
found = trtcal.compare(model, statistics, others, methods=["entropy", "minmax", "percentile:99.9", "mse"])
sys.stdout.write(f"by {found.criterion}, then SQNR (shown), on {found.reference.samples} images:\n")
for each in found.ranking:
    sys.stdout.write(f"{each.rank}. {each.method}: {each.score.sqnr:.1f} dB, ranges in {1000 * each.seconds:.0f} ms\n")
found.winner.cache.save("winner.cache")
