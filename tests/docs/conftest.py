"""Fixtures for the pages of documentation."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import Page, PageError
from tests.docs.workshop import Workshop

Walk = Callable[[str], Path]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Where pages are run; the demo has been run."""
    pytest.importorskip("tensorrt_rtx", reason="pages build engines: pip install trtcal[rtx]")
    pytest.importorskip("sklearn", reason="pages begin with the demo: pip install trtcal[demo]")
    shop = Workshop(tmp_path_factory.mktemp("pages"))
    shop.make_demo()
    return shop


@pytest.fixture(scope="session")
def walked(workshop: Workshop) -> Walk:
    """The folder in which a page's blocks have been run, once in a session."""
    folders: dict[str, Path | PageError] = {}

    def walk(name: str) -> Path:
        if name not in folders:
            try:
                folders[name] = workshop.walk(Page.read(name))
            except PageError as error:
                folders[name] = error
        folder = folders[name]
        if isinstance(folder, PageError):
            raise folder
        return folder

    return walk
