"""How many times as fast a step of a pruned LSTM is as of the same that is not pruned, by density, type and tier."""

from __future__ import annotations

import argparse
import time

import numpy as np

import fusedcell as fc

DENSITIES = (0.45, 0.3, 0.2, 0.1, 0.05)
ROUND_NS = 300_000


def weights(hidden: int, density: float, group: int) -> dict[str, np.ndarray]:
    """Matrices of which so many blocks of 16 units x `group` inputs are not zero, drawn at random."""
    rng = np.random.default_rng(hidden)
    matrices = {}
    for name in ("ih", "hh"):
        matrix = rng.standard_normal((4 * hidden, hidden)).astype(np.float32) / np.float32(hidden**0.5)
        kept = rng.random((-(-4 * hidden // 16), -(-hidden // group))) < density
        wide = kept.repeat(16, axis=0)[: 4 * hidden].repeat(group, axis=1)[:, :hidden]
        matrices[f"weight_{name}_l0"] = np.where(wide, matrix, np.float32(0))
    return matrices


def nanoseconds(stream: fc.Stream, x: np.ndarray, y: np.ndarray, steps: int) -> float:
    begin = time.perf_counter_ns()
    for _ in range(steps):
        stream.step(x, y)
    return (time.perf_counter_ns() - begin) / steps


def ratios(hidden: int, density: float, dtype: str, isa: str, rows: int, rounds: int) -> np.ndarray | None:
    """The two layers in turns in one process, a ratio a round; None where the second is dense, too."""
    group = 4 if dtype == "int8" else 1
    layers = [fc.LSTM.from_state_dict(weights(hidden, part, group), dtype=dtype, isa=isa) for part in (1.0, density)]
    if max(layers[1].densities.values()) == 1:
        return None
    streams = [layer.stream(rows) for layer in layers]
    x = np.random.default_rng(1).standard_normal((rows, hidden)).astype(np.float32)
    x = x[0] if rows == 1 else x
    y = np.empty_like(x)
    steps = max(3, int(ROUND_NS / nanoseconds(streams[0], x, y, 10)))
    times = np.array([[nanoseconds(stream, x, y, steps) for stream in streams] for _ in range(rounds)])
    return times[:, 0] / times[:, 1]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512])
parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES)
parser.add_argument("--isas", nargs="+", default=fc.isas())
parser.add_argument("--rows", type=int, default=1, help="sequences side by side (1)")
parser.add_argument("--rounds", type=int, default=41)
args = parser.parse_args()
for isa in args.isas:
    for dtype in ("float32", "int8"):
        for hidden in args.sizes:
            for density in args.densities:
                found = ratios(hidden, density, dtype, isa, args.rows, args.rounds)
                label = f"{isa:10} {dtype:8} H = {hidden:4} {density:4.0%}"
                if found is None:
                    print(f"{label}: dense")
                    continue
                low, median, high = np.percentile(found, [10, 50, 90])
                print(f"{label}: {median:.2f} ({low:.2f}..{high:.2f})", flush=True)
