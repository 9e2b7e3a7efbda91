"""Properties over drawn shapes and values."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import examples, note_difference
from models import EVERY_KIND, Kind, flat, random_state, uniform

pytestmark = pytest.mark.core

kinds = st.sampled_from(EVERY_KIND)
sizes = st.integers(1, 40)
UNBOUNDED = ("rnn_relu", "rnn_elu", "lstm_hard", "gru_before_leaky")
any_float32 = st.floats(width=32)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    kind: Kind = draw(kinds)
    steps, batch = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    mapping = kind.weights(
        draw(sizes),
        draw(sizes),
        layers=draw(st.integers(1, 3)),
        directions=draw(st.integers(1, 2)),
        bias=draw(st.booleans()),
        seed=draw(st.integers(1, 5)),
    )
    lengths = draw(st.none() | st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    return {
        "kind": kind,
        "mapping": mapping,
        "x": uniform(draw(st.integers(1, 99)), steps, batch, mapping["weight_ih_l0"].shape[1]),
        "state": random_state(kind, mapping, batch) if draw(st.booleans()) else None,
        "lengths": None if lengths is None else np.array(lengths, np.int64),
        "batch_first": draw(st.booleans()),
    }


@settings(max_examples=examples(60))
@given(case=cases())
def test_any_layer_agrees_with_the_reference(case: dict[str, Any]) -> None:
    kind, options = case["kind"], {"batch_first": case["batch_first"]}
    x = case["x"].swapaxes(0, 1) if case["batch_first"] else case["x"]
    actual = kind.make(case["mapping"], **options)(x, case["state"], lengths=case["lengths"])
    expected = kind.expected(x, case["mapping"], case["state"], lengths=case["lengths"], **options)
    note_difference(flat(actual), flat(expected))
    for a, e in zip(flat(actual), flat(expected), strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=0, atol=2e-6)


@settings(max_examples=examples(60))
@given(kind=kinds, hidden_size=sizes, cuts=st.lists(st.integers(0, 30), max_size=6), batch=st.integers(1, 8))
def test_any_cutting_of_a_sequence_gives_the_same_bits(
    kind: Kind, hidden_size: int, cuts: list[int], batch: int
) -> None:
    layer = kind.make(kind.weights(3, hidden_size, layers=2))
    x = uniform(1, 30, batch, 3)
    stream = layer.stream(batch)
    edges = [0, *sorted(cuts), 30]
    parts = [stream.process(x[a:b]) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), layer(x)[0])


@settings(max_examples=examples(100))
@given(kind=kinds, values=st.lists(any_float32, min_size=12, max_size=12))
def test_any_value_keeps_bounded_states_bounded_and_rows_apart(kind: Kind, values: list[float]) -> None:
    layer = kind.make(kind.weights(4, 17))
    x = np.array(values, np.float32).reshape(3, 1, 4)
    quiet = uniform(2, 3, 1, 4)
    y, _ = layer(np.concatenate([x, quiet], axis=1))
    np.testing.assert_array_equal(y[:, 1], layer(quiet[:, 0])[0])
    if not kind.projected and kind.name not in UNBOUNDED:
        assert (np.isnan(y) | (np.abs(y) <= 1)).all()
    if np.isnan(x[0]).any():
        assert np.isnan(y[0, 0]).any()
