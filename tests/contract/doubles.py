"""Doubles of what TensorRT itself makes: mocks that know NVIDIA's real classes of one version.

pybind11 functions tell `inspect` nothing, so `unittest.mock.create_autospec` lets any arguments through. Their
docstrings begin with the signature, types included, for each overload: doubles check calls against those, and what
properties are set to as well.
"""

import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock, NonCallableMock

from tests.contract.signatures import Signature, signatures_of

_NOTHING_SAID = object()


class Live:
    """The value of a property, computed at each reading; `write` is told what it is set to."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], Any] | None = None) -> None:
        self.read = read
        self.write = write


def spec_of(kind: type, **values: Any) -> Any:
    """A double of an instance of `kind`, whose properties have `values`."""
    double = Double(kind)
    give(double, **values)
    return double


def give(double: "Double", *, lenient: bool = False, **values: Any) -> None:
    """Set properties of a double, also those that Python may only read; `lenient` leaves out what the class lacks."""
    kind = double.__dict__["_kind"]
    for name, value in values.items():
        if lenient and not hasattr(kind, name):
            continue
        if not isinstance(getattr(kind, name), property):
            raise AssertionError(f"{kind.__name__}.{name} is a method: set its return_value or side_effect")
        double.__dict__["_given"][name] = value


def made_by(kind: type, maker: Callable[..., Any]) -> Any:
    """A stand-in for a class: looks like `kind`, checks its constructor's arguments, and makes what `maker` makes."""

    class Maker(type):
        def __call__(cls, /, *arguments: Any, **named: Any) -> Any:
            _check(signatures_of(kind.__init__), kind.__name__, (spec_of(kind), *arguments), named)
            return maker(*arguments, **named)

        def __getattr__(cls, name: str) -> Any:
            return getattr(kind, name)

        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, kind)

    return Maker(kind.__name__, (), {})


class Double(NonCallableMock):
    """An instance of a real class that TensorRT did not make; see `spec_of`."""

    def __init__(self, kind: type) -> None:
        self.__dict__["_kind"] = kind
        self.__dict__["_given"] = {}
        super().__init__(spec_set=kind)

    def __getattr__(self, name: str) -> Any:
        given = self.__dict__["_given"]
        if name in given:
            value = given[name]
            return value.read() if isinstance(value, Live) else value
        kind = self.__dict__["_kind"]
        if not name.startswith("_") and not hasattr(kind, name):
            raise AttributeError(f"'{kind.__name__}' object has no attribute '{name}' in TensorRT {_version()}")
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self.__dict__["_kind"]
        if name == "__class__":
            if not issubclass(value, kind):
                raise TypeError(f"__class__ assignment: {value.__name__} is no {kind.__name__}")
            self.__dict__["_kind"] = value
            return
        member = getattr(kind, name, None)
        if not isinstance(member, property):
            if hasattr(kind, name):
                raise AttributeError(f"'{kind.__name__}' object attribute '{name}' is read-only")
            if not hasattr(type(self), name):
                raise AttributeError(f"'{kind.__name__}' object has no attribute '{name}' in TensorRT {_version()}")
            super().__setattr__(name, value)  # the mock's own, such as return_value
            return
        if member.fset is None:
            raise AttributeError(f"property '{name}' of '{kind.__name__}' object has no setter")
        _check(signatures_of(member.fset), f"{kind.__name__}.{name} =", (self, value), {})
        before = self.__dict__["_given"].get(name)
        if isinstance(before, Live) and before.write is not None:
            before.write(value)
        else:
            self.__dict__["_given"][name] = value

    @property
    def __class__(self) -> type:
        """The real class, which may be set to one of its subclasses: the bindings let a layer be told what it is."""
        return self.__dict__["_kind"]

    def __repr__(self) -> str:
        return f"<double of {self.__dict__['_kind'].__name__}>"

    def _get_child_mock(self, /, **named: Any) -> Any:
        kind, name = self.__dict__["_kind"], named["name"]
        member = getattr(kind, name)
        if isinstance(member, property):
            raise AssertionError(f"nobody said what {kind.__name__}.{name} is: give(double, {name}=...)")
        if not callable(member) or isinstance(member, type):
            return member
        return Method(self, kind, name)


class Method(MagicMock):
    """A method of a double: checks what it is called with."""

    def __init__(self, owner: Double | None = None, kind: type | None = None, name: str = "", **named: Any) -> None:
        super().__init__(**named)
        if kind is None:  # a child that the mock made of itself
            return
        self.__dict__["_owner"] = owner
        self.__dict__["_title"] = f"{kind.__name__}.{name}"
        self.__dict__["_signatures"] = signatures_of(getattr(kind, name))
        self.return_value = _NOTHING_SAID

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        if "_title" not in self.__dict__:
            return super().__call__(*arguments, **named)
        title = self.__dict__["_title"]
        signature = _check(self.__dict__["_signatures"], title, (self.__dict__["_owner"], *arguments), named)
        result = super().__call__(*arguments, **named)
        return _by_itself(signature, title) if result is _NOTHING_SAID else result

    def _get_child_mock(self, /, **named: Any) -> Any:
        return MagicMock(**named)


def _check(
    signatures: list[Signature], title: str, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Signature | None:
    """The first overload that takes the arguments, as pybind11 chooses; None where the docstring tells none."""
    refusals = []
    for signature in signatures:
        refusal = signature.refusal(arguments, named)
        if refusal is None:
            return signature
        refusals.append(f"{signature.text}: {refusal}")
    if refusals:
        raise TypeError(f"{title}: incompatible function arguments; TensorRT has {'; '.join(refusals)}")
    return None


def _by_itself(signature: Signature | None, title: str) -> Any:
    """What a method gives when nobody said anything."""
    given = signature.returns if signature is not None else ""
    query = title.split(".")[1].startswith(("is_", "has_"))
    if given == "None":
        return None
    if given == "bool" and not query:
        return True
    kind = signature.resolve(given) if signature is not None else None
    if isinstance(kind, type) and not hasattr(kind, "__members__"):
        return spec_of(kind)
    raise AssertionError(f"nobody said what {title} gives ({given or 'unknown'}): set its return_value or side_effect")


def _version() -> str:
    return str(sys.modules["tensorrt"].__version__)
