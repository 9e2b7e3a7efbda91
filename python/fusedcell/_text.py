"""Numbers and columns as text, and where it goes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import TextIO

from ._timing import Summary


def show_progress(text: str) -> None:
    """On standard error where that is a terminal, in place of what stood there before; "" ends it."""
    if sys.stderr.isatty():
        print(f"\r{text:<76.76}", end="" if text else "\r", file=sys.stderr, flush=True)


class Output:
    """Where a command that may write files too prints: if it does, an error here waits for `end`, after the files."""

    def __init__(self, file: TextIO, *, writes_files: bool) -> None:
        self._file = file
        self._writes_files = writes_files
        self._error: OSError | None = None

    def show(self, text: str) -> None:
        """Prints the text, at once."""
        if self._error is not None:
            return
        try:
            print(text, file=self._file, flush=True)
        except OSError as error:
            if not self._writes_files:
                raise
            self._error = error

    def end(self) -> None:
        """Raises the first error that there was."""
        if self._error is not None:
            raise self._error


def three_digits(value: float) -> str:
    """Three significant digits, or as many as the whole part has."""
    decimals = next((n for n, least in enumerate((99.95, 9.995, 0.9995)) if value >= least), 3)
    return f"{value:.{decimals}f}"


def format_ratio(summary: Summary) -> str:
    """The median, and from where to where eight rounds of ten lie."""
    return f"{three_digits(summary.p50)} ({three_digits(summary.p10)}..{three_digits(summary.p90)})"


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]], words: Collection[str]) -> str:
    """Columns under their headings: those of `words` go left, numbers go right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if heading in words else cell.rjust(width)
            for heading, cell, width in zip(headings, row, widths, strict=True)
        ).rstrip()
        for row in (headings, *rows)
    )
