"""The statistics of a whole model, and the file that keeps them: shards of one calibration merge."""

import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from calibrators.errors import CacheError, one_line
from calibrators.files import opened, write_whole
from calibrators.statistics.histogram import BINS, Histogram
from calibrators.statistics.tensor import TensorStatistics

FORMAT = 1

ZIP = b"PK"
"""How every .npz file begins."""

MOST_BYTES = 2**31
"""Of a file, packed or not: statistics of 16,000 tensors."""

SPARE = 2**24
"""Bytes by which an array may be larger than the tensors need: whether it fits them is checked when it is read."""

MOST_HEADER = 2**26
"""Names and sums of about a hundred thousand tensors."""


@dataclass(frozen=True, slots=True)
class ScaleGroup:
    """Tensors that share one scale.

    Attributes:
        members: Every tensor of the group.
        sources: Those whose statistics decide: the ones that no operator of the group moves or pools another into.
        origins: Of the others, those that each takes its values from; with these the group can be divided
            (`calibrators.statistics.division`). Empty where nobody has noted them.
    """

    members: tuple[str, ...]
    sources: tuple[str, ...]
    origins: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        moved = [name for derived, before in self.origins for name in (derived, *before)]
        if not all(isinstance(name, str) for name in (*self.members, *self.sources, *moved)):
            raise CacheError("a group of tensors that share a scale lists something else than their names")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where statistics come from.

    Attributes:
        model: SHA-256 of the model, or "" where it is not known.
        preprocess: The preprocessing as a dict, or None.
        images: SHA-256 of each set of images, in sorted order.
        count: The number of samples.
        seed: Of the sampling, or None.
        tensors: "all" or "quantizable".
    """

    model: str = ""
    preprocess: Mapping[str, Any] | None = None
    images: tuple[str, ...] = ()
    count: int = 0
    seed: int | None = None
    tensors: str = "all"

    @classmethod
    def of(cls, batches: object, *, model: str, count: int, tensors: str) -> "Provenance":
        """That of statistics of `batches`, as far as these tell: a loader has a preprocessing, a digest and a seed."""
        preprocess, digest = getattr(batches, "preprocess", None), getattr(batches, "digest", None)
        return cls(
            model=model,
            preprocess=None if preprocess is None else preprocess.to_dict(),
            images=(digest,) if digest else (),
            count=count,
            seed=getattr(batches, "seed", None),
            tensors=tensors,
        )

    def merged(self, other: "Provenance") -> "Provenance":
        """The provenance of both together.

        Raises:
            CacheError: They come from different models, preprocessings or choices of tensors, or from the very same
                images.
        """
        for name, what in (("model", "model"), ("preprocess", "preprocessing"), ("tensors", "choice of tensors")):
            if getattr(self, name) != getattr(other, name):
                raise CacheError(f"statistics of another {what} do not merge: collect all shards in the same way")
        if twice := set(self.images) & set(other.images):
            raise CacheError(f"the images {min(twice)[:12]} are in both sets of statistics: give each shard once")
        seed = self.seed if self.seed == other.seed else None
        images = tuple(sorted(self.images + other.images))
        return Provenance(self.model, self.preprocess, images, self.count + other.count, seed, self.tensors)


class Statistics(dict[str, TensorStatistics]):
    """The statistics of a model's tensors by name, in topological order; ``a + b`` merges two shards.

    Attributes:
        groups: Tensors that share a scale in TensorRT's caches.
        explicit_groups: Tensors that share one between Q/DQ nodes: not those on both sides of an average pooling.
        provenance: Where the numbers come from.
        unbounded: Other tensors, infinite in some sample and so without a range, such as attention masks.
    """

    def __init__(
        self,
        tensors: Mapping[str, TensorStatistics],
        *,
        groups: Iterable[ScaleGroup] = (),
        explicit_groups: Iterable[ScaleGroup] = (),
        provenance: Provenance | None = None,
        unbounded: Iterable[str] = (),
    ) -> None:
        super().__init__(tensors)
        self.groups = tuple(groups)
        self.explicit_groups = tuple(explicit_groups)
        self.provenance = provenance or Provenance()
        self.unbounded = tuple(unbounded)

    def __add__(self, other: "Statistics") -> "Statistics":
        """The statistics over both shards.

        Raises:
            CacheError: They do not belong together.
        """
        provenance = self.provenance.merged(other.provenance)
        unbounded = tuple(dict.fromkeys((*self.unbounded, *other.unbounded)))
        names = [name for name in self if name not in unbounded]
        if set(names) != other.keys() - set(unbounded) or self._groups() != other._groups():
            raise CacheError("statistics of different tensors do not merge: collect all shards from the same model")
        return Statistics(
            {name: self[name] + other[name] for name in names},
            groups=self.groups,
            explicit_groups=self.explicit_groups,
            provenance=provenance,
            unbounded=unbounded,
        )

    def __repr__(self) -> str:
        return f"<Statistics of {len(self)} tensors from {self.provenance.count} images>"

    def _groups(self) -> tuple[tuple[ScaleGroup, ...], ...]:
        return self.groups, self.explicit_groups

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``.stats.npz`` file, whole or not at all; the same statistics give the same bytes.

        Raises:
            OutputError: The file cannot be written.
        """
        header = {
            "format": FORMAT,
            "tensors": {name: _numbers(statistics) for name, statistics in self.items()},
            "groups": [[asdict(group) for group in groups] for groups in self._groups()],
            "provenance": asdict(self.provenance),
            **({"unbounded": list(self.unbounded)} if self.unbounded else {}),
        }
        sides = [side for statistics in self.values() for side in (statistics.positive, statistics.negative)]
        arrays = {
            "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
            "counts": np.array([side.counts for side in sides], np.int64).reshape(len(sides), BINS),
            "exponents": np.array([side.exponent for side in sides], np.int64),
            "maxima": np.array([side.maximum for side in sides], np.float32),
        }
        write_whole(path, _npz(arrays))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Statistics":
        """Read a file that `save` wrote.

        Raises:
            CacheError: It is missing, or is not such a file.
        """
        try:
            with opened(path) as file:
                data = file.read(len(ZIP))
                data += file.read(MOST_BYTES) if data == ZIP else b""  # else it may have no end
        except FileNotFoundError:
            raise CacheError(f"no statistics file {path}: write one with `trtcal calibrate --statistics`") from None
        except OSError as error:
            raise CacheError(f"cannot read {path}: {error.strerror or error}; give a statistics file") from error
        if not data.startswith(ZIP):
            raise CacheError(f"{path} is not a statistics file: give one that `trtcal calibrate --statistics` wrote")
        try:
            _require_sizes(data)
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return _statistics(arrays)
        except Exception as error:  # what unpacking raises depends on which byte is wrong
            raise CacheError(
                f"{path} is not a statistics file that this version reads ({one_line(error)}): "
                "update trtcal, or collect the statistics again"
            ) from error


def merged_files(paths: Sequence[str | os.PathLike[str]]) -> Statistics:
    """The statistics of several files together: shards of one calibration.

    Raises:
        CacheError: One is missing, is no statistics file, or does not belong to the first; the message names it.
    """
    if not paths:
        raise CacheError("there is no statistics file: give at least one")
    merged = Statistics.load(paths[0])
    for path in paths[1:]:
        further = Statistics.load(path)
        try:
            merged = merged + further
        except CacheError as error:
            raise CacheError(f"{path}: {error}") from None
    return merged


def _require_sizes(data: bytes) -> None:
    """Refuse a file that would unpack to more than the tensors that it names need: bytes pack to a thousandth."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = {each.filename.removesuffix(".npy"): each.file_size for each in archive.infolist()}
        if sum(sizes.values()) > MOST_BYTES or sizes["header"] > MOST_HEADER:
            raise CacheError(f"it would unpack to {sum(sizes.values()) / 2**30:.1f} GiB")
        with archive.open("header.npy") as member:
            header = json.loads(np.lib.format.read_array(member, allow_pickle=False).tobytes())
    histograms = 2 * len(header["tensors"])
    for name, item in (("counts", 8 * BINS), ("exponents", 8), ("maxima", 4)):
        if sizes[name] > histograms * item + SPARE:
            raise CacheError(f"its {name} are too large for {len(header['tensors'])} tensors")


def _statistics(file: Mapping[str, Any]) -> Statistics:
    header = json.loads(file["header"].tobytes())
    json.dumps(header, allow_nan=False)  # Python reads NaN and infinity, which JSON has not
    if header["format"] != FORMAT:
        raise CacheError(f"its format is {header['format']}, not {FORMAT}")
    if file["exponents"].dtype != np.int64 or file["maxima"].dtype != np.float32:
        raise CacheError("its exponents or maxima are numbers of another type")
    sides = [
        Histogram(counts, int(exponent), float(maximum))
        for counts, exponent, maximum in zip(file["counts"], file["exponents"], file["maxima"], strict=True)
    ]
    if len(sides) != 2 * len(header["tensors"]):
        raise CacheError(f"it has {len(sides)} histograms for {len(header['tensors'])} tensors")
    tensors = {
        name: TensorStatistics(sides[2 * i], sides[2 * i + 1], *map(int, numbers))
        for i, (name, numbers) in enumerate(header["tensors"].items())
    }
    groups, explicit_groups = ([_group(group) for group in part] for part in header["groups"])
    provenance = header["provenance"]
    provenance["images"] = tuple(provenance["images"])
    unbounded = header.get("unbounded", [])
    if not isinstance(unbounded, list) or not all(isinstance(name, str) for name in unbounded):
        raise CacheError("its unbounded tensors are something else than a list of names")
    known = Provenance(**provenance)
    for name, number in (("count", known.count), ("seed", known.seed or 0)):
        if not isinstance(number, int) or abs(number) >= 1e300:
            raise CacheError(f"its {name} is no whole number that a float holds")
    return Statistics(tensors, groups=groups, explicit_groups=explicit_groups, provenance=known, unbounded=unbounded)


def _group(stored: Mapping[str, Any]) -> ScaleGroup:
    origins = tuple((name, tuple(before)) for name, before in stored.get("origins", ()))
    return ScaleGroup(tuple(stored["members"]), tuple(stored["sources"]), origins)


def _numbers(statistics: TensorStatistics) -> list[str]:
    """The whole numbers as text: the sums go beyond what other JSON readers keep exactly."""
    sums = (statistics.highest_sum, statistics.lowest_sum, statistics.absmax_sum)
    return [str(number) for number in (statistics.zeros, statistics.samples, *sums)]


def _npz(arrays: Mapping[str, Any]) -> bytes:
    """NumPy's .npz format, compressed, without the time of day: the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue(), zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()
