"""``fusedcell bench compare``: are our times in one file others than in another?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from math import expm1

import numpy as np

from .changes import ALPHA, Changes, compare_repeats, repeats_needed
from .saved import Name, cases, differences, drifts, load
from .text import aligned, three_digits


def run(options: argparse.Namespace) -> int:
    """Prints a line for each case of both files; returns the exit status."""
    try:
        old, new = (load(path) for path in (options.old, options.new))
        different = differences(old, new)
        if different and not options.force:
            raise ValueError(f"{'; '.join(different)} (--force compares them all the same)")
        before, after = cases(old), cases(new)
        if not before.keys() & after.keys():
            raise ValueError("no case is in both files")
    except ValueError as error:
        print(f"fusedcell: {error}", file=sys.stderr)
        return 2
    by_size = {size: expm1(log) for size, log in drifts(old, new).items()}
    changes = compare_repeats(before, after, {name: by_size.get(name[1], 0.0) for name in before})
    notes = [*(f"Note: {text}." for text in different), *_method(changes, by_size)]
    print("\n".join([*notes, table(changes, before, after), summary(changes)]))
    return 0 if options.fail_slower is None else _status(changes, 1 + options.fail_slower / 100)


def _status(changes: Changes[Name], most: float) -> int:
    """1 if a case is slower by more, and 2 if nobody knows."""
    found = list(changes.by_case.values())
    if any(change.verdict == "slower" and change.ratio > most for change in found):
        return 1
    untold = sum(change.verdict == "cannot tell" for change in found)
    if untold:
        why = f"{untold} of {len(found)} cases lack repeats" if changes.enough else _too_few(changes)
        print(f"fusedcell: --fail-slower: {why}", file=sys.stderr)
        return 2
    return 0


def _method(changes: Changes[Name], by_size: Mapping[str, float]) -> list[str]:
    lines = [f"Our times, new over old, by the medians of {changes.old_repeats} and {changes.new_repeats} repeats."]
    if changes.enough:
        lines.append(
            f"p: permutation test over repeats, corrected for all cases; a change up to {ALPHA:g}. "
            "finds %: what it would have found, about."
        )
    else:
        lines.append(f"{_too_few(changes)}.")
    if by_size:
        found = ", ".join(f"{100 * drift:.0f} % at {size}" for size, drift in by_size.items())
        lines.append(f"No change either is what the other libraries' times differ by: {found}.")
    return lines


def _too_few(changes: Changes[Name]) -> str:
    return (
        f"{changes.old_repeats} and {changes.new_repeats} repeats are too few to tell; "
        f"{repeats_needed()} in each file would do (bench --repeats)"
    )


def table(
    changes: Changes[Name],
    old: Mapping[Name, Sequence[float]],
    new: Mapping[Name, Sequence[float]],
) -> str:
    """A row for each case."""
    rows = [
        [
            *name,
            *(three_digits(value) for value in (np.median(old[name]), np.median(new[name]), found.ratio)),
            "-" if found.p is None else f"{found.p:.3f}",
            "-" if found.finds is None else f"{100 * found.finds:.0f}",
            found.verdict,
        ]
        for name, found in changes.by_case.items()
    ]
    headings = ["cell", "H", "what", "old us", "new us", "new / old", "p", "finds %", "verdict"]
    return aligned(headings, rows, {"cell", "what", "verdict"})


def summary(changes: Changes[Name]) -> str:
    """How many there are of each verdict, and the mean."""
    verdicts = [found.verdict for found in changes.by_case.values()]
    counts = {verdict: verdicts.count(verdict) for verdict in ("faster", "slower", "no difference", "cannot tell")}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    mean = float(np.exp(np.mean(np.log([found.ratio for found in changes.by_case.values()]))))
    return f"{told}. Geometric mean of new / old: {three_digits(mean)}."
