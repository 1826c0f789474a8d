"""``python -m tests.nodes [WORD]``: ONNX's node tests through `quantize`, and the counts; see README.md."""

import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from tests.nodes.cases import cases
from tests.nodes.trial import outcome


def main(arguments: list[str]) -> int:
    """Try the tests whose names hold a word, or all: each that is not done in a line, then the counts."""
    warnings.simplefilter("ignore")  # what ONNX's own tests do with NumPy
    counts: Counter[str] = Counter()
    for case in cases(*arguments[:1]):
        with tempfile.TemporaryDirectory() as folder:
            found = outcome(case, Path(folder))
        counts[found.kind] += 1
        if found.kind != "done":
            sys.stdout.write(f"{found}\n")
    sys.stdout.write(", ".join(f"{counts[kind]} {kind}" for kind in ("done", "refused", "wrong", "apart")) + "\n")
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
