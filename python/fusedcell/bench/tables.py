"""Plain-text tables: a row for each case, of us beside the best other and a sentence; in detail, of all variants."""

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
    "sequence": "Sequences of {steps} steps, {dtype}: us per sequence (a batch's time is divided by its size)",
    "streams": "One step of each of many streams, {dtype}: us for all of them",
}
_LIMITS = {
    "step": "the least time to read the weights and to multiply by them",
    "sequence": "the least time for W x of many steps at once and then for R h step by step",
    "streams": "the least time to read the weights once and to multiply by them for all streams",
}
_PHRASES = {"best": "The best number of threads", "step": "single steps", "best other": "the best other library"}
_STREAMS = "step: one after the other. Other libraries stack the streams' states, run a batch, and split them again."

Comparison = Callable[[Result], tuple["Summary | None", str]]
"""A ratio of a result, and the name of what was compared where that differs from case to case."""


def tables(results: Sequence[Result], *, details: bool = False) -> list[str]:
    """One for all cases of a kind and a dtype, or with `details` two."""
    found = []
    for group in groups(results):
        if group[0].kind == "tails":
            found.append(_tails(group, details))
        else:
            found += [_short(group), _times(group), *_parts(group)] if details else [_short(group)]
    return found


def groups(results: Sequence[Result]) -> list[list[Result]]:
    """The cases of each kind and dtype."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result.kind, result.dtype), []).append(result)
    return list(found.values())


def title(results: Sequence[Result]) -> str:
    """What was timed, and the unit."""
    first = results[0]
    return _CALLS[first.kind].format(dtype=first.dtype, steps=first.steps)


def sentence(results: Sequence[Result]) -> str:
    """How many times as fast as what; "" where nothing was beside ours."""
    leads = {case_text(result): lead for result in results if (lead := result.lead)}
    if not leads:
        return ""
    fast, slow = _sides(results)
    rivals = {lead.slow for lead in leads.values()}
    times = [lead.times.p50 for lead in leads.values()]
    rival = _PHRASES.get(slow, slow) if len(rivals) > 1 or slow != "best other" else rivals.pop()
    slower = [name for name, lead in leads.items() if lead.times.p50 < 1]
    behind = f" It is slower in {len(slower)} of {len(times)}: {'; '.join(slower)}." if slower else ""
    return f"{_PHRASES.get(fast, fast)} is {span_text(times)} {rival}.{behind}"


def span_text(times: Sequence[float]) -> str:
    """From the least to the most, and the mean of several cases."""
    low, high = map(three_digits, (min(times), max(times)))
    mean = f" (geometric mean of {len(times)} cases: {three_digits(geometric_mean(times))})" if len(times) > 1 else ""
    return f"{low if low == high else f'{low} to {high}'} times{mean} as fast as"


def case_text(result: Result) -> str:
    """The layer, and the batch or the number of streams."""
    many = f", {'streams' if result.kind == 'streams' else 'batch'} {result.batch}" if result.batch > 1 else ""
    return f"{result.layer}{many}"


def _sides(results: Sequence[Result]) -> tuple[str, str]:
    """What the short table calls the quick side and the slow one."""
    leads = [lead for result in results if (lead := result.lead)]
    own = results[0].own
    if all(lead.slow in own for lead in leads) and leads:
        return (leads[0].fast if results[0].kind == "streams" else "best"), leads[0].slow
    return own[0], "best other"


def _short(results: Sequence[Result]) -> str:
    fast, slow = _sides(results)
    rows = []
    for result in results:
        lead = result.lead
        row = _case(result) | {f"{fast} us": _time(result, result.ours), f"{slow} us": "-", "times faster": "-"}
        if lead:
            row |= {f"{fast} us": _of(lead.fast_us, lead.fast, fast), f"{slow} us": _of(lead.slow_us, lead.slow, slow)}
            row |= {"times faster": three_digits(lead.times.p50)}
        rows.append(row)
    if not any(result.lead for result in results):
        rows = [{name: row[name] for name in (*_case(results[0]), f"{fast} us")} for row in rows]
    words = {f"{slow} us", *([f"{fast} us"] if fast == "best" else [])}
    return "\n".join(filter(None, [f"{title(results)}.", _aligned(rows, words, results), sentence(results)]))


def _of(us: float, name: str, heading: str) -> str:
    return three_digits(us) + (f" ({name})" if name != heading else "")


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
    lines = [f"{title(results)}, median of rounds."]
    lines.append(f"{', '.join(first.own)}: fusedcell, on {first.tier} where no tier is named. Ratios are by rounds.")
    if first.limit:
        lines.append(f"limit %: {_LIMITS[first.kind]}, over the time of {first.ours}.")
    if first.kind == "streams":
        lines.append(_STREAMS)
    means = [f"Geometric mean of {heading}: {_mean(compare, results)}." for heading, compare in compared.items()]
    words = {f"{heading} (p10..p90)" for heading in compared}
    return "\n".join([*lines, _aligned(rows, words, results), *means])


def _parts(results: Sequence[Result]) -> list[str]:
    """What a single step of ours is made of."""
    rows = [
        _case(result)
        | {f"{result.ours} us": _time(result, result.ours)}
        | {f"{name} us": three_digits(us) for name, us in {"reading": result.limit_us, **result.parts}.items()}
        for result in results
        if result.parts
    ]
    if not rows:
        return []
    lines = [f"What a step of {results[0].ours} is made of, {results[0].dtype}: us. Parts overlap."]
    lines.append("reading: the least time to read the weights. call: a step of a layer of one unit.")
    lines.append("gates: those of all units, whose sums are there already.")
    return ["\n".join([*lines, _aligned(rows, (), results)])]


def _tails(results: Sequence[Result], details: bool) -> str:
    rows, slower = [], []
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
        warm, cold = result.time("warm"), result.time("cold")
        slower += [cold.p50 / warm.p50] if warm and cold else []
        names = row if details else [*_case(result), "warm p50", "warm p99", "cold p50"]
        rows.append({name: row[name] for name in names})
    lines = [
        f"Single steps, {results[0].dtype}, each clocked by itself, fusedcell with {results[0].tier}: us, percentiles.",
        f"warm: in a row. cold: each after {size_text(evicting_bytes())} of other data were read, as after a pause.",
        _aligned(rows, (), results),
    ]
    if slower:
        low, high = map(three_digits, (min(slower), max(slower)))
        lines.append(f"A cold step takes {low if low == high else f'{low} to {high}'} times as long as a warm one.")
    return "\n".join(lines)


def _case(result: Result) -> dict[str, str]:
    batch = "streams" if result.kind == "streams" else "batch"
    name = "cell" if result.size else "model"
    return {name: result.cell, "H": str(result.size), "I": str(result.input_size), batch: str(result.batch)}


def _aligned(rows: Sequence[dict[str, str]], words: Collection[str], results: Sequence[Result]) -> str:
    """Without the batch where all are 1, the inputs where all are as many as units, and the units of whole models."""
    spare = {"batch": all(result.batch == 1 for result in results)}
    spare |= {"H": not results[0].size, "I": all(result.input_size == result.size for result in results)}
    headings = [name for name in rows[0] if not spare.get(name)]
    return aligned(headings, [[row[name] for name in headings] for row in rows], {"cell", "model", *words})


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
