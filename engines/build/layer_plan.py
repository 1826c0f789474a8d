"""What each layer of a model is to compute in, and how it is quantized: what a configuration comes to."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from calibrators.cache.float_layers import within
from calibrators.cache.powers import with_powers_of_two
from calibrators.cache.text import CalibrationCache
from calibrators.errors import CacheError, CacheMismatchError
from calibrators.methods.names import DEFAULT, canonical
from calibrators.ranges import calibrate
from calibrators.statistics.file import Statistics
from engines.graph.model import ModelSource, name_of
from engines.qdq.weights import WeightOptions
from engines.qdq.write import LayerChoice
from engines.simulation.layer_names import layers_of
from engines.simulation.simulated_model import Layer

LayerPrecision = Literal["int8", "fp16", "fp32", "float"]
"""What a layer computes in; "float" is whatever the build takes for what is not quantized."""

NAMES = 3
"""That a line lists at most."""

FROM_STATISTICS = (
    "give the statistics instead, from which any method derives: --statistics-from FILE.npz, which trtcal "
    "calibrate --statistics FILE.npz writes"
)


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """What a configuration makes of a model's layers.

    Attributes:
        precisions: By layer name.
        weights: By name of the INT8 layers that have a weight.
        methods: By name of the INT8 layers that want a range method of their own for what they read.
        notes: What a reader should know, a line each.
        powers: Names of the INT8 layers whose scales are powers of two.
        reasons: Why, by name of the layers that are in float though no configuration has them so.
        stated: Names of the layers that the configuration names as INT8.
    """

    precisions: Mapping[str, LayerPrecision]
    weights: Mapping[str, WeightOptions] = field(default_factory=dict)
    methods: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    powers: frozenset[str] = frozenset()
    reasons: Mapping[str, str] = field(default_factory=dict)
    stated: frozenset[str] = frozenset()

    def leaving(self, reasons: Mapping[str, str]) -> "LayerPlan":
        """The plan with layers in float for these reasons, by name: but those that it says something else of."""
        free = {name for name in reasons if self.precisions.get(name, "int8") == "int8" and name not in self.stated}
        left = {name: why for name, why in reasons.items() if name in free}
        return replace(
            self,
            precisions={**self.precisions, **dict.fromkeys(left, "float")},
            weights={name: options for name, options in self.weights.items() if name not in left},
            methods={name: method for name, method in self.methods.items() if name not in left},
            powers=self.powers - left.keys(),
            reasons={**self.reasons, **left},
        )

    @property
    def choices(self) -> dict[str, LayerChoice]:
        """As `engines.qdq.write.quantize` takes them."""
        floats = {
            name: self.reasons.get(name, f"the configuration has it in {precision}")
            for name, precision in self.precisions.items()
            if precision != "int8"
        }
        return {**self.weights, **floats}

    def named(self, *precisions: LayerPrecision) -> tuple[str, ...]:
        """The layers of these precisions."""
        return tuple(name for name, precision in self.precisions.items() if precision in precisions)

    def common_method(self, otherwise: str = DEFAULT) -> str:
        """The range method of most of the INT8 layers, where those that want none take another."""
        wanted = Counter(canonical(self.methods.get(name, otherwise)) for name in self.named("int8"))
        wanted[canonical(otherwise)] += 0
        most = max(wanted.values())
        return otherwise if wanted[canonical(otherwise)] == most else max(wanted, key=lambda name: wanted[name])

    def described(self, used: Mapping[str, float], method: str) -> dict[str, dict[str, Any]]:
        """By layer: its precision and, of one that is quantized, how; for JSON.

        Args:
            used: The scale of what each quantized layer reads.
            method: The range method of those that want none of their own.
        """
        return {name: self._described(name, used.get(name), method) for name in self.precisions}

    def _described(self, name: str, scale: float | None, method: str) -> dict[str, Any]:
        if scale is None:
            return {"precision": self.precisions[name] if self.precisions[name] != "int8" else "float"}
        about: dict[str, Any] = {
            "precision": "int8",
            "activation": canonical(self.methods.get(name, method)),
            "scale": scale,
        }
        if name in self.weights:
            options = self.weights[name]
            about |= {
                "weight": options.method,
                "weight_bits": options.bits,
                "granularity": str(options.granularity),
            }
        if name in self.powers:
            about["power_of_two"] = True
        return about


NO_PLAN = LayerPlan({})
"""All that can be is quantized, as the build has it."""


class LayerConfig(Protocol):
    """What decides about layers, such as `trtcal.QuantConfig`."""

    def plan(self, layers: Sequence[Layer]) -> LayerPlan:
        """What becomes of a model's layers in TensorRT.

        Raises:
            ConfigError: A layer is to be quantized as TensorRT cannot.
        """
        ...


def float_layers_of(ranges: CalibrationCache | Statistics, model: ModelSource, budget: float) -> dict[str, str]:
    """The layers that a calibration found better left in float, as its cache's side-car says, and why.

    Args:
        ranges: Statistics name none.
        model: That they are for.
        budget: Percent of its multiply-accumulates.

    Raises:
        CacheMismatchError: One of them is none of the model's.
    """
    known = None if isinstance(ranges, Statistics) else ranges.sidecar
    found = {} if known is None else within(known.float_layers, budget)
    if unknown := found.keys() - {layer.name for layer in layers_of(model)} if found else set():
        raise CacheMismatchError(
            f"the cache's side-car leaves {some(sorted(unknown))} in float, and {name_of(model)} has no such layer to "
            "quantize: correct the name under float_layers, or calibrate again"
        )
    return found


def scales_for(
    plan: LayerPlan,
    ranges: CalibrationCache | Statistics,
    *,
    method: str = DEFAULT,
    main: str | None = None,
    name: str = "the cache",
) -> tuple[CalibrationCache, dict[str, CalibrationCache]]:
    """The scales that most layers take, and by name of the others their own.

    Args:
        plan: Which range methods are wanted.
        ranges: A cache, of one method; or statistics, from which any derives.
        method: Of layers that want none of their own, where there are statistics.
        main: That of the first cache; None takes that of most layers.
        name: What messages call the cache.

    Raises:
        CacheError: A layer wants a method that is not the cache's.
        RangeError: The statistics are empty.
    """
    if isinstance(ranges, Statistics):
        common = main or plan.common_method(method)
        caches = {common: calibrate(ranges, common)}
        wanted = {each: canonical(plan.methods.get(each, method)) for each in plan.named("int8")}
        others = {each: chosen for each, chosen in wanted.items() if chosen != canonical(common)}
        caches |= {chosen: calibrate(ranges, chosen) for chosen in sorted(set(others.values()))}
        return _in_powers(plan, caches[common], {each: caches[chosen] for each, chosen in others.items()})
    theirs = method_of(ranges)
    for layer, chosen in plan.methods.items():
        if theirs is None or canonical(chosen) != canonical(theirs):
            made = f"holds those of {theirs}" if theirs else "does not say how its ranges were chosen"
            raise CacheError(
                f"the configuration wants ranges by {chosen} for {layer}, and {name} {made}: {FROM_STATISTICS}"
            )
    return _in_powers(plan, ranges, {})


def _in_powers(
    plan: LayerPlan, cache: CalibrationCache, others: Mapping[str, CalibrationCache]
) -> tuple[CalibrationCache, dict[str, CalibrationCache]]:
    """The cache of most layers and those of others, with powers of two where a plan wants them.

    The first has them where all INT8 layers do.
    """
    if not plan.powers:
        return cache, dict(others)
    rounded = {id(each): with_powers_of_two(each) for each in (cache, *others.values())}
    main = rounded[id(cache)] if plan.powers >= set(plan.named("int8")) else cache
    chosen = {
        name: rounded[id(own)] if name in plan.powers else own
        for name, own in ((name, others.get(name, cache)) for name in plan.named("int8"))
    }
    return main, {name: own for name, own in chosen.items() if own is not main}


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    each = list(names)
    more = f" and {len(each) - NAMES} more" if len(each) > NAMES else ""
    return ", ".join(each[:NAMES]) + more


def method_of(cache: CalibrationCache) -> str | None:
    """The range method of a cache: as its side-car says, or else TensorRT's own by its header; None where none does.

    The header of MinMaxCalibration is also that of methods that TensorRT does not have.
    """
    if cache.sidecar is not None:
        return cache.sidecar.method
    return "entropy" if cache.algorithm == "EntropyCalibration2" else None
