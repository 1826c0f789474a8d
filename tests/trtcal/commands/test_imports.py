"""The commands stand at the top: none imports another, and nothing below them imports what prints."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = sorted((ROOT / "trtcal" / "commands").glob("*.py"))
SHARED = {"options"}
BELOW = [path for package in ("calibrators", "engines", "trtcal") for path in sorted((ROOT / package).rglob("*.py"))]
BELOW = [path for path in BELOW if not {"commands", "tables", "optimization"} & set(path.relative_to(ROOT).parts)]
BELOW = [path for path in BELOW if path.relative_to(ROOT).as_posix() not in ("trtcal/cli.py", "trtcal/verbs.py")]


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere, with the names that it takes from them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and not node.level
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_no_command_imports_another(path: Path) -> None:
    others = {name.split(".")[2] for name in imported(path) if name.startswith("trtcal.commands.")}
    assert others <= SHARED


def test_nothing_below_imports_commands_or_tables() -> None:
    assert len(BELOW) > 100
    assert not [
        f"{path.relative_to(ROOT)}: {name}"
        for path in BELOW
        for name in imported(path)
        if name.startswith(("trtcal.commands", "trtcal.tables"))
    ]


def test_tables_import_no_command() -> None:
    tables = list((ROOT / "trtcal" / "tables").rglob("*.py"))
    assert tables
    assert not [name for path in tables for name in imported(path) if name.startswith("trtcal.commands")]
