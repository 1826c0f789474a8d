"""The truth: what annotations say of each image, and what they were asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from calibrators.errors import DataError, listed
from trtcal.tasks.adapter import Kind
from trtcal.tasks.found import Finding
from trtcal.tasks.measuring.evidence import Measure
from trtcal.tasks.placement import Size


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose annotations are wanted, and what for.

    Attributes:
        sizes: Of the images, as they are looked at, by name; at least one.
        kind: What the model finds.
        classes: How many classes it tells apart; None where that is not known.
        class_names: Its classes' names by number; empty where they are not known.
    """

    sizes: Mapping[str, Size]
    kind: Kind
    classes: int | None = None
    class_names: Sequence[str] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What annotations say of some images, in the images' own pixels and the model's class numbers.

    Attributes:
        measure: What can be compared by it.
        classes: Names by class number; empty where none are known.
        notes: What a user should know of how the annotations were read, one line each.
        finding: What `of` gives.
    """

    measure: Measure
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    finding: Callable[[str], Finding]

    def of(self, name: str) -> Finding:
        """What is in an image.

        Args:
            name: The image's, one of those that the annotations were opened for.

        Raises:
            DataError: It is none of these, the image cannot be read, or its mask cannot.
        """
        return self.finding(name)


def known(findings: Mapping[str, Finding]) -> Callable[[str], Finding]:
    """What gives the findings by name.

    The function raises DataError for a name that has none.
    """

    def finding(name: str) -> Finding:
        if name not in findings:
            raise DataError(f"there are no annotations of {listed([name])}: they were opened for other images")
        return findings[name]

    return finding
