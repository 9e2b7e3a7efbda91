"""The metadata that depend on where the project lives: the package index's links, and its rendering of the README.

The index shows the README alone, so its links must be absolute there. The address is in the environment, as
REPOSITORY_URL: the workflow that releases knows its own repository. Builds without it leave links relative.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Not what is indexed and called in code.
RELATIVE_LINK = re.compile(r"(?<![\w)\]])(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)]+)\)")


def dynamic_metadata(_settings: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """What the build takes as the fields `readme` and `urls` of pyproject.toml."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    urls = {}
    if repository := os.environ.get("REPOSITORY_URL", "").rstrip("/"):
        release = f"{repository}/{{view}}/v{project['version']}/"
        text = with_absolute_links(text, release)
        pages = {"Documentation": "docs/index.md", "Changes": "CHANGELOG.md"}
        urls = {"Repository": repository} | {name: release.format(view="blob") + page for name, page in pages.items()}
    return {"readme": {"content-type": "text/markdown", "text": text}, "urls": urls}


def dynamic_wheel(_settings: Mapping[str, Any]) -> dict[str, bool]:
    """A wheel that someone builds from the sdist need not have the sdist's links."""
    return {"readme": True, "urls": True}


def with_absolute_links(text: str, base: str) -> str:
    """Pictures lead to the file itself, other links to the page that shows it."""
    return RELATIVE_LINK.sub(
        lambda link: f"{link[1]}{link[2]}({base.format(view='raw' if link[1] else 'blob')}{link[3]})", text
    )
