"""How Sphinx builds these pages: `make docs`."""

project = "trtcal"
author = "the trtcal authors"
copyright = "the trtcal authors, Apache License 2.0"  # noqa: A001

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "trtcal"
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
