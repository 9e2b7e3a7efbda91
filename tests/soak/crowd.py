"""Streams that come and go, stepped together, each as if it were alone: ``python -m soak.crowd [--seconds S]``."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models import KIND, flat
from soak.memory import resident_bytes

INPUTS, UNITS = 24, 32
MOST_AT_ONCE = 1000
LONGEST = 400  # steps of one stream
TICKS = 100  # between two looks at the memory
GROWTH = 8 << 20  # bytes, of a heap in which streams of all ages lie


@dataclass(eq=False)
class Visitor:
    """A stream from its start to its end, and what it was given and answered."""

    stream: Any
    x: np.ndarray
    y: list[np.ndarray] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return len(self.y) == len(self.x)


@dataclass
class Result:
    ticks: int = 0
    streams: int = 0
    steps: int = 0
    growth: int = 0


def crowd(name: str, dtype: str, ticks: int, seconds: float = float("inf"), at_once: int = MOST_AT_ONCE) -> Result:
    """So many calls of `step_many`, or as many as there is time for, each on some of those that are there.

    Raises AssertionError if a stream's outputs or last state are not those, bit for bit, of a run of its own.
    """
    kind = KIND[name]
    layer = kind.make(kind.weights(INPUTS, UNITS, layers=2), dtype=dtype)
    random = np.random.default_rng(3)
    there: list[Visitor] = []
    result = Result()
    memory: list[int] = []
    end = time.monotonic() + seconds
    while result.ticks < ticks and time.monotonic() < end:
        joining = at_once if result.ticks == 0 else random.integers(at_once // 20 + 1)
        for _ in range(min(joining, at_once - len(there))):
            x = random.standard_normal((random.integers(1, LONGEST), INPUTS), np.float32)
            there.append(Visitor(layer.stream(), x))
        random.shuffle(there)  # NumPy shuffles lists, too
        stepped = there[: random.integers(1, len(there) + 1)] if there else []
        if stepped:
            x = np.stack([visitor.x[len(visitor.y)] for visitor in stepped])
            y = layer.step_many([visitor.stream for visitor in stepped], x)
            for visitor, row in zip(stepped, y, strict=True):
                visitor.y.append(row.copy())
        result.ticks += 1
        result.steps += len(stepped)
        leaving = [visitor for visitor in there if visitor.is_done or random.random() < 0.001]
        gone = set(leaving)
        there = [visitor for visitor in there if visitor not in gone]
        for visitor in leaving:
            check(layer, visitor)
            result.streams += 1
        if result.ticks % TICKS == 0:
            memory.append(resident_bytes())
    for visitor in there:
        check(layer, visitor)
        result.streams += 1
    if len(memory) > 8:  # the ages of those who are there have to even out first
        settled = len(memory) // 2
        result.growth = max(memory[settled:]) - max(memory[:settled])
    return result


def check(layer: Any, visitor: Visitor) -> None:
    if not visitor.y:
        return
    alone = layer.stream()
    np.testing.assert_array_equal(np.stack(visitor.y), alone.process(visitor.x[: len(visitor.y)]))
    for actual, expected in zip(flat((visitor.stream.state,)), flat((alone.state,)), strict=True):
        np.testing.assert_array_equal(actual, expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    seconds = parser.parse_args().seconds / 4
    failed = False
    for name in ("lstm", "gru_reset_after"):
        for dtype in ("float32", "int8"):
            result = crowd(name, dtype, sys.maxsize, seconds)
            print(
                f"{name}, {dtype}: {result.streams} streams, up to {MOST_AT_ONCE} at once, {result.steps} steps in "
                f"{result.ticks} calls, each bit for bit as alone; memory grew by {result.growth / 1024:.0f} KiB",
                flush=True,
            )
            if result.growth > GROWTH:
                failed = True
                print(f"{name}, {dtype}: FAILED: memory grew by {result.growth} bytes")
    sys.exit(failed)


if __name__ == "__main__":
    main()
