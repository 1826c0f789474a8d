"""What kind of layer one is, in the words of a reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from calibrators.statistics.file import Statistics
from engines.graph.operators import CONVOLUTIONS
from engines.simulation.simulated_model import Layer, Simulation
from trtcal.analysis.errors.suspicion import OUTLIERS, usual_magnitude


@dataclass(frozen=True, slots=True)
class Kinds:
    """What is known of a model's layers.

    Attributes:
        layers: By name.
        first: The name of the first with a weight.
        heads: Names of those behind which no other comes, with the output that each leads to.
        outliers: By name of those that read outliers: how far these lie over the usual values.
    """

    layers: Mapping[str, Layer]
    first: str
    heads: Mapping[str, str]
    outliers: Mapping[str, float]

    @classmethod
    def of(cls, simulation: Simulation, statistics: Statistics | None = None) -> "Kinds":
        """Of a model, and of the statistics of what its layers read."""
        weighted = [layer for layer in simulation.layers if layer.weight is not None]
        read = {layer.activation for layer in weighted}
        reach = {} if statistics is None else {name: _reach(statistics, name) for name in read}
        return cls(
            {layer.name: layer for layer in simulation.layers},
            weighted[0].name if weighted else "",
            _heads(simulation.floats, weighted),
            {layer.name: reach[layer.activation] for layer in weighted if reach.get(layer.activation, 0) > OUTLIERS},
        )

    def of_layer(self, name: str) -> str:
        """A layer's kind."""
        layer = self.layers[name]
        if name == self.first:
            return "the first layer"
        if name in self.heads:
            what = "a head" if layer.type in CONVOLUTIONS else "a classifier's or regression's last layer"
            return f"{what}, which gives {self.heads[name]}"
        if name in self.outliers:
            return f"a layer that reads outliers, {self.outliers[name]:.0f} times its usual values"
        if layer.type in CONVOLUTIONS and layer.shape[1] == 1 and layer.shape[0] > 1:
            return "a depthwise convolution"
        return "a layer that costs the outputs much"


def _reach(statistics: Statistics, name: str) -> float:
    known = statistics.get(name)
    if known is None or known.amax == 0:
        return 0.0
    return known.amax / usual_magnitude(known)


def _heads(model: onnx.ModelProto, weighted: Sequence[Layer]) -> dict[str, str]:
    """The layers behind which no other with weights comes, and the output that each leads to."""
    given_by = {layer.output: layer.name for layer in weighted}
    leads = {output.name: output.name for output in model.graph.output}
    awaited, heads = set[str](), dict[str, str]()
    for node in reversed(model.graph.node):
        output = next((leads[name] for name in node.output if name in leads), None)
        layer = next((given_by[name] for name in node.output if name in given_by), None)
        before = not awaited.isdisjoint(node.output)
        if layer is not None and output is not None and not before:
            heads[layer] = output
        for name in node.input:
            if output is not None:
                leads.setdefault(name, output)
            if before or layer is not None:
                awaited.add(name)
    return heads
