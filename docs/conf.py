"""Sphinx: the site of `make docs`, of docs/, examples/ and the texts at the root, and of the package's docstrings.

The source folder is the repository, so that the links of its Markdown files are the links of the site.
"""

from __future__ import annotations

import re
from typing import Any

import fusedcell

project = "fusedcell"
project_copyright = "the authors of fusedcell"
version = release = fusedcell.__version__

root_doc = "docs/index"
include_patterns = ["docs/**.md", "examples/**.md", "CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"]
exclude_patterns = [".*", "build", "dist"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
highlight_language = "none"

# In docstrings `name` is code, as in Markdown.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_mock_imports = ["torch"]
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # docstrings say shapes and dtypes, which no type does
smartquotes = False

nitpicky = True

html_theme = "furo"
html_title = "fusedcell"
html_copy_source = False
html_show_sphinx = False
html_extra_path = ["site"]
html_static_path = ["static"]
html_css_files = ["wide.css"]

# Classes whose objects come from functions and methods.
_MADE_BY_FUNCTIONS = {"Cell", "Comparison", "GRU", "LSTM", "Layer", "RNN", "Report"}


def plain_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, arguments: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """The signature without constructors that are not for users, and without the types that pybind11 writes."""
    if what == "class" and name.rpartition(".")[2] in _MADE_BY_FUNCTIONS:
        return "", None
    if arguments is not None and arguments.startswith("(self: "):
        arguments = re.sub(r": [\w.| ]+?(?= = |,|\))", "", arguments).replace("(self, ", "(").replace("(self)", "()")
    return arguments, None


def without_field_numbers(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples are described by their classes, and by themselves only as "field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", without_field_numbers)
    app.connect("autodoc-process-signature", plain_signature)
