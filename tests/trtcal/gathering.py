"""Statistics of a folder of images, or of arrays, for a model."""

from engines.collection.collect import collect
from trtcal.pipeline import open_for


def collect_images(model, images, *, tensors="all", **options):
    """The statistics, and the loader of the images."""
    loader = open_for(model, images, **options)
    return collect(model, loader, tensors=tensors), loader
