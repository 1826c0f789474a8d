"""What aimet-onnx makes of our entries, and we of its; skipped where it is not installed."""

import json

import numpy as np
import pytest

from calibrators.codecs.aimet import layouts as aimet
from tests.calibrators.codecs.aimet.test_layouts import DUMPS, ENCODINGS

peer = pytest.importorskip("aimet_onnx._encoding", reason="aimet-onnx is not installed (pip install aimet-onnx)")


def entries(version):
    values = json.loads(DUMPS[version](ENCODINGS)[0])
    if version == "2.0.0":
        return {entry["name"]: entry for entry in values["encodings"]}
    sections = [values[name] for name in aimet.SECTIONS]
    if version == "1.0.0":
        return {entry["name"]: entry for section in sections for entry in section}
    return {name: entry for section in sections for name, entry in section.items()}


@pytest.mark.parametrize("version", DUMPS)
def test_it_reads_what_we_write(version):
    ours = {**ENCODINGS.activations, **ENCODINGS.weights}
    for name, entry in entries(version).items():
        theirs = peer.EncodingBase.from_qnn_encoding_dict(entry)
        assert theirs.dtype == ("int8" if ours[name].grid.signed else "uint8")
        assert np.array_equal(np.float32(theirs.scale), ours[name].scale)
        assert np.array_equal(-theirs.offset, ours[name].zero_point)


@pytest.mark.parametrize("version", DUMPS)
def test_we_read_what_it_writes(version):
    for name, value in {**ENCODINGS.activations, **ENCODINGS.weights}.items():
        dtype = "int8" if value.grid.signed else "uint8"
        theirs = peer.AffineEncoding(value.scale, -value.zero_point.astype(float), dtype, channel_axis=value.axis)
        entry = theirs.to_qnn_encoding_dict(version)
        if version == "2.0.0":
            values = {"version": version, "encodings": [{**entry, "name": name}]}
        else:
            section = {name: entry} if version == "0.6.1" else [{**entry, "name": name}]
            values = {"version": version, "activation_encodings": type(section)(), "param_encodings": section}
        found = aimet.load(json.dumps(values).encode(), source="theirs")
        assert {**found.activations, **found.weights}[name] == value
