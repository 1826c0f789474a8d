"""Every page of documentation is run: its commands, its Python, and what they print; see pages.py for the form."""

from itertools import pairwise

import pytest

from tests.docs.calls import check
from tests.docs.conftest import Walk
from tests.docs.pages import Page, commands, names
from tests.docs.workshop import Workshop

PAGES = [Page.read(name) for name in names()]
NOT_RUN = [
    pytest.param(block, id=f"{page.name}:{block.line}")
    for page in PAGES
    for block in page.blocks
    if block.needs in ("gpu", "network")
]
TRAINING = [page.name for page in PAGES if any(block.needs == "torch" for block in page.blocks)]


@pytest.mark.parametrize("name", [page.name for page in PAGES if any(block.runs for block in page.blocks)])
def test_the_page_does_what_it_says(walked: Walk, name: str) -> None:
    folder = walked(name)
    for command, file in _written(Page.read(name)):
        assert (folder / file).exists(), f"{name}: {command}"


@pytest.mark.torch
@pytest.mark.parametrize("name", TRAINING)
def test_the_page_does_what_it_says_with_pytorch(workshop: Workshop, name: str) -> None:
    pytest.importorskip("torch", reason="needs PyTorch: make test-torch")
    workshop.walk(Page.read(name), frozenset({"torch"}))


@pytest.mark.parametrize("block", NOT_RUN)
def test_what_cannot_be_run_here_calls_what_exists(block) -> None:
    assert check(block) > 0, "nothing in it is trtcal's"


def _written(page: Page) -> list[tuple[str, str]]:
    """Commands of a page, and the files that they write and that no later one removes."""
    scripts = [block.text for block in page.of("sh") if "||" not in block.text]  # what may fail writes nothing
    done = [words for script in scripts for words in commands(script)]
    removed = {word for words in done if words[0] == "rm" for word in words[1:]}
    return [
        (" ".join(words), file)
        for words in done
        for option, file in pairwise(words)
        if words[0] == "trtcal" and option in ("-o", "--output") and file not in removed
    ]
