"""``fusedcell bench compare``: are our times in one file others than in another?"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

from .._text import aligned, three_digits
from .changes import ALPHA, Changes, compare_repeats, repeats_needed
from .tiers import OURS

SCHEMA = 2
"""Of a file of `--json`; one more when a name in it no longer means what it meant."""

Name = tuple[str, str, str]
"""Cell, size, and what was done."""


def run(options: argparse.Namespace) -> int:
    """Prints a line for each case of both files; returns the exit status."""
    try:
        old, new = (load(path) for path in (options.old, options.new))
        machines = zip(old.machine.items(), new.machine.items(), strict=True)
        different = [f"{name}: {its} and {other}" for (name, its), (_, other) in machines if its != other]
        if different and not options.force:
            raise ValueError(f"{'; '.join(different)} (--force compares them all the same)")
        if not old.ours.keys() & new.ours.keys():
            raise ValueError("no case is in both files")
    except ValueError as error:
        print(f"fusedcell: {error}", file=sys.stderr)
        return 2
    by_size = _drifts(old.others, new.others)
    changes = compare_repeats(old.ours, new.ours, {name: by_size.get(name[1], 0.0) for name in old.ours})
    notes = [*(f"Note: {text}." for text in different), *_method(changes, by_size)]
    print(*notes, _table(changes, old.ours, new.ours), _summary(changes), sep="\n")
    return 0 if options.fail_slower is None else _status(changes, 1 + options.fail_slower / 100)


@dataclass(frozen=True)
class Saved:
    """Of a file: what must be alike in both, medians of our repeats, and the median of each version of a library."""

    machine: dict[str, Any]
    ours: dict[Name, list[float]]
    others: dict[tuple[str, ...], float]


def load(path: Path) -> Saved:
    """Raises ValueError for any other file."""
    try:
        document = dict(json.loads(path.read_text(encoding="utf-8")))
        schema = document["schema"]
        if schema == SCHEMA:
            machine = {name: document["runtime"].get(name) for name in ("cpu", "cpus", "caches", "system", "cores")}
            machine = {"dtype": document["dtype"], "isa": document["tier"]} | machine
            return Saved(machine, _ours(document), _others(document))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError(f"{path} is not a file of fusedcell bench --json") from None
    raise ValueError(f"{path}: its schema is {schema!r}, and this version of fusedcell reads {SCHEMA}")


def _ours(document: Mapping[str, Any]) -> dict[Name, list[float]]:
    """Of our tiers the first alone; of threads and ways to step many streams all."""
    found = {}
    for entry in document["results"]:
        steps = f" of {entry['steps']}" if entry["kind"] == "sequence" else ""
        batch = f", batch {entry['batch']}" if entry["batch"] > 1 else ""
        inputs = _inputs(entry)
        batch += f", {inputs} inputs" if inputs != entry["size"] else ""
        # A report has more than one dtype.
        dtype = "" if entry["dtype"] == document["dtype"] else f", {entry['dtype']}"
        for variant in entry["own"] if entry["own"][0] != OURS else [OURS]:
            if entry["kind"] != "tails" and entry["medians"].get(variant):
                way = "" if variant == OURS else f", {variant}"
                name = str(entry["cell"]), str(entry["size"]), f"{entry['kind']}{steps}{batch}{way}{dtype}"
                found[name] = _positive(entry["medians"][variant])
    return found


def _others(document: Mapping[str, Any]) -> dict[tuple[str, ...], float]:
    found = {}
    for entry in document["results"]:
        case = tuple(str(entry[key]) for key in ("size", "cell", "kind", "steps", "batch", "dtype"))
        case = *case, str(_inputs(entry))
        for name in entry["dtypes"].keys() - entry["own"]:
            if medians := entry["medians"].get(name):
                found[(*case, name, str(document["peers"].get(name)))] = float(np.median(_positive(medians)))
    return found


def _inputs(entry: Mapping[str, Any]) -> int:
    """As many as units where a file of an earlier version does not say."""
    return int(entry.get("input_size", entry["size"]))


def _positive(medians: Sequence[Any]) -> list[float]:
    numbers = [float(us) for us in medians]
    if not all(isfinite(us) and us > 0 for us in numbers):
        raise ValueError
    return numbers


def _drifts(before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float]) -> dict[str, float]:
    """By size, how far apart the other libraries' times lie; their code is the same in both files.

    That of nineteen cases of twenty, over all cells, batches and libraries of one version.
    """
    by_size: dict[str, list[float]] = defaultdict(list)
    for key in (key for key in before if key in after):
        by_size[key[0]].append(abs(log(after[key] / before[key])))
    return {size: float(np.expm1(np.percentile(logs, 95))) for size, logs in by_size.items()}


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


def _table(changes: Changes[Name], old: Mapping[Name, Sequence[float]], new: Mapping[Name, Sequence[float]]) -> str:
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


def _summary(changes: Changes[Name]) -> str:
    """How many there are of each verdict, and the mean."""
    verdicts = [found.verdict for found in changes.by_case.values()]
    counts = {verdict: verdicts.count(verdict) for verdict in ("faster", "slower", "no difference", "cannot tell")}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    mean = geometric_mean([found.ratio for found in changes.by_case.values()])
    return f"{told}. Geometric mean of new / old: {three_digits(mean)}."
