"""One stream for millions of steps, held against float64 at each of them: ``python -m soak.drift [--steps N]``.

NumPy cannot step a float64 reference ten million times one after another in any time worth waiting for, so the sequence
is cut into stretches that it steps along side by side. Each starts WARM_UP steps early, from zeros: a contractive
layer has forgotten by then where it came from. How well is measured, at the ends of the stretches, where two such
trajectories of different age meet, and must be far below what is looked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from models import KIND, flat
from soak.memory import resident_bytes

INPUTS, UNITS = 8, 16
STRETCH, WARM_UP = 1000, 500
SEGMENT = 200_000  # steps that are compared at a time; a multiple of STRETCH

# docs/arithmetic.md: h and c of contractive layers against float64, over 100 steps. Here over all.
BOUND = 2e-6
FORGOTTEN = 1e-10
GROWTH = 1 << 18  # bytes; of what a process does beside


@dataclass
class Result:
    steps: int = 0
    error: float = 0.0
    residue: float = 0.0  # of where a reference started
    growth: int = 0

    def failures(self) -> list[str]:
        found = []
        if not self.error <= BOUND:
            found.append(f"off by {self.error:.2e}, more than {BOUND:.0e}")
        if not self.residue <= FORGOTTEN:
            found.append(f"the reference remembers its start: {self.residue:.2e}; choose a longer WARM_UP")
        if self.growth > GROWTH:
            found.append(f"memory grew by {self.growth} bytes")
        return found


def live_input(random: np.random.Generator) -> np.ndarray:
    """A segment as a microphone or a sensor gives it: loud, quiet, silent, constant, and dying away into denormals."""
    x = random.uniform(-1, 1, (SEGMENT, INPUTS)).astype(np.float32)
    for first in range(0, SEGMENT, 2000):
        part = x[first : first + 2000]
        scene = random.integers(6)
        if scene == 0:
            part[:] = 0
        elif scene == 1:
            part *= np.float32(2.0**-130) * random.uniform(0, 8)  # denormal, and not
        elif scene == 2:
            part *= np.exp(-np.arange(len(part), dtype=np.float32) / 15)[:, None]  # to denormals, then to zeros
        elif scene == 3:
            part[:] = part[0]
        elif scene == 4:
            part *= np.float32(1e-3)
    return x


class Reference:
    """A one-layer LSTM or GRU in float64 that steps many rows at once, by PyTorch's formulas."""

    def __init__(self, name: str, mapping: dict[str, np.ndarray]) -> None:
        self.name = name
        wide = {key: value.astype(np.float64) for key, value in mapping.items()}
        self.W, self.R = wide["weight_ih_l0"].T, wide["weight_hh_l0"].T
        self.b_W, self.b_R = wide["bias_ih_l0"], wide["bias_hh_l0"]

    def start(self, rows: int) -> list[np.ndarray]:
        return [np.zeros((rows, UNITS)) for _ in range(2 if self.name == "lstm" else 1)]

    def step(self, x: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
        p, a = x @ self.W + self.b_W, state[0] @ self.R + self.b_R
        if self.name == "lstm":
            i, f, g, o = np.split(p + a, 4, axis=1)
            c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
            return [sigmoid(o) * np.tanh(c), c]
        (p_r, p_z, p_n), (a_r, a_z, a_n) = np.split(p, 3, axis=1), np.split(a, 3, axis=1)
        z = sigmoid(p_z + a_z)
        return [(1 - z) * np.tanh(p_n + sigmoid(p_r + a_r) * a_n) + z * state[0]]


def sigmoid(v: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * v)


def growth(name: str, steps: int) -> int:
    """By how many bytes the process grows in so many steps, with nothing else going on in it."""
    kind = KIND[name]
    stream: Any = kind.make(kind.weights(INPUTS, UNITS)).stream()
    x, y = live_input(np.random.default_rng(1)), np.zeros((SEGMENT, UNITS), np.float32)
    memory = []
    for _ in range(0, steps, SEGMENT):
        for row, out in zip(x, y, strict=True):
            stream.step(row, out)
        memory.append(resident_bytes())
    return max(memory) - memory[0]


def segments(name: str, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]:
    """Inputs, the stream's answers at each step, and its last state, segment by segment."""
    kind = KIND[name]
    stream: Any = kind.make(kind.weights(INPUTS, UNITS)).stream()
    random = np.random.default_rng(2)
    y = np.empty((SEGMENT, UNITS), np.float32)
    for _ in range(0, steps, SEGMENT):
        x = live_input(random)
        for row, out in zip(x, y, strict=True):
            stream.step(row, out)
        yield x, y, flat((stream.state,))


def drift(name: str, steps: int) -> Result:
    kind = KIND[name]
    reference = Reference(name, kind.weights(INPUTS, UNITS))
    result = Result(growth=growth(name, steps))
    before = np.zeros((WARM_UP, INPUTS), np.float32)
    for x, y, last in segments(name, steps):
        whole = np.concatenate([before, x])
        rows = SEGMENT // STRETCH
        # Row r of the reference runs from WARM_UP steps before step r * STRETCH on.
        windows = np.stack([whole[r * STRETCH : (r + 1) * STRETCH + WARM_UP] for r in range(rows)], axis=1)
        state = reference.start(rows)
        met: list[np.ndarray] = []
        for t, row in enumerate(windows):
            if t == WARM_UP and result.steps == 0:
                for part in state:  # the stream's own start, before which there was nothing
                    part[0] = 0
            state = reference.step(row.astype(np.float64), state)
            if t == WARM_UP - 1:
                met = state
            if t >= WARM_UP:
                result.error = max(result.error, np.abs(y[t - WARM_UP :: STRETCH] - state[0]).max())
        for at_end, at_start in zip(state, met, strict=True):  # of one stretch, and of the next
            result.residue = max(result.residue, np.abs(at_end[:-1] - at_start[1:]).max())
        for actual, expected in zip(last, state, strict=True):
            result.error = max(result.error, np.abs(actual.reshape(-1) - expected[-1]).max())
        before = x[-WARM_UP:]
        result.steps += SEGMENT
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=10_000_000)
    steps = parser.parse_args().steps
    failed = False
    for name in ("lstm", "gru_reset_after"):
        result = drift(name, steps)
        print(
            f"{name}: {result.steps} steps, off by at most {result.error:.2e} (bound {BOUND:.0e}), the reference's "
            f"start being worth {result.residue:.1e}; memory grew by {result.growth / 1024:.0f} KiB",
            flush=True,
        )
        for failure in result.failures():
            failed = True
            print(f"{name}: FAILED: {failure}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
