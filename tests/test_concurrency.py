"""Threads: any number share weights; one stream serves one call at a time, and a second one gets an error at once."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell._dtypes import DTYPES
from models import EVERY_KIND, KIND, Kind, flat, uniform

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
THREADS = 8


def all_at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls return, which start together, each on a thread of its own; raises what one of them raises."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as executor:
        return [job.result() for job in [executor.submit(run, call) for call in calls]]


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_streams_of_many_threads_share_weights(kind: Kind, dtype: str) -> None:
    layer = kind.make(kind.weights(24, 48, layers=2), dtype=dtype)
    inputs = [uniform(seed, 120, 24) for seed in range(THREADS)]
    expected = [layer(x)[0] for x in inputs]

    def work(x: np.ndarray) -> np.ndarray:
        stream = layer.stream()
        out = np.empty(stream.output_size, np.float32)
        held = np.empty(24, np.float32)
        bound = stream.bind(held, out)
        rows = [stream.step(row) for row in x[:40]]
        for row in x[40:60]:
            held[:] = row
            rows.append(bound().copy())
        stream = stream.copy()
        return np.concatenate([np.stack(rows), stream.process(x[60:])])

    for actual, y in zip(all_at_once(*[lambda x=x: work(x) for x in inputs]), expected, strict=True):
        np.testing.assert_array_equal(actual, y)


@every_kind
def test_one_layer_is_called_by_many_threads(kind: Kind) -> None:
    layer = kind.make(kind.weights(24, 48))
    cell = kind.make_cell(kind.weights(24, 48))
    # Short calls and long ones, so that some keep the GIL and some do not, and a thread's workspace grows and shrinks.
    inputs = [uniform(seed, 3 + 60 * (seed % 4), 1 + seed % 3, 24) for seed in range(THREADS)]
    expected = [[*flat(layer(x)), *flat((cell(x[0]),))] for x in inputs]

    def work(x: np.ndarray) -> list[list[np.ndarray]]:
        return [[*flat(layer(x, num_threads=1 + i % 2)), *flat((cell(x[0]),))] for i in range(10)]

    for results, wanted in zip(all_at_once(*[lambda x=x: work(x) for x in inputs]), expected, strict=True):
        for result in results:
            for actual, array in zip(result, wanted, strict=True):
                np.testing.assert_array_equal(actual, array)


def test_layers_are_made_converted_and_dropped_by_many_threads() -> None:
    mappings = [KIND["lstm"].weights(9, 20, seed=seed) for seed in range(THREADS)]
    x = uniform(1, 5, 9)

    def work(mapping: dict[str, np.ndarray]) -> list[bytes]:
        layer = fc.LSTM.from_state_dict(mapping)
        return [layer.astype(dtype)(x)[0].tobytes() for dtype in DTYPES * 5]

    expected = [work(mapping) for mapping in mappings]
    assert all_at_once(*[lambda mapping=mapping: work(mapping) for mapping in mappings]) == expected


def test_weights_live_as_long_as_a_stream_that_runs_on_them() -> None:
    kind = KIND["lstm"]
    layers = [kind.make(kind.weights(64, 128, seed=seed)) for seed in range(THREADS)]
    inputs = [uniform(seed, 200, 64) for seed in range(THREADS)]
    expected = [layer(x)[0] for layer, x in zip(layers, inputs, strict=True)]
    streams = [layer.stream() for layer in layers]

    def work(index: int) -> np.ndarray:
        return np.concatenate([streams[index].process(part) for part in np.split(inputs[index], 10)])

    def drop() -> None:
        layers.clear()
        gc.collect()

    results = all_at_once(drop, *[lambda i=i: work(i) for i in range(THREADS)])[1:]
    for actual, y in zip(results, expected, strict=True):
        np.testing.assert_array_equal(actual, y)


USES: dict[str, Callable[[Any, np.ndarray], Any]] = {
    "step": lambda stream, x: stream.step(x[0]),
    "step into out": lambda stream, x: stream.step(x[0], np.empty(stream.output_size, np.float32)),
    "process": lambda stream, x: stream.process(x[:2]),
    "bound step": lambda stream, x: stream.bind(x[0].copy(), np.empty(stream.output_size, np.float32))(),
    "reset": lambda stream, x: stream.reset(),
    "reset of a row": lambda stream, x: stream.reset(0),
    "state": lambda stream, x: setattr(stream, "state", stream.state),
    "copy": lambda stream, x: stream.copy(),
}


@pytest.mark.parametrize("use", USES)
def test_a_stream_in_use_refuses_a_second_caller_and_is_none_the_worse(use: str) -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(16, 256), isa="scalar")
    stream, other = layer.stream(), layer.stream()
    x = uniform(2, 600, 16)
    results: list[np.ndarray] = []
    worker = threading.Thread(target=lambda: results.append(stream.process(x)))
    worker.start()
    refused = 0
    while worker.is_alive():
        # Nothing that this does would do any harm before the call or after it.
        try:
            stream.copy()
        except RuntimeError:
            with pytest.raises(RuntimeError, match="another thread is using it"):
                USES[use](stream, x)
            refused += 1
            break
    worker.join()
    assert refused
    np.testing.assert_array_equal(results[0], other.process(x))
    np.testing.assert_array_equal(stream.step(x[0]), other.step(x[0]))


def test_a_stream_shared_by_mistake_never_holds_a_mixed_state() -> None:
    # Without recurrent weights h is a function of the last input alone, so every state that there may be is known.
    size, rows = 64, 16
    layer = fc.RNN.from_state_dict({"weight_ih_l0": np.eye(size), "weight_hh_l0": np.zeros((size, size))})
    stream = layer.stream(rows)
    blocks = [np.full((100, rows, size), level, np.float32) for level in (0.25, 0.5, 0.75)]
    outputs = [layer(block)[0] for block in blocks]
    known = {output[-1].tobytes() for output in outputs} | {bytes(4 * rows * size)}
    states = [output[-1:].copy() for output in outputs]
    done: list[int] = []
    wrong: list[str] = []

    def check(what: str, array: np.ndarray) -> None:
        if array.tobytes() not in known:
            wrong.append(what)

    def work(index: int) -> None:
        block = blocks[index % 3]
        out = np.empty((rows, size), np.float32)
        uses: list[Callable[[], object]] = [
            lambda: check("process", stream.process(block)[-1]),
            lambda: check("step", stream.step(block[0], out)),
            lambda: check("copy", stream.copy().state[0]),
            lambda: setattr(stream, "state", states[index % 3]),
            lambda: stream.reset(),
        ]
        for turn in range(200):
            try:
                uses[(turn + index) % len(uses)]()
            except RuntimeError as error:
                if "another thread is using it" not in str(error):
                    raise
            else:
                done.append(index)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        all_at_once(*[lambda i=i: work(i) for i in range(THREADS)])
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert done
    check("state", stream.state[0])
    assert not wrong


def test_streams_made_and_dropped_by_many_threads_leave_no_reference_behind() -> None:
    layer = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(8, 8))
    x = uniform(3, 8)

    def work() -> None:
        for _ in range(200):
            stream = layer.stream()
            out = np.empty(8, np.float32)
            stream.bind(x, out)()
            stream.state = stream.state

    before = sys.getrefcount(x), sys.getrefcount(layer._stack)
    all_at_once(*[work] * THREADS)
    gc.collect()
    assert (sys.getrefcount(x), sys.getrefcount(layer._stack)) == before
