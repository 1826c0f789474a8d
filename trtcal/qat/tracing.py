"""A model's forward as a graph (torch.fx), so that additions and products which are no modules can be quantized."""

import copy
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from calibrators.errors import ModelError, one_line
from trtcal.qat.folding import taken_over
from trtcal.qat.layers import AFTER, BEFORE, refusal

OWNER = "trtcal.owner"
"""Where a node's meta has the path of the module in whose forward it is."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What is known of a model's forward.

    Attributes:
        graph: Its graph, of the original's parameters without a default; None where it cannot be traced.
        opaque: Path of each module whose own forward cannot be traced ("" for the model) -> why.
    """

    graph: fx.Graph | None
    opaque: Mapping[str, str]


VALUE = "trtcal.value"
"""Where the meta of a node that reads an attribute has its value, if that is a tensor which the forward makes."""


class Untraceable(Exception):  # noqa: N818  # it is no error: the module is taken as a whole
    """The forward of one module cannot be traced."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def traced(model: nn.Module, *, leaves: Collection[type], modes: Collection[bool]) -> Trace:
    """Trace a model.

    Modules that cannot be traced are taken as they are, so that one of them costs only what is in it.

    Args:
        model: The model; it is left in the mode that it is in.
        leaves: Classes of modules not to look into, beside those of `torch.nn`.
        modes: Of training that the graph is for; for both, a value that is `training` itself follows the mode.
    """
    opaque: dict[str, str] = {}
    while "" not in opaque:
        try:
            return Trace(_graph(model, leaves, opaque, modes), opaque)
        except Untraceable as what:
            if what.path in opaque:
                opaque[""] = str(what)
            opaque.setdefault(what.path, str(what))
    return Trace(None, opaque)


class TracedModel(nn.Module):
    """A model that computes by a graph of its forward; its modules, parameters and attributes are the original's.

    Args:
        model: The original.
        graph: Of its forward.
    """

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__()
        self.__dict__.update(taken_over(model))
        self.signature, self.original = inspect.signature(model.forward), type(model).__qualname__
        self.graph = graph
        self.__dict__.update({str(node.target): node.meta[VALUE] for node in graph.nodes if VALUE in node.meta})
        self._compiled: Callable[..., Any] | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the original computes.

        Raises:
            ModelError: An optional argument is given another value than its default: the graph has that one in it.
        """
        required: list[Any] = []
        for name, value in _bound(self.signature, args, kwargs).items():
            default = self.signature.parameters[name].default
            if default is inspect.Parameter.empty:
                required.append(value)
            elif value is not default and not (isinstance(value, (bool, int, float, str)) and value == default):
                raise ModelError(
                    f"{self.original} was quantized with {name}={default!r}, and is given another value: "
                    "give that argument no default, or wrap the model"
                )
        if self._compiled is None:
            self._compiled = type(fx.GraphModule(self, self.graph)).forward
        return self._compiled(self, *required)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            original = self.__dict__.get("original", "the model")
            told = f"{type(self).__name__} has no attribute {name!r}: it has those of {original}, but not its methods"
            raise AttributeError(told, name=name, obj=self) from None

    def _get_name(self) -> str:
        return f"Traced{self.original}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}


def _bound(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    try:
        return dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise TypeError(f"forward(): {error}") from None


REGISTERED = ("_buffers", "_parameters", "_modules")

CONSTANT = "_tensor_constant"
"""Begins the names of the attributes that torch.fx gives a model for tensors which its forward makes from nothing."""


class _Tracer(fx.Tracer):
    """Calls, as they are made in the forwards that it looks into.

    A graph has no calls of hooks, and no regions of other gradients or types: what has these is taken as it is.
    """

    proxy_buffer_attributes = True
    """A buffer is read whenever the graph runs, wherever it is then, as a parameter is."""

    def __init__(self, leaves: Collection[type] = (), opaque: Collection[str] = (), *, gradients: bool = False) -> None:
        super().__init__()
        self._leaves, self._opaque = tuple(leaves), opaque
        self._owners = [""]
        self._gradients = torch.is_grad_enabled() if gradients else None
        self._autocast = _autocast_depth()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Also layers of derived classes, and what is not to be looked into."""
        known = isinstance(m, self._leaves) or module_qualified_name in self._opaque or refusal(m) is not None
        return known or bool(super().is_leaf_module(m, module_qualified_name))

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Note whose forward it is, and which one fails."""
        path = self.path_of_module(m)
        if any(getattr(m, each, None) for each in (*AFTER, *BEFORE)) and not self.is_leaf_module(m, path):
            raise Untraceable(path, "it has hooks, which see tensors")
        self._owners.append(path)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Untraceable:
            raise
        except Exception as error:  # whatever a forward does to what is no tensor
            raise Untraceable(self._owners[-1], one_line(error, 200)) from error
        finally:
            self._owners.pop()

    def create_node(self, kind: str, target: Any, *rest: Any, **more: Any) -> fx.Node:
        """A node that knows whose forward it is in."""
        owner = self._owners[-2 if kind == "call_module" and len(self._owners) > 1 else -1]
        if kind.startswith("call"):
            if self._gradients not in (None, torch.is_grad_enabled()):
                raise Untraceable(owner, "it computes a part without gradients")
            if self._autocast != _autocast_depth():
                raise Untraceable(owner, "it switches autocast")
        node = super().create_node(kind, target, *rest, **more)
        node.meta[OWNER] = owner
        return node


def _graph(model: nn.Module, leaves: Collection[type], opaque: Mapping[str, str], modes: Collection[bool]) -> fx.Graph:
    graphs = [_in_mode(model, leaves, opaque, training=mode, gradients=True in modes) for mode in modes]
    for other in graphs[1:]:
        _unite(graphs[0], other)
    return graphs[0]


def _in_mode(
    model: nn.Module, leaves: Collection[type], opaque: Mapping[str, str], *, training: bool, gradients: bool
) -> fx.Graph:
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        with _unchanged(model):
            return _one(model, leaves, opaque, gradients=gradients)
    finally:
        for module, mode in before.items():
            module.training = mode


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Undo what a forward, and torch.fx, set while it is traced.

    Raises:
        Untraceable: It sets an attribute of a module: of a graph, that would be left out.
    """
    before = [(path, module, *_attributes(module)) for path, module in model.named_modules()]
    try:
        yield
    finally:
        changed = [(path, each) for path, module, values, held in before for each in _restored(module, values, held)]
    if changed:
        path, name = changed[0]
        raise Untraceable(path, f"it sets its attribute {name}")


def _attributes(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """A module's attributes, and what is in those that hold others."""
    values = dict(module.__dict__)
    return values, {name: copy.copy(each) for name, each in values.items() if isinstance(each, (dict, list, set))}


def _restored(module: nn.Module, values: Mapping[str, Any], held: Mapping[str, Any]) -> list[str]:
    """Give a module its attributes back; the names of those that were others."""
    now = module.__dict__
    names = [name for name in now if name not in values]
    names += [name for name, each in values.items() if now.get(name, CONSTANT) is not each]
    for name in names:
        now.pop(name, None)
        if name in values:
            now[name] = values[name]
    for name, contents in held.items():
        if not _same(values[name], contents):
            names += _differing(values[name], contents) if name in REGISTERED else [name]
            values[name].clear()
            (values[name].extend if isinstance(contents, list) else values[name].update)(contents)
    return [name for name in names if not name.startswith(CONSTANT)]


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return [key for key in {**theirs, **ours} if ours.get(key, CONSTANT) is not theirs.get(key, CONSTANT)]


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, set):
        return bool(ours == theirs)
    if len(ours) != len(theirs):
        return False
    if isinstance(ours, list):
        return all(a is b for a, b in zip(ours, theirs, strict=True))
    return all(key in theirs and each is theirs[key] for key, each in ours.items())


def _autocast_depth() -> int:
    """In how many regions of autocast this is, those that switch it off counted."""
    depth: int = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return depth


def _one(model: nn.Module, leaves: Collection[type], opaque: Mapping[str, str], *, gradients: bool) -> fx.Graph:
    parameters = inspect.signature(model.forward).parameters.values()
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
        raise Untraceable("", "its forward takes any number of arguments")
    given = {each.name: each.default for each in parameters if each.default is not each.empty}
    before = {*model.__dict__, *model._buffers}
    try:
        graph = _Tracer(leaves, opaque, gradients=gradients).trace(model, given or None)
    except Untraceable:
        raise
    except Exception as error:
        raise Untraceable("", one_line(error, 200)) from error
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target).startswith(CONSTANT) and str(node.target) not in before:
            node.meta[VALUE] = getattr(model, str(node.target))
    for node in reversed(list(graph.nodes)):
        checks = node.op == "call_function" and getattr(node.target, "__name__", "") in ("_assert_is_none", "_assert")
        compares = (
            node.op == "call_function" and not node.users and set(node.all_input_nodes) <= _optional(graph, given)
        )
        if checks or compares:
            graph.erase_node(node)
    for node in _optional(graph, given):
        if node.users:
            raise Untraceable("", f"its argument {node.target} has a default that decides what is computed")
        graph.erase_node(node)
    return graph


def _optional(graph: fx.Graph, given: Mapping[str, Any]) -> set[fx.Node]:
    """The placeholders of arguments that have a default: named with a number behind, when that is put in."""
    names = {each for node in graph.nodes if node.op == "placeholder" for each in [str(node.target)]}
    found = {name for name in names if name in given or name.rpartition("_")[0] in given}
    return {node for node in graph.nodes if node.op == "placeholder" and str(node.target) in found}


def _unite(graph: fx.Graph, other: fx.Graph) -> None:
    """Make a graph right in the other mode too, where they differ in nothing but what `training` is.

    Raises:
        Untraceable: They differ in more.
    """
    ours, theirs = list(graph.nodes), list(other.nodes)
    place = {node: index for nodes in (ours, theirs) for index, node in enumerate(nodes)}
    for node, same in zip(ours, theirs, strict=False):
        values = node.meta.get(VALUE), same.meta.get(VALUE)
        other = values[0] is not None and values[1] is not None and not torch.equal(*values)
        if other or (node.op, str(node.target)) != (same.op, str(same.target)):
            raise Untraceable(node.meta.get(OWNER, ""), "its forward computes other things in training")
        node.args = _united(graph, node, node.args, same.args, place)
        node.kwargs = _united(graph, node, node.kwargs, same.kwargs, place)
    if len(ours) != len(theirs):
        raise Untraceable("", "its forward computes other things in training")


def _united(graph: fx.Graph, node: fx.Node, ours: Any, theirs: Any, place: Mapping[fx.Node, int]) -> Any:
    if isinstance(ours, fx.Node) and isinstance(theirs, fx.Node) and place[ours] == place[theirs]:
        return ours
    if type(ours) is type(theirs) and isinstance(ours, (tuple, list)) and len(ours) == len(theirs):
        return type(ours)(_united(graph, node, a, b, place) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, slice) and isinstance(theirs, slice):
        ends = ((ours.start, theirs.start), (ours.stop, theirs.stop), (ours.step, theirs.step))
        return slice(*(_united(graph, node, a, b, place) for a, b in ends))
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping) and ours.keys() == theirs.keys():
        return {key: _united(graph, node, ours[key], theirs[key], place) for key in ours}
    if ours is True and theirs is False:
        owner = node.meta.get(OWNER, "")
        with graph.inserting_before(node):
            return graph.create_node("get_attr", f"{owner}.training".lstrip("."))
    if isinstance(ours, fx.Node) or isinstance(theirs, fx.Node) or bool(ours != theirs):
        raise Untraceable(node.meta.get(OWNER, ""), "its forward computes other things in training")
    return ours
