"""What streams say of their state, and states that decay."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
from models import EVERY_KIND, KIND, Kind, flat, random_state, uniform

pytestmark = pytest.mark.core

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)


def state_of(stream: fc.Stream) -> list[np.ndarray]:
    return [part.copy() for part in flat((stream.state,))]


def moving_stream(kind: Kind, batch_size: int = 1, *, started: bool = False) -> tuple[fc.Stream, list[np.ndarray]]:
    """A stream after some steps, and what it started from."""
    mapping = kind.weights(6, 9, layers=2)
    layer = kind.make(mapping)
    start = [np.zeros_like(part) for part in flat((random_state(kind, mapping, batch_size),))]
    if started:
        start = flat((random_state(kind, mapping, batch_size),))
        layer = layer.with_initial_state(*start)
    stream = layer.stream(batch_size)
    stream.process(uniform(5, 3, batch_size, 6))
    return stream, start


@every_kind
def test_the_norm_is_that_of_h_and_c_of_all_layers(kind: Kind) -> None:
    stream, _ = moving_stream(kind, 3)
    rows = np.concatenate([part.swapaxes(0, 1).reshape(3, -1) for part in state_of(stream)], axis=1)
    np.testing.assert_allclose(stream.norm(), np.linalg.norm(rows.astype(np.float64), axis=1), rtol=1e-14)
    assert stream.norm().shape == (3,)
    assert stream.norm().dtype == np.float64


def test_the_norm_of_one_row_is_a_number() -> None:
    stream, _ = moving_stream(KIND["lstm"])
    assert type(stream.norm()) is float
    stream.reset()
    assert stream.norm() == 0
    stream.state[0][1, 0, :2] = 3, 4
    assert stream.norm() == 5
    stream.state[1][0, 0, 0] = 12
    assert stream.norm() == 13
    stream.state[1][0, 0, 0] = 3e38
    assert math.isfinite(stream.norm())
    stream.state[1][0, 0, 0] = np.inf
    assert stream.norm() == math.inf


@every_kind
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_found_in_its_row(kind: Kind, value: float) -> None:
    stream, _ = moving_stream(kind, 3)
    assert stream.is_finite().tolist() == [True] * 3
    for part in flat((stream.state,)):
        for layer in range(2):
            before = part[layer, 1, -1]
            part[layer, 1, -1] = value
            assert stream.is_finite().tolist() == [True, False, True]
            part[layer, 1, -1] = before
    flat((stream.state,))[0][0, 2, 0] = value
    stream.reset(~stream.is_finite())
    assert stream.is_finite().all()


def test_one_row_is_finite_or_not() -> None:
    stream, _ = moving_stream(KIND["lstm"])
    assert stream.is_finite() is True
    stream.state[1][1, 0, 3] = np.nan
    assert stream.is_finite() is False


@every_kind
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("factor", [0.0, 0.1, 0.999, 1.0, 1])
def test_decay_goes_towards_what_the_stream_started_from(kind: Kind, started: bool, factor: float) -> None:
    stream, start = moving_stream(kind, 3, started=started)
    before = state_of(stream)
    stream.decay(factor)
    for part, old, first in zip(state_of(stream), before, start, strict=True):
        expected = factor * old.astype(np.float64) + (1 - factor) * first.astype(np.float64)
        np.testing.assert_array_equal(part, expected.astype(np.float32))


@given(rows=st.lists(st.integers(-4, 3)), factor=st.floats(0, 1))
def test_only_the_given_rows_decay_and_each_once(rows: list[int], factor: float) -> None:
    stream, _ = moving_stream(KIND["lstm"], 4)
    before = state_of(stream)
    stream.decay(factor, rows)
    chosen = {row % 4 for row in rows}
    for part, old in zip(state_of(stream), before, strict=True):
        for row in range(4):
            expected = (factor * old[:, row].astype(np.float64)).astype(np.float32) if row in chosen else old[:, row]
            np.testing.assert_array_equal(part[:, row], expected)


def test_a_mask_says_which_rows_decay() -> None:
    stream, _ = moving_stream(KIND["gru_reset_after"], 3)
    before = state_of(stream)[0]
    stream.decay(0.5, stream.norm() > np.sort(stream.norm())[1])
    largest = np.linalg.norm(before.swapaxes(0, 1).reshape(3, -1), axis=1).argmax()
    for row in range(3):
        np.testing.assert_array_equal(stream.state[:, row], before[:, row] * (0.5 if row == largest else 1))


def test_a_state_that_decays_at_every_step_stays_bounded() -> None:
    layer = fc.RNN.from_state_dict(
        {"weight_ih_l0": np.ones((1, 1), np.float32), "weight_hh_l0": np.ones((1, 1), np.float32)}, nonlinearity="relu"
    )
    plain, decaying = layer.stream(), layer.stream()
    for _ in range(1000):
        plain.step([1.0])
        decaying.step([1.0])
        decaying.decay(0.5)
    assert plain.norm() == 1000
    assert 0.9 < decaying.norm() <= 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.01,), ValueError, "factor: expected a number from 0 to 1, got 1.01"),
        ((-0.1,), ValueError, "factor: expected a number from 0 to 1, got -0.1"),
        ((math.nan,), ValueError, "factor: expected a number from 0 to 1, got nan"),
        (("a",), TypeError, "factor: expected a number, got str"),
        ((None,), TypeError, "factor: expected a number, got NoneType"),
        ((0.5, 4), IndexError, "rows: expected numbers from 0 to 3, got 4"),
        ((0.5, [0, -5]), IndexError, "rows: expected numbers from 0 to 3, got -5"),
        ((0.5, [0.5]), TypeError, "rows: expected row numbers or a boolean mask, got dtype float64"),
        ((0.5, np.array([True])), ValueError, r"rows: expected shape \(4,\) for a mask, got \(1,\)"),
    ],
)
def test_decay_refuses_what_it_cannot_do(arguments: Any, error: type[Exception], message: str) -> None:
    stream, _ = moving_stream(KIND["lstm"], 4)
    before = state_of(stream)
    with pytest.raises(error, match=message):
        stream.decay(*arguments)
    for part, old in zip(state_of(stream), before, strict=True):
        np.testing.assert_array_equal(part, old)


@pytest.mark.parametrize("part", [0, 1])
def test_x_may_be_the_streams_own_state(part: int) -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(129, 129))  # of which there are weights enough to take W and R together
    stream = layer.stream()
    stream.process(uniform(1, 2, 129))
    other = stream.copy()
    expected = other.step(stream.state[part][0, 0].copy())
    np.testing.assert_array_equal(stream.step(stream.state[part][0, 0]), expected)
    np.testing.assert_array_equal(state_of(stream), state_of(other))
    with pytest.raises(ValueError, match="x: expected memory of its own, got the stream's state"):
        stream.bind(stream.state[part][0, 0], np.empty(129, np.float32))


@every_kind
def test_rows_go_on_from_those_that_are_named(kind: Kind) -> None:
    stream, start = moving_stream(kind, 4, started=True)
    before = state_of(stream)
    stream.reorder([2, 2, 0, -1])
    for part, old in zip(state_of(stream), before, strict=True):
        np.testing.assert_array_equal(part, old[:, [2, 2, 0, 3]])
    stream.reset([1])
    for part, old, begin in zip(state_of(stream), before, start, strict=True):
        np.testing.assert_array_equal(part[:, 1], begin[:, 1])
        np.testing.assert_array_equal(part[:, 0], old[:, 2])


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([0, 1, 2], ValueError, r"rows: expected shape \(4,\), a number for each row, got \(3,\)"),
        ([[0, 1, 2, 3]], ValueError, r"rows: expected shape \(4,\), a number for each row, got \(1, 4\)"),
        (0, ValueError, r"rows: expected shape \(4,\), a number for each row, got \(\)"),
        ([True, True, True, True], TypeError, "rows: expected row numbers, got dtype bool"),
        ([0, 1, 2, 4], IndexError, "rows: expected numbers from 0 to 3, got 4"),
        (np.full(4, 2**63), IndexError, "rows: expected numbers from 0 to 3, got 9223372036854775808"),
        ([0.0, 1.0, 2.0, 3.0], TypeError, "rows: expected row numbers, got dtype float64"),
        (None, TypeError, "rows: expected row numbers"),
    ],
)
def test_rows_of_reorder_that_cannot_be_are_named(rows: Any, error: type[Exception], message: str) -> None:
    stream, _ = moving_stream(KIND["lstm"], 4)
    before = state_of(stream)
    model = fc.Model([("layer", KIND["lstm"].make(KIND["lstm"].weights(6, 9)), "x")])
    other = model.stream(4)
    other.process(uniform(5, 3, 4, 6))
    kept = other.to_bytes()
    for each in (stream, other):
        with pytest.raises(error, match=f"^{message}"):
            each.reorder(rows)
    assert other.to_bytes() == kept
    for part, old in zip(state_of(stream), before, strict=True):
        np.testing.assert_array_equal(part, old)
