"""How the world calibrates: the callbacks in TensorRT's order, through their C++ classes."""

import re
from typing import TYPE_CHECKING, Any

from tests.contract import calls
from tests.contract.network import NetworkParts

if TYPE_CHECKING:
    from tests.contract.world import World

_ALGORITHMS = {
    "LEGACY_CALIBRATION": "LegacyCalibration",
    "ENTROPY_CALIBRATION": "EntropyCalibration",
    "ENTROPY_CALIBRATION_2": "EntropyCalibration2",
    "MINMAX_CALIBRATION": "MinMaxCalibration",
}


def calibrate(world: "World", logger: Any, calibrator: Any, parts: NetworkParts) -> bool:
    """Calibrate a network; False where there is nothing to calibrate from.

    A cache whose header is that of this TensorRT and algorithm is used and nothing else asked; any other is passed over
    without a word, as TensorRT does.
    """
    called = world.calibrated
    called.append("get_algorithm")
    algorithm = _ALGORITHMS[calls.get_algorithm(calibrator).name]
    called.append("get_batch_size")
    calls.get_batch_size(calibrator)
    called.append("read_calibration_cache")
    cache = calls.read_calibration_cache(calibrator)
    first = header(world.version, algorithm)
    if cache and world.accepts_cache and cache.split(b"\n")[0].decode(errors="replace") == first:
        return True
    names = [tensor.name for tensor in parts.inputs]
    batches = 0
    while True:
        called.append("get_batch")
        addresses = calls.get_batch(calibrator, names)
        if addresses is None:
            break
        batches += 1
        if world.on_batch is not None:
            world.on_batch(names, addresses)
    if not batches:
        world.log(logger, "ERROR", "Calibration failure occurred with no scaling factors detected")
        return False
    called.append("write_calibration_cache")
    text = world.cache
    if text is None:
        tensors = [*names, *(layer.get_output(0).name for layer in parts.layers)]
        text = "".join([f"{first}\n", *(f"{name}: 3c010a14\n" for name in tensors)])
    calls.write_calibration_cache(calibrator, text.encode())
    return True


def header(version: str, algorithm: str) -> str:
    """The first line of a calibration cache that a version of TensorRT writes."""
    major, minor, patch = map(int, re.findall(r"\d+", version)[:3])
    number = major * (1000 if major < 10 else 10000) + minor * 100 + patch
    return f"TRT-{number}-{algorithm}"
