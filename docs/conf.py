"""How Sphinx builds these pages: `make docs`."""

import sys
from pathlib import Path
from typing import Union

from sphinx.ext.autodoc.mock import _MockObject

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs" / "_extensions"), str(ROOT)]  # this tree's trtcal, whichever is installed

project = "trtcal"
author = "the trtcal authors"
copyright = "the trtcal authors, Apache License 2.0"

extensions = ["command_line", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # of docstrings
smartquotes = False  # options begin with two hyphens

html_theme = "furo"
html_title = "trtcal"
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_mock_imports = ["torch"]  # what is not needed to read the docstrings of trtcal.qat
_MockObject.__or__ = lambda self, other: Union[self, other]  # `Tensor | int` in a signature  # noqa: UP007
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
nitpick_ignore_regex = [("py:.*", ".*")]
