"""What to quantize, and how: a model's settings as users state them, in Python or in a TOML file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import EllipsisType
from typing import Any

from calibrators.errors import ConfigError
from calibrators.files import write_whole
from engines.build.layer_plan import LayerPlan
from engines.simulation.simulated_model import Layer
from trtcal.config import file
from trtcal.config.layer_plans import plan_of
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.rules import LayerRules, Rule, Skip


@dataclass(slots=True, init=False)
class QuantConfig(LayerRules):
    """Settings for a model's layers: of one layer before those of names, before those of types, before the default.

    Field by field, the most specific rule that sets it counts: see `trtcal.config.rules.LayerRules`.

    Args:
        default: As below.
        rules: As below.
        skipped: As below.
        qat_layers: As below.
        activation: Of the default, in its place; as PaddleSlim's configurations have it.
        weight: Likewise. None for both leaves all in float but what rules say how to quantize.

    Attributes:
        default: Of what no rule sets.
        rules: By kind, in the order in which they were added.
        skipped: What `skip` left in float.
        qat_layers: Source class -> target class; for PyTorch.

    Raises:
        ConfigError: One of `activation` and `weight` is None, and the other is not: INT8 quantizes both.
    """

    qat_layers: dict[type, type] = field(default_factory=dict)

    def __init__(
        self,
        default: LayerSettings | None = None,
        rules: Sequence[Rule] = (),
        skipped: Skip | None = None,
        qat_layers: Mapping[type, type] | None = None,
        *,
        activation: str | EllipsisType | None = ...,
        weight: str | EllipsisType | None = ...,
    ) -> None:
        self.default = _with_methods(default or LayerSettings(), activation, weight)
        self.rules, self.skipped = list(rules), skipped or Skip()
        self.qat_layers = dict(qat_layers or {})

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


def _with_methods(
    default: LayerSettings, activation: str | EllipsisType | None, weight: str | EllipsisType | None
) -> LayerSettings:
    """Settings with methods that were given, if they were; None for both means that nothing is quantized by default."""
    if not isinstance(default, LayerSettings):
        raise ConfigError(
            f"the default is a LayerSettings, not {default!r}: name methods, as in QuantConfig(activation='mse', "
            "weight='absmax')"
        )
    given: dict[str, Any] = {"activation": activation, "weight": weight}
    stated = {key: value for key, value in given.items() if value is not ...}
    if all(value is None for value in given.values()):
        return replace(default, precision="float")
    for key, other in (("activation", "weight"), ("weight", "activation")):
        if given[key] is None:
            raise ConfigError(
                f"{key} is None, and {other} is not: INT8 quantizes what a layer reads and its weight, both or none; "
                f"give {key} a method or leave it out, or give None for both"
            )
    return replace(default, **stated)
