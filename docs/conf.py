"""The documentation as a site: `make docs` builds it from these pages, and fails on a link that leads nowhere."""

from __future__ import annotations

import re
from importlib.metadata import version as installed
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

REPOSITORY = "https://github.com/creditsd/creditsd/blob/main/"

project = "creditsd"
author = "creditsd contributors"
copyright = author  # noqa: A001  Sphinx names it
release = version = installed("creditsd")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
nitpicky = True
# JSX and parameters of a driver, which Pygments cannot read; they are shown all the same.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = "creditsd"
html_logo = "images/mark.svg"
html_favicon = "images/mark.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "source_repository": "https://github.com/creditsd/creditsd/",
    "source_branch": "main",
    "source_directory": "docs/",
}

OUTSIDE = re.compile(r"\]\(\.\./([^)]+)\)")


def lead_outside(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Have links to files that are no pages lead to the repository, as they do where the pages are read there."""
    source[0] = OUTSIDE.sub(rf"]({REPOSITORY}\1)", source[0])


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.connect("source-read", lead_outside)
