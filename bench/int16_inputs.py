"""What a step with inputs in int16 takes over the same in int8, on each tier of this machine."""

from __future__ import annotations

import time

import numpy as np

import fusedcell as fc

SIZES = (16, 32, 64, 128, 256, 512, 1024)
ROUNDS = 101
ROUND_NS = 300_000


def ratios(hidden: int, isa: str) -> np.ndarray:
    """The two variants in turns in one process, a ratio of CPU time a round."""
    rng = np.random.default_rng(hidden)
    weights = {f"weight_{name}_l0": rng.standard_normal((4 * hidden, hidden)) / hidden**0.5 for name in ("ih", "hh")}
    layer = fc.LSTM.from_state_dict(weights, isa=isa)
    streams = [layer.astype("int8", inputs=inputs).stream() for inputs in ("int8", "int16")]
    x, y = rng.standard_normal(hidden).astype(np.float32), np.empty(hidden, np.float32)

    def nanoseconds(stream: fc.Stream, steps: int) -> float:
        begin = time.process_time_ns()
        for _ in range(steps):
            stream.step(x, y)
        return (time.process_time_ns() - begin) / steps

    steps = max(5, int(ROUND_NS / nanoseconds(streams[0], 20)))
    times = np.array([[nanoseconds(stream, steps) for stream in streams] for _ in range(ROUNDS)])
    return times[:, 1] / times[:, 0]


for isa in fc.isas():
    for hidden in SIZES:
        low, median, high = np.percentile(ratios(hidden, isa), [10, 50, 90])
        print(f"{isa:10} H = {hidden:4}: {median:.2f} ({low:.2f}..{high:.2f})", flush=True)
