"""What pybind11 wrote about its functions: the signatures at the head of their docstrings."""

import functools
import inspect
import operator
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

_POSITIONAL = re.compile(r"arg\d+$")  # what pybind11 calls arguments without a name

_SEQUENCE = re.compile(r"(?:List|list|collections\.abc\.Sequence)\[(.*)\]$")


@dataclass(frozen=True)
class Parameter:
    """One argument: its type and its default as pybind11 spells them; no default means that it must be given."""

    name: str
    type: str
    default: str


@dataclass(frozen=True)
class Signature:
    """One overload of a function.

    Attributes:
        text: As in the docstring.
        parameters: In order, `self` included.
        returns: The type as pybind11 spells it.
        module: Where names of types are looked up.
    """

    text: str
    parameters: tuple[Parameter, ...]
    returns: str
    module: ModuleType

    def refusal(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> str | None:
        """Why the function would not take the arguments; None if it would."""
        if len(arguments) > len(self.parameters):
            return f"{len(arguments)} arguments are too many"
        given = dict(zip((parameter.name for parameter in self.parameters), arguments, strict=False))
        for name, value in named.items():
            if name in given or name not in {parameter.name for parameter in self.parameters}:
                return f"there is no argument {name} to give by name"
            if _POSITIONAL.match(name):
                return f"{name} cannot be given by name"
            given[name] = value
        for parameter in self.parameters:
            if parameter.name not in given:
                if not parameter.default:
                    return f"{parameter.name} is missing"
            elif given[parameter.name] is None and parameter.default == "None":
                continue
            elif not self.takes(parameter.type, given[parameter.name]):
                return f"{parameter.name} cannot be {given[parameter.name]!r}"
        return None

    def takes(self, kind: str, value: Any) -> bool:
        """Whether pybind11 converts `value` to a type that it calls `kind`; true for types that it does not tell."""
        if " | " in kind:
            return any(self.takes(part, value) for part in kind.split(" | "))
        if kind in _PLAIN:
            return _PLAIN[kind](value)
        if match := _SEQUENCE.match(kind):
            return isinstance(value, (list, tuple, np.ndarray)) and all(self.takes(match[1], item) for item in value)
        known = self.resolve(kind)
        if known is None or isinstance(value, known):
            return True
        if hasattr(known, "__members__"):  # an enumeration: neither its numbers nor None will do
            return False
        return value is None or self._converts(known, value)

    def blind(self) -> list[str]:
        """Types of arguments that are not checked."""
        parts = [part for parameter in self.parameters for part in parameter.type.split(" | ")]
        inner = [match[1] if (match := _SEQUENCE.match(part)) else part for part in parts]
        return [part for part in inner if part not in _PLAIN and self.resolve(part) is None]

    def resolve(self, kind: str) -> Any:
        """The class that `kind` names; None for types that are not TensorRT's."""
        match = re.match(r"(?:tensorrt\.tensorrt\.|nv\w+::(?:v_\d+_\d+::)?)([\w.:]+)$", kind)
        try:
            return operator.attrgetter(match[1].replace("::", "."))(self.module) if match else None
        except AttributeError:  # a type that the module keeps to itself
            return None

    def _converts(self, kind: Any, value: Any) -> bool:
        if kind is self.module.Dims:
            return isinstance(value, (list, tuple)) and all(map(_is_integer, value))
        if kind is self.module.Weights:
            return isinstance(value, np.ndarray)
        return False


def signatures_of(function: Any) -> list[Signature]:
    """The overloads of a pybind11 function; none where it has no docstring of pybind11's."""
    return _read(inspect.getdoc(function) or "", getattr(function, "__name__", ""))


@functools.cache
def _read(text: str, name: str) -> list[Signature]:
    module = sys.modules["tensorrt.tensorrt"]
    found = []
    for line in text.splitlines():
        match = re.match(r"(?:\d+\. )?(\w*)(\(.*\)) -> (.+)$", line.strip())
        if match and match[1] in ("", name):
            found.append(Signature(line.strip(), tuple(_parameters(match[2][1:-1])), match[3].strip(), module))
    return found


def _parameters(text: str) -> list[Parameter]:
    parameters = []
    for part in filter(None, map(str.strip, _parts(text))):
        name, _, rest = part.partition(":")
        kind, _, default = rest.partition(" = ")
        parameters.append(Parameter(name.strip(), kind.strip(), default.strip()))
    return parameters


def _parts(text: str) -> list[str]:
    """`text` cut at its commas, except those in brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__")


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") or hasattr(value, "__index__")


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


_PLAIN = {
    "bool": lambda value: isinstance(value, (bool, np.bool_)),
    "int": _is_integer,
    "typing.SupportsInt": _is_integer,
    "typing.SupportsIndex": _is_integer,
    "float": _is_number,
    "typing.SupportsFloat": _is_number,
    "str": lambda value: isinstance(value, (str, bytes)),
    "bytes": lambda value: isinstance(value, bytes),
    "buffer": _is_buffer,
    "typing_extensions.Buffer": _is_buffer,
    "collections.abc.Buffer": _is_buffer,  # the same from Python 3.12 on
    "None": lambda value: value is None,
    "list": lambda value: isinstance(value, list),
    "tuple": lambda value: isinstance(value, tuple),
    "function": callable,
    "collections.abc.Callable": callable,
}
