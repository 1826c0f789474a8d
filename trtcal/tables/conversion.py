"""Scales and encodings in another format: what was written, and what the format cannot hold."""

from calibrators.cache.text import CalibrationCache, header_text
from calibrators.codecs.formats import FORMATS
from trtcal.conversion import Converted
from trtcal.tables import console, quantized


def report(found: Converted, *, json: bool) -> None:
    """Say what was written; on standard error, what the format cannot hold and what else a user should know."""
    if found.model is not None:
        quantized.report(found.output, found.model, json=json)
    elif found.cache is not None:
        _report_cache(found, found.cache, json=json)
    else:
        _report_file(found, json=json)
    for loss in found.losses:
        console.note(f"warning: {loss}")
    for note in found.notes:
        console.note(f"note: {note}")


def _report_file(found: Converted, *, json: bool) -> None:
    activations, weights = len(found.encodings.activations), len(found.encodings.weights)
    if json:
        counts = {"activations": activations, "weights": weights}
        about = {"output": str(found.output), "format": found.format, "source_format": found.source_format, **counts}
        console.emit_json({**about, "losses": list(found.losses), "notes": list(found.notes)})
    else:
        title = FORMATS[found.format].title
        console.say(f"{found.output}: {activations} activations, {weights} weights; {title} ({found.format})")


def _report_cache(found: Converted, cache: CalibrationCache, *, json: bool) -> None:
    if json:
        about = {"cache": str(found.output), "header": cache.header, "sha256": cache.sha256, "scales": dict(cache)}
        console.emit_json({**about, "losses": list(found.losses)} if found.losses else about)
    else:
        console.say(f"{found.output}: {len(cache)} scales; {header_text(cache)}")
