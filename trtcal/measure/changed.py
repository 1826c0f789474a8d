"""The images that a model changes most against a reference."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from calibrators.batches import Array, TensorSpec
from calibrators.errors import TrtcalError
from trtcal.measure.distortion import Distortion, distortion, grouped
from trtcal.measure.measures import (
    Labels,
    Score,
    class_scores,
    classes_of,
    or_least,
    other_size,
    uncounted,
)
from trtcal.tasks.class_scores import class_output

Change = Literal["lost", "gained", "class", "outputs"]
"""What changed: right by the reference and wrong by the model, the other way round, the class, or the outputs alone."""

Group = tuple[int, Sequence[Sequence[int]]]
"""The axis of an output's channels, and the groups of those that are alike."""

Groups = Mapping[str, Group]
"""Of the outputs whose channels are of several kinds."""


@dataclass(frozen=True, slots=True)
class ChangedImage:
    """An image of which a model's outputs are not the reference's.

    Attributes:
        name: A path relative to the folder, or a position in the arrays.
        sqnr: Of this image, in dB: of the worst output or group of channels, as `Score.sqnr` is. The groups are those
            of all images: the values of one may be too few to tell channels apart.
        before: The class that the reference takes it for; None where there is none, or its scores hold NaN.
        now: The class that the model takes it for.
        label: Its class; None where it is not known.
    """

    name: str
    sqnr: float
    before: int | None = None
    now: int | None = None
    label: int | None = None

    @property
    def change(self) -> Change:
        """What changed."""
        if self.label is not None and self.before != self.now and self.label in (self.before, self.now):
            return "lost" if self.label == self.before else "gained"
        return "outputs" if self.before == self.now else "class"

    @property
    def rank(self) -> tuple[int, float, str]:
        """The least for what changed most: by what changed, in the order of `Change`, by SQNR, then by name."""
        return get_args(Change).index(self.change), -math.inf if math.isnan(self.sqnr) else self.sqnr, self.name

    def to_dict(self) -> dict[str, Any]:
        """For JSON: dB, null where it is no finite number."""
        return {
            "image": self.name,
            "change": self.change,
            "label": self.label,
            "reference_class": self.before,
            "class": self.now,
            "sqnr_db": self.sqnr if math.isfinite(self.sqnr) else None,
        }


def most_changed(images: Iterable[ChangedImage], most: int) -> tuple[ChangedImage, ...]:
    """The `most` images that changed most, in order: of any parts of a set they are those of the whole set."""
    return tuple(sorted(images, key=lambda image: image.rank)[:most])


def changed_images(
    names: Sequence[str],
    outputs: Mapping[str, Array],
    reference: Mapping[str, Array],
    *,
    labels: Labels | None = None,
    groups: Groups | None = None,
    sized: Collection[str] = (),
) -> list[ChangedImage]:
    """The images of a batch that changed at all.

    Args:
        names: Of the images.
        outputs: Of the model, by name, images on the first axis. What an output holds for all images together counts
            for each of them.
        reference: Of the reference.
        labels: As `trtcal.measure.measures.score` takes them.
        groups: Of the outputs' channels; None where all of an output are alike.
        sized: Outputs whose size depends on the data.
    """
    held = class_output(outputs, sized)
    before, now = ({} if held is None else _classes(each[held]) for each in (reference, outputs))
    known = {} if labels is None or held is None else dict(enumerate(labels.tolist()))
    floats = [name for name, value in reference.items() if value.dtype.kind == "f"]
    counted = [name for name in floats if name not in uncounted(floats, sized)]
    found = []
    for place, image in enumerate(names):
        parts = [
            part
            for name in counted
            for part in _parts(reference[name], outputs[name], place, len(names), (groups or {}).get(name))
        ]
        sqnr = min((part.sqnr for part in parts), key=or_least, default=math.inf)
        found.append(ChangedImage(image, sqnr, before.get(place), now.get(place), known.get(place)))
    return [image for image in found if image.change != "outputs" or image.sqnr != math.inf]


def require_worst(worst: int, *, compared: bool) -> None:
    """Refuse to name the images that changed most where there can be none.

    Raises:
        TrtcalError: It is not 1 or more, or nothing is compared.
    """
    if worst < 1:
        raise TrtcalError(f"the number of images to name must be 1 or more, not {worst}")
    if not compared:
        raise TrtcalError("--worst needs something to compare with: give two models, or --reference")


def passes(outputs: Sequence[TensorSpec], worst: int | None) -> int:
    """How often samples are gone over to name the images that changed most: twice where outputs may be of many kinds.

    Class scores alone are of one kind. Which channels of other outputs are alike, all images tell (`groups_of`), and
    has to be known before the first one is judged: to keep the channels of each would take memory for each.

    Args:
        outputs: Of the reference.
        worst: How many images are to be named; None for none, which takes one pass.
    """
    one_kind = len(outputs) == 1 and all(size == 1 for size in outputs[0].shape[2:])
    return 1 if worst is None or one_kind else 2


def groups_of(score: Score) -> Groups:
    """The groups of channels that a score tells apart."""
    found = {name: grouped(parts) for name, parts in score.channels.items()}
    return {name: (each[0].axis, each[1]) for name, each in found.items() if each is not None}


def _classes(scores: Array) -> dict[int, int]:
    """By place; none for a row with NaN."""
    return {place: each for place, each in enumerate(classes_of(class_scores(scores)).tolist()) if each >= 0}


def _parts(reference: Array, values: Array, place: int, samples: int, groups: Group | None) -> list[Distortion]:
    """The distortion of an output, or of its groups of channels, in the sample at a place."""
    if reference.shape != values.shape:
        return [other_size(reference, values, samples).distortion]
    if reference.shape[:1] != (samples,):
        return [distortion(reference, values)]
    one, other = np.asarray(reference[place]), np.asarray(values[place])
    axis, alike = groups or (0, ())
    return [distortion(one.take(each, axis - 1), other.take(each, axis - 1)) for each in alike] or [
        distortion(one, other)
    ]
