"""A bar on a terminal's standard error, and nothing anywhere else."""

from __future__ import annotations

import sys

_CELLS = 24
_WIDTH = 76


def bar(done: int, total: int, what: str) -> str:
    """One line: how much is done, and what is under way."""
    filled = _CELLS * done // total
    return f"[{'#' * filled}{'.' * (_CELLS - filled)}] {done}/{total} {what}"[:_WIDTH]


class Progress:
    """`total` pieces of work, each announced by `show` before it begins."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begun = 0

    def show(self, what: str) -> None:
        """Draws the bar anew."""
        self._write(bar(self._begun, self._total, what))
        self._begun += 1

    def close(self) -> None:
        """Leaves the line empty."""
        self._write("", end="\r")

    def _write(self, text: str, end: str = "") -> None:
        if sys.stderr.isatty():
            print(f"\r{text:<{_WIDTH}}", end=end, file=sys.stderr, flush=True)
