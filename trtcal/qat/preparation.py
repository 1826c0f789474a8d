"""Puts observers or quantizers into a model, where a plan wants them."""

import copy
import inspect
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import fx, nn

from calibrators.errors import ConfigError, ModelError
from calibrators.grid import TENSORRT_WEIGHTS, Grid
from engines.qdq.weights import Granularity
from trtcal.config.layer_settings import LayerSettings
from trtcal.config.settings import QuantConfig
from trtcal.qat.faults import said, told
from trtcal.qat.layers import QuantizedLayer, quantized_class, replaced
from trtcal.qat.plan import Candidate, QuantizationWarning, planned
from trtcal.qat.quantizer import Follower
from trtcal.qat.tracing import TracedModel

INPUTS = ("input_quantizer", "second_quantizer")
"""What the activations of a layer or function pass: a matrix product of two has both."""

WEIGHT = "weight_quantizer"

LAZY = (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)

STATE = "trtcal_state"
"""The attribute of a model that says what was done with it."""


@dataclass(slots=True)
class State:
    """What was done with a model.

    Attributes:
        kind: "ptq" observes it, "qat" trains it.
        left: Name of each layer or function that stays in float -> why.
        converted: Whether it computes with encodings that do not change.
    """

    kind: Literal["ptq", "qat"]
    left: dict[str, str] = field(default_factory=dict)
    converted: bool = False


class QuantizedFunction(nn.Module):
    """The quantizers of a function's arguments; the model's graph has them before the function.

    Attributes:
        input_quantizer: Of its activation, or first one; of a residual addition, the skip input.
        second_quantizer: Of the second activation of a matrix product that has two.
        weight_quantizer: Of its weight, where it has one.
    """

    def __init__(self, kind: str, **quantizers: nn.Module) -> None:
        super().__init__()
        self.kind = kind
        for name, module in quantizers.items():
            self.add_module(name, module)

    def extra_repr(self) -> str:
        """The function."""
        return self.kind


@dataclass(frozen=True, slots=True)
class Operand:
    """What an observer or quantizer is made for.

    Attributes:
        name: For messages: "the input of conv1".
        settings: The layer's.
        grid: The levels.
        axis: Of a weight's output channels; None for one scale, and for activations.
        channels: How many.
    """

    name: str
    settings: LayerSettings
    grid: Grid
    axis: int | None = None
    channels: int = 0


Make = Callable[[Operand], nn.Module]


def prepared(
    model: nn.Module,
    config: QuantConfig,
    *,
    kind: Literal["ptq", "qat"],
    activation: Make,
    weight: Make,
    fold: Callable[[nn.Module, Mapping[str, str]], None],
    shared: bool,
    inplace: bool,
) -> nn.Module:
    """A model with observers or quantizers in it.

    Args:
        model: In float.
        config: Settings by layer.
        kind: What for.
        activation: Makes what an activation passes.
        weight: Makes what a weight passes.
        fold: Folds batch normalizations: path of the quantized layer -> path of the normalization.
        shared: Whether one quantizer is made for all that read the same tensor in the same settings.
        inplace: Change this model, not a copy.
    """
    plan = planned(model, config, modes=(True, False) if kind == "qat" else (False,))
    graph = plan.graph
    made = model if inplace else copied(model)
    known: dict[Any, Any] = {}
    parts = list[tuple[Candidate, nn.Module]]()
    for each in plan.chosen:
        settings = plan.settings[each.name]
        operand = Operand(f"the input of {each.name or 'the model'}", settings, activation_grid(settings))
        source = plan.sources.get(each.name) if shared else None
        key = (source, settings.activation, operand.grid) if source is not None else each.name
        if key in known:
            first: nn.Module = Follower(known[key])
        else:
            first = known[key] = activation(operand)
        parts.append((each, _part(made, each, settings, first, activation, weight)))
    for each, part in parts:  # once all are made: a setting that is refused leaves the model as it was
        made = _put(made, each, part, graph)
    for name, module in quantized_modules(made):
        _settle(made, name, module)
    fold(made, plan.norms)
    functions = any(each.site is not None for each in plan.chosen)
    if graph is not None and (functions or isinstance(made, fx.GraphModule)):  # a copy of that one has no attributes
        if type(model).train is not nn.Module.train:
            warnings.warn(
                f"the model that comes back has not {type(model).__name__}'s own train(): put what that leaves in "
                "evaluation mode there yourself",
                QuantizationWarning,
                stacklevel=3,
            )
        made = TracedModel(made, graph)
    setattr(made, STATE, State(kind, dict(plan.left)))
    return made


def settled(config: QuantConfig | None) -> QuantConfig:
    """The configuration as it is now, whatever is added to it later."""
    if config is None:
        return QuantConfig()
    if not isinstance(config, QuantConfig):
        raise ConfigError(
            f"the configuration is a QuantConfig, such as QuantConfig(LayerSettings(...)), not {config!r}"
        )
    return replace(config, rules=list(config.rules), qat_layers=dict(config.qat_layers))


def require_float(model: nn.Module) -> None:
    """Refuse a model that is quantized already."""
    if not isinstance(model, nn.Module):
        onnx = isinstance(model, (str, os.PathLike)) or hasattr(model, "SerializeToString")
        more = "; an ONNX model is quantized by trtcal.quantize, or simulated by trtcal.QuantSim" if onnx else ""
        raise ModelError(f"a PyTorch model (torch.nn.Module) is wanted, not {type(model).__name__}{more}")
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError("a TorchScript model cannot be changed: give the model that was scripted or traced")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise ModelError(f"give the model that {type(model).__name__} wraps, model.module, and wrap what comes back")
    lazy = (name for name, each in model.state_dict(keep_vars=True).items() if isinstance(each, LAZY))
    if (name := next(lazy, None)) is not None:
        raise ModelError(f"{name} has no shape yet, as that of a lazy module: run a batch through the model first")
    if isinstance(getattr(model, "_orig_mod", None), nn.Module):
        raise ModelError(
            "the model is compiled: give the one that torch.compile was given, and compile what comes back"
        )
    if hasattr(model, STATE) or any(
        isinstance(module, (QuantizedLayer, QuantizedFunction)) for module in model.modules()
    ):
        raise ModelError("the model is quantized already: give the float model")


def copied(model: nn.Module) -> nn.Module:
    """A copy of a model.

    Raises:
        ModelError: PyTorch cannot copy it.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ModelError(
            f"the model cannot be copied ({said(error, model)}): let it keep no results with "
            "gradients (run it under torch.no_grad() once), or give inplace=True"
        ) from error


def state_of(model: nn.Module) -> State:
    """What was done with a model, also with one that is wrapped for several processes.

    Raises:
        ModelError: It was not quantized here.
    """
    state = getattr(unwrapped(model), STATE, None)
    if isinstance(state, State):
        return state
    raise ModelError(
        "the model was not quantized: call PTQ(config).quantize(model) or QAT(config).quantize(model) first"
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model that `DistributedDataParallel`, `DataParallel` or `torch.compile` wraps, or the model itself."""
    inner = (getattr(model, name, None) for name in ("module", "_orig_mod"))
    return next((each for each in inner if isinstance(each, nn.Module) and hasattr(each, STATE)), model)


def activation_grid(settings: LayerSettings) -> Grid:
    """The levels of an activation: those of TensorRT's INT8 for 8 bits.

    Fewer bits on an asymmetric grid are counted from 0: behind a ReLU the zero point is 0 then, as TensorRT wants it.
    """
    bits = settings.activation_bits
    return Grid(bits, signed=settings.symmetric or bits >= 8, symmetric=settings.symmetric)


def weight_operand(name: str, settings: LayerSettings, weight: torch.Tensor, axis: int) -> Operand:
    """What a weight's observer or quantizer is made for.

    Raises:
        ConfigError: Its scales are to be by blocks.
    """
    granularity = Granularity.parse(settings.granularity).kind
    if granularity == "block":
        raise ConfigError(f"{name}: PyTorch models have scales per channel or tensor, not by {settings.granularity}")
    grid = replace(TENSORRT_WEIGHTS, bits=settings.weight_bits)
    along = axis if granularity == "channel" else None
    return Operand(f"the weight of {name or 'the model'}", settings, grid, along, weight.shape[axis])


def _part(
    made: nn.Module, each: Candidate, settings: LayerSettings, first: nn.Module, activation: Make, weight: Make
) -> nn.Module:
    """The quantized layer, or the quantizers of a function; the model is not changed."""
    site = each.site
    if site is None:
        return _layer(made.get_submodule(each.name), each, settings, first, weight)
    quantizers = {INPUTS[0]: first}
    if len(site.inputs) > 1:
        quantizers[INPUTS[1]] = activation(
            Operand(f"the second input of {each.name}", settings, activation_grid(settings))
        )
    if site.axis is not None and site.constant is not None:
        quantizers[WEIGHT] = weight(weight_operand(each.name, settings, site.constant, site.axis))
    return QuantizedFunction(site.type, **quantizers)


def _put(made: nn.Module, each: Candidate, part: nn.Module, graph: fx.Graph | None) -> nn.Module:
    """Quantize one layer or function of a model; the model, which the layer itself may be."""
    site = each.site
    if site is None:
        return replaced(made, each.name, part)
    assert graph is not None
    reads = list(zip(INPUTS, site.inputs, strict=False))
    if hasattr(part, WEIGHT) and site.weight is not None:
        reads.append((WEIGHT, (site.node, site.weight)))
    owner, _, last = each.name.rpartition(".")
    made.get_submodule(owner).add_module(last, part)
    for attribute, (reader, place) in reads:
        with graph.inserting_before(reader):
            node = graph.create_node("call_module", f"{each.name}.{attribute}", (reader.args[place],))
        reader.update_arg(place, node)
    return made


def quantized_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The quantized layers and functions of a model, by path: what has an `input_quantizer`."""
    for name, module in model.named_modules():
        quantizer = getattr(module, INPUTS[0], None)
        if isinstance(quantizer, nn.Module) and not isinstance(quantizer, nn.Identity):
            yield name, module


def device_of(model: nn.Module, module: nn.Module) -> torch.device:
    """The device of a module of a model: of its parameters, or else of the model's."""
    tensor = next(iter((*module.parameters(recurse=False), *model.parameters(), *model.buffers())), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _settle(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put quantizers where their layer is, in its mode; those of a function in that of the module it is in."""
    if isinstance(module, QuantizedFunction):
        module.train(model.get_submodule(name.rpartition(".")[0]).training)
    for attribute in (*INPUTS, WEIGHT):
        if isinstance(quantizer := getattr(module, attribute, None), nn.Module):
            quantizer.to(device_of(model, module)).train(module.training)


def _layer(layer: nn.Module, each: Candidate, settings: LayerSettings, first: nn.Module, weight: Make) -> nn.Module:
    """The quantized layer: of the class that is known, or that the user has for it."""
    target: Any = each.target or quantized_class(layer)
    values = getattr(layer, "weight", None)
    if not isinstance(values, torch.Tensor) or values.dim() < 2:
        raise ModelError(
            f"{each.name}, a {type(layer).__name__}, has no attribute weight to quantize: do not map its class"
        )
    operand = weight_operand(each.name, settings, values, getattr(target, "weight_axis", 0))
    make = target.from_float if issubclass(target, QuantizedLayer) else target
    quantizers = {INPUTS[0]: first, WEIGHT: weight(operand)}
    try:
        inspect.signature(make).bind(layer, **quantizers)
    except TypeError as error:
        raise ModelError(
            f"{target.__name__}, which takes the place of {type(layer).__name__}, cannot be made ({error}): let its "
            f"constructor take the layer, {INPUTS[0]} and {WEIGHT}"
        ) from error
    with told(
        f"{target.__name__}, which takes the place of {each.name or 'the model'}, cannot be made",
        "mend its constructor, or do not map its class",
    ):
        made = make(layer, **quantizers)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{target.__name__}, which takes the place of {type(layer).__name__}, is no torch.nn.Module")
    made.train(layer.training)
    for attribute in (INPUTS[0], WEIGHT):
        if not isinstance(getattr(made, attribute, None), nn.Module):
            raise ModelError(
                f"{target.__name__}, which takes the place of {type(layer).__name__}, has no module {attribute}: keep "
                "what its constructor is given under that name"
            )
    return made
