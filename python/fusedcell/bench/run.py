"""Measures one case: makes each variant, checks its answer against the specification, times those that are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .. import _core
from .cases import Case
from .peers import Peer
from .tiers import Tier
from .timing import Effort, Runner, Summary, measure, ratio, summarise

Kind = Literal["step", "sequence"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PEER_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Result:
    """What one case gave, for single steps or for sequences; times are microseconds per call.

    `failures` says why a variant has no time. `ratios` are the other libraries' times over those of `tier`, the first
    of our tiers, round by round. `read_us` is the least time in which one thread reads as many bytes as the packed
    weights have, again and again: no step that reads its weights in order can be quicker.
    """

    kind: Kind
    cell: str
    size: int
    steps: int
    tier: str
    weight_bytes: int
    read_us: float
    times: dict[str, Summary]
    ratios: dict[str, Summary]
    forms: dict[str, str]
    failures: dict[str, str]

    @property
    def share_of_read_limit(self) -> float | None:
        """Of a step's time, the part that reading the weights alone would take."""
        if self.kind != "step" or self.tier not in self.times:
            return None
        return self.read_us / self.times[self.tier].p50

    @property
    def best_other(self) -> str | None:
        """The quickest of the other libraries."""
        return min(self.ratios, key=lambda name: self.times[name].p50) if self.ratios else None


def measure_case(case: Case, kind: Kind, tiers: Sequence[Tier], others: Sequence[Peer], effort: Effort) -> Result:
    """Times all tiers (for sequences the first alone) and the others that have such a cell."""
    runners: dict[str, Runner] = {}
    failures: dict[str, str] = {}
    expected = case.expected_steps if kind == "step" else case.expected_sequences

    def add(name: str, make: Callable[[], Runner], tolerance: float) -> None:
        try:
            runner = make()
            failure = wrong_answer(runner, expected, tolerance)
        except Exception as error:  # whatever another library may raise
            failure = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        if failure:
            failures[name] = failure
        else:
            runners[name] = runner

    def maker(source: Any) -> Callable[[], Runner]:
        return partial(source.make_step if kind == "step" else source.make_sequence, case)

    first = tiers[0].make_layer(case)
    for tier in tiers if kind == "step" else tiers[:1]:
        add(tier.name, maker(tier), our_tolerance(case.size))
    for other in others:
        if case.cell in other.cells:
            add(other.name, maker(other), PEER_TOLERANCE)

    limits = [_read_us(first.nbytes, first.isa)]
    rounds = measure(runners, effort) if runners else {}
    limits.append(_read_us(first.nbytes, first.isa))
    names = {other.name for other in others} & rounds.keys() if first.isa in rounds else set()
    return Result(
        kind=kind,
        cell=case.cell,
        size=case.size,
        steps=1 if kind == "step" else case.steps,
        tier=first.isa,
        weight_bytes=first.nbytes,
        read_us=min(limits),
        times={name: summarise([ns / 1e3 for ns in values]) for name, values in rounds.items()},
        ratios={name: ratio(rounds[name], rounds[first.isa]) for name in rounds if name in names},
        forms={name: runner.form for name, runner in runners.items() if runner.form},
        failures=failures,
    )


def our_tolerance(size: int) -> float:
    """What rounding explains: the bits are promised, so the order is fixed, and each chain's error grows with it."""
    return 2e-6 * max(1.0, size / 512)


def wrong_answer(runner: Runner, expected: npt.NDArray[np.float64], tolerance: float) -> str | None:
    """Runs calls from state zero until all of `expected` is seen; says how far off the answer is, if it is."""
    seen: list[npt.NDArray[Any]] = []
    while sum(len(part) for part in seen) < len(expected):
        seen.append(np.atleast_2d(runner.next()))
    answer = np.concatenate(seen)[: len(expected)]
    if answer.shape != expected.shape:
        return f"wrong answer: shape {answer.shape[1:]} of a step, not {expected.shape[1:]}"
    error = float(np.max(np.abs(answer - expected)))
    # Written so that NaN is wrong.
    return None if error <= tolerance else f"wrong answer: off by {error:.2g}"


def _read_us(nbytes: int, isa: str) -> float:
    repeats = max(5, min(200, 2**28 // nbytes))
    return _core.read_seconds(max(nbytes, 64), repeats, isa) * 1e6
