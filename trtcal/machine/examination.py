"""What this machine has, together with what each command can do with it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from calibrators.tabular import Row, Tabular
from trtcal.machine.abilities import Ability, abilities
from trtcal.machine.doctor import Machine, examine


@dataclass(frozen=True, slots=True)
class Examination(Tabular):
    """This machine, and what works on it.

    Attributes:
        machine: Its processor, GPU, driver and libraries.
        commands: What each command can do here, and how to install what is missing.
    """

    machine: Machine
    commands: tuple[Ability, ...]

    def rows(self) -> list[Row]:
        """A row a command; `machine.rows()` has the libraries."""
        return [asdict(each) for each in self.commands]


def doctor(*, progress: Callable[[int], None] | None = None) -> Examination:
    """Look at this machine: what it has, and what each command can do with it.

    Each library is imported in a process of its own, so that a broken one breaks nothing here. What is absent is no
    error.

    Args:
        progress: Is told the number of libraries looked at since the last call.
    """
    machine = examine(progress)
    return Examination(machine, abilities(machine))
