"""The error of one layer in INT8, against the float model."""

from dataclasses import dataclass
from typing import Any

from calibrators.tabular import Row
from engines.simulation.simulated_model import Layer
from trtcal.analysis.errors.fidelity import Channels, Fidelity, GridUse
from trtcal.analysis.errors.weight_errors import WeightError


@dataclass(frozen=True, slots=True)
class LayerError:
    """What quantization does to a layer, in a model of which every layer that can be is quantized.

    Attributes:
        layer: The layer.
        arrives: Its input in the INT8 model, not quantized yet, against the float model's: the error of all before it.
        rounded: The same input after quantization, against before: the error of its own encoding.
        reads: The same, against the float model's: what the layer computes on.
        gives: Its output against the float model's.
        use: How its input uses the grid.
        channels: Its input by channels.
        weight: Its weight's error; None for a skip input.
    """

    layer: Layer
    arrives: Fidelity
    rounded: Fidelity
    reads: Fidelity
    gives: Fidelity
    use: GridUse
    channels: Channels
    weight: WeightError | None = None

    def to_row(self) -> Row:
        """Cells of a table: SQNR in dB of what arrives, of its rounding and of the output; the rest are shares of 1."""
        return {
            "layer": self.layer.name,
            "operator": self.layer.type,
            "input_sqnr_db": self.arrives.sqnr,
            "rounding_sqnr_db": self.rounded.sqnr,
            "output_sqnr_db": self.gives.sqnr,
            "output_cosine": self.gives.cosine,
            "clipped": self.use.saturation,
            "reach": self.use.reach,
            "levels": self.use.occupied,
        }

    def to_dict(self) -> dict[str, Any]:
        """For JSON; NaN and infinity are as they are."""
        return {
            "layer": self.layer.name,
            "type": self.layer.type,
            "input": self.layer.activation,
            "output": self.layer.output,
            "input_sqnr_db": self.arrives.sqnr,
            "input_quantized_sqnr_db": self.reads.sqnr,
            "input_rounding_sqnr_db": self.rounded.sqnr,
            "input_cosine": self.reads.cosine,
            "input_identical": self.arrives.identical,
            "output_sqnr_db": self.gives.sqnr,
            "output_cosine": self.gives.cosine,
            "output_identical": self.gives.identical,
            "saturation": self.use.saturation,
            "grid": {
                "bits": self.use.encoding.grid.bits,
                "scale": float(self.use.encoding.scale),
                "zero_point": int(self.use.encoding.zero_point),
                "largest_level_used": self.use.reach,
                "levels_used": self.use.occupied,
                "effective_levels": self.use.effective,
            },
            "channels": {
                "count": len(self.channels.amax),
                "dead": list(self.channels.dead),
                "lost": list(self.channels.lost),
                "spread": self.channels.spread,
                "median_sqnr_db": self.channels.sqnr,
            },
            "nonfinite": self.arrives.nonfinite + self.gives.nonfinite,
            "weight": None if self.weight is None else self.weight.to_dict(),
        }
