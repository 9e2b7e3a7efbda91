"""Measures one case: makes each variant, checks its answer against the specification, times those that are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from .. import _core
from .answers import Tolerance, our_tolerance, wrong_answer
from .cases import Case
from .peers import Peer
from .tiers import Tier
from .timing import Effort, Runner, Summary, measure, ratio, summarise

Kind = Literal["step", "sequence"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Result:
    """What one case gave, for single steps or for sequences; times are microseconds per call.

    `failures` says why a variant has no time. `ratios` are the other libraries' times over those of `tier`, the first
    of our tiers, round by round, and `gain` is that ratio for the same tier in float32, where `dtype` is another one.
    `read_us` is the least time in which one thread reads as many bytes as the packed weights have, again and again: no
    step that reads its weights in order can be quicker.
    """

    kind: Kind
    dtype: str
    cell: str
    size: int
    steps: int
    tier: str
    weight_bytes: int
    read_us: float
    times: dict[str, Summary]
    ratios: dict[str, Summary]
    gain: Summary | None
    other_dtypes: dict[str, str]
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
        return self._best(list(self.ratios))

    @property
    def best_other_of_dtype(self) -> str | None:
        """The quickest of those that run in `dtype` too."""
        return self._best([name for name in self.ratios if self.other_dtypes[name] == self.dtype])

    def _best(self, names: Sequence[str]) -> str | None:
        return min(names, key=lambda name: self.times[name].p50) if names else None


def measure_case(case: Case, kind: Kind, tiers: Sequence[Tier], others: Sequence[Peer], effort: Effort) -> Result:
    """Times all tiers (for sequences the first alone), the first in float32, and the others that have such a cell."""
    runners: dict[str, Runner] = {}
    failures: dict[str, str] = {}
    expected = case.expected_steps if kind == "step" else case.expected_sequences

    def add(name: str, make: Callable[[], Runner], tolerance: Tolerance) -> None:
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
    in_float32 = float32_of(tiers[0])
    for tier in [*(tiers if kind == "step" else tiers[:1]), *in_float32]:
        add(tier.name, maker(tier), our_tolerance(case.size, tier.dtype))
    for other in others:
        if case.cell in other.cells:
            add(other.name, maker(other), other.tolerance)

    limits = [_read_us(first.nbytes, first.isa)]
    rounds = measure(runners, effort) if runners else {}
    limits.append(_read_us(first.nbytes, first.isa))

    def over_ours(sources: Sequence[Tier | Peer]) -> dict[str, Summary]:
        names = {source.name for source in sources} if first.isa in rounds else set()
        return {name: ratio(rounds[name], rounds[first.isa]) for name in rounds if name in names}

    return Result(
        kind=kind,
        dtype=first.dtype,
        cell=case.cell,
        size=case.size,
        steps=1 if kind == "step" else case.steps,
        tier=first.isa,
        weight_bytes=first.nbytes,
        read_us=min(limits),
        times={name: summarise([ns / 1e3 for ns in values]) for name, values in rounds.items()},
        ratios=over_ours(others),
        gain=next(iter(over_ours(in_float32).values()), None),
        other_dtypes={other.name: other.dtype for other in others},
        forms={name: runner.form for name, runner in runners.items() if runner.form},
        failures=failures,
    )


def float32_of(tier: Tier) -> list[Tier]:
    """The same tier with float32 weights, if it has others."""
    return [] if tier.dtype == "float32" else [Tier(tier.isa, name=f"{tier.isa} float32")]


def _read_us(nbytes: int, isa: str) -> float:
    repeats = max(5, min(200, 2**28 // nbytes))
    return _core.read_seconds(max(nbytes, 64), repeats, isa) * 1e6
