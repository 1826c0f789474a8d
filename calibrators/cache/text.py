"""TensorRT's calibration cache: a text file of one scale per tensor, read and written byte for byte.

The format: a header line such as ``TRT-8601-EntropyCalibration2``, then per tensor ``name: bits``, where `bits` is the
scale (amax / 127, float32) as a hexadecimal integer without leading zeros. A name may itself hold ``": "``; the last
one separates.
"""

import hashlib
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from calibrators.cache.sidecar import Sidecar, sidecar_path
from calibrators.errors import CacheError
from calibrators.files import opened, whole_file, write_whole
from calibrators.grid import TENSORRT_INT8

ENTROPY = "EntropyCalibration2"
"""The algorithm word of IInt8EntropyCalibrator2, the calibrator that trtexec reads caches with."""

MINMAX = "MinMaxCalibration"
"""The algorithm word of IInt8MinMaxCalibrator."""

NEWEST_VERSION = 101600
"""TensorRT 10.16.0: the newest release known to have calibrators, and so the header of a new cache."""

MOST_BYTES = 2**26
"""About a million tensors: what is larger is another file, or a device that has no end."""

SMALLEST_NORMAL = 2.0**-126
"""The smallest positive float32 with full precision; kernels flush smaller ones to zero."""


class NoCacheError(CacheError):
    """A file that is malformed, or no calibration cache at all: `calibrators.codecs.cache_file` may know what it is.

    Attributes:
        data: Its bytes.
        source: What it is called.
        binary: Whether it is no text.
    """

    def __init__(self, message: str, *, data: bytes = b"", source: str = "", binary: bool = False) -> None:
        super().__init__(message)
        self.data, self.source, self.binary = data, source, binary


class CalibrationCache(Mapping[str, float]):
    """Scales by tensor name, in the file's order; immutable.

    A scale is the float32 amax / 127. What was parsed is written back byte for byte: an entry keeps its digits as they
    were spelled (NaN payloads, leading zeros, upper case) and whatever white space followed them (CRLF, blank lines, no
    newline at the end). Two caches are equal when their bytes are.

    Args:
        scales: By tensor name; each is rounded to float32.
        algorithm: The word in the header by which a calibrator recognises its own kind of cache.
        version: TensorRT's version number as its headers have it: 8601 is 8.6.1, 101401 is 10.14.1.
        sidecar: What the text cannot hold; `save` writes it beside the cache, `load` reads it there.

    Raises:
        CacheError: There is no scale; a scale is negative or not finite in float32; a name or the header cannot be
            written.
    """

    __slots__ = ("_entries", "_header", "_header_end", "sidecar")

    def __init__(
        self,
        scales: Mapping[str, float],
        *,
        algorithm: str = ENTROPY,
        version: int = NEWEST_VERSION,
        sidecar: Sidecar | None = None,
    ) -> None:
        header = _written_header(algorithm, version)
        if not scales:
            raise CacheError("a calibration cache holds at least one scale; calibrate a model with float activations")
        self._header, self._header_end = header, "\n"
        self.sidecar = sidecar
        self._entries = {_checked(name): _Entry(_spelled(name, scale), "\n") for name, scale in scales.items()}

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, alone: bool = False) -> "CalibrationCache":
        """Read the cache at `path`, with its side-car where there is one that belongs to it.

        A side-car that an earlier cache of the same path left behind is not taken; `trtcal cache check` tells of it.

        Args:
            path: The cache.
            alone: Do not look for a side-car.

        Raises:
            CacheError: It, or its side-car, cannot be read or is malformed.
        """
        try:
            with opened(path) as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise CacheError(f"cannot read {path}: {error.strerror or error}; give a calibration cache") from error
        if len(data) > MOST_BYTES:
            raise CacheError(
                f"{path} is no calibration cache: none is larger than {MOST_BYTES >> 20} MiB; give a cache"
            )
        cache = cls.parse(data, source=str(path))
        if not alone:
            cache.join_sidecar(path)
        return cache

    @classmethod
    def parse(cls, text: str | bytes, *, source: str = "<text>") -> "CalibrationCache":
        """Read a cache from its text; `source` names it in messages.

        Blank lines after the header, white space at the end of a line, a byte order mark, either line end and a missing
        newline at the end are kept as they are. A last line that has neither a newline nor all its digits was cut off.

        Raises:
            CacheError: The text is empty, binary or of another format; it has no header or no scale; a line is
                malformed; a name occurs twice. The message names the line.
        """
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        content = _decoded(data, source)
        head = _HEADER.match(content)
        if head is None:
            first = _shown(content.partition("\n")[0])
            raise _refusal(data, source, 1, f"{first} is no header of a calibration cache, such as TRT-8601-{ENTROPY}")
        entries: dict[str, _Entry] = {}
        starts: dict[str, int] = {}
        position = head.end()
        while position < len(content):
            match = _ENTRY.match(content, position)
            if match is None or match["name"] in starts:
                line = content[position:].partition("\n")[0]
                earlier = None if match is None else _number(content, starts[match["name"]])
                raise _refusal(data, source, _number(content, position), _fault(line, earlier))
            entries[match["name"]] = _Entry(match["bits"], match["end"])
            starts[match["name"]] = position
            position = match.end()
        if not entries:
            raise _refusal(data, source, 1, "no scale follows the header; the calibration did not end well, repeat it")
        bits, end = next(reversed(entries.values()))
        if "\n" not in end and len(bits) < _DIGITS and bits != "0":
            raise _refusal(data, source, _number(content, position), "the file ends within this line: it was cut off")
        return cls._of(head["text"], head["end"], entries)

    def join_sidecar(self, path: str | os.PathLike[str]) -> None:
        """Take the side-car of the cache at `path`, if it describes this one.

        Raises:
            CacheError: It cannot be read or is malformed.
        """
        sidecar = Sidecar.beside(path)
        if sidecar is not None and sidecar.cache_sha256 == self.sha256:
            self.sidecar = sidecar

    def dumps(self) -> bytes:
        """The file's bytes, names in UTF-8."""
        body = "".join(f"{name}: {entry.bits}{entry.end}" for name, entry in self._entries.items())
        return f"{self._header}{self._header_end}{body}".encode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the cache, and its side-car as ``<path>.json`` with the cache's SHA-256 filled in.

        Both files are written out before either replaces an old one: a full disk changes nothing. The cache is put in
        place first. Should the machine stop just then, the new cache stands beside an old side-car whose SHA-256 tells
        that it describes another cache. Without a side-car of its own, the cache leaves an old one, which is found out
        in the same way.

        Raises:
            OutputError: A file cannot be written.
        """
        data = self.dumps()
        if self.sidecar is None:
            write_whole(path, data)
            return
        text = replace(self.sidecar, cache_sha256=self.sha256).dumps()
        with whole_file(sidecar_path(path)) as temporary_sidecar, whole_file(path) as temporary:
            temporary_sidecar.write_text(text, encoding="utf-8")
            temporary.write_bytes(data)

    def with_scales(self, scales: Mapping[str, float]) -> "CalibrationCache":
        """A cache with these scales replaced, or added at the end; everything else stays byte for byte.

        Raises:
            CacheError: A scale is negative or not finite in float32; a name cannot be written.
        """
        entries = dict(self._entries)
        for name, scale in scales.items():
            bits, old = _spelled(name, scale), entries.get(name)
            if old is None:
                last = next(reversed(entries))
                if "\n" not in entries[last].end:
                    entries[last] = _Entry(entries[last].bits, entries[last].end + self.line_end)
                entries[_checked(name)] = _Entry(bits, self.line_end)
            elif int(old.bits, 16) != int(bits, 16):
                entries[name] = _Entry(bits, old.end)
        changed = self._of(self._header, self._header_end, entries)
        if self.sidecar is not None:
            kept = {name: scale for name, scale in self.sidecar.explicit.items() if name not in scales}
            changed.sidecar = replace(self.sidecar, explicit=kept)
        return changed

    def with_header(self, *, algorithm: str = ENTROPY, version: int = NEWEST_VERSION) -> "CalibrationCache":
        """A cache with another header, for a calibrator of another kind or TensorRT; the rest stays byte for byte.

        Raises:
            CacheError: `algorithm` is not one word.
        """
        changed = self._of(_written_header(algorithm, version), self.line_end, dict(self._entries))
        changed.sidecar = self.sidecar
        return changed

    @property
    def header(self) -> str:
        """The first line as it stands, without its line end."""
        return self._header

    @property
    def line_end(self) -> str:
        r"""The header's: ``"\n"``, as TensorRT writes it, or ``"\r\n"``."""
        return "\r\n" if self._header_end.startswith("\r\n") else "\n"

    @property
    def version(self) -> int | None:
        """TensorRT's version number, such as 8601 or 101401; None where the header gives none (legacy, TRT-8XXX)."""
        number = self._header_part("version")
        if number is None or not number.isdecimal() or len(number) > _VERSION_DIGITS:
            return None
        return int(number)

    @property
    def algorithm(self) -> str | None:
        """The calibration algorithm's word, such as EntropyCalibration2; None in a legacy header."""
        return self._header_part("algorithm")

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file's bytes, in hexadecimal."""
        return hashlib.sha256(self.dumps()).hexdigest()

    def amax(self, name: str) -> float:
        """The largest absolute value within the tensor's INT8 range: 127 scales."""
        return TENSORRT_INT8.symmetric_amax(self[name])

    def bits(self, name: str) -> str:
        """The scale as the file spells it: a float32's bits in hexadecimal."""
        return self._entries[name].bits

    def __getitem__(self, name: str) -> float:
        return float(struct.unpack("!f", struct.pack("!I", int(self._entries[name].bits, 16)))[0])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return self.dumps() == other.dumps() if isinstance(other, CalibrationCache) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.dumps())

    def __repr__(self) -> str:
        return f"<CalibrationCache {self.header!r}, {len(self)} scales>"

    def _header_part(self, part: str) -> str | None:
        match = _HEADER.match(f"{self._header}\n")
        return match[part] if match else None

    @classmethod
    def _of(cls, header: str, header_end: str, entries: "dict[str, _Entry]") -> "CalibrationCache":
        cache = cls.__new__(cls)
        cache._header, cache._header_end, cache._entries = header, header_end, entries
        cache.sidecar = None
        return cache


def usable(scale: float | None) -> bool:
    """Whether a scale can stand in a QuantizeLinear: positive, finite and normal in float32."""
    return scale is not None and SMALLEST_NORMAL <= scale < math.inf


def version_text(version: int) -> str:
    """TensorRT's version as people write it: 8601 is "8.6.1"; from 10 on the major counts 10000: 101401, "10.14.1"."""
    major = 10000 if version >= 100000 else 1000
    return f"{version // major}.{version % major // 100}.{version % 100}"


def version_number(text: str) -> int:
    """The number that a header has for TensorRT's version as people, and its `__version__`, write it.

    "8.6.1" is 8601; from 10 on the major counts 10000: "10.14.1.48" is 101401. "10.3" is 10.3.0, and a header's number
    is itself.

    Raises:
        CacheError: It is no version.
    """
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,2})(?:\.(\d{1,2})(?:[.\D].*)?)?", text.strip())
    if match is not None:
        major, minor, patch = (int(part or 0) for part in match.groups())
        return major * (10000 if major >= 10 else 1000) + minor * 100 + patch
    if re.fullmatch(r"\d{4,6}", text.strip()):
        return int(text)
    raise CacheError(f"{_shown(text)} is no version of TensorRT, such as 8.6.1 or 10.14.1")


def header_text(cache: CalibrationCache) -> str:
    """The header in words: "TensorRT 8.6.1, EntropyCalibration2"."""
    if cache.algorithm is not None:
        version = "of unknown version" if cache.version is None else version_text(cache.version)
        return f"TensorRT {version}, {cache.algorithm}"
    # The legacy calibrator's cache holds its quantile and regression cutoff (TensorRT's API documentation), as float64.
    cutoffs = [struct.unpack("!d", bytes.fromhex(word.zfill(16)))[0] for word in cache.header.split()[1:]]
    return "legacy calibrator of an old TensorRT" + "".join(f", {value:g}" for value in cutoffs)


class _Entry(NamedTuple):
    bits: str  # as spelled
    end: str  # all white space up to the next name


_DIGITS = 8
_WORD = 100  # letters, or words: more than any header has
_VERSION_DIGITS = 9
_END = r"(?P<end>(?:[ \t\r]*(?:\n|\Z))+)"
_HEADER = re.compile(
    rf"(?P<text>\ufeff?(?:TRT-(?P<version>[^\s-]{{1,{_WORD}}})-(?P<algorithm>\S{{1,{_WORD}}})"
    rf"|[0-9]{{1,{_WORD}}}(?: [0-9a-f]{{1,16}}){{0,{_WORD}}})[ \t]*(?![ \t]))" + _END
)
_ENTRY = re.compile(rf"(?P<name>[^\r\n]+): (?P<bits>[0-9a-fA-F]{{1,{_DIGITS}}}){_END}")


def _written_header(algorithm: str, version: int) -> str:
    header = f"TRT-{version}-{algorithm}"
    match = _HEADER.fullmatch(header + "\n")
    if match is None or match["algorithm"] != algorithm:
        raise CacheError(f"{header!r} is no header of a cache: the algorithm is one word, such as {ENTROPY}")
    return header


def _decoded(data: bytes, source: str) -> str:
    if not data.strip():
        raise CacheError(f"{source} is empty: no calibration cache; calibrate again")
    if b"\0" in data:
        message = f"{source} is no TensorRT calibration cache but a binary file"
        raise NoCacheError(message, data=data, source=source, binary=True)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refusal(data, source, line, "not UTF-8 text, which tensor names are; was the file converted?") from error


def _number(content: str, position: int) -> int:
    return content.count("\n", 0, min(position, len(content) - 1)) + 1


def _fault(line: str, earlier: int | None) -> str:
    name, separator, bits = line.rpartition(": ")
    bits = bits.rstrip(" \t\r")
    if earlier is not None:
        return f"{_shown(name)} has a scale on line {earlier} already; keep one of the two"
    if not separator:
        return f"no ': ' between a name and a scale in {_shown(line)}"
    if not name or "\r" in name:
        return f"{_shown(name)} is no tensor's name"
    if not re.fullmatch("[0-9a-fA-F]+", bits):
        return f"the scale {_shown(bits)} is not a float32's bits in hexadecimal, such as 3c010a14"
    return f"the scale {_shown(bits)} has {len(bits)} hexadecimal digits; a float32 has at most {_DIGITS}"


def _refusal(data: bytes, source: str, number: int, reason: str) -> NoCacheError:
    return NoCacheError(f"{source}, line {number}: {reason}", data=data, source=source)


def _checked(name: str) -> str:
    if not name or re.search("[\n\r\0\ud800-\udfff]", name):
        raise CacheError(
            f"{name!r} cannot name a tensor in a cache: it is empty, or holds a line break or half a letter"
        )
    return name


def _spelled(name: str, scale: float) -> str:
    try:
        (bits,) = struct.unpack("!I", struct.pack("!f", scale))
    except OverflowError:
        bits = -1
    if bits < 0 or not math.isfinite(scale) or scale < 0:
        raise CacheError(f"the scale of {_shown(name)} is {scale!r}: it must be finite in float32 and not negative")
    return f"{bits if scale else 0:x}"


def _shown(text: str, limit: int = 80) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
