"""AIMET's encodings: which layout a file has, and what all layouts share.

========  ============================================================================================================
0.6.1     ``activation_encodings`` and ``param_encodings`` are objects by name; a list of one object for each channel.
          0.4 and 0.5 have the same layout.
1.0.0     Both are lists of entries with a name, a width `bw` and lists of scales and offsets.
2.0.0     One list, ``encodings``, of ONNX's own words: `output_dtype`, `y_scale`, `y_zero_point`, `axis`, `block_size`.
          2.1.0 has it, too.
========  ============================================================================================================

Up to 1.0.0 an offset is minus the zero point of the *unsigned* type, whatever the type is: -128 for symmetric INT8; and
no axis is told. 2.0.0 has the zero point of the type itself; it tells no weights from activations: an entry with an
axis is taken for a weight, any other for an activation, until a model says better.

Facts: aimet-onnx 2.42, `_encoding.py` and `quantsim.py`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from calibrators.cache.sidecar import installed_versions
from calibrators.codecs.aimet import flat as aimet_flat
from calibrators.codecs.aimet import sections as aimet_sections
from calibrators.codecs.aimet.entries import say_what_is_lost
from calibrators.codecs.encodings import Encodings
from calibrators.codecs.losses import Losses
from calibrators.codecs.reading import kind_of, object_of, shown
from calibrators.encoding import Encoding
from calibrators.errors import CacheError

SECTIONS = ("activation_encodings", "param_encodings")
PACKAGE = "trtcal"
DEFAULT = "1.0.0"
"""What AIMET writes unless told otherwise, what later ones read, and Qualcomm's converters take as overrides."""


def load(data: bytes, *, source: str) -> Encodings:
    """Read any layout; what is wrong with an entry is said with its name.

    Entries that no integer grid describes (float16, LPBQ, vectors, INT32 biases) are left out of the weights, and
    noted, and so are activations in float.

    Raises:
        CacheError: It is malformed, or its layout is not its version's.
    """
    values = object_of(data, source)
    layout = layout_of(values)
    if layout is None:
        raise CacheError(f"{source} has neither {' and '.join(SECTIONS)} nor encodings, as AIMET's files have")
    _require_version(values.get("version"), layout, source)
    if layout == "2.0.0":
        return aimet_flat.read(values["encodings"], source, extra=_about(values))
    sections = {name: values.get(name, [] if layout == "1.0.0" else {}) for name in SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, list if layout == "1.0.0" else dict):
            wanted = "a list" if layout == "1.0.0" else "an object"
            raise CacheError(f"{source}: {name} is {wanted} as the other section is, not {kind_of(section)}")
    both = (sections[name] for name in SECTIONS)
    return aimet_sections.read(*both, layout=layout, source=source, extra=_about(values))


def dump_0_6_1(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """A file of version 0.6.1, which AIMET has deprecated and still reads, and what it cannot hold.

    Raises:
        CacheError: There is nothing to write.
    """
    losses = Losses("AIMET's 0.6.1")
    say_what_is_lost(encodings, losses)
    blocks = [name for name, value in _every(encodings).items() if value.block_size is not None]
    losses.left_out(blocks, "encoding", "which has no blocks")
    single = [name for name, value in _every(encodings).items() if value.axis is not None and value.scale.size == 1]
    losses.changed(single, "encoding of one channel", "becomes one of the whole tensor")
    _say_axes(encodings, losses)
    written = {
        section: {name: aimet_sections.entry_0_6_1(value) for name, value in tensors.items() if name not in blocks}
        for section, tensors in zip(SECTIONS, (encodings.activations, encodings.weights), strict=True)
    }
    return _written("0.6.1", encodings, written), losses.lines


def dump_1_0_0(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """A file of version 1.0.0, and what it cannot hold.

    Raises:
        CacheError: There is nothing to write.
    """
    losses = Losses("AIMET's 1.0.0")
    say_what_is_lost(encodings, losses)
    blocks = [name for name, value in _every(encodings).items() if value.block_size is not None]
    losses.changed(blocks, "encoding by blocks", "loses its shape, which AIMET takes from the model")
    _say_axes(encodings, losses)
    written = {
        section: [aimet_sections.entry_1_0_0(name, value) for name, value in tensors.items()]
        for section, tensors in zip(SECTIONS, (encodings.activations, encodings.weights), strict=True)
    }
    return _written("1.0.0", encodings, written), losses.lines


def dump_2_0_0(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """A file of version 2.0.0, and what it cannot hold.

    Raises:
        CacheError: There is nothing to write.
    """
    losses = Losses("AIMET's 2.0.0")
    say_what_is_lost(encodings, losses)
    single = [name for name, value in encodings.weights.items() if value.axis is None]
    losses.changed(
        single, "weight quantized as a whole", "looks like an activation there, until a model says otherwise"
    )
    several = [name for name, value in encodings.activations.items() if value.axis is not None]
    losses.changed(several, "activation of several scales", "looks like a weight there, until a model says otherwise")
    losses.changed(
        sorted(encodings.axis_unknown), "encoding", "gets axis 0, which its file did not tell; give the model"
    )
    entries = [aimet_flat.entry_2_0_0(name, value) for name, value in _every(encodings).items()]
    return _written("2.0.0", encodings, {"encodings": entries}), losses.lines


def _every(encodings: Encodings) -> dict[str, Encoding]:
    return {**encodings.activations, **encodings.weights}


def _say_axes(encodings: Encodings, losses: Losses) -> None:
    known = [
        name
        for name, value in _every(encodings).items()
        if value.axis is not None and name not in encodings.axis_unknown
    ]
    losses.changed(known, "encoding", "loses its axis, which a reader takes from the operator")


def _written(version: str, encodings: Encodings, sections: Mapping[str, object]) -> bytes:
    if not any(sections.values()):
        raise CacheError("there is no encoding to write into AIMET's file: give encodings of activations or weights")
    known = {key: value for key, value in encodings.extra.get("aimet", {}).items() if key != "producer"}
    producer = {"package": PACKAGE, "version": installed_versions(PACKAGE).get(PACKAGE, "unknown")}
    values = {"version": version, "producer": producer, **known, **sections}
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def layout_of(values: object) -> str | None:
    """Which of 0.6.1, 1.0.0 and 2.0.0 JSON values are laid out as; None where they are not AIMET's."""
    if not isinstance(values, dict):
        return None
    if isinstance(values.get("encodings"), list):
        return "2.0.0"
    sections = [values[name] for name in SECTIONS if name in values]
    for kind, layout in ((list, "1.0.0"), (dict, "0.6.1")):
        if sections and isinstance(sections[0], kind):
            return layout
    return None


def _require_version(version: object, layout: str, source: str) -> None:
    fits: dict[str, Callable[[str], bool]] = {
        "0.6.1": lambda text: text.startswith("0."),
        "1.0.0": lambda text: text.startswith("1.0"),
        "2.0.0": lambda text: text in ("2.0.0", "2.1.0"),
    }
    if version is None or (isinstance(version, str) and fits[layout](version)):
        return
    raise CacheError(
        f"{source}: its version is {shown(version)}, and its layout that of {layout}: export it again, as 0.6.1, 1.0.0 "
        "or 2.0.0"
    )


def _about(values: Mapping[str, Any]) -> dict[str, Any]:
    """What else AIMET's own file said."""
    about = {key: value for key, value in values.items() if key not in (*SECTIONS, "encodings", "version")}
    producer = about.get("producer")
    if isinstance(producer, dict) and producer.get("package") == PACKAGE:
        del about["producer"]
    return {"aimet": about} if about else {}
