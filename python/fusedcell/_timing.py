"""Interleaved timing: all variants take turns in many short rounds, so that whatever the machine does hits all alike.

A variant's turn in a round is a loop of calls long enough for the clock, after untimed calls that undo what the others'
turns did: they drove its weights from the caches, and wide vectors may have lowered the CPU's clock. Each call gets the
state that the call before it left, and another input. The loop itself adds some 20 ns to each call, for every variant.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil
from typing import Any

import numpy as np

from ._base import FloatArray

Clock = Callable[[], int]

# Weights that only the last cache holds are all back in it after four calls, or after more than ten if they nearly fill
# it. A clock that wide vectors lowered rises again within a millisecond.
WARM_UP_CALLS = 16
WARM_UP_LEAST_NS = 1_000_000
WARM_UP_MOST_NS = 20_000_000


class Runner:
    """A thing to time: `call`, with the next of `inputs`, advances its own state; `read` makes an array of the answer.

    `form` says how the work is put to the library, where there was a choice. `keep` is what `call` needs and does not
    own.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        inputs: Iterable[tuple[Any, ...]],
        read: Callable[[Any], FloatArray],
        form: str = "",
        keep: object = None,
    ) -> None:
        self.call = call
        self.inputs: Iterator[tuple[Any, ...]] = cycle(inputs)
        self.read = read
        self.form = form
        self.keep = keep

    def next(self) -> FloatArray:
        """Runs one call and returns its answer as an array of its own."""
        return self.read(self.call(*next(self.inputs)))


@dataclass(frozen=True)
class Effort:
    """How long to measure: `turn_ns` a turn at least, `seconds` a variant, within the numbers of rounds."""

    turn_ns: int = 250_000
    seconds: float = 0.35
    min_rounds: int = 7
    max_rounds: int = 501


FULL = Effort()
QUICK = Effort(seconds=0.06, min_rounds=3, max_rounds=31)


@dataclass(frozen=True)
class Summary:
    """What a number of rounds gave; percentiles interpolate linearly between rounds."""

    min: float
    p10: float
    p50: float
    p90: float
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Reduces one value a round."""
    p10, p50, p90 = (float(value) for value in np.percentile(values, (10, 50, 90)))
    return Summary(float(min(values)), p10, p50, p90, len(values))


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Summary:
    """Reduces the quotients of two variants of one measurement, taken round by round."""
    return summarise([a / b for a, b in zip(numerator, denominator, strict=True)])


def measure(
    variants: Mapping[str, Runner], effort: Effort, clock: Clock = time.perf_counter_ns
) -> dict[str, list[float]]:
    """Times the variants in turns (A B C, A B C, ...). Returns, for each, nanoseconds per call of every round."""
    with no_garbage_collection():
        turns = {name: _calibrate(runner, effort.turn_ns, clock) for name, runner in variants.items()}
        available = effort.seconds * 1e9 * len(variants)
        fitting = int(available / max(1.0, sum(turn.cost_ns for turn in turns.values())))
        rounds: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(min(max(fitting, effort.min_rounds), effort.max_rounds)):
            for name, turn in turns.items():
                rounds[name].append(_take(variants[name], turn, clock))
    return rounds


@dataclass(frozen=True)
class _Turn:
    warm_up: int
    count: int
    cost_ns: float


def _calibrate(runner: Runner, turn_ns: int, clock: Clock) -> _Turn:
    runner.call(*next(runner.inputs))  # the first call may set things up
    count = 1
    # The better of two tries, lest one interruption make a quick call look slow.
    while (elapsed := min(_elapsed(runner, count, clock), _elapsed(runner, count, clock))) < turn_ns:
        count *= 2
    call_ns = elapsed / count
    warm_up = min(max(WARM_UP_CALLS, ceil(WARM_UP_LEAST_NS / call_ns)), ceil(WARM_UP_MOST_NS / call_ns))
    return _Turn(warm_up, count, call_ns * (warm_up + count))


def _take(runner: Runner, turn: _Turn, clock: Clock) -> float:
    for args in islice(runner.inputs, turn.warm_up):
        runner.call(*args)
    return _elapsed(runner, turn.count, clock) / turn.count


def _elapsed(runner: Runner, count: int, clock: Clock) -> int:
    call = runner.call
    inputs = islice(runner.inputs, count)
    begin = clock()
    for args in inputs:
        call(*args)
    return clock() - begin


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """What garbage there is waits until the times are taken."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
