"""``fusedcell bench compare``: are our times in one file others than in another?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from math import exp

import numpy as np

from .changes import Change, Times, change
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
        common = [name for name in before if name in after]
        if not common:
            raise ValueError("no case is in both files")
    except ValueError as error:
        print(f"fusedcell: {error}", file=sys.stderr)
        return 2
    by_size = drifts(old, new)
    changes = {name: change(before[name], after[name]).widened(by_size.get(name[1], 0)) for name in common}
    sampled = all(before[name].rounds and after[name].rounds for name in common)
    notes = [*(f"Note: {text}." for text in different), _interval(sampled, by_size)]
    print("\n".join([*notes, table(changes, before, after), summary(changes)]))
    slower = [found.ratio for found in changes.values() if found.verdict == "slower"]
    limit = options.fail_slower
    return 1 if limit is not None and any(ratio > 1 + limit / 100 for ratio in slower) else 0


def _interval(sampled: bool, by_size: Mapping[str, float]) -> str:
    how = "95 % of resampled rounds" if sampled else "95 % of resampled rounds, p10..p90 where a file has none"
    if not by_size:
        return f"Our times, new over old; interval: {how}. Nothing tells what changed between the runs."
    found = ", ".join(f"{100 * (exp(drift) - 1):.0f} % at {size}" for size, drift in by_size.items())
    return (
        f"Our times, new over old; interval: {how}, and what 95 % of the other libraries' times "
        f"differ by between the runs: {found}."
    )


def table(changes: Mapping[Name, Change], old: Mapping[Name, Times], new: Mapping[Name, Times]) -> str:
    """A row for each case."""
    rows = [
        [
            *name,
            *(three_digits(value) for value in (old[name].p50, new[name].p50, found.ratio)),
            f"{three_digits(found.low)}..{three_digits(found.high)}",
            found.verdict,
        ]
        for name, found in changes.items()
    ]
    headings = ["cell", "H", "what", "old us", "new us", "new / old", "interval", "verdict"]
    return aligned(headings, rows, {"cell", "what", "verdict"})


def summary(changes: Mapping[Name, Change]) -> str:
    """How many there are of each verdict, and the mean."""
    verdicts = [found.verdict for found in changes.values()]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("faster", "slower", "no difference"))
    mean = float(np.exp(np.mean(np.log([found.ratio for found in changes.values()]))))
    return f"{counts}. Geometric mean of new / old: {three_digits(mean)}."
