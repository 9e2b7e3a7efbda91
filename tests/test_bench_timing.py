"""How turns, rounds and percentiles of `bench` come about, by a clock that stands still. No test asserts a time."""

from __future__ import annotations

import gc
import math
from itertools import count

import numpy as np
import pytest

from fusedcell._timing import Effort, Runner, Summary, measure, ratio, summarise
from fusedcell.bench.cases import Case
from fusedcell.bench.tails import TailEffort, asked_for, measure_tails
from fusedcell.bench.tiers import Tier


class Clock:
    """Stands still but for what the variants take, and remembers who was called with what."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[tuple[str, int]] = []

    def __call__(self) -> int:
        return self.now

    def variant(self, name: str, cost_us: int, *, interrupted_call: int = 0) -> Runner:
        """Takes so many microseconds a call, and once 100 milliseconds."""
        numbers = count(1)

        def call(x: int) -> None:
            self.calls.append((name, x))
            self.now += 100_000_000 if next(numbers) == interrupted_call else 1000 * cost_us

        return Runner(call, [(0,), (1,), (2,)], lambda _: np.zeros(0, np.float32))


def test_variants_take_turns_and_each_goes_on_where_it_was() -> None:
    clock = Clock()
    # To fill a turn of 100 us; to warm up for a millisecond, 16 calls, or no more than 20 milliseconds.
    costs_us = {"quick": 30, "slow": 250, "slower": 2000, "long": 50_000}
    timed = {"quick": 4, "slow": 1, "slower": 1, "long": 1}
    warm_up = {"quick": 34, "slow": 16, "slower": 10, "long": 1}
    variants = {name: clock.variant(name, cost) for name, cost in costs_us.items()}
    rounds = measure(variants, Effort(turn_ns=100_000, seconds=0, min_rounds=3, max_rounds=9), clock)
    assert rounds == {name: [1000.0 * cost] * 3 for name, cost in costs_us.items()}

    turns = [name for name in variants for _ in range(warm_up[name] + timed[name])] * 3
    assert [name for name, _ in clock.calls][-len(turns) :] == turns
    for name in variants:
        inputs = [x for caller, x in clock.calls if caller == name]
        assert inputs == [i % 3 for i in range(len(inputs))]


def test_one_interruption_does_not_shorten_the_turns() -> None:
    clock = Clock()
    # The first call sets things up; the second is the first to be timed.
    variant = clock.variant("a", 10, interrupted_call=2)
    rounds = measure({"a": variant}, Effort(turn_ns=1_000_000, seconds=0, min_rounds=1, max_rounds=1), clock)
    assert rounds == {"a": [10_000.0]}
    # Calibration tries 1, 2, 4 up to 128 calls, twice each; 100 calls make a millisecond to warm up.
    assert len(clock.calls) == 1 + 2 * 255 + 100 + 128


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 4), (0.028, 10), (1.0, 20)])
def test_the_number_of_rounds_follows_from_the_time_allowed(seconds: float, rounds: int) -> None:
    clock = Clock()
    # Turns of 38 * 30 and 17 * 250 us, 5390 together, while two variants are allowed twice `seconds`.
    variants = {"a": clock.variant("a", 30), "b": clock.variant("b", 250)}
    measured = measure(variants, Effort(turn_ns=100_000, seconds=seconds, min_rounds=4, max_rounds=20), clock)
    assert [len(values) for values in measured.values()] == [rounds, rounds]


def test_no_garbage_is_collected_while_timing() -> None:
    seen = []
    runner = Runner(lambda: seen.append(gc.isenabled()), [()], lambda _: np.zeros(0, np.float32))
    assert gc.isenabled()
    measure({"a": runner}, Effort(turn_ns=1, seconds=0, min_rounds=1, max_rounds=1))
    assert not any(seen)
    assert gc.isenabled()


def test_percentiles() -> None:
    assert summarise([4, 11, 2, 9, 6, 1, 8, 3, 10, 5, 7]) == Summary(min=1, p10=2, p50=6, p90=10, count=11)
    assert summarise([20, 10]) == Summary(min=10, p10=11, p50=15, p90=19, count=2)
    assert summarise([3]) == Summary(min=3, p10=3, p50=3, p90=3, count=1)


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio([10, 20, 60], [5, 5, 20]).p50 == 3  # of 2, 4 and 3; the medians' quotient would be 4
    with pytest.raises(ValueError, match="shorter"):
        ratio([1, 2], [1])


def test_steps_are_clocked_one_by_one_until_the_time_is_up() -> None:
    """The clock moves by a millisecond at each look."""
    looks = count(0, 1_000_000)
    effort = TailEffort(warm=50, cold=5, seconds=0.01, least=3)
    found = measure_tails(Case("lstm", 4, 6), Tier("scalar"), effort, lambda: next(looks))
    # Two looks a step, from one look before the first, until 10 ms have passed.
    assert found.rounds == {"warm": [[1000.0] * 6], "cold": [[1000.0] * 5]}


def test_steps_that_were_asked_for_have_no_end_in_time() -> None:
    """The clock moves by ten seconds at each look."""
    looks = count(0, 10_000_000_000)
    assert asked_for(100_000) == TailEffort(warm=100_000, cold=1000, seconds=math.inf)
    found = measure_tails(Case("lstm", 4, 6), Tier("scalar"), asked_for(300), lambda: next(looks))
    assert [len(found.rounds[name][0]) for name in ("warm", "cold")] == [300, 20]
