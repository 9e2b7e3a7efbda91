"""One step of many scattered streams: one after the other, in one call, and with other libraries.

Each stream of another library has its states as arrays of its own; they are stacked for one call in a batch, and split
again. All get their inputs in one array but for the streams that step one after the other, which get rows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .._base import FloatArray
from ..stream_pool import StreamPool
from .answers import Tolerance, make_checked, our_tolerance
from .cases import Case
from .peers import Peer
from .tiers import Tier
from .timing import Effort, Runner, Summary, measure, ratio, summarise

ALONE, MANY, POOL = "step", "step_many", "pool"


@dataclass(frozen=True)
class ManyStreams:
    """One case of `batch` streams.

    Times are microseconds for one step of all, by variant, and `ratios` those of the others over those of `step_many`,
    round by round. `medians` are those of each repeat of the measurement.
    """

    dtype: str
    cell: str
    size: int
    batch: int
    tier: str
    times: dict[str, Summary]
    ratios: dict[str, Summary]
    rounds: dict[str, list[float]]
    medians: dict[str, list[float]]
    forms: dict[str, str]
    failures: dict[str, str]

    @property
    def best_other(self) -> str | None:
        """The quickest of the other libraries."""
        theirs = [name for name in self.ratios if name not in (ALONE, POOL)]
        return min(theirs, key=lambda name: self.times[name].p50) if theirs else None


def measure_many(case: Case, tier: Tier, others: Sequence[Peer], effort: Effort) -> ManyStreams:
    """Times a step of all the case's streams."""
    ours: dict[str, Callable[[Case, Tier], Runner]] = {ALONE: _alone, MANY: _many, POOL: _pool}
    tolerance = our_tolerance(case.size, tier.dtype)
    makers: dict[str, tuple[Callable[[], Runner], Tolerance]] = {
        name: (partial(make, case, tier), tolerance) for name, make in ours.items()
    }
    makers |= {other.name: (partial(other.make_many, case), other.tolerance) for other in others if other.takes(case)}
    runners, failures = make_checked(makers, case.expected_steps)
    rounds = measure(runners, effort) if runners else {}
    times = {name: summarise([ns / 1e3 for ns in values]) for name, values in rounds.items()}
    compared = {name: values for name, values in rounds.items() if MANY in rounds and name != MANY}
    return ManyStreams(
        dtype=tier.dtype,
        cell=case.cell,
        size=case.size,
        batch=case.batch,
        tier=tier.isa,
        times=times,
        ratios={name: ratio(values, rounds[MANY]) for name, values in compared.items()},
        rounds={name: [ns / 1e3 for ns in values] for name, values in rounds.items()},
        medians={name: [summary.p50] for name, summary in times.items()},
        forms={name: runner.form for name, runner in runners.items() if runner.form},
        failures=failures,
    )


def _alone(case: Case, tier: Tier) -> Runner:
    layer = tier.make_layer(case)
    out = np.empty(case.step_shape, np.float32)
    steps = [(layer.stream().step, y) for y in out]

    def step(rows: list[FloatArray]) -> FloatArray:
        for (step, y), x in zip(steps, rows, strict=True):
            step(x, y)
        return out

    return Runner(step, [(list(block),) for block in case.rows], _read)


def _many(case: Case, tier: Tier) -> Runner:
    layer = tier.make_layer(case)
    out = np.empty(case.step_shape, np.float32)
    streams = [layer.stream() for _ in range(case.batch)]
    return Runner(layer.step_many, [(streams, block, out) for block in case.rows], _read)


def _pool(case: Case, tier: Tier) -> Runner:
    pool = StreamPool(tier.make_layer(case), case.batch)
    out = np.empty(case.step_shape, np.float32)
    slots = [pool.join() for _ in range(case.batch)]
    return Runner(pool.step, [(slots, block, out) for block in case.rows], _read)


def _read(y: FloatArray) -> FloatArray:
    h: FloatArray = y[None].copy()
    return h
