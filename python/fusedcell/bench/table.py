"""Plain-text tables of results."""

from __future__ import annotations

from collections.abc import Sequence

from .ratios import case_columns, comparisons, geometric_means, ratio_table
from .run import Result
from .text import aligned, three_digits

SEQUENCE_LIMIT = "limit %: the least time for W x of many steps at once and then for R h step by step"


def step_table(results: Sequence[Result], tiers: Sequence[str], others: Sequence[str]) -> str:
    """Single steps: a row for each cell and size, a column for each tier and library."""
    rows = []
    for result in results:
        times, theirs = ([time_text(result, name) for name in names] for names in (tiers, others))
        rows.append([*times, limit_text(result), *theirs])
    title = (
        f"One step, batch 1, {results[0].dtype}: us per step, median of rounds.\n"
        f"limit %: the least time to read the weights and to multiply by them, over the {tiers[0]} time."
    )
    return with_ratios(title, [*tiers, "limit %", *others], rows, results)


def sequence_table(results: Sequence[Result], tiers: Sequence[str], others: Sequence[str]) -> str:
    """Whole sequences, on those of our tiers that were timed."""
    rows = [
        [
            *(time_text(result, name) for name in tiers),
            limit_text(result),
            *(time_text(result, name) for name in others),
        ]
        for result in results
    ]
    title = (
        f"Sequences of {results[0].steps} steps, batch 1, {results[0].dtype}: us per sequence, median of rounds.\n"
        f"{SEQUENCE_LIMIT}, over the {tiers[0]} time."
    )
    return with_ratios(title, [*tiers, "limit %", *others], rows, results)


def with_ratios(title: str, headings: list[str], rows: list[list[str]], results: Sequence[Result]) -> str:
    """The table; its ratios are in the last column if there is one of them a row, else in a table of their own."""
    compared = comparisons(results)
    cases, case_rows = case_columns(results)
    headings = [*cases, *headings]
    rows = [[*case, *row] for case, row in zip(case_rows, rows, strict=True)]
    own_table = []
    if len(compared) == 1:
        (comparison,) = compared
        headings = [*headings, comparison.heading]
        rows = [[*row, comparison.text(result)] for row, result in zip(rows, results, strict=True)]
    elif compared:
        own_table = ["", ratio_table(results)]
    words = {"cell", *(comparison.heading for comparison in compared)}
    return "\n".join([title, aligned(headings, rows, words), *own_table, *geometric_means(results)])


def failures(failed: Sequence[tuple[str, str, str]]) -> str:
    """Every variant without a time, the case, and why."""
    return "\n".join(f"{name}, {case}: {failure}" for name, case, failure in failed)


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


def time_text(result: Result, name: str, calls: int = 1) -> str:
    """The median over so many parts of a call, or why there is none."""
    if name in result.times:
        return three_digits(result.times[name].p50 / calls)
    failure = result.failures.get(name)
    return "-" if failure is None else failure.partition(":")[0]


def limit_text(result: Result) -> str:
    """In percent."""
    share = result.share_of_limit
    return "-" if share is None else f"{100 * share:.0f}"
