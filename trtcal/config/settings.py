"""What to quantize, and how: a model's settings as users state them, in Python or in a TOML file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calibrators.errors import ConfigError
from calibrators.files import write_whole
from engines.build.layer_plan import LayerPlan
from engines.simulation.simulated_model import Layer
from trtcal.config import file
from trtcal.config.layer_plans import plan_of
from trtcal.config.rules import LayerRules


@dataclass(slots=True)
class QuantConfig(LayerRules):
    """Settings for a model's layers: of one layer before those of names, before those of types, before the default.

    Field by field, the most specific rule that sets it counts: see `trtcal.config.rules.LayerRules`.

    Attributes:
        default: Of what no rule sets.
        rules: By kind, in the order in which they were added.
        skipped: What `skip` left in float.
        qat_layers: Source class -> target class; for PyTorch.
    """

    qat_layers: dict[type, type] = field(default_factory=dict)

    def add_qat_layer_mapping(self, source: type, target: type) -> "QuantConfig":
        """Have quantization-aware training replace layers of one class by those of another, in PyTorch.

        Files of settings hold names, so `save` leaves these out, and says so in the file.

        Raises:
            ConfigError: One of them is no class.
        """
        for what, given in (("source", source), ("target", target)):
            if not isinstance(given, type):
                raise ConfigError(f"the {what} of a QAT layer mapping must be a class, not {given!r}")
        self.qat_layers[source] = target
        return self

    def plan(self, layers: Sequence[Layer]) -> LayerPlan:
        """What becomes of a model's layers in TensorRT: `engines.build.builder.build_engine` and `quantize` ask for it.

        Raises:
            ConfigError: A layer is to be quantized as TensorRT cannot: with other than 8 bits for what it reads, more
                for its weight, or asymmetrically.
        """
        return plan_of(self.settings(layers), layers)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "QuantConfig":
        """Read a TOML file.

        Raises:
            ConfigError: It cannot be read, or holds an unknown section, key or value; the message names it, the
                nearest valid one, and the file.
        """
        return file.load(Path(path), QuantConfig)

    @staticmethod
    def parse(text: str, *, source: str = "<text>") -> "QuantConfig":
        """Undo `dumps`; `source` names the text in messages.

        Raises:
            ConfigError: As `load`.
        """
        return file.parse(text, QuantConfig, source=source)

    def dumps(self) -> str:
        """As TOML.

        Raises:
            ConfigError: A rule is for a PyTorch module, which has no name here.
        """
        text = file.dumps(self)
        if self.qat_layers:
            text += f"\n# {len(self.qat_layers)} QAT layer mapping(s), of PyTorch classes, are not in this file\n"
        return text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a TOML file, whole or not at all; `load` gives an equal configuration back.

        Raises:
            ConfigError: As `dumps`.
            OutputError: The file cannot be written.
        """
        write_whole(path, self.dumps())
