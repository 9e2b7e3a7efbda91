"""Text for the terminal, of names that come from files."""

from __future__ import annotations

import sys
from typing import Any


def table(title: str, rows: list[tuple[str, str]]) -> None:
    """Prints rows of a name and a value under a title."""
    width = max(len(key) for key, _ in rows)
    show(title)
    for index, (key, value) in enumerate(rows):
        edge = "└" if index + 1 == len(rows) else "├"
        show(f"{edge}─ {key:<{width}}  {value}")


def show(text: str, file: Any = None) -> None:
    """Prints text that may hold names from a file: control characters are escaped, unknown ones become "?"."""
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    print(shown.encode(encoding, "replace").decode(encoding), file=file)
