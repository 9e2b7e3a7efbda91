"""Write what `make figures` measured of single steps into the tables of README.md and docs/performance.md.

The median of what the picture shows goes into the sentences below it, in README.md and docs/index.md. This script is
given the files of `fusedcell bench step --json`, one for each dtype. Rows are found by their first cell.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusedcell._text import format_ratio, three_digits
from fusedcell._timing import Summary

ROOT = Path(__file__).resolve().parents[1]
Entry = dict[str, Any]
"""A case's results as in the file."""


def main() -> None:
    for name in sys.argv[1:]:
        document = json.loads(Path(name).read_text(encoding="utf-8"))
        steps = [entry for entry in document["results"] if entry["kind"] == "step"]
        for cell in dict.fromkeys(entry["cell"] for entry in steps):
            write(document["dtype"], cell.upper(), [entry for entry in steps if entry["cell"] == cell])
    write_median()


def write_median() -> None:
    """Of the README's rows of float32, which the picture shows, into the sentence below the picture."""
    rows = re.findall(r"^\| \w+, float32 \| (.+) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    median = statistics.median(float(value) for row in rows for value in row.split(" | "))
    for page in (ROOT / "README.md", ROOT / "docs/index.md"):
        text = re.sub(r"\*\*[\d.]+ times faster", f"**{median:.1f} times faster", page.read_text(encoding="utf-8"))
        page.write_text(text, encoding="utf-8")


def write(dtype: str, cell: str, entries: list[Entry]) -> None:
    replace(ROOT / "README.md", "", [(f"{cell}, {dtype}", lambda entry: three_digits(best(entry).p50))], entries)
    rows: list[tuple[str, Callable[[Entry], str]]] = [
        (f"{cell}, 1 step", lambda entry: format_ratio(best(entry))),
        ("limit %", lambda entry: f"{100 * entry['share_of_limit']:.0f}"),
        ("our float32", lambda entry: three_digits(entry["ratios"]["fusedcell float32"]["p50"])),
    ]
    replace(ROOT / "docs/performance.md", f"### {dtype}", rows, entries)


def best(entry: Entry) -> Summary:
    """The time of the fastest other library over ours."""
    return Summary(**entry["ratios"][entry["best_other"]])


def replace(path: Path, heading: str, rows: list[tuple[str, Callable[[Entry], str]]], entries: list[Entry]) -> None:
    """The first row, the first of its name after the heading, and those of the others that follow it at once."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    place = next(
        index
        for index, line in enumerate(lines)
        if line.startswith(f"| {rows[0][0]} |") and (not heading or f"{heading}\n" in lines[:index])
    )
    for name, text in rows:
        if lines[place].startswith(f"| {name} |"):
            lines[place] = f"| {name} | {' | '.join(map(text, entries))} |\n"
            place += 1
    path.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
