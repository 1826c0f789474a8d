"""Multiply-accumulates of a model's layers, at the sizes of real images."""

from contextlib import closing

from engines.sessions.onnxruntime import OnnxRuntimeSession
from engines.simulation.costs import inferred_shapes, macs, sized
from engines.simulation.simulated_model import Simulation
from trtcal.data.images import ImageLoader
from trtcal.measure.groups import Singles


def layer_macs(simulation: Simulation, images: ImageLoader) -> dict[str, int]:
    """Multiply-accumulates of a model's layers for one image; for as many as it takes where its batch is fixed.

    Shapes are inferred from the image's; a sample is run where inference cannot tell one.
    """
    with OnnxRuntimeSession(simulation.floats) as session:
        loader, size = images.for_model(session.inputs), session.fixed_batch or 1
    with closing(iter(Singles(loader, size, labelled=False))) as samples:
        sample = next(samples)
    shapes = inferred_shapes(simulation.floats, {name: array.shape for name, array in sample.items()})
    missing = [name for name in sized(simulation.layers) if name not in shapes]
    if missing:
        with OnnxRuntimeSession(simulation.version({}, outputs=missing)) as session:
            shapes |= {name: array.shape for name, array in session.run(sample).items()}
    return macs(simulation.layers, shapes)
