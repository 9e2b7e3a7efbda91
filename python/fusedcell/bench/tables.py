"""Plain-text tables: a row for each case, first what matters, then the times of all variants."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from statistics import geometric_mean

from .._text import aligned, format_ratio, three_digits
from .._timing import Summary
from .limits import size_text
from .results import Result
from .tails import evicting_bytes
from .tiers import OURS

_CALLS = {
    "step": "One step, batch 1, {dtype}: us per step",
    "sequence": "Sequences of {steps} steps, {dtype}: us per sequence, of a batch its time over its size",
    "streams": "One step of each of many streams, {dtype}: us for all of them",
}
_LIMITS = {
    "step": "the least time to read the weights and to multiply by them",
    "sequence": "the least time for W x of many steps at once and then for R h step by step",
    "streams": "the least time to read the weights once and to multiply by them for all streams",
}
_STREAMS = "step: one after the other. Other libraries stack the streams' states, run a batch, and split them again."

Comparison = Callable[[Result], tuple["Summary | None", str]]
"""A ratio of a result, and the name of what was compared where that differs from case to case."""


def tables(results: Sequence[Result]) -> list[str]:
    """One for all cases of a kind and a dtype."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.kind, result.dtype), []).append(result)
    return [_tails(group) if kind == "tails" else _times(group) for (kind, _), group in groups.items()]


def failures(failed: Sequence[tuple[Result, str, str]]) -> str:
    """Every variant without a time, the case, and why."""
    return "\n".join(f"{variant}, {result.name}: {why}" for result, variant, why in failed)


def comparisons(results: Sequence[Result]) -> dict[str, Comparison]:
    """By what is divided by what: the other libraries over ours, or our own variants."""
    first = results[0]
    ours, dtype, own = first.ours, first.dtype, first.own
    others = {its for result in results for name, its in result.dtypes.items() if name not in own}
    found: dict[str, Comparison] = {}
    if first.kind == "streams":
        found[f"step / {ours}"] = lambda result: (result.ratio("step"), "")
    elif ours != OURS:  # the least number of threads over each other one
        found |= {f"{ours} / {name}": partial(_gain, name=name) for name in own[1:]}
    elif dtype != "float32":
        found[f"float32 / {ours}"] = lambda result: (result.ratio(f"{ours} float32"), "")
    if dtype != "float32" and dtype in others:
        found[f"best {dtype} other / {ours}"] = lambda result: _best(result, dtype)
    if others:
        found[f"best other / {ours}"] = _best
    return found


def _gain(result: Result, name: str) -> tuple[Summary | None, str]:
    return result.ratio(result.ours, name), ""


def _best(result: Result, dtype: str = "") -> tuple[Summary | None, str]:
    name = result.best_other(dtype)
    return (result.ratio(name), name) if name else (None, "")


def _times(results: Sequence[Result]) -> str:
    first = results[0]
    compared = comparisons(results)
    names = list(dict.fromkeys(name for result in results for name in result.dtypes))
    rows = [
        _case(result)
        | {first.ours: _time(result, first.ours)}
        | ({"limit %": _digits(result.share_of_limit, 100)} if first.limit else {})
        | {f"{heading} (p10..p90)": _ratio(*compare(result)) for heading, compare in compared.items()}
        | {name: _time(result, name) for name in names if name != first.ours}
        for result in results
    ]
    title = [_CALLS[first.kind].format(dtype=first.dtype, steps=first.steps) + ", median of rounds."]
    title.append(f"{', '.join(first.own)}: fusedcell, on {first.tier} where no tier is named. Ratios are by rounds.")
    if first.limit:
        title.append(f"limit %: {_LIMITS[first.kind]}, over the time of {first.ours}.")
    if first.kind == "streams":
        title.append(_STREAMS)
    means = [f"Geometric mean of {heading}: {_mean(compare, results)}." for heading, compare in compared.items()]
    words = {f"{heading} (p10..p90)" for heading in compared}
    return "\n".join([*title, _aligned(rows, words, results), *means])


def _tails(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        row = _case(result)
        for variant in result.own:
            time = result.time(variant)
            row |= {
                f"{variant} p50": _digits(time.p50 if time else None),
                f"{variant} p99": _digits(result.percentile(variant, 99)),
                f"{variant} p99.9": _digits(result.percentile(variant, 99.9)),
                f"{variant} steps": str(time.count) if time else "-",
            }
        rows.append(row)
    title = (
        f"Single steps, {results[0].dtype}, each clocked by itself, fusedcell with {results[0].tier}: us, percentiles."
        f"\nwarm: in a row. cold: each after {size_text(evicting_bytes())} of other data were read."
    )
    return f"{title}\n{_aligned(rows, (), results)}"


def _case(result: Result) -> dict[str, str]:
    batch = "streams" if result.kind == "streams" else "batch"
    return {"cell": result.cell, "H": str(result.size), batch: str(result.batch)}


def _aligned(rows: Sequence[dict[str, str]], words: Collection[str], results: Sequence[Result]) -> str:
    """Without the batch where all are 1."""
    headings = [name for name in rows[0] if name != "batch" or any(result.batch > 1 for result in results)]
    return aligned(headings, [[row[name] for name in headings] for row in rows], {"cell", *words})


def _time(result: Result, variant: str) -> str:
    """The median, or why there is none."""
    time = result.time(variant)
    if time is None:
        return result.failures.get(variant, "-").partition(":")[0]
    return three_digits(time.p50 / (result.batch if result.kind == "sequence" else 1))


def _digits(value: float | None, factor: float = 1) -> str:
    if value is None:
        return "-"
    return three_digits(value) if factor == 1 else f"{factor * value:.0f}"


def _ratio(ratio: Summary | None, name: str) -> str:
    return "-" if ratio is None else f"{format_ratio(ratio)} {name}".rstrip()


def _mean(compare: Comparison, results: Sequence[Result]) -> str:
    medians = [ratio.p50 for ratio, _ in map(compare, results) if ratio]
    if not medians:
        return "-"
    of = "" if len(medians) == len(results) else f" ({len(medians)} of {len(results)} cases)"
    return f"{three_digits(geometric_mean(medians))}{of}"
