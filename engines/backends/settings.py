"""Build options told to TensorRT's builder configuration, whichever module it is of."""

from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

from calibrators.errors import BuildError
from engines.backends.backend import BuildOptions, NumberType

_COMPATIBILITY = {"ampere+": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}
_FLAGS = {"version_compatible": "VERSION_COMPATIBLE", "sparsity": "SPARSE_WEIGHTS"}
_TYPES = {"int8": "INT8", "fp16": "HALF", "fp32": "FLOAT"}


def require_known(trt: ModuleType, options: BuildOptions, *, label: str) -> None:
    """Refuse what the module has no setting for.

    Raises:
        BuildError: The message names the option.
    """
    wanted = options.hardware_compatibility
    if wanted != "none" and not hasattr(trt.HardwareCompatibilityLevel, _COMPATIBILITY[wanted]):
        known = [name for name, member in _COMPATIBILITY.items() if hasattr(trt.HardwareCompatibilityLevel, member)]
        raise BuildError(f"{label} has no hardware compatibility {wanted}: it has {', '.join(known)}")
    for option, flag in _FLAGS.items():
        if getattr(options, option) and not hasattr(trt.BuilderFlag, flag):
            raise BuildError(f"{label} has no setting for --{option.replace('_', '-')}: leave it out")
    if options.layer_precisions and not hasattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS"):
        raise BuildError(
            f"{label} takes the type of each layer from the model and has no setting for it: leave out "
            "--layer-precision, and change the model instead"
        )


def apply(trt: ModuleType, config: Any, options: BuildOptions) -> None:
    """Set everything but the timing cache and the layers' precisions."""
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.hardware_compatibility != "none":
        level = getattr(trt.HardwareCompatibilityLevel, _COMPATIBILITY[options.hardware_compatibility])
        config.hardware_compatibility_level = level
    for option, flag in _FLAGS.items():
        if getattr(options, option):
            config.set_flag(getattr(trt.BuilderFlag, flag))


def require_types(options: BuildOptions, types: frozenset[NumberType]) -> None:
    """Refuse layers in a type that the build does not allow.

    Raises:
        BuildError: The message names the pattern.
    """
    for pattern, precision in options.layer_precisions.items():
        if precision not in (*types, "fp32"):
            allowed = ", ".join(sorted(types | {"fp32"}))
            raise BuildError(
                f"the layers {pattern} are to compute in {precision}, and the build allows {allowed} only: change "
                "--precision or --rest"
            )


def constrain(trt: ModuleType, network: Any, config: Any, options: BuildOptions) -> None:
    """Make layers compute in the precisions asked for; the build fails where TensorRT has no such kernel.

    A layer that gives no float, such as one that computes shapes, is left alone.

    Raises:
        BuildError: A pattern fits no layer that computes in float.
    """
    if not options.layer_precisions:
        return
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    floats = [layer for layer in layers if _gives_float(trt, layer)]
    for pattern in options.layer_precisions:
        if not any(_fits(layer.name, pattern) for layer in floats):
            some = ", ".join(layer.name for layer in floats[:3]) + (", ..." if len(floats) > 3 else "")
            raise BuildError(
                f"no layer fits {pattern} of --layer-precision or --config: layers are named as the model's nodes, "
                f"{some}"
            )
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for layer in floats:
        for pattern, precision in options.layer_precisions.items():
            if _fits(layer.name, pattern):
                layer.precision = getattr(trt.DataType, _TYPES[precision])
                break


def _gives_float(trt: ModuleType, layer: Any) -> bool:
    types = {layer.get_output(index).dtype for index in range(layer.num_outputs)}
    return bool(types) and types <= {trt.DataType.FLOAT, trt.DataType.HALF}


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)
