"""How long single steps of ours take at worst, with warm caches and with cold ones; each is clocked by itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..runtime import caches
from .answers import make_checked, our_tolerance
from .cases import Case
from .limits import cache_bytes
from .run import maker
from .tiers import Tier
from .timing import Clock, Runner, no_garbage_collection

_MOST_EVICTING_BYTES = 2**28


@dataclass(frozen=True)
class TailEffort:
    """So many steps, unless they take longer than `seconds`, but `least` in any case, if there are so many."""

    warm: int = 20_000
    cold: int = 200
    seconds: float = 1.0
    least: int = 20


FULL_TAIL = TailEffort()
QUICK_TAIL = TailEffort(warm=4000, cold=40, seconds=0.2)


def asked_for(warm: int) -> TailEffort:
    """So many warm steps however long they take, and one cold step for a hundred of them, as otherwise."""
    return TailEffort(warm=warm, cold=max(warm // 100, TailEffort.least), seconds=math.inf)


@dataclass(frozen=True)
class Distribution:
    """Microseconds of single steps; percentiles interpolate linearly, and are None where too few steps lie beyond."""

    min: float
    p10: float
    p50: float
    p90: float
    p99: float | None
    p999: float | None
    count: int

    @property
    def spread(self) -> float:
        """How far eight steps of ten lie apart, over their median."""
        return (self.p90 - self.p10) / self.p50

    @property
    def tail_ratio(self) -> float | None:
        """How many times the median one step of a thousand takes at least."""
        return None if self.p999 is None else self.p999 / self.p50


@dataclass(frozen=True)
class Tail:
    """Single steps of one case; None where the answer is wrong, and `failures` says how."""

    dtype: str
    cell: str
    size: int
    tier: str
    warm: Distribution | None
    cold: Distribution | None
    failures: dict[str, str]


def evicting_bytes() -> int:
    """Twice the last cache."""
    return min(2 * cache_bytes(caches())[-1], _MOST_EVICTING_BYTES)


def measure_tail(case: Case, tier: Tier, effort: TailEffort, clock: Clock = time.perf_counter_ns) -> Tail:
    """Steps in a row, and then steps before each of which a buffer larger than the caches is read."""
    makers = {tier.name: (maker(tier, case, "step"), our_tolerance(case.size, tier.dtype))}
    runners, failures = make_checked(makers, case.expected_steps)
    warm = cold = None
    for runner in runners.values():
        # Ones, because untouched zeros would all be one page of memory.
        buffer = np.ones(evicting_bytes() // 4, np.float32)
        with no_garbage_collection():
            _clocked(runner, effort.least, effort, clock)
            warm = distribution(_clocked(runner, effort.warm, effort, clock))
            cold = distribution(_clocked(runner, effort.cold, effort, clock, before=buffer.max))
    return Tail(tier.dtype, case.cell, case.size, tier.isa, warm, cold, failures)


def distribution(elapsed_ns: Sequence[int]) -> Distribution:
    """Reduces one time a step."""
    us = np.asarray(elapsed_ns) / 1e3
    p10, p50, p90, p99, p999 = (float(value) for value in np.percentile(us, (10, 50, 90, 99, 99.9)))
    count = len(us)
    return Distribution(
        float(us.min()), p10, p50, p90, p99 if count >= 100 else None, p999 if count >= 1000 else None, count
    )


def _clocked(
    runner: Runner, count: int, effort: TailEffort, clock: Clock, before: Callable[[], object] | None = None
) -> list[int]:
    call = runner.call
    elapsed: list[int] = []
    end = clock() + effort.seconds * 1e9
    for args in islice(runner.inputs, count):
        if before is not None:
            before()
        begin = clock()
        call(*args)
        done = clock()
        elapsed.append(done - begin)
        if done > end and len(elapsed) >= effort.least:
            break
    return elapsed
