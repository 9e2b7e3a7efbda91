"""step_many: one step of many streams in one call, with the bits of each stream alone."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from fusedcell._dtypes import DTYPES
from models import EVERY_KIND, KIND, Kind, flat, random_state, uniform

pytestmark = pytest.mark.core

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)

BATCHES = (1, 3, 1, 1, 2, 1)


def state_of(stream: fc.Stream) -> list[np.ndarray]:
    return [part.copy() for part in flat((stream.state,))]


def assert_same_states(streams: Sequence[fc.Stream], expected: Sequence[Sequence[np.ndarray]]) -> None:
    for stream, parts in zip(streams, expected, strict=True):
        for actual, part in zip(state_of(stream), parts, strict=True):
            np.testing.assert_array_equal(actual, part)


def alone(streams: Sequence[fc.Stream], X: np.ndarray) -> np.ndarray:
    """Each stream steps by itself."""
    outputs, row = [], 0
    for stream in streams:
        x = X[row : row + stream.batch_size]
        outputs.append(np.atleast_2d(stream.step(x[0] if stream.batch_size == 1 else x)))
        row += stream.batch_size
    return np.concatenate(outputs)


def several(layer: Any, batches: Sequence[int] = BATCHES) -> list[fc.Stream]:
    """Streams of these batch sizes, each at another point of another sequence."""
    streams = [layer.stream(batch) for batch in batches]
    for seed, stream in enumerate(streams):
        stream.process(uniform(seed, seed % 3 + 1, stream.batch_size, layer.input_size))
    return streams


def small_layer() -> Any:
    return KIND["lstm"].make(KIND["lstm"].weights(6, 9, layers=2))


def assert_bits_of_each_alone(layer: Any, batches: Sequence[int], *, steps: int = 3, **options: Any) -> None:
    streams = several(layer, batches)
    others = [stream.copy() for stream in streams]
    for step in range(steps):
        X = uniform(100 + step, sum(batches), layer.input_size)
        np.testing.assert_array_equal(layer.step_many(streams, X, **options), alone(others, X))
        assert_same_states(streams, [state_of(other) for other in others])


@every_kind
@every_dtype
def test_every_stream_has_the_bits_of_a_step_of_its_own(kind: Kind, dtype: str, isa: str) -> None:
    layer = kind.make(kind.weights(6, 21, layers=2), isa=isa).astype(dtype)
    assert_bits_of_each_alone(layer, BATCHES)


@pytest.mark.any_cpu
@every_kind
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_weights_beyond_the_caches_give_the_same_bits(kind: Kind, dtype: str) -> None:
    layer = kind.make(kind.weights(130, 129)).astype(dtype)
    assert_bits_of_each_alone(layer, (1,) * 9, steps=2)


@pytest.mark.parametrize("rows", [127, 128, 129, 300])
def test_more_rows_than_one_pass_takes(rows: int) -> None:
    assert_bits_of_each_alone(small_layer(), (1,) * (rows - 60) + (60,))


@pytest.mark.any_cpu
@pytest.mark.parametrize("name", ["lstm", "lstm_projected", "gru_reset_before"])
def test_threads_change_no_bit(name: str) -> None:
    kind = KIND[name]
    assert_bits_of_each_alone(kind.make(kind.weights(96, 160, layers=2)), (1,) * 40, num_threads=4)


@settings(max_examples=examples(60))
@given(data=st.data())
def test_any_selection_in_any_order_leaves_the_other_streams_alone(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(EVERY_KIND))
    layers, hidden = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40))
    layer = kind.make(kind.weights(5, hidden, layers=layers)).astype(data.draw(st.sampled_from(DTYPES)))
    streams = several(layer, data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=12)))
    others = [stream.copy() for stream in streams]
    for seed in range(data.draw(st.integers(1, 4))):
        chosen = data.draw(st.lists(st.integers(0, len(streams) - 1), unique=True))
        X = uniform(seed, max(1, sum(streams[i].batch_size for i in chosen)), 5)[: None if chosen else 0]
        y = layer.step_many([streams[i] for i in chosen], X)
        expected = alone([others[i] for i in chosen], X) if chosen else np.empty((0, streams[0].output_size))
        np.testing.assert_array_equal(y, expected)
        assert_same_states(streams, [state_of(other) for other in others])


@every_kind
def test_the_reference_agrees(kind: Kind) -> None:
    mapping = kind.weights(6, 17, layers=2)
    layer = kind.make(mapping)
    streams = [layer.stream(batch) for batch in (2, 1, 3)]
    x = uniform(1, 5, 6, 6)
    expected = flat(kind.expected(x, mapping))[0]
    for step in range(5):
        np.testing.assert_allclose(layer.step_many(streams, x[step]), expected[step], atol=2e-6)


def test_streams_come_in_any_iterable() -> None:
    layer = small_layer()
    streams = several(layer)
    X = uniform(1, sum(BATCHES), 6)
    expected = alone([stream.copy() for stream in streams], X)
    for given_as in (list, tuple, iter, lambda items: (item for item in items)):
        np.testing.assert_array_equal(layer.step_many(given_as([s.copy() for s in streams]), X), expected)


def test_no_stream_is_no_row() -> None:
    assert small_layer().step_many([], np.empty((0, 6), np.float32)).shape == (0, 9)


@pytest.mark.parametrize(
    "view",
    [lambda x: x.tolist(), lambda x: x.astype(np.float64), lambda x: np.asfortranarray(x), lambda x: x[::-1][::-1]],
)
def test_x_is_what_numpy_can_view(view: Callable[[np.ndarray], Any]) -> None:
    layer = small_layer()
    streams = several(layer)
    X = uniform(1, sum(BATCHES), 6)
    expected = alone([stream.copy() for stream in streams], X)
    np.testing.assert_array_equal(layer.step_many(streams, view(X)), expected)


def test_out_is_written_and_returned() -> None:
    layer = small_layer()
    streams = several(layer)
    X, out = uniform(1, sum(BATCHES), 6), np.full((sum(BATCHES), 9), np.nan, np.float32)
    expected = alone([stream.copy() for stream in streams], X)
    assert layer.step_many(streams, X, out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.any_cpu
@pytest.mark.parametrize("rows", [8, 300])  # one pass, and several
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_out_may_be_x_or_overlap_it(rows: int, shift: int) -> None:
    kind = KIND["lstm"]
    size = 129  # of which there are weights enough to take W and R together
    layer = kind.make(kind.weights(size, size))
    streams = [layer.stream() for _ in range(rows)]
    memory = np.zeros((rows + 2, size), np.float32)
    X, out = memory[1 : 1 + rows], memory[1 + shift :][:rows]
    X[:] = uniform(1, rows, size)
    expected = alone([stream.copy() for stream in streams], X.copy())
    layer.step_many(streams, X, out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("part", [0, 1])
def test_x_may_be_a_state(part: int) -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(129, 129))
    streams = several(layer, (4, 1, 1, 1))
    others = [stream.copy() for stream in streams]
    X = streams[0].state[part][0]
    expected = alone([others[i] for i in (0,)], X.copy())
    np.testing.assert_array_equal(layer.step_many(streams[:1], X), expected)
    assert_same_states(streams, [state_of(other) for other in others])


def test_streams_of_layers_that_share_weights_go_together() -> None:
    layer = small_layer()
    kind = KIND["lstm"]
    started = layer.with_initial_state(*random_state(kind, kind.weights(6, 9, layers=2), 1))
    streams = [layer.stream(), started.stream()]
    others = [stream.copy() for stream in streams]
    X = uniform(1, 2, 6)
    np.testing.assert_array_equal(started.step_many(streams, X), alone(others, X))


class Awkward:
    """What raises when NumPy looks at it."""

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise RuntimeError("no array today")


BAD_CALLS: dict[str, tuple[Callable[[Any, list[fc.Stream], np.ndarray], Any], type[Exception], str]] = {
    "not a sequence": (
        lambda layer, s, X: layer.step_many(s[0], X),
        TypeError,
        "streams: expected a sequence of streams, got fusedcell._core.Stream",
    ),
    "a number": (
        lambda layer, s, X: layer.step_many(3, X),
        TypeError,
        "streams: expected a sequence of streams, got int",
    ),
    "not a stream": (
        lambda layer, s, X: layer.step_many([*s[:5], "s"], X),
        TypeError,
        "streams: expected a Stream at index 5, got str",
    ),
    "none": (
        lambda layer, s, X: layer.step_many([*s[:5], None], X),
        TypeError,
        "streams: expected a Stream at index 5, got NoneType",
    ),
    "another layer's": (
        lambda layer, s, X: layer.step_many([*s[:5], small_layer().stream()], X),
        ValueError,
        "streams: expected streams of this layer, .* the one at index 5 is of another",
    ),
    "another type's": (
        lambda layer, s, X: layer.step_many([*s[:5], layer.astype("float32").stream()], X),
        ValueError,
        "index 5 is of another",
    ),
    "twice": (
        lambda layer, s, X: layer.step_many([*s[:5], s[2]], X),
        ValueError,
        "streams: expected each stream once; the one at index 2 is also at index 5",
    ),
    "too few rows": (
        lambda layer, s, X: layer.step_many(s, X[1:]),
        ValueError,
        r"x: expected shape \(9, 6\), got \(8, 6\)",
    ),
    "wrong width": (
        lambda layer, s, X: layer.step_many(s, X[:, 1:]),
        ValueError,
        r"x: expected shape \(9, 6\), got \(9, 5\)",
    ),
    "one axis": (
        lambda layer, s, X: layer.step_many(s[:1], X[0]),
        ValueError,
        r"x: expected shape \(1, 6\), got \(6,\)",
    ),
    "integers": (
        lambda layer, s, X: layer.step_many(s, X.astype(np.int64)),
        TypeError,
        "x: expected an array of floats, got dtype int64",
    ),
    "a failing array": (lambda layer, s, X: layer.step_many(s, Awkward()), TypeError, "x: expected an array of floats"),
    "out of another shape": (
        lambda layer, s, X: layer.step_many(s, X, np.empty((9, 8), np.float32)),
        ValueError,
        r"out: expected shape \(9, 9\), got \(9, 8\)",
    ),
    "out of another type": (
        lambda layer, s, X: layer.step_many(s, X, np.empty((9, 9))),
        TypeError,
        "out: expected a float32 array, got dtype float64",
    ),
    "out with gaps": (
        lambda layer, s, X: layer.step_many(s, X, np.empty((9, 18), np.float32)[:, ::2]),
        ValueError,
        "out: expected a writeable, aligned, C-contiguous array",
    ),
    "out no array": (
        lambda layer, s, X: layer.step_many(s, X, [0.0]),
        TypeError,
        "out: expected a float32 array, got list",
    ),
    "out a state": (
        lambda layer, s, X: layer.step_many([s[4], s[1]], X[:5], np.ndarray((5, 9), np.float32, s[1].state[1])),
        ValueError,
        "out: expected memory of its own, got the stream's state",
    ),
    "no threads": (
        lambda layer, s, X: layer.step_many(s, X, num_threads=0),
        ValueError,
        "num_threads: expected at least 1",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_raises_and_leaves_every_state_as_it_was(name: str) -> None:
    call, error, message = BAD_CALLS[name]
    layer = small_layer()
    streams = several(layer)
    before = [state_of(stream) for stream in streams]
    X = uniform(1, sum(BATCHES), 6)
    with pytest.raises(error, match=message):
        call(layer, streams, X)
    assert_same_states(streams, before)
    others = [stream.copy() for stream in streams]  # none of them is still in use
    np.testing.assert_array_equal(layer.step_many(streams, X), alone(others, X))


def test_a_layer_without_streams_says_so() -> None:
    kind = KIND["gru_reset_after"]
    layer = kind.make(kind.weights(6, 9, directions=2))
    with pytest.raises(fc.UnsupportedError, match="bidirectional"):
        layer.step_many([], np.empty((0, 6), np.float32))


def test_what_happens_to_the_callers_list_meanwhile_is_of_no_consequence() -> None:
    layer = small_layer()
    streams = several(layer)
    expected = alone([stream.copy() for stream in streams], uniform(1, sum(BATCHES), 6))

    class Emptying:
        def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
            streams.clear()
            gc.collect()
            return uniform(1, sum(BATCHES), 6)

    np.testing.assert_array_equal(layer.step_many(streams, Emptying()), expected)


def test_x_that_steps_the_same_streams_when_it_is_looked_at() -> None:
    layer = small_layer()
    streams = several(layer)
    others = [stream.copy() for stream in streams]
    X = uniform(1, sum(BATCHES), 6)

    class Stepping:
        def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
            layer.step_many(streams, X)
            return X

    alone(others, X)
    np.testing.assert_array_equal(layer.step_many(streams, Stepping()), alone(others, X))
    assert_same_states(streams, [state_of(other) for other in others])


def run_threads(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)


@pytest.mark.any_cpu
def test_threads_step_different_streams_of_one_layer_at_once() -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(64, 64))  # large enough that a step of 40 rows gives up the GIL
    groups = [[layer.stream() for _ in range(40)] for _ in range(4)]
    inputs = [uniform(seed, 30, 40, 64) for seed in range(4)]
    results: list[list[np.ndarray]] = [[] for _ in groups]

    def work(index: int) -> None:
        for X in inputs[index]:
            results[index].append(layer.step_many(groups[index], X))

    run_threads(work, 4)
    for result, x in zip(results, inputs, strict=True):
        np.testing.assert_array_equal(np.stack(result), layer(x)[0])


@pytest.mark.any_cpu
def test_a_stream_that_another_thread_uses_raises_and_changes_none() -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(64, 64))
    streams = [layer.stream() for _ in range(3)]
    busy, block = streams[1], uniform(8, 20_000, 64)
    errors: list[str] = []
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            try:
                busy.process(block)  # gives up the GIL, so the other thread comes while it runs
            except RuntimeError:  # the other thread has got it
                continue

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        for _ in range(100_000):
            before = [state_of(stream) for stream in (streams[0], streams[2])]
            try:
                layer.step_many(streams, uniform(1, 3, 64))
            except RuntimeError as error:
                errors.append(str(error))
                assert_same_states((streams[0], streams[2]), before)
                if len(errors) == 3:
                    break
    finally:
        stop.set()
        thread.join(timeout=120)
    assert errors
    assert errors[0] == "streams: another thread is using the one at index 1; no stream has been changed"
    assert np.isfinite(layer.step_many(streams, uniform(1, 3, 64))).all()
