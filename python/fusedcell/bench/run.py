"""Measures one case: makes each variant, checks its answer against the specification, times those that are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .answers import Tolerance, make_checked, our_tolerance
from .cases import Case
from .limits import PhaseLimit, least, phase_limits, sequence_phases, step_phases
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
    `limit` is what the machine takes for each phase of a call at least (limits.py), measured with the rest. `rounds`
    are the times of `tier`, in their order, and `medians` those of each repeat of the measurement, by variant.
    """

    kind: Kind
    dtype: str
    cell: str
    size: int
    steps: int
    batch: int
    tier: str
    weight_bytes: int
    limit: list[PhaseLimit]
    times: dict[str, Summary]
    ratios: dict[str, Summary]
    gain: Summary | None
    other_dtypes: dict[str, str]
    forms: dict[str, str]
    failures: dict[str, str]
    rounds: list[float]
    medians: dict[str, list[float]]

    @property
    def limit_us(self) -> float:
        """What a call takes at least: its phases, one after the other."""
        return sum(phase.us for phase in self.limit)

    @property
    def share_of_limit(self) -> float | None:
        """Of our time, the part that the machine takes at least; None without a time."""
        return self.limit_us / self.times[self.tier].p50 if self.tier in self.times else None

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
    first = tiers[0].make_layer(case)
    in_float32 = float32_of(tiers[0])
    ours = [*(tiers if kind == "step" else tiers[:1]), *in_float32]
    makers: dict[str, tuple[Callable[[], Runner], Tolerance]] = {
        tier.name: (maker(tier, case, kind), our_tolerance(case.size, tier.dtype)) for tier in ours
    }
    makers |= {other.name: (maker(other, case, kind), other.tolerance) for other in others if other.takes(case)}
    runners, failures = make_checked(makers, expected(case, kind))

    phases = step_phases(case, first.dtype) if kind == "step" else sequence_phases(case, first.dtype)
    before = phase_limits(phases, first.isa, first.dtype)
    rounds = measure(runners, effort) if runners else {}
    after = phase_limits(phases, first.isa, first.dtype)
    times = {name: summarise([ns / 1e3 for ns in values]) for name, values in rounds.items()}

    def over_ours(sources: Sequence[Tier | Peer]) -> dict[str, Summary]:
        names = {source.name for source in sources} if first.isa in rounds else set()
        return {name: ratio(rounds[name], rounds[first.isa]) for name in rounds if name in names}

    return Result(
        kind=kind,
        dtype=first.dtype,
        cell=case.cell,
        size=case.size,
        steps=1 if kind == "step" else case.steps,
        batch=case.batch,
        tier=first.isa,
        weight_bytes=first.nbytes,
        limit=least([before, after]),
        times=times,
        ratios=over_ours(others),
        gain=next(iter(over_ours(in_float32).values()), None),
        other_dtypes={other.name: other.dtype for other in others},
        forms={name: runner.form for name, runner in runners.items() if runner.form},
        failures=failures,
        rounds=[ns / 1e3 for ns in rounds.get(first.isa, [])],
        medians={name: [summary.p50] for name, summary in times.items()},
    )


def maker(source: Any, case: Case, kind: Kind) -> Callable[[], Runner]:
    """What makes a tier's or a library's runner."""
    return partial(source.make_step if kind == "step" else source.make_sequence, case)


def expected(case: Case, kind: Kind) -> npt.NDArray[np.float64]:
    """The answers of the first calls."""
    return case.expected_steps if kind == "step" else case.expected_sequences


def float32_of(tier: Tier) -> list[Tier]:
    """The same tier with float32 weights, if it has others."""
    return [] if tier.dtype == "float32" else [Tier(tier.isa, name=f"{tier.isa} float32")]
