"""Blocks that are not run are held against the commands, options, functions and arguments that there are."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from tests.docs.pages import ROOT, Block, commands


def check(block: Block) -> int:
    """Fail where a block names what is not there; returns how many commands or calls could be checked."""
    return (
        sum(check_command(words) for words in commands(block.text)) if block.info == "sh" else check_calls(block.text)
    )


def check_command(words: list[str]) -> bool:
    """Hold a command against trtcal's options, the extras of `pip install`, the targets of `make`; False for others."""
    program, *arguments = words
    if program == "trtcal":
        _check_options(arguments)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        unknown = [each for each in arguments if "=" not in each and each not in targets]
        assert not unknown, f"make has no {unknown}"
    elif "install" in arguments and (program == "pip" or arguments[:2] == ["-m", "pip"]):
        known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
        for extras in re.findall(r"(?<![^ ])(?:\.|trtcal)\[([^]]*)\]", " ".join(arguments)):
            unknown = [each for each in extras.split(",") if each not in known]
            assert not unknown, f"trtcal has no extra {unknown}"
    else:
        return False
    return True


def _check_options(arguments: list[str]) -> None:
    import typer.main

    from trtcal.verbs import app

    command: Any = typer.main.get_command(app)
    name = "trtcal"
    while arguments and not arguments[0].startswith("-") and hasattr(command, "commands"):
        name, *arguments = arguments
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    command.make_context(name, list(arguments))


def check_calls(program: str) -> int:
    """Hold a program's calls of trtcal against the signatures that there are; returns how many there were.

    That are the calls of what is imported from trtcal, and of the methods of objects made by a call of a class of it.
    """
    tree = ast.parse(program)
    known = dict(_imported(tree))
    checked = 0
    for node in ast.walk(tree):  # statements before what is inside them, in the order of the text
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            made = _resolved(node.value.func, known)
            if inspect.isclass(made):
                known[node.targets[0].id] = made
    instances = {name for name, value in known.items() if inspect.isclass(value) and value.__name__ != name}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _resolved(node.func, known)
        if called is None or any(isinstance(each, ast.Starred) for each in node.args):
            continue
        of_instance = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", None) in instances
        of_instance = of_instance and not inspect.ismethod(called)
        keywords = {each.arg: each.value for each in node.keywords if each.arg is not None}
        try:
            inspect.signature(called).bind(*([None] if of_instance else []), *node.args, **keywords)
        except TypeError as error:
            raise AssertionError(f"{ast.unparse(node)}: {error}") from error
        checked += 1
    return checked


def _imported(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.name == "trtcal":
                    yield each.asname or each.name, importlib.import_module(each.name)
        elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "trtcal":
            module = importlib.import_module(str(node.module))
            for each in node.names:
                yield each.asname or each.name, getattr(module, each.name)


def _resolved(node: ast.expr, known: dict[str, Any]) -> Any:
    """What a name, or attributes of a name, stands for; None where that is not trtcal's."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, known)
        return None if owner is None else getattr(owner, node.attr)
    return None
