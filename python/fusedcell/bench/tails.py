"""How long single steps of ours take at worst, with warm caches and with cold ones; each is clocked by itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from .._timing import Clock, Runner, no_garbage_collection
from ..runtime import caches
from .answers import make_checked
from .cases import Case
from .limits import cache_bytes
from .results import Result
from .tiers import Tier

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


def evicting_bytes() -> int:
    """Twice the last cache."""
    return min(2 * cache_bytes(caches())[-1], _MOST_EVICTING_BYTES)


def measure_tails(case: Case, tier: Tier, effort: TailEffort, clock: Clock = time.perf_counter_ns) -> Result:
    """A round is a step: steps in a row, and then steps before each of which more is read than the caches hold."""
    makers = {"warm": (lambda: tier.make_step(case), tier.tolerance_of(case))}
    runners, failures = make_checked(makers, case.expected_steps)
    rounds = {}
    for runner in runners.values():
        # Ones, because untouched zeros would all be one page of memory.
        buffer = np.ones(evicting_bytes() // 4, np.float32)
        with no_garbage_collection():
            _clocked(runner, effort.least, effort, clock)
            rounds["warm"] = [_clocked(runner, effort.warm, effort, clock)]
            rounds["cold"] = [_clocked(runner, effort.cold, effort, clock, before=buffer.max)]
    dtypes = dict.fromkeys(("warm", "cold"), tier.dtype)
    shape = (case.cell, case.size, 1, 1, tier.isa)
    return Result("tails", *shape, [*dtypes], dtypes, rounds, failures=failures, input_size=case.input_size)


def _clocked(
    runner: Runner, count: int, effort: TailEffort, clock: Clock, before: Callable[[], object] | None = None
) -> list[float]:
    """Microseconds of each step."""
    call = runner.call
    elapsed: list[float] = []
    end = clock() + effort.seconds * 1e9
    for args in islice(runner.inputs, count):
        if before is not None:
            before()
        begin = clock()
        call(*args)
        done = clock()
        elapsed.append((done - begin) / 1e3)
        if done > end and len(elapsed) >= effort.least:
            break
    return elapsed
