"""Streams of models, one and many: what they take and give, and what their state is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from fusedcell import nodes
from models import KIND, KINDS, Kind, flat, random_state, uniform

pytestmark = pytest.mark.core

kinds = st.sampled_from(KINDS)


def detector(kind: Kind = KIND["lstm"], **options: Any) -> Any:
    """A causal convolution, a layer, and a head on both; one row in gives one row out."""
    layer = kind.make(kind.weights(6, 8))
    size = 6 + kind.weights(6, 8)["weight_hh_l0"].shape[1]
    return fc.Model(
        [
            ("conv", nodes.Window(uniform(1, 6, 9), uniform(2, 6), taps=3, padding=(2, 0), activation="tanh"), "x"),
            ("layer", layer, "conv"),
            ("head", nodes.Dense(uniform(3, 2, size), activation="sigmoid"), ("conv", "layer")),
        ],
        **options,
    )


def test_a_step_of_one_row_has_no_other_axis() -> None:
    model, x = detector(), uniform(1, 9, 3)
    stream = model.stream()
    y = np.stack([stream.step(row) for row in x])
    assert y.shape == (9, 2)
    np.testing.assert_array_equal(y, model(x))
    assert len(stream.flush()) == 0


def test_a_step_writes_where_it_is_told() -> None:
    model, x = detector(), uniform(1, 4, 5, 3)
    stream, out = model.stream(5), np.empty((5, 2), np.float32)
    expected = model(x)
    for t in range(4):
        assert stream.step(x[t], out=out) is out
        np.testing.assert_array_equal(out, expected[t])


def test_a_step_takes_a_hop_of_rows_and_gives_none_as_long_as_there_is_no_answer() -> None:
    model = fc.Model([("conv", nodes.Window(uniform(1, 4, 15), taps=5, stride=2), "x")])
    x = uniform(1, 12, 3)
    assert (model.hop, model.delay) == (2, 3)
    stream = model.stream()
    answers = [stream.step(x[t : t + 2]) for t in range(0, 12, 2)]
    assert answers[0] is answers[1] is None
    np.testing.assert_array_equal(np.stack(answers[2:]), model(x))


def test_each_output_answers_when_it_can() -> None:
    model = fc.Model(
        [("valid", nodes.Window(uniform(1, 4, 9), taps=3), "x"), ("now", nodes.Dense(uniform(1, 2, 3)), "x")],
        outputs=("valid", "now"),
    )
    x = uniform(1, 5, 3)
    stream = model.stream()
    assert stream.step(x[0])[0] is None
    rows = [stream.process(x[1:2]), stream.process(x[2:]), stream.flush()]
    assert [[len(y) for y in both] for both in rows] == [[0, 1], [3, 3], [0, 0]]
    assert model.rows(5) == (3, 5)


def test_transposed_convolutions_give_rows_in_groups() -> None:
    model = fc.Model([("up", nodes.Window.transposed(uniform(1, 3, 2, 6), stride=3), "x")])
    assert (model.hop, model.delay) == ((1, 3), 0)
    x = uniform(1, 5, 3)
    stream = model.stream()
    rows = [stream.step(row) for row in x]
    assert [y.shape for y in rows] == [(3, 2)] * 5
    np.testing.assert_array_equal(np.concatenate([*rows, stream.flush()]), model(x))


@pytest.mark.parametrize("batch", [1, 3])
def test_rows_of_a_batch_first_model_come_as_its_calls(batch: int) -> None:
    first, second = detector(batch_first=True), detector()
    x = uniform(1, 10, batch, 3)
    stream = first.stream(batch)
    y = stream.process(x.swapaxes(0, 1))
    np.testing.assert_array_equal(y.swapaxes(0, 1), second(x))
    assert stream.step(x[0] if batch > 1 else x[0, 0]).shape == ((batch, 2) if batch > 1 else (2,))


def test_the_state_may_fade_towards_the_beginning() -> None:
    for kind in KINDS:
        model, x = detector(kind), uniform(1, 12, 2, 3)
        stream, fresh = model.stream(2), model.stream(2)
        stream.process(x[:7])
        before = stream.to_bytes()
        stream.decay(1.0)
        assert stream.to_bytes() == before
        stream.decay(0.0, rows=[1])
        y, beginning = stream.process(x[7:]), fresh.process(x[7:])
        np.testing.assert_array_equal(y[:, 1], beginning[:, 1])
        np.testing.assert_array_equal(y[:, 0], model(x)[7:, 0])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_layers_start_from_a_state_that_is_given(kind: Kind, batch: int) -> None:
    """As a stream of the layer alone does; what the window keeps stays."""
    weights = kind.weights(6, 8, layers=2)
    model = fc.Model(
        [
            ("conv", nodes.Window(uniform(1, 6, 9), taps=3, padding=(2, 0)), "x"),
            ("first", KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(6, 6)), "conv"),
            ("second", kind.make(weights), "first"),
        ],
        outputs=("first", "second"),
    )
    x = uniform(2, 9, batch, 3)
    stream, plain, alone = model.stream(batch), model.stream(batch), kind.make(weights).stream(batch)
    for each in (stream, plain):
        each.process(x[:4] if batch > 1 else x[:4, 0])
    state = random_state(kind, weights, batch)
    stream.state = {"second": state}
    alone.state = state
    for got, part in zip(flat((stream.state["second"],)), flat((state,)), strict=True):
        np.testing.assert_array_equal(got, part)
    np.testing.assert_array_equal(stream.state["first"], plain.state["first"])
    rest = x[4:] if batch > 1 else x[4:, 0]
    (first, second), (expected, _) = stream.process(rest), plain.process(rest)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, alone.process(first))
    for got, part in zip(flat((stream.state["second"],)), flat((alone.state,)), strict=True):
        np.testing.assert_array_equal(got, part)
    stream.state["first"][:] = np.nan
    assert stream.is_finite() is True if batch == 1 else stream.is_finite().all()


def test_a_state_of_one_row_may_lack_its_batch_axis() -> None:
    model, other = detector().stream(), detector().stream()
    h, c = uniform(1, 1, 8), uniform(2, 1, 8).astype(np.float64)
    model.state = {"layer": (h, c)}
    other.state = {"layer": (h[:, None], c[:, None])}
    assert model.to_bytes() == other.to_bytes()


H = np.ones((1, 2, 8), np.float32)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (H, TypeError, "state: expected a mapping of layers' names to states, got ndarray"),
        ({"conv": H}, ValueError, "state: 'conv' is no layer of this model; its layers: 'layer'"),
        ({3: H}, ValueError, "state: 3 is no layer of this model"),
        ({"layer": H}, TypeError, r"state of 'layer': expected a pair \(h, c\), got ndarray"),
        ({"layer": (H, H, H)}, TypeError, r"state of 'layer': expected a pair \(h, c\), got tuple"),
        ({"layer": (H, H[:, :1])}, ValueError, r"state c of 'layer': expected shape \(1, 2, 8\), got \(1, 1, 8\)"),
        ({"layer": (H[0], H)}, ValueError, r"state h of 'layer': expected shape \(1, 2, 8\), got \(2, 8\)"),
        ({"layer": (H, None)}, TypeError, "state c of 'layer': expected an array of floats, got dtype object"),
        ({"layer": ([[1.0], [1.0, 2.0]], H)}, TypeError, "state h of 'layer': expected an array of floats, got list"),
        ({"layer": (H.astype(int), H)}, TypeError, "state h of 'layer': expected an array of floats, got dtype int64"),
    ],
)
def test_a_state_that_cannot_be_is_refused_by_name(state: Any, error: type[Exception], message: str) -> None:
    stream = detector().stream(2)
    stream.process(uniform(1, 4, 2, 3))
    before = stream.to_bytes()
    with pytest.raises(error, match=f"^{message}"):
        stream.state = state
    assert stream.to_bytes() == before
    stream.flush()
    with pytest.raises(ValueError, match="stream: its rows have ended"):
        stream.state = {"layer": (H, H)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_search_may_branch_and_drop_rows(kind: Kind) -> None:
    """Each row has, at the end, the answers of the rows that it went on from, wherever these were in their sequence."""
    model = fc.Model(
        [
            ("conv", nodes.Window(uniform(1, 6, 9), uniform(2, 6), taps=3, padding=(1, 1)), "x"),
            ("layer", kind.make(kind.weights(6, 8)), "conv"),
            ("pool", nodes.MaxPool(2), "layer"),
        ]
    )
    rng, rows = np.random.default_rng(1), 4
    stream = model.stream(rows)
    seen, said = [np.empty((0, 3), np.float32)] * rows, [np.empty((0, model.sizes["pool"]), np.float32)] * rows
    for step in range(20):
        if step == 7:
            stream.reset([1])
            seen[1], said[1] = seen[1][:0], said[1][:0]
        order = rng.integers(0, rows, rows)
        stream.reorder(order)
        x = uniform(step + 1, int(rng.integers(1, 4)), rows, 3)
        y = stream.process(x)
        seen = [np.concatenate((seen[old], x[:, row])) for row, old in enumerate(order)]
        said = [np.concatenate((said[old], y[:, row])) for row, old in enumerate(order)]
    for row in range(rows):
        np.testing.assert_array_equal(said[row][~np.isnan(said[row][:, 0])], model.stream().process(seen[row]))
    stream.flush()
    with pytest.raises(ValueError, match="stream: its rows have ended"):
        stream.reorder(range(rows))


def test_the_norm_is_of_the_layers_states() -> None:
    for kind in KINDS:
        model, layer = detector(kind), kind.make(kind.weights(6, 8))
        x = uniform(1, 9, 2, 3)
        conv = fc.Model(
            [("conv", nodes.Window(uniform(1, 6, 9), uniform(2, 6), taps=3, padding=(2, 0), activation="tanh"), "x")]
        )
        stream, alone = model.stream(2), layer.stream(2)
        stream.process(x)
        alone.process(conv(x))
        np.testing.assert_allclose(stream.norm(), alone.norm(), rtol=1e-6)


def test_whether_a_state_is_finite() -> None:
    model, x = detector(), uniform(1, 9, 2, 3)
    x[3, 1, 0] = np.nan
    stream = model.stream(2)
    assert stream.is_finite().tolist() == [True, True]
    stream.process(x)
    assert stream.is_finite().tolist() == [True, False]
    stream.reset([1])
    assert stream.is_finite().tolist() == [True, True]


@settings(max_examples=examples(60))
@given(kind=kinds, seed=st.integers(1, 9), data=st.data())
def test_many_streams_step_as_each_would(kind: Kind, seed: int, data: st.DataObject) -> None:
    model = detector(kind)
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    streams, singles = [model.stream(n) for n in sizes], [model.stream(n) for n in sizes]
    for step in range(data.draw(st.integers(1, 8))):
        chosen = data.draw(st.lists(st.integers(0, len(sizes) - 1), unique=True, min_size=1))
        rows = [uniform(seed * 100 + step * 10 + i, sizes[i], 3) for i in chosen]
        y = model.step_many([streams[i] for i in chosen], np.concatenate(rows))
        alone = [singles[i].step(x if sizes[i] > 1 else x[0]) for i, x in zip(chosen, rows, strict=True)]
        np.testing.assert_array_equal(y, np.concatenate([y.reshape(-1, 2) for y in alone]))
    assert [stream.to_bytes() for stream in streams] == [single.to_bytes() for single in singles]


@settings(max_examples=examples(60))
@given(kind=kinds, capacity=st.integers(1, 6), seed=st.integers(1, 9), data=st.data())
def test_slots_of_a_pool_step_as_streams(kind: Kind, capacity: int, seed: int, data: st.DataObject) -> None:
    model = detector(kind)
    pool = fc.StreamPool(model, capacity)
    singles: dict[int, Any] = {}
    for step in range(data.draw(st.integers(1, 12))):
        action = data.draw(st.sampled_from(["join", "step", "step", "leave", "reset"]))
        if action == "join" and len(singles) < capacity:
            singles[pool.join()] = model.stream()
        elif action == "leave" and singles:
            slot = data.draw(st.sampled_from(sorted(singles)))
            pool.leave(slot)
            del singles[slot]
        elif action == "reset" and singles:
            slot = data.draw(st.sampled_from(sorted(singles)))
            pool.reset(slot)
            singles[slot].reset()
        elif action == "step" and singles:
            chosen = data.draw(st.lists(st.sampled_from(sorted(singles)), unique=True, min_size=1))
            x = uniform(seed * 100 + step, len(chosen), 3)
            y = pool.step(chosen, x)
            np.testing.assert_array_equal(y, [singles[slot].step(row) for slot, row in zip(chosen, x, strict=True)])
    assert len(pool) == len(singles)


def test_many_streams_of_a_model_of_several_rows_a_hop() -> None:
    model = fc.Model(
        [
            ("conv", nodes.Window(uniform(1, 4, 12), taps=4, stride=2, activation="relu"), "x"),
            ("layer", KIND["lstm"].make(KIND["lstm"].weights(4, 5)), "conv"),
        ]
    )
    streams, x = [model.stream() for _ in range(3)], uniform(1, 3, 8, 3)
    answers = [model.step_many(streams, x[:, t : t + 2]) for t in range(0, 8, 2)]
    assert np.isnan(answers[0]).all()  # there is none yet
    np.testing.assert_array_equal(np.stack(answers[1:], axis=1), [model(rows) for rows in x])
