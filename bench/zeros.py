"""How many times as fast a step is whose inputs are mostly zero as one of the same layer whose inputs are not."""

from __future__ import annotations

import argparse
import time

import numpy as np

import fusedcell as fc

CELLS = {"lstm": (fc.LSTM, 4), "gru": (fc.GRU, 3), "rnn": (fc.RNN, 1)}
ROWS = 8
ROUND_NS = 300_000


def layer_of(cell: str, size: int, dtype: str, isa: str) -> fc.LSTM | fc.GRU | fc.RNN:
    layer, gates = CELLS[cell]
    rng = np.random.default_rng(size)
    weights = {f"weight_{name}_l0": rng.standard_normal((gates * size, size)) / size**0.5 for name in ("ih", "hh")}
    return layer.from_state_dict(weights, dtype=dtype, isa=isa)


def rows_of(size: int, nonzeros: int) -> np.ndarray:
    """Rows of which so many features in drawn places are not zero."""
    rng = np.random.default_rng(nonzeros)
    kept = rng.random((ROWS, size)).argsort(axis=1) < nonzeros
    return np.where(kept, rng.standard_normal((ROWS, size)), 0).astype(np.float32)


def nanoseconds(stream: fc.Stream, x: np.ndarray, y: np.ndarray, rounds: int) -> float:
    begin = time.perf_counter_ns()
    for _ in range(rounds):
        for row in x:
            stream.step(row, y)
    return (time.perf_counter_ns() - begin) / rounds / len(x)


def ratios(layer: fc.LSTM | fc.GRU | fc.RNN, inputs: list[np.ndarray], rounds: int) -> np.ndarray:
    """Each of the inputs in turns in one process: the first one's times over the others', a row a round."""
    y = np.empty(layer.hidden_size, np.float32)
    streams = [layer.stream() for _ in inputs]
    steps = max(3, int(ROUND_NS / ROWS / nanoseconds(streams[0], inputs[0], y, 10)))
    times = [
        [nanoseconds(stream, x, y, steps) for stream, x in zip(streams, inputs, strict=True)] for _ in range(rounds)
    ]
    return np.array(times)[:, :1] / np.array(times)[:, 1:]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--cells", nargs="+", default=["lstm"], choices=CELLS)
parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
parser.add_argument("--densities", type=float, nargs="+", default=[0.9, 0.5, 0.25, 0.1, 0], help="0: one feature alone")
parser.add_argument("--dtypes", nargs="+", default=["float32"])
parser.add_argument("--isas", nargs="+", default=fc.isas())
parser.add_argument("--rounds", type=int, default=41)
args = parser.parse_args()
for isa in args.isas:
    for dtype in args.dtypes:
        for cell in args.cells:
            for size in args.sizes:
                inputs = [rows_of(size, max(1, round(density * size))) for density in (1, *args.densities)]
                found = np.percentile(
                    ratios(layer_of(cell, size, dtype, isa), inputs, args.rounds), [10, 50, 90], axis=0
                )
                for density, (low, median, high) in zip(args.densities, found.T, strict=True):
                    label = f"{isa:10} {dtype:8} {cell} I = H = {size:4} {density:4.0%}"
                    print(f"{label}: {median:.2f} ({low:.2f}..{high:.2f})", flush=True)
