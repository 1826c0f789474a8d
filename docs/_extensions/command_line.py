"""The directive `{command-line}`: the reference of a typer application, made from its commands' own help.

Each command becomes a section with its usage, its help, and its arguments and options, which roles and links reach as
`{option}` of the program. The words are those of ``--help``.
"""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer.main
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_CODE = re.compile(r"(`[^`]+`)")
_OPTION = re.compile(r"(?<![\w-])(--?[a-z][\w-]*)")
_MARKS = re.compile(r"([\\*_<>\[\]])")


def markdown(text: str) -> str:
    """A sentence of a help text as Markdown: options as code, and what Markdown would take for marks as it stands."""
    parts = [part for code in _CODE.split(text) for part in ([code] if _CODE.match(code) else _OPTION.split(code))]
    return "".join(
        part if _CODE.fullmatch(part) else f"`{part}`" if _OPTION.fullmatch(part) else _MARKS.sub(r"\\\1", part)
        for part in parts
    )


def sections(command: Any, path: str, parent: Any = None, level: int = 2) -> Iterator[str]:
    """The Markdown of a command and the commands below it."""
    context = command.context_class(command, info_name=path.rpartition(" ")[2], parent=parent)
    if parent is not None:
        yield f"{'#' * level} {path}"
    yield from (markdown(paragraph) for paragraph in _paragraphs(command.help or ""))
    children = getattr(command, "commands", {})
    if not children:
        pieces = " ".join(command.collect_usage_pieces(context))
        yield f"```text\n{path} {re.sub(r'[{}]', '', pieces)}\n```"  # typer's braces: an argument that is required
    yield f"```{{program}} {path}\n```"
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            names = re.sub(r" / ", ", ", record[0])
            yield f"````{{option}} {names}\n{markdown(record[1])}\n````"
    if command.epilog:
        yield f"Example:\n\n```text\n{_example(command.epilog)}\n```"
    for name, child in children.items():
        yield from sections(child, f"{path} {name}", context, level + (parent is not None))


def _example(epilog: str) -> str:
    """The command line that stands below a command's help."""
    return epilog.rpartition("Example:\n")[2].strip()


def _paragraphs(text: str) -> list[str]:
    return [paragraph.replace("\n", " ") for paragraph in inspect.cleandoc(text).split("\n\n") if paragraph.strip()]


class CommandLine(SphinxDirective):
    """The reference of an application: `{command-line} MODULE:NAME`, with the program's name as the option `prog`."""

    required_arguments = 1
    option_spec = {"prog": directives.unchanged_required}  # noqa: RUF012 - as docutils has it

    def run(self) -> list[nodes.Node]:
        """Write the sections and have them parsed where the directive stands."""
        module, _, name = self.arguments[0].partition(":")
        command = typer.main.get_command(getattr(import_module(module), name))
        text = "\n\n".join(sections(command, self.options["prog"]))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
