"""What a figure of results shows: panels of lines, before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .run import Result
from .threads import Scaling
from .work import Findings

Role = Literal["ours", "our float32", "other", "limit"]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """Points of one variant, and what is written at its end."""

    label: str
    role: Role
    points: Points


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    name: str
    lines: list[Line]


@dataclass(frozen=True)
class Picture:
    """All axes are logarithmic; two panels stand side by side and share their scale."""

    title: str
    subtitle: str
    x_label: str
    y_label: str
    panels: list[Panel]


def picture(environment: Mapping[str, Any], findings: Findings) -> Picture:
    """Single steps where there are any, else batches, sequences or threads: whatever was measured."""
    runtime = environment["runtime"]
    subtitle = f"{runtime['cpu']}, {environment['tier']}, {environment['dtype']}"
    steps = [result for result in findings.results if result.kind == "step"]
    if findings.scalings:
        panels = _by(findings.scalings, _cell_and_kind, _threads_panel)
        return Picture("Gain of more threads", subtitle, "threads", "times as quick as with the fewest", panels)
    subtitle += ", one thread"
    if steps:
        panels = _by(steps, _cell, _size_panel)
        return Picture("Time of one step, batch 1", subtitle, "H (units, and inputs)", "us per step", panels)
    count = findings.results[0].steps
    if any(result.batch > 1 for result in findings.results):
        title = f"Cost of a sequence in a batch, {count} steps"
        # A row of panels has one size, and so one scale.
        panels = _by(sorted(findings.results, key=lambda result: result.size), _cell_and_size, _batch_panel)
        return Picture(title, subtitle, "batch", "us per step and sequence", panels)
    title = f"Time of a step in a sequence of {count}, batch 1"
    return Picture(title, subtitle, "H (units, and inputs)", "us per step", _by(findings.results, _cell, _size_panel))


def _by(entries: Sequence[Any], name: Callable[[Any], str], lines: Callable[[list[Any]], list[Line]]) -> list[Panel]:
    """A panel for each name."""
    names = list(dict.fromkeys(name(entry) for entry in entries))
    groups = {each: [entry for entry in entries if name(entry) == each] for each in names}
    return [Panel(each, lines(group)) for each, group in groups.items()]


def _cell(entry: Result) -> str:
    return entry.cell


def _cell_and_size(entry: Result) -> str:
    return f"{entry.cell}, H = {entry.size}"


def _cell_and_kind(entry: Scaling) -> str:
    return f"{entry.cell}, {entry.kind}"


def _size_panel(results: list[Result]) -> list[Line]:
    return _with_limit(results, lambda result: result.size, lambda result: result.steps)


def _batch_panel(results: list[Result]) -> list[Line]:
    return _with_limit(results, lambda result: result.batch, lambda result: result.steps * result.batch)


def _with_limit(results: list[Result], x: Callable[[Result], int], parts: Callable[[Result], int]) -> list[Line]:
    """All variants, and what the machine takes at least where we have a time."""
    limit = [(float(x(r)), r.limit_us / parts(r)) for r in results if r.share_of_limit is not None]
    return [*_variants(results, x, parts), *([Line("limit", "limit", sorted(limit))] if limit else [])]


def _variants(results: list[Result], x: Callable[[Result], int], parts: Callable[[Result], int]) -> list[Line]:
    """Ours, and of each library what runs in our dtype, or its float32, marked so, where nothing of it does."""
    first = results[0]
    dtypes = {name: dtype for result in results for name, dtype in result.other_dtypes.items()}
    alike = {name.split()[0] for name, dtype in dtypes.items() if dtype == first.dtype}
    shown = [name for name, dtype in dtypes.items() if dtype == first.dtype or name not in alike]
    roles: dict[str, Role] = {first.tier: "ours", f"{first.tier} float32": "our float32"}
    roles |= dict.fromkeys(shown, "other")
    labels = {name: name.split()[0] + (" f32" if dtypes[name] != first.dtype else "") for name in shown}
    labels |= {first.tier: "fusedcell", f"{first.tier} float32": "fusedcell f32"}
    lines = []
    for name, role in roles.items():
        points = [(float(x(r)), r.times[name].p50 / parts(r)) for r in results if name in r.times]
        if points:
            lines.append(Line(labels[name], role, sorted(points)))
    return lines


def _threads_panel(scalings: list[Scaling]) -> list[Line]:
    lines = [
        Line(f"H = {scaling.size}", "ours" if i == 0 else "other", points)
        for i, scaling in enumerate(sorted(scalings, key=lambda scaling: -scaling.size))
        if (points := [(float(count), gain.p50) for count, gain in scaling.gains.items()])
    ]
    counts = sorted({x for line in lines for x, _ in line.points})
    return [*lines, Line("ideal", "limit", [(x, x / counts[0]) for x in counts])] if counts else lines
