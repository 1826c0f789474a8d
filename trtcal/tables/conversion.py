"""Scales and encodings in another format: what was written, and what the format cannot hold."""

from collections.abc import Sequence
from pathlib import Path

from calibrators.cache.text import CalibrationCache, header_text
from calibrators.codecs.formats import FORMATS
from calibrators.errors import listed
from trtcal.conversion import Read
from trtcal.tables import console


def report(output: Path, found: Read, target: str, *, losses: Sequence[str], notes: Sequence[str], json: bool) -> None:
    """Say what was written in a format; on standard error, what it cannot hold."""
    activations, weights = len(found.encodings.activations), len(found.encodings.weights)
    if json:
        counts = {"activations": activations, "weights": weights}
        about = {"output": str(output), "format": target, "source_format": found.format, **counts}
        console.emit_json({**about, "losses": list(losses), "notes": [*notes]})
    else:
        console.say(f"{output}: {activations} activations, {weights} weights; {FORMATS[target].title} ({target})")
    warn(losses)


def report_cache(output: Path, cache: CalibrationCache, *, losses: Sequence[str], json: bool) -> None:
    """Say which cache was written; on standard error, what it cannot hold."""
    if json:
        about = {"cache": str(output), "header": cache.header, "sha256": cache.sha256, "scales": dict(cache)}
        console.emit_json({**about, "losses": list(losses)} if losses else about)
    else:
        console.say(f"{output}: {len(cache)} scales; {header_text(cache)}")
    warn(losses)


def warn(losses: Sequence[str]) -> None:
    """Tell, on standard error, what was lost."""
    for loss in losses:
        console.note(f"warning: {loss}")


def remarks(found: Read, target: str, *, model: Path | None) -> list[str]:
    """What a user should know before relying on the file."""
    hints = []
    if found.format == "aimet-2.0.0" and model is None:
        hints.append(
            "AIMET's 2.0.0 tells no weights from activations: what has no axis is taken for an activation; give the "
            "float model to tell them apart"
        )
    if found.format in ("onnxruntime-flatbuffers", "onnxruntime-text"):
        hints.append(
            "where ONNX Runtime wrote this table itself, a range is max(highest, lowest), too small where the lowest "
            "value is the larger one; its calibration.json has both ends"
        )
    if target == "trtcal" and found.encodings.axis_unknown:
        hints.append(f"the axis of {listed(sorted(found.encodings.axis_unknown))} is not known; give the float model")
    split = [name for name in found.encodings.activations if ":" in name]
    if target == "tensorrt" and found.format != "tensorrt" and split:
        hints.append(
            f"ONNX Runtime's TensorRT provider misreads {listed(split)} in a TensorRT cache, for the colon; TensorRT "
            "does not, nor does the provider in --to onnxruntime-flatbuffers"
        )
    return hints
