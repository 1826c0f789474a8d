"""Statistics of a folder of images, or of arrays, for a model; and a cache of them."""

from engines.collection.collect import collect
from trtcal.pipeline import open_for


def collect_images(model, images, *, tensors="all", **options):
    """The statistics, and the loader of the images."""
    loader = open_for(model, images, **options)
    return collect(model, loader, tensors=tensors), loader


def calibrate_plainly(command, job, cache, *options):
    """Write the cache of the job's model: by entropy, with no layer left in float."""
    plainly = ["--method", "entropy", "--float-budget", 0]
    assert command("calibrate", job / "model.onnx", *options, *plainly, "-o", cache)[0] == 0
