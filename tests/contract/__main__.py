"""``python -m tests.contract VERSION|all [PYTEST ARGUMENTS]``: suites against one version by hand; see README.md."""

import subprocess
import sys
from pathlib import Path

from tests.contract.bindings import VERSIONS, NoWheelError, UnavailableError
from tests.contract.child import SUITES, command


def main(arguments: list[str]) -> int:
    """Run the suites, or what the arguments name; the worst exit code."""
    known = {bindings.version: bindings for bindings in VERSIONS}
    if not arguments or arguments[0] not in {"all", *known}:
        sys.stderr.write(f"usage: python -m tests.contract {'|'.join(known)}|all [PYTEST ARGUMENTS]\n")
        return 2
    suites = [] if any(Path(argument.partition("::")[0]).exists() for argument in arguments[1:]) else [str(SUITES)]
    worst = 0
    for bindings in known.values() if arguments[0] == "all" else [known[arguments[0]]]:
        try:
            line, environment = command(bindings, [*suites, *arguments[1:]])
        except (NoWheelError, UnavailableError) as error:
            sys.stderr.write(f"{bindings.version}: {error}\n")
            worst = max(worst, 1)
            continue
        sys.stderr.write(f"TensorRT {bindings.version}\n")
        worst = max(worst, abs(subprocess.run(line, env=environment, check=False).returncode))
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
