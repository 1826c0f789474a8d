"""Rules for the layers of a model: settings by layer, name and type, and which of them counts."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol, TypeVar, get_args

from calibrators.errors import ConfigError
from engines.graph import operators
from trtcal.config.layer_settings import CLOSENESS, KEYS, LayerSettings
from trtcal.config.toml_file import nearest

Kind = Literal["layer", "name", "type"]

Rules = TypeVar("Rules", bound="LayerRules")

CONVOLUTIONS = operators.CONVOLUTIONS | {"_ConvNd"}
"""Operators, and the class that PyTorch's convolutions are derived from."""


class Quantizable(Protocol):
    """What settings are asked for, such as an `engines.simulation.simulated_model.Layer`.

    A PyTorch layer has its class as `type`, and is itself under a further attribute, `module`.
    """

    @property
    def name(self) -> str:
        """In the model."""
        ...

    @property
    def type(self) -> "str | type":
        """An operator, or a class."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """Settings for some layers.

    Attributes:
        kind: What it goes by.
        target: A layer's name, or a PyTorch module; a name or glob; an operator, the name of a class, or a class, which
            stands for those derived from it, too.
        settings: By field of `LayerSettings`; what is not set is left to less specific rules.
    """

    kind: Kind
    target: Any
    settings: Mapping[str, Any]

    def fits(self, layer: Quantizable) -> bool:
        """Whether it is for a layer."""
        if self.kind == "name":
            return _is_named(layer, self.target)
        if self.kind == "type":
            return _is_a(layer, self.target)
        if isinstance(self.target, str):
            return self.target == layer.name
        return self.target is getattr(layer, "module", None)


@dataclass(frozen=True, slots=True)
class Skip:
    """Layers that are left in float.

    Attributes:
        names: Names or globs.
        types: Operators, names of classes, or classes.
        first_convolutions: So many, in topological order.
        last_convolutions: Likewise.
    """

    names: tuple[str, ...] = ()
    types: tuple[Any, ...] = ()
    first_convolutions: int = 0
    last_convolutions: int = 0

    def __post_init__(self) -> None:
        for key in ("first_convolutions", "last_convolutions"):
            count = getattr(self, key)
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise ConfigError(f"{key} must be a whole number, 0 or more, not {count!r}")

    def ends(self, layers: Sequence[Quantizable]) -> set[str]:
        """Names of the first and last convolutions."""
        found = [layer.name for layer in layers if any(_is_a(layer, kind) for kind in CONVOLUTIONS)]
        return {*found[: self.first_convolutions], *found[max(0, len(found) - self.last_convolutions) :]}


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a configuration says of a model's layers.

    Attributes:
        layers: By layer name.
        unused: Rules that no layer fits, as a reader would write them.
        overruled: Likewise, rules that say how layers are quantized, all of which a less specific rule or a skip has in
            another precision.
        small: Products that are in float for their size alone (`engines.qdq.placement.is_small`).
        too_small: Likewise, rules that say how layers are quantized, all of which are such products.
        stated: Layers that a rule says are to be INT8.
    """

    layers: Mapping[str, LayerSettings]
    unused: tuple[str, ...] = ()
    overruled: tuple[str, ...] = ()
    small: frozenset[str] = frozenset()
    too_small: tuple[str, ...] = ()
    stated: frozenset[str] = frozenset()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of rules that come to nothing, one line each."""
        unused = [f"the configuration has a rule that fits no layer: {rule}" for rule in self.unused]
        idle = ((self.overruled, OVERRULED), (self.too_small, TOO_SMALL))
        return (*unused, *(f"the configuration's rule for {rule} {why}" for rules, why in idle for rule in rules))


@dataclass(slots=True)
class LayerRules:
    """Settings for a model's layers: of one layer before those of names, before those of types, before the default.

    Field by field, the most specific rule that sets it counts, whatever the order of the calls:

    1. `add_layer_config`: one layer;
    2. `add_name_config` with an exact name, then with a glob;
    3. `add_type_config`;
    4. `default`.

    `skip` is a rule of its kind that sets the precision to "float", by an exact name, a glob or a type, and goes before
    the other rules of that kind; first and last convolutions are skipped as by type. Of several globs, or classes, the
    first that was added counts. The same target again changes and adds to what it said before.

    A rule that says how layers are quantized says that they are: where the default is in float, and no rule has a
    precision for a layer, it is in INT8 if any rule fits it. So what is configured is quantized, and no more.

    A residual addition of whose precision no rule says anything, and which is fused into a convolution that is not
    INT8, takes that one's: quantizing its other input would cost accuracy and gain nothing. A matrix product too small
    to gain by INT8 (`engines.qdq.placement.is_small`) stays in float unless a rule gives it a precision.

    Attributes:
        default: Of what no rule sets.
        rules: By kind, in the order in which they were added.
        skipped: What `skip` left in float.
    """

    default: LayerSettings = field(default_factory=LayerSettings)
    rules: list[Rule] = field(default_factory=list)
    skipped: Skip = Skip()

    def add_layer_config(self: Rules, layer: Any, **settings: Any) -> Rules:
        """Settings of one layer or several: by name, `engines.simulation.simulated_model.Layer`, or PyTorch module.

        Raises:
            ConfigError: A layer is none of these; or as `LayerSettings`, or there are no settings.
        """
        return self._add("layer", layer, settings)

    def add_name_config(
        self: Rules, pattern: str | Collection[str] = (), *, layer_name: str | Collection[str] = (), **settings: Any
    ) -> Rules:
        """Settings of the layers whose names fit, exactly or as a glob (``*``, for ``/`` too; ``?``, ``[seq]``).

        Args:
            pattern: Names or globs.
            layer_name: The same, by PaddleSlim's word for it.
            settings: As `LayerSettings` has them.

        Raises:
            ConfigError: As `LayerSettings`, or there are no settings.
        """
        return self._add("name", _either(pattern, layer_name, "layer_name"), settings)

    def add_type_config(
        self: Rules,
        kind: "str | type | Collection[str | type]" = (),
        *,
        layer_type: "str | type | Collection[str | type]" = (),
        **settings: Any,
    ) -> Rules:
        """Settings of the layers of an operator type, such as "Conv", or of a class of PyTorch modules.

        Args:
            kind: Types or classes.
            layer_type: The same, by PaddleSlim's word for it.
            settings: As `LayerSettings` has them.

        Raises:
            ConfigError: As `LayerSettings`, or there are no settings.
        """
        return self._add("type", _either(kind, layer_type, "layer_type"), settings)

    def skip(
        self: Rules,
        *,
        names: str | Collection[str] = (),
        types: "str | type | Collection[str | type]" = (),
        first_convolutions: int | None = None,
        last_convolutions: int | None = None,
    ) -> Rules:
        """Leave layers in float.

        Args:
            names: Names or globs, beside those given before.
            types: Operators or classes, likewise.
            first_convolutions: So many, of Conv and ConvTranspose in topological order; None leaves it as it was.
            last_convolutions: Likewise.

        Raises:
            ConfigError: A name, type or number is none.
        """
        known = self.skipped
        self.skipped = Skip(
            tuple(dict.fromkeys((*known.names, *_targets("name", names)))),
            tuple(dict.fromkeys((*known.types, *_targets("type", types)))),
            known.first_convolutions if first_convolutions is None else first_convolutions,
            known.last_convolutions if last_convolutions is None else last_convolutions,
        )
        return self

    def settings(self, layers: Sequence[Quantizable]) -> Resolved:
        """What it says of a model's layers, which are in topological order."""
        ends = self.skipped.ends(layers)
        chosen = {layer.name: self._of(layer, ends) for layer in layers}
        found = {name: replace(self.default, **settings) for name, settings in chosen.items()}
        small = frozenset(
            layer.name
            for layer in layers
            if getattr(layer, "small", False)
            and self.default.precision == "int8"
            and "precision" not in chosen[layer.name]
        )
        found |= {name: replace(found[name], precision="float") for name in small}
        for layer in layers:
            partner = found.get(getattr(layer, "partner", None) or "")
            if partner is not None and partner.precision != "int8" and "precision" not in chosen[layer.name]:
                found[layer.name] = replace(found[layer.name], precision=partner.precision)
        overruled, too_small = tuple(self._overruled(layers, ends)), tuple(self._too_small(layers, small))
        stated = frozenset(name for name, settings in chosen.items() if settings.get("precision") == "int8")
        return Resolved(found, tuple(self._unused(layers)), overruled, small, too_small, stated)

    def _add(self: Rules, kind: Kind, targets: Any, settings: Mapping[str, Any]) -> Rules:
        stated = {key: value for key, value in settings.items() if value is not None}
        for key in settings:
            if key not in KEYS:
                near = nearest(key, KEYS, closeness=CLOSENESS)
                raise ConfigError(f"there is no setting {key!r} of layers{near}: choose among {', '.join(KEYS)}")
        replace(LayerSettings(), **stated)  # refuses values that mean nothing
        for target in _targets(kind, targets):
            if not stated:
                how = "precision='float' leaves layers in float" if settings else f"choose among {', '.join(KEYS)}"
                raise ConfigError(f"the rule for {kind} {_shown(target)} sets nothing: {how}")
            self._put(Rule(kind, target, stated))
        return self

    def _put(self, rule: Rule) -> None:
        for place, known in enumerate(self.rules):
            if known.kind == rule.kind and (known.target is rule.target or known.target == rule.target):
                self.rules[place] = replace(known, settings={**known.settings, **rule.settings})
                return
        self.rules.append(rule)
        self.rules.sort(key=lambda each: get_args(Kind).index(each.kind))

    def _of(self, layer: Quantizable, ends: Set[str]) -> dict[str, Any]:
        """What rules say of a layer."""
        chosen: dict[str, Any] = {}
        for _, settings in self._said(layer, ends):
            chosen |= settings
        if chosen and self.default.precision != "int8":
            chosen.setdefault("precision", "int8")
        return chosen

    def _said(self, layer: Quantizable, ends: Set[str]) -> list[tuple[int, Mapping[str, Any]]]:
        """Ranks and settings of what is said of a layer, the most specific last."""
        said = [(_rank(rule, layer), rule.settings) for rule in reversed(self.rules) if rule.fits(layer)]
        said += [(rank, {"precision": "float"}) for rank in self._skips(layer, ends)]
        return sorted(said, key=lambda each: -each[0])

    def _skips(self, layer: Quantizable, ends: Set[str]) -> Iterator[int]:
        """Ranks of what leaves a layer in float."""
        if layer.name in self.skipped.names:
            yield _EXACT - 1
        if any(_is_named(layer, pattern) for pattern in self.skipped.names):
            yield _GLOB - 1
        if layer.name in ends or any(_is_a(layer, kind) for kind in self.skipped.types):
            yield _TYPE - 1

    def _unused(self, layers: Sequence[Quantizable]) -> Iterator[str]:
        """What no layer fits, in words."""
        names, types = [layer.name for layer in layers], [_shown(layer.type).strip("'") for layer in layers]
        for rule in self.rules:
            if not any(map(rule.fits, layers)):
                yield f"{rule.kind} {_shown(rule.target)}{_near(rule.target, types if rule.kind == 'type' else names)}"
        for name in self.skipped.names:
            if not any(_is_named(layer, name) for layer in layers):
                yield f"skip name {_shown(name)}{_near(name, names)}"
        for kind in self.skipped.types:
            if not any(_is_a(layer, kind) for layer in layers):
                yield f"skip type {_shown(kind)}{_near(kind, types)}"
        there = len(replace(self.skipped, first_convolutions=len(layers)).ends(layers))
        for key in ("first_convolutions", "last_convolutions"):
            if getattr(self.skipped, key) > there:
                yield f"skip {key} = {getattr(self.skipped, key)}, of which there are {there}"

    def _overruled(self, layers: Sequence[Quantizable], ends: Set[str]) -> Iterator[str]:
        """Rules that quantize nothing, as something less specific is in another precision, in words."""
        decided = {
            layer.name: [(rank, each["precision"]) for rank, each in self._said(layer, ends) if "precision" in each][
                -1:
            ]
            for layer in layers
        }
        for rule in self.rules:
            fitting = [layer for layer in layers if "precision" not in rule.settings and rule.fits(layer)]
            if fitting and all(
                rank > _rank(rule, layer) and precision != "int8"
                for layer in fitting
                for rank, precision in decided[layer.name] or [(_LAYER, "int8")]
            ):
                yield f"{rule.kind} {_shown(rule.target)}"

    def _too_small(self, layers: Sequence[Quantizable], small: Set[str]) -> Iterator[str]:
        """Rules that quantize nothing, as all they fit is in float for its size, in words."""
        for rule in self.rules:
            fitting = {layer.name for layer in layers if rule.fits(layer)}
            if fitting and fitting <= small:
                yield f"{rule.kind} {_shown(rule.target)}"


TOO_SMALL = (
    "quantizes nothing, as what it fits are matrix products too small to gain by INT8: give it precision = 'int8', too"
)
OVERRULED = (
    "quantizes nothing, as a less specific rule or a skip has what it fits in another precision: give it "
    "precision = 'int8', too"
)
"""What is said of such rules."""

_LAYER, _EXACT, _GLOB, _TYPE = 0, 2, 4, 6
"""Ranks of rules, the lower the more specific; a skip is one below the rules of its kind."""


def _rank(rule: Rule, layer: Quantizable) -> int:
    if rule.kind == "name":
        return _EXACT if rule.target == layer.name else _GLOB
    return _LAYER if rule.kind == "layer" else _TYPE


def _is_named(layer: Quantizable, pattern: str) -> bool:
    return pattern == layer.name or fnmatchcase(layer.name, pattern)


def _is_a(layer: Quantizable, kind: "str | type") -> bool:
    if not isinstance(layer.type, type):
        return kind == layer.type
    return any(kind in (each, each.__name__, qualified(each)) for each in layer.type.__mro__)


def qualified(kind: type) -> str:
    """A class's name with its module's."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _either(given: Any, other: Any, word: str) -> Any:
    """What a rule is for, of two arguments of which one is to be given."""
    stated = [each for each in (given, other) if not (isinstance(each, tuple) and not each)]
    if len(stated) != 1:
        raise ConfigError(f"a rule is for what its first argument says, or {word} in its place: give one of them")
    return stated[0]


def _targets(kind: Kind, given: Any) -> list[Any]:
    """What rules are for: one or several, which a PyTorch container of modules is not."""
    if isinstance(given, (set, frozenset)):
        given = sorted(given, key=str)
    several = isinstance(given, (list, tuple, Set, Iterator))
    return [_target(kind, each) for each in (given if several else [given])]


def _target(kind: Kind, given: Any) -> Any:
    if kind == "layer" and isinstance(getattr(given, "name", None), str) and hasattr(given, "type"):
        given = given.name
    if isinstance(given, str) and given:
        return given
    if kind == "type" and isinstance(given, type):
        return given
    if kind == "layer" and not isinstance(given, (str, type, int, float, Mapping, type(None))):
        return given
    wanted = {"layer": "a layer is told by its name", "name": "a name or glob is text", "type": "a type is text"}[kind]
    raise ConfigError(f"{wanted}, not {given!r}")


def _shown(target: Any) -> str:
    if isinstance(target, type):
        return target.__name__
    return repr(target) if isinstance(target, str) else f"of class {type(target).__name__}"


def _near(target: Any, valid: list[str]) -> str:
    return nearest(target, valid, closeness=CLOSENESS) if isinstance(target, str) else ""
