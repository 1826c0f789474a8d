"""The form of the pages: see pages.py."""

import re

import pytest

from tests.docs.pages import ROOT, Page, names

PAGES = pytest.mark.parametrize("page", [pytest.param(Page.read(name), id=name) for name in names()])

LONGEST_README = 150
LONGEST_LINE = 120
DEMOS = {"demo": "trtcal demo --output demo", "trtcal-demo": "trtcal demo"}
"""What writes each folder that pages take files from."""


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
    for folder, demo in DEMOS.items():
        first = next((at for at, line in enumerate(lines) if re.search(rf"(?<![\w-]){folder}/", line)), None)
        assert first is None or demo in lines[:first], f"{page.name}: {lines[first]!r} comes before {demo!r}"


def test_the_readme_writes_into_one_folder_which_git_ignores() -> None:
    """That of `make demo`: whoever follows the page leaves nothing else in the checkout."""
    lines = [line for block in Page.read("README.md").blocks if block.runs for line in block.text.splitlines()]
    paths = {word for line in lines for word in line.split() if "digits" in word}
    assert paths and all(path.startswith("trtcal-demo/") for path in paths)
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "trtcal-demo/" in ignored


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
