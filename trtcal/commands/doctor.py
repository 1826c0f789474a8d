"""`trtcal doctor`: what this machine has, and what each command can do here."""

from trtcal.commands import options
from trtcal.tables import console


def doctor(*, json: options.Json = False) -> None:
    """Tell what this machine has (processor, GPU, driver, libraries) and what each command can do here.

    What is absent is no error: the exit code is 0.
    """
    from trtcal.machine.doctor import LIBRARIES
    from trtcal.machine.examination import doctor as examined
    from trtcal.tables.machine import as_dict, show

    with console.progress("Looking at libraries", len(LIBRARIES)) as advance:
        found = examined(progress=advance)
    if json:
        console.emit_json(as_dict(found.machine, found.commands))
    else:
        show(found.machine, found.commands)
