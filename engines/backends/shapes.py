"""Shapes of dynamic inputs: what `--shapes` says, and the optimization profile that an engine is built with."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from calibrators.batches import TensorSpec
from calibrators.errors import BuildError

DEFAULT_BATCH = (1, 8, 32)
"""Smallest, best and largest batch of a model with a dynamic batch, where nothing else is said."""

_FORM = "write NAME:MIN..OPT..MAX such as input:1x3x224x224..8x3x224x224..32x3x224x224, or one shape to fix it"
_ENTRY = re.compile(r"(?P<name>.+?):(?P<sizes>[\dx.]*)(?:,|$)")

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes an input may have when the engine runs: minimum <= optimum <= maximum, size by size.

    Attributes:
        minimum: The smallest.
        optimum: The one that kernels are chosen for.
        maximum: The largest; memory is reserved for it.

    Raises:
        BuildError: The ranks differ, a size is not positive, or the sizes are not in order.
    """

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def __post_init__(self) -> None:
        if len({len(self.minimum), len(self.optimum), len(self.maximum)}) != 1:
            raise BuildError(f"the shapes {self} differ in the number of sizes; {_FORM}")
        ordered = all(
            1 <= low <= best <= high for low, best, high in zip(self.minimum, self.optimum, self.maximum, strict=True)
        )
        if not ordered:
            raise BuildError(f"the shapes {self} are not positive and in order, smallest first; {_FORM}")

    @classmethod
    def fixed(cls, shape: Shape) -> "Profile":
        """One shape and no other."""
        return cls(shape, shape, shape)

    def __str__(self) -> str:
        shapes = (self.minimum, self.optimum, self.maximum)
        texts = ["x".join(map(str, shape)) for shape in shapes]
        return texts[0] if len(set(texts)) == 1 else "..".join(texts)

    def to_dict(self) -> dict[str, list[int]]:
        """For JSON."""
        return {"min": list(self.minimum), "opt": list(self.optimum), "max": list(self.maximum)}


def parse_shapes(text: str) -> dict[str, Profile]:
    """Read ``name:MIN..OPT..MAX`` or ``name:SHAPE``, several separated by commas; sizes are joined by ``x``.

    A name may hold commas and colons: the shape is what follows the last colon.

    Raises:
        BuildError: The text reads differently, or names an input twice; the message shows the part and the form.
    """
    profiles: dict[str, Profile] = {}
    position = 0
    while position < len(text):
        entry = _ENTRY.match(text, position)
        if entry is None:
            raise BuildError(f"cannot read the shapes {text[position:]!r}; {_FORM}")
        name = entry["name"].strip()
        if name in profiles:
            raise BuildError(f"the shapes of {name} are given twice: give them once")
        profiles[name] = _profile(entry["sizes"], entry[0])
        position = entry.end()
    if not profiles:
        raise BuildError(f"no shapes are given; {_FORM}")
    return profiles


def profiles_for(
    inputs: Iterable[TensorSpec], shapes: Mapping[str, Profile]
) -> tuple[dict[str, Profile], tuple[str, ...]]:
    """The profile of every input that is dynamic, and a line on each that was chosen here.

    An input of which only the first size is free gets batches of `DEFAULT_BATCH` where `shapes` says nothing of it.

    Raises:
        BuildError: `shapes` names no input, does not fit one, or is needed and absent; the message says which.
    """
    specs = {spec.name: spec for spec in inputs}
    for name in shapes:
        if name not in specs:
            raise BuildError(
                f"shapes are given for {name}, but the model's inputs are {', '.join(map(str, specs.values()))}"
            )
    profiles, notes = {}, []
    for name, spec in specs.items():
        if name in shapes:
            _require_fit(spec, shapes[name])
        free = [axis for axis, size in enumerate(spec.shape) if _is_free(size)]
        if not free:
            continue
        if name not in shapes and free != [0]:
            sizes = ", ".join(f"{spec.shape[axis] or '?'} (axis {axis})" for axis in free if axis)
            raise BuildError(
                f"input {spec} has dynamic sizes besides the batch: {sizes}; give --shapes {_example(spec)}"
            )
        if name not in shapes:
            rest = tuple(int(size) for size in spec.shape[1:] if isinstance(size, int))
            profiles[name] = Profile(*((batch, *rest) for batch in DEFAULT_BATCH))
            notes.append(f"input {spec} has a dynamic batch: built for {profiles[name]}; --shapes chooses others")
        else:
            profiles[name] = shapes[name]
    return profiles, tuple(notes)


def _profile(sizes: str, entry: str) -> Profile:
    shapes = [_shape(part, entry) for part in sizes.split("..")]
    if len(shapes) not in (1, 3):
        raise BuildError(f"{entry.rstrip(',')!r} has {len(shapes)} shapes, not one or three; {_FORM}")
    return Profile.fixed(shapes[0]) if len(shapes) == 1 else Profile(*shapes)


def _shape(text: str, entry: str) -> Shape:
    if not re.fullmatch(r"\d{1,18}(x\d{1,18})*", text):
        raise BuildError(f"cannot read the shape {text!r} in {entry.rstrip(',')!r}; {_FORM}")
    return tuple(int(size) for size in text.split("x"))


def _require_fit(spec: TensorSpec, profile: Profile) -> None:
    fits = len(profile.minimum) == len(spec.shape) and all(
        _is_free(size) or size == low == best == high
        for size, low, best, high in zip(spec.shape, profile.minimum, profile.optimum, profile.maximum, strict=True)
    )
    if not fits:
        raise BuildError(f"the shapes {profile} do not fit the input {spec}: sizes that the model fixes cannot change")


def _is_free(size: int | str | None) -> bool:
    return not isinstance(size, int) or size < 1


def _example(spec: TensorSpec) -> str:
    return f"{spec.name}:" + "..".join(
        "x".join(
            str(size) if not _is_free(size) else str(batch) if axis == 0 else "224"
            for axis, size in enumerate(spec.shape)
        )
        for batch in DEFAULT_BATCH
    )
