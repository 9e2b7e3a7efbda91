"""A bar on a terminal's standard error, and nothing anywhere else."""

from __future__ import annotations

import sys
from dataclasses import dataclass

_CELLS = 24
_WIDTH = 76


@dataclass(frozen=True)
class Part:
    """One of `count` runs through all the work, from 0."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"repeat {self.index + 1} of {self.count}"


ONLY = Part()


def bar(done: int, total: int, what: str) -> str:
    """One line: how much is done, and what is under way."""
    filled = _CELLS * done // total
    return f"[{'#' * filled}{'.' * (_CELLS - filled)}] {done}/{total} {what}"[:_WIDTH]


class Progress:
    """`total` pieces of work in each part, each announced by `show` before it begins."""

    def __init__(self, total: int, part: Part = ONLY) -> None:
        self._total = total * part.count
        self._begun = total * part.index
        self._note = f", {part}" if part.count > 1 else ""

    def show(self, what: str) -> None:
        """Draws the bar anew."""
        self._write(bar(self._begun, self._total, f"{what}{self._note}"))
        self._begun += 1

    def close(self) -> None:
        """Leaves the line empty."""
        self._write("", end="\r")

    def _write(self, text: str, end: str = "") -> None:
        if sys.stderr.isatty():
            print(f"\r{text:<{_WIDTH}}", end=end, file=sys.stderr, flush=True)
