"""ONNX Runtime's ``calibration.flatbuffers``, the table that its TensorRT provider reads ranges from.

The schema, namespace CalTableFlatBuffers: ``table TrtTable { dict: [KeyValue]; }`` and ``table KeyValue { key: string;
value: string; }``, where `value` is the largest absolute value in decimal; the provider takes plus and minus of it.
"""

import struct
from collections.abc import Iterator

from calibrators.codecs.encodings import Encodings
from calibrators.codecs.lines import DECIMAL
from calibrators.codecs.losses import Losses
from calibrators.codecs.onnxruntime_text import REMEDY
from calibrators.codecs.ranges import ranges_of
from calibrators.codecs.reading import of_ranges
from calibrators.errors import CacheError


def load(data: bytes, *, source: str) -> Encodings:
    """Read such a table.

    Raises:
        CacheError: It is malformed, or a name occurs twice.
    """
    ranges: dict[str, float] = {}
    try:
        for key, value in _pairs(data):
            if key in ranges:
                raise CacheError(f"{source}: {key!r} occurs twice; keep one of the two")
            if DECIMAL.fullmatch(value) is None:
                raise CacheError(f"{source}: the range {value!r} of {key!r} is no decimal number; calibrate again")
            ranges[key] = float(value)
    except (struct.error, UnicodeDecodeError) as error:
        raise CacheError(f"{source} is no whole table of ONNX Runtime ({error}): was it cut off?") from error
    return of_ranges(ranges, source, remedy=REMEDY)


def dump(encodings: Encodings) -> tuple[bytes, tuple[str, ...]]:
    """The table, in the order of the encodings, and what it cannot hold.

    Raises:
        CacheError: No activation has a range, or one has several scales.
    """
    import flatbuffers

    losses = Losses("ONNX Runtime's table")
    builder = flatbuffers.Builder(1024)
    pairs = []
    for name, amax in ranges_of(encodings, losses).items():
        key, value = builder.CreateString(name), builder.CreateString(repr(amax))
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, key, 0)
        builder.PrependUOffsetTRelativeSlot(1, value, 0)
        pairs.append(builder.EndObject())
    builder.StartVector(4, len(pairs), 4)
    for pair in reversed(pairs):
        builder.PrependUOffsetTRelative(pair)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output()), losses.lines


def recognises(data: bytes) -> bool:
    """Whether the first entry of such a table is where it would be, and its range is a number."""
    try:
        _, value = next(_pairs(data), ("", ""))
    except (struct.error, UnicodeDecodeError):
        return False
    return DECIMAL.fullmatch(value) is not None


def _pairs(data: bytes) -> Iterator[tuple[str, str]]:
    vector = _field(data, _followed(data, 0), 0)
    (count,) = _read(data, "<I", vector)
    if vector + 4 + 4 * count > len(data):
        raise struct.error(f"{count} entries do not fit into {len(data)} bytes")
    for number in range(count):
        entry = _followed(data, vector + 4 + 4 * number)
        yield _string(data, _field(data, entry, 0)), _string(data, _field(data, entry, 1))


def _field(data: bytes, table: int, slot: int) -> int:
    """The place that a table's field refers to."""
    (back,) = _read(data, "<i", table)
    (size,) = _read(data, "<H", table - back)
    (offset,) = _read(data, "<H", table - back + 4 + 2 * slot) if 4 + 2 * slot < size else (0,)
    if not offset:
        raise struct.error("a field is absent")
    return _followed(data, table + offset)


def _followed(data: bytes, place: int) -> int:
    (offset,) = _read(data, "<I", place)
    return place + int(offset)


def _string(data: bytes, place: int) -> str:
    (length,) = _read(data, "<I", place)
    if place + 4 + length > len(data):
        raise struct.error("a text runs beyond the end")
    return data[place + 4 : place + 4 + length].decode()


def _read(data: bytes, form: str, place: int) -> tuple[int, ...]:
    if place < 0:  # which `unpack_from` would count from the end
        raise struct.error("an offset leads out of the file")
    return struct.unpack_from(form, data, place)
