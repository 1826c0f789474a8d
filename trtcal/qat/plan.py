"""What of a model is quantized: its layers, additions and products, in the settings of a configuration."""

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from torch import fx, nn

from calibrators.errors import ConfigError, ModelError
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.rules import Kind, Resolved, Rule
from trtcal.config.settings import QuantConfig
from trtcal.qat.functions import FunctionSite, function_sites
from trtcal.qat.layers import HARMLESS, foldable, refusal
from trtcal.qat.tracing import Trace, traced

Class = type
"""The built-in type, where an attribute takes its name."""


class QuantizationWarning(UserWarning):
    """Something stays in float, or a rule of a configuration is for nothing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What can be quantized, or would be if it were known.

    Attributes:
        name: Path of the module; of a function, that of the module it is in and what it is: "layer1.0.add".
        type: The module's class, or the function's name.
        module: The module.
        site: The function.
        target: The user's class that takes its place.
        refusal: Why it cannot be quantized; empty where it can.
        partner: Of a residual addition: the name of the convolution that it is fused into.
    """

    name: str
    type: str | Class
    module: nn.Module | None = None
    site: FunctionSite | None = None
    target: Class | None = None
    refusal: str = ""
    partner: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is quantized.

    Attributes:
        chosen: In the order in which their inputs are read, as far as that is known.
        settings: By name.
        norms: Path of each layer -> path of the batch normalization to fold into it.
        left: Name of what stays in float -> why.
        graph: Of the forward; None where it is not known.
        sources: Name -> the tensor that its input is, where all its calls have the same.
    """

    chosen: tuple[Candidate, ...]
    settings: Mapping[str, LayerSettings]
    norms: Mapping[str, str]
    left: Mapping[str, str]
    graph: fx.Graph | None
    sources: Mapping[str, fx.Node]


def planned(model: nn.Module, config: QuantConfig, *, modes: Collection[bool]) -> Plan:
    """Decide what is quantized, and warn of what is not.

    Args:
        model: A float model.
        config: Settings by layer.
        modes: Of training that the result is for.

    Raises:
        ModelError: There is nothing to quantize.
    """
    whole = type(model) in config.qat_layers or refusal(model) is not None
    trace = Trace(None, {}) if whole else traced(model, leaves=tuple(config.qat_layers), modes=modes)
    layers = list(_layers(model, config))
    left = {path or type(model).__name__: _untraced(model, path, why) for path, why in trace.opaque.items()}
    sites: tuple[FunctionSite, ...] = ()
    if trace.graph is not None:
        sites = function_sites(model, trace.graph)
        layers = _run(layers, trace.graph)
    warned = dict(left)
    candidates = _ordered(layers, sites, trace.graph)
    resolved = _resolved(model, config, candidates)
    chosen = []
    for each in candidates:
        precision = resolved.layers[each.name].precision
        if precision != "int8":
            left[each.name] = f"{precision} is what the configuration has for it"
        elif each.refusal:
            left[each.name] = warned[each.name] = each.refusal
        else:
            chosen.append(each)
    if not chosen:
        why = next(iter(left.items()), None)
        found = f"; {why[0] or 'the model'} is none: {why[1]}" if why else ""
        raise ModelError(f"the model has nothing to quantize (convolutions, nn.Linear, matrix products){found}")
    for each in chosen:
        if resolved.layers[each.name].power_of_two:
            raise ConfigError(
                f"power_of_two of {each.name or 'the model'}: PyTorch models have other scales; leave it out, and give "
                "it to trtcal quantize or trtcal.QuantSim with the exported float model"
            )
    for name, reason in warned.items():
        warnings.warn(f"{name} stays in float: {reason}", QuantizationWarning, stacklevel=4)
    for note in resolved.notes:
        warnings.warn(note, QuantizationWarning, stacklevel=4)
    known = {each.name for each in chosen if each.target is None}
    norms = {layer: norm for layer, norm in _norms(model, trace.graph, trace.opaque) if layer in known}
    settings = {each.name: resolved.layers[each.name] for each in chosen}
    return Plan(tuple(chosen), settings, norms, left, trace.graph, _sources(chosen, trace.graph))


def _untraced(model: nn.Module, path: str, why: str) -> str:
    """What it means that a module's forward cannot be traced."""
    inner = {
        f"{path}.{module}.{name}".strip(".").replace("..", ".")
        for module, each in model.get_submodule(path).named_modules()
        for name, parameter in each.named_parameters(recurse=False)
        if parameter.dim() > 1 and refusal(each) is None and not isinstance(each, HARMLESS)
    }
    weights = f", {', '.join(sorted(inner))} among them" if inner else ""
    return f"its forward cannot be traced ({why}): what it adds and multiplies without layers is in float{weights}"


def _layers(
    model: nn.Module, config: QuantConfig, path: str = "", seen: set[nn.Module] | None = None
) -> Iterator[Candidate]:
    """The layers with weights, without those inside of one that is taken as a whole."""
    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    if type(model) in config.qat_layers:
        yield Candidate(path, type(model), model, target=config.qat_layers[type(model)])
        return
    why = refusal(model)
    if why is not None:
        yield Candidate(path, type(model), model, refusal=why)
        if why:
            return
    for name, child in model.named_children():
        yield from _layers(child, config, f"{path}.{name}".lstrip("."), seen)


def _run(layers: Sequence[Candidate], graph: fx.Graph) -> list[Candidate]:
    """The layers, those refused that a forward does not run."""
    called = {str(node.target) for node in graph.nodes if node.op == "call_module"}

    def runs(name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[: end + 1]) in called for end in range(len(parts)))

    idle = "the model's forward does not run it"
    return [each if runs(each.name) or each.refusal else replace(each, refusal=idle) for each in layers]


def _ordered(layers: Sequence[Candidate], sites: Sequence[FunctionSite], graph: fx.Graph | None) -> list[Candidate]:
    named = {site.node: site.name for site in sites}
    functions = [
        Candidate(
            site.name,
            site.type,
            site=site,
            refusal=site.refusal,
            partner=None if site.partner is None else named.get(site.partner, str(site.partner.target)),
        )
        for site in sites
    ]
    if graph is None:
        return [*layers, *functions]
    place: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        if node.op == "call_module":
            place.setdefault(str(node.target), index)
    nodes = {node: index for index, node in enumerate(graph.nodes)}

    def at(each: Candidate) -> int:
        if each.site is not None:
            return nodes[each.site.inputs[0][0] if each.site.inputs else each.site.node]
        parts = each.name.split(".")
        paths = [".".join(parts[: end + 1]) for end in range(len(parts))]
        return next((place[path] for path in reversed(paths) if path in place), len(nodes))

    return sorted([*layers, *functions], key=at)


def _resolved(model: nn.Module, config: QuantConfig, candidates: Sequence[Candidate]) -> Resolved:
    """What the configuration says; a rule for a module that holds others, or its skip, is one for each of these.

    A layer's own rule goes before its module's, and that of an inner module before that of an outer one.
    """
    paths = {module: path for path, module in model.named_modules()}
    own, of_modules = list[Rule](), list[tuple[int, Rule]]()
    for rule in config.rules:
        path = rule.target if isinstance(rule.target, str) else paths.get(rule.target)
        within = [] if rule.kind == "type" or path is None else [each for each in candidates if _is_in(each.name, path)]
        if path is None or not within:
            own.append(rule)
        else:
            of_modules += [(len(path), replace(rule, target=each.name)) for each in within]
    inner_first = [rule for _, rule in sorted(of_modules, key=lambda each: -each[0])]
    rules = sorted([*own, *inner_first], key=lambda rule: get_args(Kind).index(rule.kind))
    held = {name: [each.name for each in candidates if _is_in(each.name, name)] for name in config.skipped.names}
    names = tuple(each for name in config.skipped.names for each in (held[name] or [name]))
    return replace(config, rules=rules, skipped=replace(config.skipped, names=names)).settings(candidates)


def _is_in(name: str, path: str) -> bool:
    return name.startswith(f"{path}.") if path else bool(name)


def _norms(model: nn.Module, graph: fx.Graph | None, opaque: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Layers, and the batch normalization that nothing but their output goes to."""
    modules = dict(model.named_modules())
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.nodes if graph is not None else ():
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    for path, nodes in calls.items():
        users = list(nodes[0].users)
        if len(nodes) == 1 and len(users) == 1 and users[0].op == "call_module":
            norm = str(users[0].target)
            if len(calls[norm]) == 1 and foldable(modules[path], modules[norm]):
                yield path, norm
    places = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    for path, module in modules.items():
        hidden = graph is None or any(_is_in(path, each) or path == each for each in opaque)
        if hidden and type(module) is nn.Sequential:
            for (first, layer), (second, norm) in zip(
                list(module.named_children())[:-1], list(module.named_children())[1:], strict=True
            ):
                if foldable(layer, norm) and places[layer] == places[norm] == 1:
                    yield f"{path}.{first}".lstrip("."), f"{path}.{second}".lstrip(".")


def _sources(chosen: Sequence[Candidate], graph: fx.Graph | None) -> dict[str, fx.Node]:
    sources: dict[str, set[fx.Node | None]] = {}
    names = {each.name for each in chosen if each.site is None}
    for node in graph.nodes if graph is not None else ():
        if node.op == "call_module" and str(node.target) in names:
            first = node.args[0] if node.args else None
            sources.setdefault(str(node.target), set()).add(first if isinstance(first, fx.Node) else None)
    for each in chosen:
        if each.site is not None:
            reader, place = each.site.inputs[0]
            first = reader.args[place]
            sources[each.name] = {first if isinstance(first, fx.Node) else None}
    return {name: found for name, tensors in sources.items() if len(tensors) == 1 and (found := next(iter(tensors)))}
