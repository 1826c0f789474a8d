"""What a model does class by class, and which classes lose most."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from calibrators.tabular import Row, Tabular
from trtcal.measure.chance import difference_interval
from trtcal.measure.class_counts import ByClass
from trtcal.measure.measures import Share

CHANCE = 0.05
"""That any class at all is taken for one that loses, where none does."""


@dataclass(frozen=True, slots=True)
class ClassTable(Tabular):
    """A model's images by class: by their labels, or without labels by the reference's class.

    Attributes:
        counts: By class number.
        names: By class number; empty where they are not known.
        compared: Whether there is a reference, and the model is another.
    """

    counts: ByClass
    names: Sequence[str] = ()
    compared: bool = True

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return any(each.samples for each in self.counts.values())

    @property
    def classes(self) -> list[int]:
        """Those that have images, in order."""
        return sorted(number for number in self.counts if self.images(number))

    @property
    def unchanged(self) -> list[int]:
        """Classes of which no image is lost or gained, or without labels is of another class."""
        return [number for number in self.classes if not self._changed(number)]

    @property
    def losing(self) -> list[int]:
        """Classes that lose images, less those that they gain; the one whose loss is the surest first."""
        found = [number for number in self.classes if self.loss(number) > 0]
        return sorted(found, key=lambda number: (-self._least(number), number))

    def named(self, number: int) -> str:
        """A class's name, or its number where that is not known."""
        return self.names[number] if number < len(self.names) else str(number)

    def images(self, number: int) -> int:
        """How many images of a class there are: labelled with it, or else taken for it by the reference."""
        return self.counts[number].samples if self.labelled else self.counts[number].expected

    def loss(self, number: int) -> int:
        """Images of a class lost, less those gained; without labels, those of another class than the reference's."""
        each = self.counts[number]
        return each.lost - each.gained if self.labelled else each.expected - each.agreeing

    def beyond_chance(self, number: int) -> bool:
        """Whether a class loses more than may be chance, as many classes as there are.

        Its interval (`difference_interval`) leaves out 0 at 1 - `CHANCE` for all classes together: of each at
        1 - `CHANCE` / classes (C. E. Bonferroni, 1936). Else 25 of 1,000 classes that lose nothing would seem to.
        """
        return self.compared and self._least(number) > 0

    def rows(self) -> list[Row]:
        """A row a class, in order: percent and points; None for what was not measured."""
        return [self._row(number) for number in self.classes]

    def _row(self, number: int) -> Row:
        each = self.counts[number]
        top1, agreement = Share(each.right, each.samples), Share(each.agreeing, each.expected)
        low, high = top1.interval() if top1.total else (None, None)
        dropped = self.compared and bool(top1.total)
        return {
            "class": number,
            "name": self.names[number] if number < len(self.names) else None,
            "images": self.images(number),
            "top1": top1.percent if top1.total else None,
            "top1_low": low,
            "top1_high": high,
            "drop": 100 * (each.lost - each.gained) / each.samples if dropped else None,
            "lost": each.lost if dropped else None,
            "gained": each.gained if dropped else None,
            "reference_images": each.expected if self.compared else None,
            "agreement": agreement.percent if agreement.total else None,
            "beyond_chance": self.beyond_chance(number) if self.compared else None,
        }

    def _changed(self, number: int) -> int:
        each = self.counts[number]
        return each.lost + each.gained if self.labelled else each.expected - each.agreeing

    def _least(self, number: int) -> float:
        """The lower end of the interval of what a class loses, in points."""
        z = NormalDist().inv_cdf(1 - CHANCE / len(self.classes) / 2)
        return difference_interval(self.loss(number), self._changed(number), self.images(number), z)[0]
