"""What more threads gain: our layers with each number of them, in turns.

Other libraries are left out: their idle threads go on spinning for a while after each call, and would take the CPUs
from whoever has the next turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .answers import make_checked, our_tolerance
from .cases import Case
from .run import Kind, expected, maker
from .tiers import Tier
from .timing import Effort, Summary, measure, ratio, summarise


@dataclass(frozen=True)
class Scaling:
    """One case; all by number of threads.

    Times and `rounds` are microseconds per call, and `gains` are the times of the least number over theirs, round by
    round. `medians` are those of each repeat of the measurement.
    """

    kind: Kind
    dtype: str
    cell: str
    size: int
    steps: int
    batch: int
    tier: str
    times: dict[int, Summary]
    gains: dict[int, Summary]
    rounds: dict[int, list[float]]
    medians: dict[int, list[float]]
    failures: dict[str, str]


def tiers_by_threads(isa: str, dtype: str, counts: list[int]) -> dict[int, Tier]:
    """The same tier with each number of threads."""
    return {
        count: Tier(isa, dtype, name=f"{count} thread{'s' if count > 1 else ''}", threads=count) for count in counts
    }


def thread_counts(cpus: int) -> list[int]:
    """All numbers up to four, from there on doubled, and as many as there are CPUs."""
    doubled = [2**i for i in range(3, cpus.bit_length()) if 2**i < cpus]
    return sorted({*range(1, min(cpus, 4) + 1), *doubled, cpus})


def measure_threads(case: Case, kind: Kind, tiers: Mapping[int, Tier], effort: Effort) -> Scaling:
    """Times the tier with each number of threads."""
    tolerance = {tier.name: our_tolerance(case.size, tier.dtype) for tier in tiers.values()}
    makers = {tier.name: (maker(tier, case, kind), tolerance[tier.name]) for tier in tiers.values()}
    runners, failures = make_checked(makers, expected(case, kind))
    measured = measure(runners, effort) if runners else {}
    rounds = {count: measured[tier.name] for count, tier in tiers.items() if tier.name in measured}
    times = {count: summarise([ns / 1e3 for ns in values]) for count, values in rounds.items()}
    least = min(tiers)
    first = tiers[least]
    return Scaling(
        kind=kind,
        dtype=first.dtype,
        cell=case.cell,
        size=case.size,
        steps=1 if kind == "step" else case.steps,
        batch=case.batch,
        tier=first.isa,
        times=times,
        gains={count: ratio(rounds[least], values) for count, values in rounds.items() if least in rounds},
        rounds={count: [ns / 1e3 for ns in values] for count, values in rounds.items()},
        medians={count: [summary.p50] for count, summary in times.items()},
        failures=failures,
    )
