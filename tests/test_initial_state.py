"""A layer's initial state is what a call or a stream without a state starts from."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell._dtypes import DTYPES
from fusedcell._file_format import to_bytes
from fusedcell.layers import layer_from_bytes
from models import KIND, KINDS, Kind, flat, random_state, uniform

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


def parts(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


def repeated(state: Any, batch: int) -> Any:
    rows = tuple(np.repeat(part, batch, axis=1) for part in parts(state))
    return rows if isinstance(state, tuple) else rows[0]


def test_a_ragged_input_is_refused_as_without_an_initial_state() -> None:
    kind = KIND["lstm"]
    mapping = kind.weights(3, 5)
    layer = kind.make(mapping).with_initial_state(*random_state(kind, mapping, 1))
    with pytest.raises(TypeError, match="x: expected an array of floats"):
        layer([[0.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("batch_size", "error", "message"),
    [
        (2**31 + 1, ValueError, r"batch_size: expected at most 2\*\*31, got 2147483649"),
        (0, ValueError, "batch_size: expected at least 1, got 0"),
        (-1, ValueError, "batch_size: expected at least 1, got -1"),
        (1.5, TypeError, "batch_size: expected an integer, got float"),
        (None, TypeError, "batch_size: expected an integer, got NoneType"),
    ],
)
def test_a_batch_size_is_refused_before_a_state_of_it_is_made(
    batch_size: Any, error: type[Exception], message: str
) -> None:
    kind = KIND["lstm"]
    mapping = kind.weights(3, 500)
    layer = kind.make(mapping).with_initial_state(*random_state(kind, mapping, 1))
    with pytest.raises(error, match=message):
        layer.stream(batch_size)


@pytest.mark.core
@every_kind
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
def test_one_row_serves_every_batch(kind: Kind, directions: int, batch_first: bool) -> None:
    mapping = kind.weights(9, 17, layers=2, directions=directions)
    plain = kind.make(mapping, batch_first=batch_first)
    state = random_state(kind, mapping, 1)
    layer = plain.with_initial_state(*parts(state))
    assert plain.initial_state is None
    same((layer.initial_state,), (state,))
    x = uniform(1, 5, 3, 9)
    same(layer(x), plain(x, repeated(state, 5 if batch_first else 3)))
    same(layer(x[:, 0]), plain(x[:, 0], state))
    same(layer(x[:, 0].astype(np.float64).tolist()), plain(x[:, 0], state))
    same(
        layer(x, repeated(random_state(kind, mapping, 1, seed=3), 5 if batch_first else 3)),
        plain(x, repeated(random_state(kind, mapping, 1, seed=3), 5 if batch_first else 3)),
    )


@pytest.mark.core
@every_kind
def test_a_state_for_a_batch_is_for_that_batch_only(kind: Kind) -> None:
    mapping = kind.weights(9, 17)
    plain = kind.make(mapping)
    state = random_state(kind, mapping, 3)
    layer = plain.with_initial_state(*parts(state))
    same(layer(uniform(1, 5, 3, 9)), plain(uniform(1, 5, 3, 9), state))
    for call in (lambda: layer(uniform(1, 5, 2, 9)), lambda: layer(uniform(1, 5, 9)), lambda: layer.stream(2)):
        with pytest.raises(ValueError, match="state: the layer's initial state is for a batch of 3, not"):
            call()
    with pytest.raises(ValueError, match="x: expected shape"):
        layer(uniform(1, 9))


@pytest.mark.core
@every_kind
def test_streams_start_from_it_and_return_to_it(kind: Kind) -> None:
    mapping = kind.weights(9, 17, layers=2)
    plain = kind.make(mapping)
    state = random_state(kind, mapping, 1)
    layer = plain.with_initial_state(*parts(state))
    x = uniform(1, 4, 3, 9)
    expected = layer(x)[0]
    stream = layer.stream(3)
    same((stream.process(x),), (expected,))
    twin = stream.copy()
    for again in (stream, twin):
        again.reset()
        same((again.state,), (repeated(state, 3),))
        same((again.process(x),), (expected,))
    stream.reset([1])
    partly = stream.process(x)
    same((partly[:, 1],), (expected[:, 1],))
    assert (partly[:, [0, 2]] != expected[:, [0, 2]]).any()
    one = layer.stream()
    same((one.step(x[0, 0]),), (expected[0, 0],))


@pytest.mark.core
def test_a_stream_for_a_batch_resets_rows_to_their_own_states() -> None:
    kind = KIND["lstm"]
    mapping = kind.weights(9, 17)
    state = random_state(kind, mapping, 3)
    stream = kind.make(mapping).with_initial_state(*state).stream(3)
    stream.step(uniform(1, 3, 9))
    stream.reset(np.array([True, False, True]))
    for now, first in zip(stream.state, state, strict=True):
        np.testing.assert_array_equal(now[:, [0, 2]], first[:, [0, 2]])
        assert (now[:, 1] != first[:, 1]).all()


@every_kind
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_stays_with_copies_dtypes_pickles_and_files(kind: Kind, dtype: str, tmp_path: Path) -> None:
    mapping = kind.weights(9, 17, directions=2)
    state = random_state(kind, mapping, 1)
    layer = kind.make(mapping).with_initial_state(*parts(state)).astype(dtype)
    for clone in (copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))):
        same((clone(layer).initial_state,), (state,))
        same(clone(layer)(uniform(1, 5, 9)), layer(uniform(1, 5, 9)))
    fc.save(layer, tmp_path / "layer")
    loaded = fc.load(tmp_path / "layer")
    same((loaded.initial_state,), (state,))
    for array in flat((loaded.initial_state,)):
        assert not array.flags.writeable


@pytest.mark.core
def test_it_cannot_be_written_to_and_is_a_copy() -> None:
    state = np.ones((1, 1, 17), np.float32)
    kind = KIND["gru_reset_after"]
    layer = kind.make(kind.weights(9, 17)).with_initial_state(state)
    state[...] = 2
    assert (layer.initial_state == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        layer.initial_state[...] = 2


@pytest.mark.core
@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ((np.ones((1, 1, 17)),), TypeError, "c: expected an array, got NoneType"),
        ((None, np.ones((1, 1, 17))), TypeError, "h: expected an array of floats, got dtype object"),
        (([[1.0], [2.0, 3.0]], np.ones((1, 1, 17))), TypeError, "h: expected an array of floats, got list"),
        ((np.ones((1, 1, 17)), np.ones((1, 1, 16))), ValueError, r"c: expected shape \(1, 1, 17\), got \(1, 1, 16\)"),
        ((np.ones((1, 2, 17)), np.ones((1, 1, 17))), ValueError, r"c: expected shape \(1, 2, 17\), got \(1, 1, 17\)"),
        ((np.ones((2, 1, 17)), np.ones((2, 1, 17))), ValueError, r"h: expected shape \(1, 1, 17\), got \(2, 1, 17\)"),
        ((np.ones((1, 0, 17)), np.ones((1, 0, 17))), ValueError, r"h: expected shape .* got \(1, 0, 17\)"),
        ((np.ones(17), np.ones(17)), ValueError, r"h: expected shape \(1, 1, 17\), got \(17,\)"),
        ((np.ones((1, 1, 17), int), np.ones((1, 1, 17))), TypeError, "h: expected an array of floats, got dtype int"),
    ],
)
def test_states_that_do_not_fit_are_refused(state: Any, error: type[Exception], message: str) -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(9, 17))
    with pytest.raises(error, match=message):
        layer.with_initial_state(*state)
    gru = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(9, 17))
    with pytest.raises(TypeError, match="c: expected None, got ndarray"):
        gru.with_initial_state(np.ones((1, 1, 17)), np.ones((1, 1, 17)))


def test_quantization_refuses_what_it_does_not_start_from() -> None:
    layer = KIND["rnn_tanh"].make(KIND["rnn_tanh"].weights(9, 17)).with_initial_state(np.ones((1, 1, 17)))
    with pytest.raises(fc.UnsupportedError, match="layer: a layer with an initial_state"):
        fc.quantization.compare(layer, layer.astype("int8"), uniform(1, 5, 9))


@pytest.mark.core
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"initial_h": np.ones((1, 1, 17), np.float32)}, "initial_c is missing"),
        ({"initial_c": np.ones((1, 1, 17), np.float32)}, "'initial_c' .* without 'initial_h'"),
        (
            {name: np.ones((2, 1, 17), np.float32) for name in ("initial_h", "initial_c")},
            r"initial_h: expected shape \(1, 1, 17",
        ),
        (
            {name: np.ones((1, 1, 17), np.int8) for name in ("initial_h", "initial_c")},
            "expected dtype float32, got int8",
        ),
    ],
)
def test_stored_states_that_do_not_fit_are_refused(arrays: dict[str, np.ndarray], message: str) -> None:
    description, tensors = KIND["lstm"].make(KIND["lstm"].weights(9, 17))._to_tensors()
    with pytest.raises(ValueError, match=message):
        layer_from_bytes(to_bytes(description, tensors | arrays))


@pytest.mark.core
def test_only_an_lstm_has_a_stored_cell_state() -> None:
    description, tensors = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(9, 17))._to_tensors()
    arrays = {name: np.ones((1, 1, 17), np.float32) for name in ("initial_h", "initial_c")}
    with pytest.raises(ValueError, match="initial_c: only the LSTM has a cell state"):
        layer_from_bytes(to_bytes(description, tensors | arrays))


@pytest.mark.core
def test_a_cell_has_no_initial_state() -> None:
    description, tensors = KIND["rnn_tanh"].make_cell(KIND["rnn_tanh"].weights(9, 17))._to_tensors()
    with pytest.raises(fc.UnsupportedError, match="'initial_h' is not an array of a cell"):
        layer_from_bytes(to_bytes(description, tensors | {"initial_h": np.ones((1, 1, 17), np.float32)}))
