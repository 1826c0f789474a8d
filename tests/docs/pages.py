"""Pages of documentation: README.md and docs/**/*.md, their code blocks, and how these are run.

The form of a page:

- ``sh`` blocks are run by bash and ``python`` blocks by an interpreter of their own, in order, in one folder a page.
- A block that cannot be run everywhere says so in its first line, a comment of `NEEDS`. What needs PyTorch is run where
  PyTorch is; of the others it is checked that commands, options, functions and arguments exist.
- A ``text`` block directly behind one of them is a part of its output: each line occurs in it, in this order, numbers
  apart. A line ``...`` stands for lines left out.
- ``trtcal demo --output demo`` is run once in a session; pages get a copy of its folder, and its output.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]

NEEDS = {"# needs a GPU": "gpu", "# needs PyTorch": "torch", "# needs the network": "network"}
"""First lines of blocks that cannot be run everywhere, and what they lack there."""

_MARKDOWN = MarkdownIt("commonmark").enable("table")
_PATHS = ("README.md", "docs/**/*.md")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        info: What stands behind the fence: ``sh``, ``python``, ``text``, or a directive, ``{glossary}``.
        text: What is inside, and ends in a newline.
        line: The line of the page where it begins, from 1.
        needs: What is needed to run it and may be missing, a value of `NEEDS`.
        output: Lines of its output, of the ``text`` block directly behind it.
    """

    info: str
    text: str
    line: int
    needs: str | None = None
    output: tuple[str, ...] | None = None

    @property
    def runs(self) -> bool:
        """Whether it is a command or a program."""
        return self.info in ("sh", "python")


class PageError(AssertionError):
    """A block of a page does not do what the page says."""


@dataclass(frozen=True)
class Page:
    """A page of documentation.

    Attributes:
        name: Its path from the repository's root, with slashes.
        text: All of it.
        blocks: Its fenced blocks, in order.
    """

    name: str
    text: str
    blocks: tuple[Block, ...]

    @classmethod
    def read(cls, name: str) -> "Page":
        """Read a page by its path from the repository's root; fail where there is none."""
        path = ROOT / name
        if not path.is_file():
            raise PageError(f"{name} is not there yet")
        text = path.read_text(encoding="utf-8")
        return cls(name, text, tuple(blocks(text)))

    def of(self, info: str, needs: str | None = None) -> list[Block]:
        """The blocks of a language that need exactly this."""
        return [block for block in self.blocks if block.info == info and block.needs == needs]

    @property
    def code(self) -> set[str]:
        """The words in its blocks and its code spans: letters, digits and what stands inside names."""
        return set(re.findall(r"[\w.-]+", "\n".join(_code(_MARKDOWN.parse(self.text)))))

    @property
    def links(self) -> list[str]:
        """Where its links and pictures lead."""
        return list(_links(_MARKDOWN.parse(self.text)))

    @property
    def anchors(self) -> set[str]:
        """What `#anchor` of a link may name: headings, as GitHub and MyST spell them, and `(anchor)=` before them."""
        tokens = _MARKDOWN.parse(self.text)
        titles = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
        slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        return slugs | set(re.findall(r"^\(([\w-]+)\)=$", self.text, re.MULTILINE))


def names() -> list[str]:
    """README.md and every page of docs/, sorted."""
    found = {path for pattern in _PATHS for path in ROOT.glob(pattern)}
    return sorted(path.relative_to(ROOT).as_posix() for path in found if "_build" not in path.parts)


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of Markdown, in lists, quotations and MyST's directives as well."""
    yield from _blocks(_MARKDOWN.parse(text), 1)


def _blocks(tokens: list[Token], first: int) -> Iterator[Block]:
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type != "fence" or token.map is None:
            continue
        info = token.info.strip()
        line = first + token.map[0]
        if info.startswith("{"):
            yield from _blocks(_MARKDOWN.parse(token.content), line + 1)
        is_output = after is not None and after.type == "fence" and after.info.strip() == "text"
        output = tuple(after.content.splitlines()) if is_output and after is not None else None
        opening = token.content.partition("\n")[0].strip()
        runs = info in ("sh", "python")
        yield Block(info, token.content, line, NEEDS.get(opening) if runs else None, output if runs else None)


def _code(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in ("fence", "code_inline"):
            yield token.content
        yield from _code(token.children or [])


def _links(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        target = token.attrGet("href") or token.attrGet("src")
        if target is not None:
            yield str(target)
        if token.type == "fence" and token.info.startswith("{"):
            yield from _links(_MARKDOWN.parse(token.content))
        yield from _links(token.children or [])


def commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, each split into words, without redirections and here-documents."""
    lines = iter(script.replace("\\\n", " ").splitlines())
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        tokens = iter(lexer)
        for token in tokens:
            if set(token) <= set("<>&|;()"):
                if token.startswith("<<"):
                    end = next(tokens, "")
                    next((here for here in lines if here.strip() == end), None)
                elif "<" in token or ">" in token:
                    next(tokens, None)
                    if words and words[-1].isdigit():  # 2>&1
                        words.pop()
                elif words:
                    yield words
                    words = []
            elif words or not re.match(r"\w+=", token):  # VARIABLE=value before a command
                words.append(token)
        if words:
            yield words


def masked(line: str) -> str:
    """A line of output without what changes from run to run: numbers, and the widths that follow from them.

    The digits of names, such as INT8 and FP16, are none.
    """
    line = re.sub(r"(?<![A-Za-z_\d.])[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", "0", line)
    line = re.sub(r"([─━═-])\1+", r"\1", line)
    return " ".join(line.split())


def missing(expected: tuple[str, ...], output: str) -> str | None:
    """The first line that does not occur in the output behind the lines before it; None if all do."""
    real = iter([masked(line) for line in output.splitlines()])
    for line in expected:
        if line.strip() not in ("", "...") and masked(line) not in real:
            return line
    return None
