"""Peers that may be missing, and peers that may have moved on."""

import importlib
from importlib.metadata import version
from types import ModuleType

import pytest
from packaging.version import Version


def needed(distribution: str, module: str) -> ModuleType:
    """A peer's module; where it cannot be imported, the tests of the file that asks are skipped.

    Peers fail in many ways beside newer versions of what they need.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, AttributeError, TypeError, OSError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        pytest.skip(f"needs {distribution} (tests/peers/README.md): {reason}", allow_module_level=True)


def differs(distribution: str, *, read: str) -> pytest.MarkDecorator:
    """Marks tests of what a peer does otherwise than we do, as it was read in one of its versions.

    A newer version may have changed its mind: there such a test may fail, and the reason says what to do.
    """
    installed = version(distribution)
    return pytest.mark.xfail(
        Version(installed) > Version(read),
        reason=f"{distribution} {installed} is newer than {read}: look what it does now, and say so here",
        strict=False,
    )
