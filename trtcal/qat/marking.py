"""PyTorch's export to ONNX of a model whose quantizers leave marks (`engines.qdq.exporter_marks`)."""

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx
import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from calibrators.errors import ModelError, one_line
from engines.qdq.exporter_marks import DOMAIN, KEY, OPERATOR, Mark
from trtcal.qat.faults import said
from trtcal.qat.preparation import INPUTS, WEIGHT, quantized_modules
from trtcal.qat.quantizer import FixedQuantizer
from trtcal.qat.tracing import TracedModel

Example: TypeAlias = Tensor | Sequence[Any] | Mapping[str, Any]
"""A batch: a tensor, the arguments of a forward, or these by name."""

OPSET = 17
"""LayerNormalization is an operator from this one on; TensorRT 8.6 reads it."""


@dataclass(frozen=True, slots=True)
class Case:
    """What an exported model is fed with.

    Attributes:
        arguments: Of the forward, by name, in order.
        inputs: The tensors among them, by the names that the ONNX model has for them.
        outputs: The names of its outputs.
        axes: Axes of free size, by input, with names.
    """

    arguments: Mapping[str, Any]
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str]]


class _Mark(nn.Module):
    """Takes a quantizer's place."""

    def __init__(self, key: int) -> None:
        super().__init__()
        self.key, self.symbolic = key, False

    def forward(self, x: Tensor) -> Tensor:
        """What it is given."""
        if self.symbolic:
            kind = f"{DOMAIN}::{OPERATOR}"
            return torch.onnx.ops.symbolic(kind, (x,), {KEY: self.key}, dtype=x.dtype, shape=x.shape, version=1)
        marked: Tensor = _Marked.apply(x, self.key)
        return marked


class _Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, key: int) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(graph: Any, x: Any, key: int) -> Any:
        return graph.op(f"{DOMAIN}::{OPERATOR}", x, **{f"{KEY}_i": key}).setType(x.type())


def with_marks(model: nn.Module) -> list[Mark]:
    """Put marks into a converted model in the place of its quantizers; those that are disabled leave none."""
    marks = list[Mark]()
    known: dict[nn.Module, nn.Module] = {}
    for _, module in list(quantized_modules(model)):
        for attribute in (*INPUTS, WEIGHT):
            quantizer = getattr(module, attribute, None)
            if not isinstance(quantizer, FixedQuantizer):
                continue
            if quantizer not in known and not quantizer.enabled:
                known[quantizer] = nn.Identity()
            elif quantizer not in known:
                known[quantizer] = _Mark(len(marks))
                marks.append(Mark(quantizer.name, quantizer.encoding(), weight=attribute == WEIGHT))
            setattr(module, attribute, known[quantizer])
    return marks


def case_of(
    model: nn.Module,
    example: Example,
    *,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None,
) -> Case:
    """Run a model on an example, and name what goes in and comes out.

    Raises:
        ModelError: It does not run on it, or gives no tensors; or the names do not go with these.
    """
    signature = model.signature if isinstance(model, TracedModel) else inspect.signature(model.forward)
    arguments = _arguments(signature, example)
    try:
        with torch.no_grad():
            results = tree_leaves(model(*arguments.values()))
    except Exception as error:
        raise ModelError(
            f"the model does not run on the example ({said(error, model)}): give a batch that it runs on"
        ) from error
    if not results or not all(isinstance(each, Tensor) for each in results):
        raise ModelError("the model gives something else than tensors: wrap it, so that its forward gives tensors")
    tensors = [(name, leaf) for name, value in arguments.items() for leaf in tree_leaves(value)]
    tensors = [(name, leaf) for name, leaf in tensors if isinstance(leaf, Tensor)]
    names = [name for name, _ in tensors]
    names = [name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names)]
    named = dict(zip(_named("inputs", input_names, names), (leaf for _, leaf in tensors), strict=True))
    outputs = ["output"] if len(results) == 1 else [f"output_{place}" for place in range(len(results))]
    axes = {name: {0: "N"} for name, leaf in named.items() if leaf.dim()} if dynamic_axes is None else dynamic_axes
    if not isinstance(axes, Mapping) or not all(isinstance(each, Mapping) for each in axes.values()):
        raise ModelError(f"dynamic_axes names axes by input, as {{'input': {{0: 'N'}}}}, not {dynamic_axes!r}")
    if unknown := [name for name in axes if name not in named]:
        raise ModelError(f"dynamic_axes has {unknown[0]}, and the inputs are {', '.join(named)}")
    return Case(arguments, named, tuple(_named("outputs", output_names, outputs)), axes)


def exported(model: nn.Module, case: Case, *, opset: int) -> onnx.ModelProto:
    """A model with marks as ONNX.

    By the exporter that traces it with TorchScript, or else, where PyTorch has that no more or it fails, by the one of
    torch.export.

    Raises:
        ModelError: Neither can.
    """
    if not isinstance(opset, int) or not 13 <= opset <= 20:
        raise ModelError(f"opset must be from 13 to 20, not {opset!r}: per-channel scales came with 13")
    options = {
        "input_names": list(case.inputs),
        "output_names": list(case.outputs),
        "dynamic_axes": {name: dict(axes) for name, axes in case.axes.items()},
        "opset_version": opset,
    }
    failures = list[str]()
    for by in (_by_tracing, _by_torch_export):
        try:
            with _quiet(), torch.no_grad():
                return by(model, case, options)
        except Exception as error:  # noqa: BLE001  # whatever the exporters raise: the other may do it
            failures.append(one_line(error.__cause__ or error, 300))
    raise ModelError(f"PyTorch cannot export the model to ONNX: {failures[0]}; nor can torch.export: {failures[1]}")


def _by_tracing(model: nn.Module, case: Case, options: Mapping[str, Any]) -> onnx.ModelProto:
    file = io.BytesIO()
    given = tuple(case.arguments.values())
    if given and isinstance(given[-1], Mapping):  # it takes a mapping at the end for arguments by name
        given += ({},)
    root = _Named(model) if isinstance(model, TracedModel) else model
    torch.onnx.export(root, given, file, dynamo=False, **options)
    made = onnx.load_from_string(file.getvalue())
    return made if root is model else _renamed(made, {name: name.replace("/", ".") for name in root.state_dict()})


class _Named(nn.Module):
    """A traced model, for an exporter that names operators by the modules whose forwards call each other.

    In a graph the model itself calls all of them. Here they lie under their whole paths, with slashes: of a name with
    dots the exporter takes the end.
    """

    def __init__(self, model: TracedModel) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple, so that it is no module of this one
        for node in model.graph.nodes:
            if node.op == "call_module":
                self._modules[str(node.target).replace(".", "/")] = model.get_submodule(str(node.target))
        known = {name.replace("/", ".") for name in self.state_dict(keep_vars=True)}
        self._parameters.update({name: each for name, each in model.named_parameters() if name not in known})
        self._buffers.update({name: each for name, each in model.named_buffers() if name not in known})
        self.training = model.training

    def forward(self, *args: Any) -> Any:
        """What the model computes."""
        return self._model[0](*args)


def _renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Parameters under their names in PyTorch again; as they are where branches may read them.

    One parameter of several names, or several of equal values, is one initializer, and an Identity that gives it each
    further name.
    """
    graph = model.graph
    if any(attribute.type == onnx.AttributeProto.GRAPH for node in graph.node for attribute in node.attribute):
        return model
    for initializer in graph.initializer:
        initializer.name = names.get(initializer.name, initializer.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
    return model


def _by_torch_export(model: nn.Module, case: Case, options: Mapping[str, Any]) -> onnx.ModelProto:
    if not hasattr(torch.onnx, "ops"):
        raise ModelError(f"its exporter takes the marks from PyTorch 2.8 on, and this is {torch.__version__}")
    marks = [module for module in model.modules() if isinstance(module, _Mark)]
    for mark in marks:
        mark.symbolic = True
    arguments = case.arguments
    if isinstance(model, TracedModel):  # its own forward takes any arguments, which torch.export does not like
        required = model.signature.parameters
        arguments = {
            name: each for name, each in arguments.items() if required[name].default is inspect.Parameter.empty
        }
        model = fx.GraphModule(model, model.graph)
    opset = max(18, options["opset_version"])  # it knows no earlier one
    program: Any = torch.onnx.export(
        model,
        tuple(arguments.values()),
        dynamo=True,
        optimize=False,
        verbose=False,
        **{**options, "opset_version": opset},
    )
    made: onnx.ModelProto = program.model_proto
    return made


def _arguments(signature: inspect.Signature, example: Example) -> dict[str, Any]:
    if not isinstance(example, (Tensor, Mapping, Sequence)) or isinstance(example, str):
        raise ModelError(
            "the example is a tensor, or the forward's arguments in a tuple or by name, not of type "
            f"{type(example).__name__}"
        )
    given: tuple[Any, ...] = (example,) if isinstance(example, Tensor) else ()
    named = example if isinstance(example, Mapping) else {}
    if isinstance(example, Sequence):
        given = tuple(example)
    try:
        bound = signature.bind(*given, **named)
    except TypeError as error:
        raise ModelError(f"the example does not go with the model's forward: {error}") from error
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"{name}_{place}": each for place, each in enumerate(value)}
        elif kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise ModelError(f"the forward takes {name} by name alone, which ONNX has not: wrap the model")
        else:
            found[name] = value
    return {name: _on_cpu(value) for name, value in found.items()}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.float() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _on_cpu(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(_on_cpu(each) for each in value)
    return value


def _named(what: str, names: Sequence[str] | None, usual: Sequence[str]) -> Sequence[str]:
    if names is None:
        return usual
    if len(names) != len(usual) or len(set(names)) < len(names):
        raise ModelError(f"the model has {len(usual)} {what}: give as many names, each its own, not {list(names)}")
    return names


_NATIVE_LOG = "_jit_onnx_log"
"""By it the tracing exporter of PyTorch 2.7 and later prints its whole graph when it fails, asked to or not."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of themselves; what they get wrong is found by running what they made."""
    logger = logging.getLogger("torch.onnx")
    level, native = logger.level, getattr(torch._C, _NATIVE_LOG, None)
    logger.setLevel(logging.ERROR)
    if native is not None:
        setattr(torch._C, _NATIVE_LOG, lambda *_: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if native is not None:
            setattr(torch._C, _NATIVE_LOG, native)
