"""Scores many sequences with one LSTM on the workers of a Dask cluster, to the bits of one process.

    python examples/score_sequences.py [--sequences N] [--workers N] [--kill]

Bits do not depend on the batch a sequence is in, nor on the worker or the number of threads, so a chunk that is scored
again, because its worker died with it, comes out as it was. The example fails if the scores of the cluster and of this
process differ in a bit, or if one is missing or there twice. With --kill it kills a worker when half is done.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import signal
from collections.abc import Iterator

import numpy as np
from distributed import Client, LocalCluster, as_completed
from tqdm import tqdm

import fusedcell as fc

CHUNK = 250  # sequences a task: tens of milliseconds, beside which what Dask does for a task is little
LONGEST = 100
FEATURES, UNITS = 16, 64


def make_model() -> tuple[fc.LSTM, np.ndarray]:
    """An LSTM, and the weights that make a score of its last state. They stand for a file read with `fc.load`."""
    random = np.random.default_rng(1)
    shapes = {"weight_ih_l0": (4 * UNITS, FEATURES), "weight_hh_l0": (4 * UNITS, UNITS), "bias_ih_l0": (4 * UNITS,)}
    weights = {name: random.uniform(-1, 1, shape) / np.sqrt(UNITS) for name, shape in shapes.items()}
    return fc.LSTM.from_state_dict(weights, batch_first=True), random.standard_normal(UNITS).astype(np.float32)


def read_chunk(chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (B, T, features) and their lengths (B,). It stands for reading a part of a data set where it lies."""
    random = np.random.default_rng([2, chunk])
    x = random.standard_normal((CHUNK, LONGEST, FEATURES), np.float32)
    return x, random.integers(1, LONGEST + 1, CHUNK)


def score(model: tuple[fc.LSTM, np.ndarray], chunk: int) -> tuple[int, np.ndarray]:
    """A task: the chunk's number, so that results can come in any order, and its scores (B,)."""
    lstm, readout = model
    x, lengths = read_chunk(chunk)
    _, (h, _) = lstm(x, lengths=lengths)
    # One addition after another: the order of h @ readout is a matter of the BLAS that a machine has.
    return chunk, np.cumsum(np.multiply(h[-1], readout, dtype=np.float64), axis=1)[:, -1]


def on_the_cluster(client: Client, chunks: int, *, kill: bool) -> Iterator[tuple[int, np.ndarray]]:
    """The results of all chunks as they come, with a bar that says how many are there."""
    model = make_model()
    print(f"the model goes to {len(client.nthreads())} workers once, {len(pickle.dumps(model)) / 1024:.0f} KiB each")
    scattered = client.scatter(model, broadcast=True)
    futures = client.map(score, [scattered] * chunks, range(chunks))
    finished = as_completed(futures, with_results=True)
    for done, (_, result) in enumerate(tqdm(finished, total=chunks, unit="chunk"), start=1):
        if kill and done == (chunks + 1) // 2:
            address, pid = min(client.run(os.getpid).items())
            os.kill(pid, signal.SIGKILL)
            tqdm.write(f"killed the worker {address} after {done} of {chunks} chunks")
        yield result


def digest(results: dict[int, np.ndarray]) -> str:
    """A hash of all scores in the order of the chunks."""
    joined = np.concatenate([results[chunk] for chunk in sorted(results)])
    return hashlib.sha256(joined.astype("<f8").tobytes()).hexdigest()


def main() -> None:
    """Scores everything twice, on the cluster and here, and compares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--sequences", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kill", action="store_true", help="kill a worker when half is done")
    options = parser.parse_args()
    chunks = -(-options.sequences // CHUNK)

    results: dict[int, np.ndarray] = {}
    # Processes of one thread each. Dask starts another where one dies, and gives its tasks to those that live.
    with (
        LocalCluster(n_workers=options.workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        for chunk, scores in on_the_cluster(client, chunks, kill=options.kill):
            if chunk in results:
                raise SystemExit(f"chunk {chunk} came twice")
            results[chunk] = scores
    if sorted(results) != list(range(chunks)):
        raise SystemExit(f"{chunks - len(results)} of {chunks} chunks are missing")

    model = make_model()
    alone = dict(score(model, chunk) for chunk in range(chunks))
    print(f"{options.workers} workers: {CHUNK * chunks} scores, sha256 {digest(results)}")
    print(f"this process: {CHUNK * chunks} scores, sha256 {digest(alone)}")
    if digest(results) != digest(alone):
        raise SystemExit("the scores differ")


if __name__ == "__main__":
    main()
