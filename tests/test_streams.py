"""Streams: step, process, reset, copy and state."""

from __future__ import annotations

import gc
import inspect
import threading
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from models import EVERY_KIND, KIND, Kind, flat, random_state, uniform

pytestmark = pytest.mark.core

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)


def state_of(stream: fc.Stream) -> list[np.ndarray]:
    return [part.copy() for part in flat((stream.state,))]


def lstm_stream(batch_size: int = 1, layers: int = 1) -> fc.Stream:
    return KIND["lstm"].make(KIND["lstm"].weights(6, 9, layers=layers)).stream(batch_size)


@every_kind
@pytest.mark.parametrize("batch_size", [1, 3])
def test_shapes(kind: Kind, batch_size: int) -> None:
    stream = kind.make(kind.weights(6, 9, layers=2)).stream(batch_size)
    size = 4 if kind.projected else 9
    rows = () if batch_size == 1 else (batch_size,)
    assert stream.step(np.zeros((*rows, 6), np.float32)).shape == (*rows, size)
    assert stream.process(np.zeros((5, *rows, 6), np.float32)).shape == (5, *rows, size)
    assert stream.process(np.zeros((5, batch_size, 6), np.float32)).shape == (5, batch_size, size)
    assert stream.process(np.zeros((0, batch_size, 6), np.float32)).shape == (0, batch_size, size)
    assert (stream.batch_size, stream.input_size, stream.output_size) == (batch_size, 6, size)
    shapes = [part.shape for part in flat((stream.state,))]
    assert shapes == [(2, batch_size, size), (2, batch_size, 9)][: len(shapes)]


def test_step_writes_into_out_and_returns_it() -> None:
    stream, other = lstm_stream(), lstm_stream()
    x, out = uniform(1, 6), np.full(9, np.nan, np.float32)
    assert stream.step(x, out) is out
    np.testing.assert_array_equal(out, other.step(x))
    assert stream.step(x, out=out) is out
    assert stream.step(x=x, out=None) is not out


@every_kind
@pytest.mark.parametrize("layers", [1, 2])
def test_out_may_be_the_input_or_overlap_it(kind: Kind, layers: int) -> None:
    size = 129  # of which most kinds have weights enough to take W and R together
    outputs = size // 2 if kind.projected else size
    layer = kind.make(kind.weights(size, size, layers=layers))
    expected = layer.stream().step(uniform(1, size))
    for first in (0, 1, 40):
        memory = np.zeros(3 * size, np.float32)
        x, out = memory[40 : 40 + size], memory[40 + first - 1 :][:outputs]
        x[:] = uniform(1, size)
        assert layer.stream().step(x, out) is out
        np.testing.assert_array_equal(out, expected)


@every_kind
def test_state_is_a_view_that_can_be_read_and_set(kind: Kind) -> None:
    mapping = kind.weights(6, 9, layers=2)
    stream = kind.make(mapping).stream(3)
    state = random_state(kind, mapping, 3)
    stream.state = state
    for actual, expected in zip(state_of(stream), flat((state,)), strict=True):
        np.testing.assert_array_equal(actual, expected)
    view = flat((stream.state,))[0]
    view[1, 2] = 0.25
    assert (flat((stream.state,))[0][1, 2] == 0.25).all()
    del stream
    assert (view[1, 2] == 0.25).all()


def test_a_state_of_a_layer_call_goes_on_in_a_stream() -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(6, 9, layers=2))
    x = uniform(2, 10, 6)
    y, _ = layer(x)
    stream = layer.stream()
    stream.state = layer(x[:6])[1]
    np.testing.assert_array_equal(stream.process(x[6:]), y[6:])
    rest, _ = layer(x[6:], layer(x[:6])[1])
    np.testing.assert_array_equal(rest, y[6:])


def test_processing_a_view_of_the_streams_own_state() -> None:
    kind = KIND["rnn_tanh"]
    layer = kind.make(kind.weights(9, 9, layers=3))
    stream = layer.stream()
    stream.process(uniform(3, 4, 9))
    other = stream.copy()
    expected = other.process(stream.state.copy())
    np.testing.assert_array_equal(stream.process(stream.state), expected)


@every_kind
def test_a_copy_goes_on_independently(kind: Kind) -> None:
    stream = kind.make(kind.weights(6, 9, layers=2)).stream()
    x = uniform(4, 8, 6)
    stream.process(x[:4])
    copy = stream.copy()
    expected = stream.process(x[4:])
    stream.reset()
    np.testing.assert_array_equal(copy.process(x[4:]), expected)


@pytest.mark.parametrize(
    ("rows", "cleared"),
    [
        (None, [0, 1, 2, 3]),
        (2, [2]),
        (-1, [3]),
        ([0, 3], [0, 3]),
        ([], []),
        (np.array([False, True, True, False]), [1, 2]),
        (np.array([1, 1], np.uint8), [1]),
    ],
)
def test_reset_clears_the_rows_it_is_given(rows: Any, cleared: list[int]) -> None:
    stream = lstm_stream(4, layers=2)
    stream.process(uniform(5, 3, 4, 6))
    before = state_of(stream)
    stream.reset(rows)
    for part, old in zip(state_of(stream), before, strict=True):
        for row in range(4):
            np.testing.assert_array_equal(part[:, row], 0 * old[:, row] if row in cleared else old[:, row])


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (4, IndexError, "rows: expected numbers from 0 to 3, got 4"),
        ([0, -5], IndexError, "rows: expected numbers from 0 to 3, got -5"),
        ([0.5], TypeError, "rows: expected row numbers or a boolean mask, got dtype float64"),
        (np.array([True]), ValueError, r"rows: expected shape \(4,\) for a mask, got \(1,\)"),
        ("all", TypeError, "rows: expected row numbers or a boolean mask"),
    ],
)
def test_reset_refuses_what_is_not_a_row(rows: Any, error: type[Exception], message: str) -> None:
    stream = lstm_stream(4)
    stream.process(uniform(6, 3, 4, 6))
    before = state_of(stream)
    with pytest.raises(error, match=message):
        stream.reset(rows)
    for part, old in zip(state_of(stream), before, strict=True):
        np.testing.assert_array_equal(part, old)


def test_a_bidirectional_layer_has_no_streams() -> None:
    kind = KIND["gru_reset_after"]
    with pytest.raises(fc.UnsupportedError, match="bidirectional"):
        kind.make(kind.weights(6, 9, directions=2)).stream()


@pytest.mark.parametrize(
    ("batch_size", "error"),
    [(0, ValueError), (-1, ValueError), (2**40, ValueError), (1.5, TypeError), ("2", TypeError)],
)
def test_a_batch_size_is_a_number_from_one(batch_size: Any, error: type[Exception]) -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(2, 2))
    with pytest.raises(error):
        layer.stream(batch_size)


def test_streams_keep_their_layers_weights_alive() -> None:
    stream = lstm_stream()
    expected = lstm_stream().step(uniform(7, 6))
    np.testing.assert_array_equal(stream.step(uniform(7, 6)), expected)


def test_threads_with_streams_of_their_own_share_weights() -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(64, 64))  # large enough that process gives up the GIL
    inputs = [uniform(seed, 50, 64) for seed in range(8)]
    expected = [layer(x)[0] for x in inputs]
    results: list[np.ndarray | None] = [None] * len(inputs)

    def work(index: int) -> None:
        results[index] = layer.stream().process(inputs[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, y in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, y)


@pytest.mark.any_cpu
def test_two_threads_on_one_stream_get_an_error_rather_than_a_mixed_state() -> None:
    kind = KIND["lstm"]
    stream = kind.make(kind.weights(64, 64)).stream()
    x = uniform(8, 20_000, 64)
    errors: list[str] = []
    working = threading.Event()

    def work() -> None:
        while working.is_set():
            try:
                stream.process(x)  # gives up the GIL, so the other thread comes while it runs
            except RuntimeError as error:
                errors.append(str(error))
                working.clear()

    working.set()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    working.clear()
    assert errors
    assert "another thread is using it" in errors[0]
    assert np.isfinite(stream.step(x[0])).all()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_bound_step_is_a_step_from_x_into_out(batch_size: int) -> None:
    rows = () if batch_size == 1 else (batch_size,)
    bound, plain = lstm_stream(batch_size), lstm_stream(batch_size)
    x, out = np.empty((*rows, 6), np.float32), np.empty(bound.step(np.zeros((*rows, 6), np.float32)).shape, np.float32)
    plain.step(np.zeros((*rows, 6), np.float32))
    step = bound.bind(x, out)
    for seed in range(5):
        x[:] = uniform(seed, *x.shape)
        assert step() is out
        np.testing.assert_array_equal(out, plain.step(x))
    bound.reset()
    assert step() is out
    plain.reset()
    np.testing.assert_array_equal(out, plain.step(x))


def test_a_bound_step_keeps_what_it_needs_alive() -> None:
    step = lstm_stream().bind(uniform(1, 6), np.empty_like(lstm_stream().step(uniform(1, 6))))
    gc.collect()
    np.testing.assert_array_equal(step(), lstm_stream().step(uniform(1, 6)))


def test_what_cannot_be_bound_is_refused() -> None:
    stream = lstm_stream()
    x = uniform(1, 6)
    out = np.empty_like(stream.copy().step(x))
    for bad in (x.astype(np.float64), x.tolist(), np.repeat(x, 2)[::2], None):
        with pytest.raises(TypeError, match="x: expected an aligned, C-contiguous float32 array"):
            stream.bind(bad, out)  # type: ignore[arg-type] # wrong on purpose
    with pytest.raises(ValueError, match=r"x: expected shape \(6,\), got \(7,\)"):
        stream.bind(uniform(1, 7), out)
    with pytest.raises(TypeError, match="out: expected a float32 array, got NoneType"):
        stream.bind(x, None)  # type: ignore[arg-type] # wrong on purpose
    with pytest.raises(ValueError, match="out: expected shape"):
        stream.bind(x, np.empty(len(out) + 1, np.float32))


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("step", ((), {}), r"step\(x, out=None\): x is missing"),
        ("step", ((1, 2, 3), {}), r"step\(x, out=None\): expected at most 2 arguments, got 3"),
        ("process", ((), {}), r"process\(block\): block is missing"),
        ("process", ((1, 2), {}), r"process\(block\): expected at most 1 argument, got 2"),
        ("process", ((), {"x": 1}), r"process\(block\): unexpected argument 'x'"),
        ("process", ((1,), {"block": 1}), r"process\(block\): got two values for 'block'"),
        ("bind", ((1,), {}), r"bind\(x, out\): out is missing"),
        ("reset", ((), {"row": 1}), r"reset\(rows=None\): unexpected argument 'row'"),
        ("decay", ((), {"rows": 0}), r"decay\(factor, rows=None\): factor is missing"),
        ("norm", ((1,), {}), r"norm\(\): expected no arguments, got 1"),
        ("is_finite", ((), {"rows": 1}), r"is_finite\(\): unexpected argument 'rows'"),
        ("copy", ((1,), {}), r"copy\(\): expected no arguments, got 1"),
        ("to_bytes", ((1,), {}), r"to_bytes\(\): expected no arguments, got 1"),
    ],
)
def test_a_call_that_no_method_takes_says_how_it_is_called(
    method: str, given: tuple[tuple[Any, ...], dict[str, Any]], message: str
) -> None:
    stream = lstm_stream()
    positional, named = given
    with pytest.raises(TypeError, match=f"^{message}$"):
        getattr(stream, method)(*positional, **named)


def test_every_method_says_its_signature() -> None:
    methods = {name for name in vars(fc.Stream) if callable(getattr(fc.Stream, name)) and not name.startswith("_")}
    shown = {name: str(inspect.signature(getattr(fc.Stream, name))) for name in methods}
    assert shown == {
        "bind": "(self, /, x, out)",
        "copy": "(self, /)",
        "decay": "(self, /, factor, rows=None)",
        "is_finite": "(self, /)",
        "norm": "(self, /)",
        "process": "(self, /, block)",
        "reorder": "(self, /, rows)",
        "reset": "(self, /, rows=None)",
        "step": "(self, /, x, out=None)",
        "to_bytes": "(self, /)",
    }


def test_a_bound_array_that_was_changed_in_place_is_noticed() -> None:
    stream = lstm_stream()
    x = uniform(1, 6).copy()
    out = np.empty_like(stream.copy().step(x))
    step, before = stream.bind(x, out), stream.copy()
    x.resize(3, refcheck=False)
    with pytest.raises(ValueError, match="x: no longer the array that was bound"):
        step()
    x.resize(6, refcheck=False)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out: expected a writeable"):
        step()
    x[:] = uniform(2, 6)
    np.testing.assert_array_equal(stream.step(x), before.step(x))
