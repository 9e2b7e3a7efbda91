"""Plain-text tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .run import Result
from .timing import Summary

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
    headings = ["cell", "H", *tiers, "limit %", *others, _ratio_heading(tiers)]
    rows = []
    for result in results:
        share = result.share_of_read_limit
        limit = "-" if share is None else f"{100 * share:.0f}"
        times = [_time(result, name) for name in (*tiers, *others)]
        split = len(tiers)
        rows.append([result.cell, str(result.size), *times[:split], limit, *times[split:], _ratio(result)])
    title = (
        "One step, batch 1, float32: us per step, median of rounds. "
        f"limit %: time to read the weights once over time of the {tiers[0]} step."
    )
    return f"{title}\n{_aligned(headings, rows)}"


def sequence_table(results: Sequence[Result], tier: str, others: Sequence[str]) -> str:
    """Whole sequences, on the first tier."""
    headings = ["cell", "H", tier, *others, _ratio_heading([tier])]
    rows = [
        [result.cell, str(result.size), *(_time(result, name) for name in (tier, *others)), _ratio(result)]
        for result in results
    ]
    title = f"Sequences of {results[0].steps} steps, batch 1, float32: us per sequence, median of rounds."
    return f"{title}\n{_aligned(headings, rows)}"


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


def _ratio_heading(tiers: Sequence[str]) -> str:
    return f"best other / {tiers[0]} (p10..p90)"


def _time(result: Result, name: str) -> str:
    if name in result.times:
        return three_digits(result.times[name].p50)
    failure = result.failures.get(name)
    return "-" if failure is None else failure.partition(":")[0]


def _ratio(result: Result) -> str:
    name = result.best_other
    return "-" if name is None else f"{format_ratio(result.ratios[name])} {name}"


def three_digits(value: float) -> str:
    """Three significant digits, or as many as the whole part has."""
    decimals = next((n for n, least in enumerate((99.95, 9.995, 0.9995)) if value >= least), 3)
    return f"{value:.{decimals}f}"


def format_ratio(summary: Summary) -> str:
    """The median, and from where to where eight rounds of ten lie."""
    return f"{three_digits(summary.p50)} ({three_digits(summary.p10)}..{three_digits(summary.p90)})"


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first and last columns are words and go left, the rest are numbers and go right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    last = len(headings) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, last) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headings, *rows)
    )
