"""The cases of a subcommand, measured one after the other."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import product

from .cases import Case
from .limits import MultiplyRate, ReadLimit
from .looks import Look, look
from .many import ManyStreams, measure_many
from .peers import Peer
from .progress import ONLY, Part, Progress
from .run import KINDS, Kind, Result, measure_case
from .tails import FULL_TAIL, QUICK_TAIL, Tail, asked_for, measure_tail
from .threads import Scaling, measure_threads, tiers_by_threads
from .tiers import Tier
from .timing import FULL, QUICK


@dataclass(frozen=True)
class Findings:
    """All that was measured; each subcommand fills its part. `looks` are at the machine, after each piece of work."""

    limits: list[ReadLimit] = field(default_factory=list)
    rates: list[MultiplyRate] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    tails: list[Tail] = field(default_factory=list)
    scalings: list[Scaling] = field(default_factory=list)
    many: list[ManyStreams] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def extend(self, later: Findings) -> None:
        """Adds what was measured later to each part."""
        for part in fields(self):
            getattr(self, part.name).extend(getattr(later, part.name))

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """Every variant without a time, the case, and why."""
        named: list[tuple[dict[str, str], Result | Tail | Scaling | ManyStreams, str]] = [
            *((result.failures, result, result.kind) for result in self.results),
            *((tail.failures, tail, "tails") for tail in self.tails),
            *((scaling.failures, scaling, scaling.kind) for scaling in self.scalings),
            *((streams.failures, streams, "streams") for streams in self.many),
        ]
        return [
            (name, f"{_shape(found.cell, found.size, getattr(found, 'batch', 1))}, {what}", failure)
            for failures, found, what in named
            for name, failure in failures.items()
        ]


def measure_all(
    options: argparse.Namespace,
    tiers: Sequence[Tier],
    others: Sequence[Peer],
    findings: Findings,
    part: Part = ONLY,
) -> None:
    """Adds to `findings` what the options ask for, in this process; `part` tells which of how many this is."""
    shapes = list(product(options.cells, options.sizes, _batches(options)))
    work = {shape: _pieces(options, tiers, others, findings, batch=shape[2]) for shape in shapes}
    progress = Progress(sum(map(len, work.values())), part)
    with ExitStack() as stack:
        stack.callback(progress.close)
        for other in others:
            stack.enter_context(other.context())
        for (cell, size, batch), pieces in work.items():
            # Made here and not kept: the largest has weights of tens of megabytes.
            case = Case(cell, size, options.steps or 100, batch)
            for name, measure in pieces.items():
                what = f"{_shape(cell, size, batch)}, {name}"
                progress.show(what)
                measure(case)
                findings.looks.append(look(f"{what}, {options.dtype}"))


def _batches(options: argparse.Namespace) -> list[int]:
    if options.study == "many":
        return list(options.streams)
    return list(getattr(options, "batches", [1]))


def _shape(cell: str, size: int, batch: int) -> str:
    return f"{cell} {size}{f', batch {batch}' if batch > 1 else ''}"


def _pieces(
    options: argparse.Namespace, tiers: Sequence[Tier], others: Sequence[Peer], findings: Findings, batch: int
) -> dict[str, Callable[[Case], None]]:
    """What is done with each case of so many rows, by name."""
    effort = QUICK if options.quick else FULL
    tail_effort = QUICK_TAIL if options.quick else FULL_TAIL
    if getattr(options, "steps_tail", None) is not None:
        tail_effort = asked_for(options.steps_tail)

    def medians(kind: Kind, case: Case) -> None:
        findings.results.append(measure_case(case, kind, tiers, others, effort))

    def tails(case: Case) -> None:
        findings.tails.append(measure_tail(case, tiers[0], tail_effort))

    def threads(kind: Kind, case: Case) -> None:
        by_threads = tiers_by_threads(tiers[0].isa, tiers[0].dtype, options.threads)
        findings.scalings.append(measure_threads(case, kind, by_threads, effort))

    def many(case: Case) -> None:
        findings.many.append(measure_many(case, tiers[0], others, effort))

    if options.study == "many":
        return {"streams": many}
    if options.study == "threads":
        return {f"{kind}, threads": partial(threads, kind) for kind in KINDS}
    if options.study == "step":
        return {"step": partial(medians, "step"), "tails": tails}
    if options.study == "report" and batch == 1:
        return {"step": partial(medians, "step"), "tails": tails, "sequence": partial(medians, "sequence")}
    kinds = KINDS if options.study is None else KINDS[1:]
    return {kind: partial(medians, kind) for kind in kinds if kind == "step" or options.steps}
