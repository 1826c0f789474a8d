"""Kernels: what an engine really runs, and in which precision."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PRECISIONS = {
    "Double": "FP64",
    "Float": "FP32",
    "Half": "FP16",
    "BFloat16": "BF16",
    "FP8": "FP8",
    "Int8": "INT8",
    "FP4": "FP4",
    "Int4": "INT4",
}
"""TensorRT's words for the types that arithmetic is done in, widest first, and ours."""

_HANDS_SIZES = frozenset({"DeviceToShapeHost", "ShapeHostToDevice"})
"""Kinds of steps that copy sizes, of any type, and compute nothing."""

_NARROW = ("FP8", "Int8", "FP4", "Int4")


@dataclass(frozen=True, slots=True)
class KernelTensor:
    """What a kernel reads or writes.

    Attributes:
        name: The builder's; not the ONNX model's.
        type: As TensorRT writes it: Float, Half, Int8, Int64, ...
        shape: With -1 where the size is free.
    """

    name: str
    type: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """The type in our words and the shape, N where the size is free: FP32 Nx16x8x8."""
        return f"{type_name(self.type)} {shape_text(self.shape)}".rstrip()


@dataclass(frozen=True, slots=True)
class Kernel:
    """One step of an engine.

    Attributes:
        name: The builder's.
        kind: The builder's: "correlation" is a convolution, "kgen" a kernel generated for a chain of pointwise
            operators, ...
        nodes: Names of the ONNX nodes it computes, or computes a part of.
        inputs: Tensors that it reads.
        constants: Weights, scales and the like.
        outputs: Tensors that it writes.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[KernelTensor, ...]
    constants: tuple[KernelTensor, ...]
    outputs: tuple[KernelTensor, ...]

    @property
    def generated(self) -> bool:
        """Whether the builder wrote it for a chain of pointwise operators."""
        return self.kind == "kgen"

    @property
    def precision(self) -> str | None:
        """The type it computes in; None for one that only synchronises, or moves integers or sizes.

        A kernel that multiplies runs in INT8 where an Int8 input meets Int8 constants or another Int8 input, whatever
        the types of its scales, of what it accumulates in and of what it writes; otherwise in the type of its weights,
        the largest of its constants, where it reads such a tensor (what else it reads may be a residual that it adds),
        else in the widest type that it reads. A generated kernel does its arithmetic in the widest type that it reads
        or writes, its constants among them: one from Int8 to Int8 with Float scales works in FP32.
        """
        if self.kind in _HANDS_SIZES:
            return None
        read, held, written = (
            [tensor.type for tensor in tensors] for tensors in (self.inputs, self.constants, self.outputs)
        )
        if self.generated:
            return _widest([*read, *held, *written])
        for narrow in _NARROW:
            if narrow in read and (narrow in held or read.count(narrow) > 1):
                return PRECISIONS[narrow]
        weights = max(self.constants, key=lambda each: math.prod(each.shape), default=None)
        if weights is not None and weights.type in read and weights.type in PRECISIONS:
            return PRECISIONS[weights.type]
        return _widest(read) or _widest(written)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with `precision`."""
        sides = {"inputs": self.inputs, "constants": self.constants, "outputs": self.outputs}
        return {
            "name": self.name,
            "kind": self.kind,
            "precision": self.precision,
            "nodes": list(self.nodes),
            **{
                side: [{"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)} for tensor in tensors]
                for side, tensors in sides.items()
            },
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Kernel":
        """Undo `to_dict`."""
        sides = {
            side: tuple(KernelTensor(item["name"], item["type"], tuple(item["shape"])) for item in value[side])
            for side in ("inputs", "constants", "outputs")
        }
        return cls(name=value["name"], kind=value["kind"], nodes=tuple(value["nodes"]), **sides)


def type_name(word: str) -> str:
    """A type of TensorRT's in our words, whether from its log (Half) or its API (HALF): FP16."""
    return _NAMES.get(word.upper(), word.upper())


def shape_text(shape: Sequence[int]) -> str:
    """A shape such as Nx3x32x32, where N is a size that is free; empty for a scalar."""
    return "x".join("N" if size == -1 else str(size) for size in shape)


_NAMES = {word.upper(): name for word, name in PRECISIONS.items()}


def _widest(types: list[str]) -> str | None:
    return next((precision for word, precision in PRECISIONS.items() if word in types), None)
