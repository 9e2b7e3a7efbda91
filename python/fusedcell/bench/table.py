"""Plain-text tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .ratios import comparisons, geometric_means, ratio_table
from .run import Result
from .text import aligned, three_digits

_LEFT_OUT = ("isas_compiled", "isa", "kernels")


def header(environment: Mapping[str, Any]) -> str:
    """What was measured, on what and how, one thing a line."""
    lines = []
    for key, value in _flattened(environment).items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {item}" for name, item in value.items()) or "unknown"
        elif isinstance(value, (list, tuple)):
            value = ", ".join(value) or "none"
        lines.append(f"{key.replace('_', ' '):<14} {value}")
    return "\n".join(lines)


def _flattened(environment: Mapping[str, Any]) -> dict[str, Any]:
    """`runtime` is opened in place; what only matters in a file is left out."""
    flat: dict[str, Any] = {}
    for key, value in environment.items():
        flat |= value if key == "runtime" else {key: value}
    return {key: value for key, value in flat.items() if key not in _LEFT_OUT}


def step_table(results: Sequence[Result], tiers: Sequence[str], others: Sequence[str]) -> str:
    """Single steps: a row for each cell and size, a column for each tier and library."""
    rows = []
    for result in results:
        share = result.share_of_read_limit
        limit = "-" if share is None else f"{100 * share:.0f}"
        ours, theirs = ([_time(result, name) for name in names] for names in (tiers, others))
        rows.append([result.cell, str(result.size), *ours, limit, *theirs])
    title = (
        f"One step, batch 1, {results[0].dtype}: us per step, median of rounds. "
        f"limit %: time to read the weights once over time of the {tiers[0]} step."
    )
    return _with_ratios(title, ["cell", "H", *tiers, "limit %", *others], rows, results)


def sequence_table(results: Sequence[Result], tiers: Sequence[str], others: Sequence[str]) -> str:
    """Whole sequences, on those of our tiers that were timed."""
    names = [*tiers, *others]
    rows = [[result.cell, str(result.size), *(_time(result, name) for name in names)] for result in results]
    title = f"Sequences of {results[0].steps} steps, batch 1, {results[0].dtype}: us per sequence, median of rounds."
    return _with_ratios(title, ["cell", "H", *names], rows, results)


def _with_ratios(title: str, headings: list[str], rows: list[list[str]], results: Sequence[Result]) -> str:
    """The table; its ratios are in the last column if there is one of them a row, else in a table of their own."""
    compared = comparisons(results)
    own_table = []
    if len(compared) == 1:
        (comparison,) = compared
        headings = [*headings, comparison.heading]
        rows = [[*row, comparison.text(result)] for row, result in zip(rows, results, strict=True)]
    else:
        own_table = ["", ratio_table(results)]
    words = {"cell", *(comparison.heading for comparison in compared)}
    return "\n".join([title, aligned(headings, rows, words), *own_table, *geometric_means(results)])


def failures(results: Sequence[Result]) -> str:
    """Every variant without a time, and why."""
    return "\n".join(
        f"{name}, {result.cell} {result.size}, {result.kind}: {failure}"
        for result in results
        for name, failure in result.failures.items()
    )


def spread(results: Sequence[Result]) -> str:
    """How calm the machine was: the spread of our own times over the rounds."""
    spreads = [
        ((times.p90 - times.p10) / times.p50, f"{result.cell} {result.size}, {result.kind}")
        for result in results
        if (times := result.times.get(result.tier)) is not None
    ]
    if not spreads:
        return ""
    ordered = sorted(spreads)
    worst, where = ordered[-1]
    typical, _ = ordered[len(ordered) // 2]
    return (
        f"Spread of {results[0].tier}'s rounds, (p90 - p10) / median: "
        f"{100 * typical:.0f} % in the middle case, {100 * worst:.0f} % in the worst ({where})."
    )


def _time(result: Result, name: str) -> str:
    if name in result.times:
        return three_digits(result.times[name].p50)
    failure = result.failures.get(name)
    return "-" if failure is None else failure.partition(":")[0]
