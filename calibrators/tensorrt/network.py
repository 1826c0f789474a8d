"""The inputs of a TensorRT network in the shapes that it calibrates in, as network and config themselves tell."""

from typing import Any

import numpy as np

from calibrators.batches import TensorSpec
from calibrators.errors import BuildError

_INTEGERS = {"BOOL": np.bool_, "INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64}
"""TensorRT's types that it reads as they are; it reads all others as float32."""


def calibration_specs(network: Any, config: Any) -> tuple[TensorSpec, ...]:
    """What a calibrator must give for each input of a network.

    Args:
        network: An `INetworkDefinition`.
        config: The `IBuilderConfig` of the build. Where an input has free sizes, its calibration profile says which
            are calibrated in: the optimum ones.

    Raises:
        BuildError: The calibration profile is not set, or says nothing of an input.
    """
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    return tuple(
        TensorSpec(tensor.name, _shape(tensor, config), np.dtype(_INTEGERS.get(tensor.dtype.name, np.float32)))
        for tensor in tensors
    )


def _shape(tensor: Any, config: Any) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if -1 not in shape:
        return shape
    profile = config.get_calibration_profile()
    shapes = [] if profile is None else profile.get_shape(tensor.name)
    if not shapes:
        raise BuildError(
            f"input {tensor.name} has free sizes, and nothing says in which it is calibrated: set its shape in a "
            "profile, and call config.set_calibration_profile(profile)"
        )
    return tuple(shapes[1])
