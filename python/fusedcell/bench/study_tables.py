"""Plain-text tables of tails, batches and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .limits import size_text
from .many import ALONE, MANY, POOL, ManyStreams
from .run import Kind, Result
from .table import SEQUENCE_LIMIT, limit_text, time_text, with_ratios
from .tails import Distribution, Tail, evicting_bytes
from .text import aligned, format_ratio, three_digits
from .threads import Scaling


def tail_table(tails: Sequence[Tail]) -> str:
    """A row for each case, warm beside cold."""
    warm = _columns([tail.warm for tail in tails])
    # Too few cold steps have no such percentile anywhere, and then no column.
    cold = {name: column for name, column in _columns([tail.cold for tail in tails]).items() if "/" not in name}
    if set(cold["p99.9"]) == {"-"}:
        del cold["p99.9"]
    cases = {"cell": [tail.cell for tail in tails], "H": [str(tail.size) for tail in tails]}
    columns = cases | warm | {f"cold {name}": column for name, column in cold.items()}
    title = (
        f"Single steps of {tails[0].tier} in {tails[0].dtype}, us, the clock's own time in each.\n"
        f"spread: (p90 - p10) / p50. cold: after {size_text(evicting_bytes())} of other data were read."
    )
    return f"{title}\n{aligned(list(columns), list(zip(*columns.values(), strict=True)), {'cell'})}"


def _columns(found: Sequence[Distribution | None]) -> dict[str, list[str]]:
    """By heading, a text for each case."""
    figures: dict[str, Callable[[Distribution], str]] = {
        "min": lambda steps: three_digits(steps.min),
        "p50": lambda steps: three_digits(steps.p50),
        "p99": lambda steps: _digits_or_none(steps.p99),
        "p99.9": lambda steps: _digits_or_none(steps.p999),
        "p99.9/p50": lambda steps: _digits_or_none(steps.tail_ratio),
        "spread %": lambda steps: f"{100 * steps.spread:.0f}",
        "steps": lambda steps: str(steps.count),
    }
    return {name: ["-" if steps is None else text(steps) for steps in found] for name, text in figures.items()}


def _digits_or_none(value: float | None) -> str:
    return "-" if value is None else three_digits(value)


def batch_table(results: Sequence[Result], tiers: Sequence[str], others: Sequence[str]) -> str:
    """A row for each batch size: what a step of the whole batch takes, and one sequence's part of it."""
    rows = [
        [*(time_text(result, name, result.steps) for name in tiers), limit_text(result), _cost(result, results)]
        + [time_text(result, name, result.steps) for name in others]
        for result in results
    ]
    title = (
        f"Sequences of {results[0].steps} steps in batches, {results[0].dtype}: us per step of the whole batch, "
        f"median of rounds.\n{SEQUENCE_LIMIT}, over the {tiers[0]} time.\n"
        f"cost %: of one sequence, with {tiers[0]}, over its cost alone."
    )
    return with_ratios(title, [*tiers, "limit %", "cost %", *others], rows, results)


def _cost(result: Result, results: Sequence[Result]) -> str:
    for alone in results:
        if (alone.cell, alone.size, alone.batch) == (result.cell, result.size, 1):
            times = [each.times.get(each.tier) for each in (result, alone)]
            if times[0] is not None and times[1] is not None:
                return f"{100 * times[0].p50 / result.batch / times[1].p50:.0f}"
    return "-"


def threads_table(scalings: Sequence[Scaling], kind: Kind) -> str:
    """A row for each case, a column for each number of threads; empty without such cases."""
    of_kind = [scaling for scaling in scalings if scaling.kind == kind]
    if not of_kind:
        return ""
    counts = sorted({count for scaling in of_kind for count in (*scaling.times, *_failed(scaling))})
    least = counts[0]
    gains = [f"{count} / {least} (p10..p90)" for count in counts[1:]]
    rows = []
    for scaling in of_kind:
        times = [_time(scaling, count) for count in counts]
        gained = [scaling.gains.get(count) for count in counts[1:]]
        rows.append([scaling.cell, str(scaling.size), *times, *("-" if g is None else format_ratio(g) for g in gained)])
    what = "One step" if kind == "step" else f"Sequences of {of_kind[0].steps} steps"
    title = (
        f"{what}, batch 1, {of_kind[0].dtype}, {of_kind[0].tier}: us by number of threads, median of rounds, "
        f"and how many times quicker than with {least}."
    )
    return f"{title}\n{aligned(['cell', 'H', *map(str, counts), *gains], rows, {'cell', *gains})}"


def _failed(scaling: Scaling) -> dict[int, str]:
    return {int(name.split()[0]): failure for name, failure in scaling.failures.items()}


def _time(scaling: Scaling, count: int) -> str:
    if count in scaling.times:
        return three_digits(scaling.times[count].p50)
    return _failed(scaling).get(count, "-").partition(":")[0]


def many_table(found: Sequence[ManyStreams], others: Sequence[str]) -> str:
    """A row for each case: what one step of all streams takes; empty without such cases."""
    if not found:
        return ""
    names = [ALONE, MANY, POOL, *others]
    single, best = f"{ALONE} / {MANY} (p10..p90)", f"best other / {MANY} (p10..p90)"
    rows = []
    for streams in found:
        times = [_time_or_failure(streams, name) for name in names]
        other = streams.best_other
        ratios = [
            format_ratio(streams.ratios[ALONE]) if ALONE in streams.ratios else "-",
            "-" if other is None else f"{format_ratio(streams.ratios[other])} {other}",
        ]
        rows.append([streams.cell, str(streams.size), str(streams.batch), *times, *ratios])
    title = (
        f"One step of each of many streams, {found[0].dtype}, {found[0].tier}: us for all of them, median of rounds.\n"
        f"{ALONE}: one after the other. The others stack the streams' states, run a batch, and split them again."
    )
    return f"{title}\n{aligned(['cell', 'H', 'streams', *names, single, best], rows, {'cell', single, best})}"


def _time_or_failure(streams: ManyStreams, name: str) -> str:
    if name in streams.times:
        return three_digits(streams.times[name].p50)
    return streams.failures.get(name, "-").partition(":")[0]
