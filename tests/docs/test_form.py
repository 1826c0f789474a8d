"""The form of the pages: see pages.py."""

import re

import pytest

from tests.docs.pages import ROOT, Page, names

PAGES = pytest.mark.parametrize("page", [pytest.param(Page.read(name), id=name) for name in names()])

LONGEST_README = 150
LONGEST_LINE = 120
DEMO = "trtcal demo --output demo"


def test_the_readme_is_short() -> None:
    assert len(Page.read("README.md").text.splitlines()) <= LONGEST_README


@PAGES
def test_lines_are_short(page: Page) -> None:
    """But for rows of tables below docs/, which cannot be broken."""
    rows = "|" if page.name != "README.md" else "no row"
    lines = enumerate(page.text.splitlines(), 1)
    long = [number for number, line in lines if len(line) > LONGEST_LINE and not line.startswith(rows)]
    assert not long, f"{page.name}: lines of over {LONGEST_LINE} characters: {long}"


@PAGES
def test_fences_say_one_word(page: Page) -> None:
    """No information is hidden behind a fence; a file that is needed is shown being written."""
    other = [
        f"{page.name}:{block.line}: {block.info!r}"
        for block in page.blocks
        if not re.fullmatch(r"sh|python|text|\{(?!code)[a-z-]+\}.*", block.info)
    ]
    assert not other


@PAGES
def test_what_a_block_needs_is_spelled_as_agreed(page: Page) -> None:
    odd = [block.line for block in page.blocks if block.runs and not block.needs and block.text.startswith("# needs")]
    assert not odd, f"{page.name}: neither of what is needed in these blocks is known to pages.py: {odd}"


@PAGES
def test_who_needs_the_demo_runs_it_first(page: Page) -> None:
    lines = [line for block in page.blocks if block.runs and block.needs is None for line in block.text.splitlines()]
    first = next((number for number, line in enumerate(lines) if "demo/" in line), None)
    assert first is None or DEMO in lines[:first], f"{page.name}: {lines[first]!r} comes before {DEMO!r}"


@PAGES
def test_links_lead_somewhere(page: Page) -> None:
    here = (ROOT / page.name).parent
    for link in page.links:
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = here / path if path else ROOT / page.name
        assert target.exists(), f"{page.name}: {link} leads nowhere"
        if anchor and target.suffix == ".md" and target.name != "commands.md":  # which the build makes
            there = Page.read(target.resolve().relative_to(ROOT).as_posix())
            assert anchor in there.anchors, f"{page.name}: {link}: no such heading there"
