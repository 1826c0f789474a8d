"""A TensorRT network: its inputs and outputs, the shapes that it is built for, its attention."""

from collections.abc import Mapping
from typing import Any

from calibrators.errors import BuildError, one_line
from engines.backends.backend import BoundTensor
from engines.backends.shapes import Profile, Shape


def inputs_of(network: Any) -> tuple[Any, ...]:
    """Its input tensors."""
    return tuple(network.get_input(index) for index in range(network.num_inputs))


def outputs_of(network: Any) -> tuple[Any, ...]:
    """Its output tensors."""
    return tuple(network.get_output(index) for index in range(network.num_outputs))


def bound(tensor: Any) -> BoundTensor:
    """An input or output as a value."""
    return BoundTensor(tensor.name, tensor.dtype.name, tuple(tensor.shape))


def let_attention_decompose(trt: Any, network: Any) -> None:
    """Let TensorRT put Attention together from other kernels where it has none for the whole, as in FP32.

    Left as the parser makes it, such a build fails (TensorRT-RTX 1.7). Where there is a kernel for the whole, it is
    taken all the same: the engine is the same byte by byte.
    """
    kind = getattr(trt.LayerType, "ATTENTION_INPUT", None)
    if kind is None or not hasattr(trt, "IAttentionInputLayer"):
        return
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == kind:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings give the base class, and let it be told
            layer.attention.decomposable = True


def add_profile(builder: Any, config: Any, network: Any, profiles: Mapping[str, Profile], *, label: str) -> None:
    """Have the engine built for `profiles`, where there are any.

    Raises:
        BuildError: TensorRT refuses the shapes, or an input holds a shape.
    """
    if not profiles:
        return
    profile = builder.create_optimization_profile()
    for tensor in inputs_of(network):
        if tensor.is_shape_tensor:
            raise BuildError(f"input {tensor.name} holds a shape, not data: make it a constant in the model")
        if tensor.name in profiles:
            wanted = profiles[tensor.name]
            _set(profile, tensor.name, wanted.minimum, wanted.optimum, wanted.maximum, label=label)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(
            f"{label} refuses the shapes: " + ", ".join(f"{name}:{shape}" for name, shape in profiles.items())
        )


def set_calibration_shapes(builder: Any, config: Any, shapes: Mapping[str, Shape], *, label: str) -> None:
    """Have TensorRT calibrate in these shapes of every input: it reads so much of a batch and no more.

    Raises:
        BuildError: TensorRT refuses the shapes.
    """
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        _set(profile, name, shape, shape, shape, label=label)
    if not config.set_calibration_profile(profile):
        listed = ", ".join(f"{name}:{Profile.fixed(shape)}" for name, shape in shapes.items())
        raise BuildError(f"{label} refuses to calibrate in the shapes {listed}: change the data, or its batch size")


def _set(profile: Any, name: str, minimum: Shape, optimum: Shape, maximum: Shape, *, label: str) -> None:
    try:
        profile.set_shape(name, minimum, optimum, maximum)
    except ValueError as error:
        text = Profile(minimum, optimum, maximum)
        raise BuildError(f"{label} refuses the shapes {name}:{text}: {one_line(error)}") from error
