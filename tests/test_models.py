"""Drawn models agree with the specification, and have the same bits however their rows come."""

from __future__ import annotations

import copy
import itertools
import pickle
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from drawn_models import blocks, drawn_models
from fusedcell import nodes, reference
from fusedcell._dtypes import DTYPES, QUANTISED
from fusedcell.layers import Layer
from fusedcell.nodes import Inside
from fusedcell.reference import ModelNode
from model_entries import DrawnModel, Entry

pytestmark = pytest.mark.core

TOLERANCE = 2e-6
lengths_of_sequences = st.integers(0, 40)
dtypes = st.sampled_from(["float32", *DTYPES])
seeds = st.integers(1, 99)


def listed(answer: Any) -> list[np.ndarray]:
    return list(answer) if isinstance(answer, tuple) else [answer]


def whole(model: Any, inputs: Sequence[np.ndarray], **options: Any) -> list[np.ndarray]:
    return listed(model(*inputs, **options))


def assert_bits(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype == np.float32
        assert a.shape == e.shape
        a, e = (np.where(np.isnan(y), np.float32(np.nan), y) for y in (a, e))
        np.testing.assert_array_equal(np.ascontiguousarray(a).view(np.uint32), np.ascontiguousarray(e).view(np.uint32))


def joined(parts: Iterable[Any], drawn: DrawnModel, *batch: int) -> list[np.ndarray]:
    """What pieces of the rows gave, one after another, for each output; None is no row."""
    rows: list[list[np.ndarray]] = [
        [np.empty((0, *batch, drawn.values[name].size), np.float32)] for name in drawn.outputs
    ]
    for part in parts:
        for found, y in zip(rows, listed(part) if part is not None else [], strict=part is not None):
            if y is not None:
                found.append(np.reshape(y, (-1, *found[0].shape[1:])))
    return [np.concatenate(found) for found in rows]


def answers(rows: Sequence[np.ndarray], drawn: DrawnModel) -> list[np.ndarray]:
    """What the whole sequence's answer is, given all rows of a stream: of what is pooled the last one."""
    return [y[-1] if drawn.values[name].pooled else y for name, y in zip(drawn.outputs, rows, strict=True)]


def has_answers(drawn: DrawnModel, steps: int) -> bool:
    """Whether what is pooled has anything to be made of."""
    return all(drawn.rows(name, steps) > 0 for name in drawn.outputs if drawn.values[name].pooled)


def cut(inputs: Sequence[np.ndarray], begin: int, end: int) -> list[np.ndarray]:
    return [x[begin:end] for x in inputs]


def in_hops(stream: Any, inputs: Sequence[np.ndarray], hop: int, begin: int, end: int) -> list[Any]:
    """Steps of so many rows as there are whole ones."""
    found = []
    for first in range(begin, end - hop + 1, hop):
        rows = cut(inputs, first, first + hop)
        found.append(stream.step(*(x[0] for x in rows) if hop == 1 else rows))
    return found


def rounded(entry: Entry, dtype: str) -> Entry | None:
    """The entry with its matrices as they are in this type; None of what the specification does not have so."""
    description = []
    for node in entry.description:
        arguments: dict[str, Any] = dict(node.arguments)
        if (dtype in QUANTISED and node.kind == "transposed") or (dtype != "float32" and node.kind == "layer"):
            return None
        if dtype in QUANTISED and node.kind == "window":
            arguments["int8"] = "int16" if dtype == "int8_int16" else True
        elif dtype in QUANTISED and node.kind == "embedding":
            q, scale = reference.quantise_weights(arguments["table"])
            arguments["table"] = q * scale[:, None]
        elif dtype not in QUANTISED and node.kind in ("window", "transposed", "embedding"):
            key = "table" if node.kind == "embedding" else "weight"
            arguments[key] = arguments[key].astype(dtype)
        description.append(ModelNode(node.name, node.kind, node.sources, arguments))
    return Entry(entry.name, entry.node, entry.sources, tuple(description))


def error_scale(entry: Entry, read: Sequence[np.ndarray], expected: np.ndarray) -> float:
    """How large the numbers are that an entry's result is made of."""
    largest = max([1.0, *(float(np.abs(x).max(initial=0)) for x in read), float(np.abs(expected).max(initial=0))])
    kind = entry.description[-1].kind
    if kind == "sum":
        return largest * max(1, len(read[0]))
    if kind == "layer_norm":  # rows of nearly equal values, which it makes as large as any others
        parts = np.concatenate(read, axis=1).astype(np.float64)
        parts = parts.reshape(len(parts), entry.description[-1].arguments["parts"], -1) if parts.size else parts
        spread = np.sqrt(parts.var(axis=-1) + entry.description[-1].arguments["eps"])
        return largest / min(1.0, float(spread.min(initial=1)))
    return largest


@pytest.mark.any_cpu
@settings(max_examples=examples(60))
@given(
    drawn=drawn_models(),
    steps=lengths_of_sequences,
    dtype=st.sampled_from(["float32", "float16", *QUANTISED]),
    seed=seeds,
)
def test_every_node_is_within_2e6th_of_the_specification(drawn: DrawnModel, steps: int, dtype: str, seed: int) -> None:
    inputs = drawn.draw_inputs(steps, seed=seed)
    names = [entry.name for entry in drawn.entries]
    model = drawn.with_outputs(names).astype(dtype)
    values = {value.name: x for value, x in zip(drawn.inputs, inputs, strict=True)}
    for entry, y in zip(drawn.entries, whole(model, inputs), strict=True):
        known = drawn.values[entry.name]
        if known.pooled and not drawn.rows(entry.name, steps):
            return
        values[entry.name] = y[None] if known.pooled else y
        assert values[entry.name].shape == (drawn.rows(entry.name, steps), known.size)
        read = [values[name] for name in entry.sources]
        if isinstance(entry.node, Layer):
            layer: Any = entry.node.astype(dtype)
            assert_bits([values[entry.name]], [layer(np.concatenate(read, axis=1))[0]])
        elif isinstance(entry.node, Inside):
            layer, rows = entry.node.layer.astype(dtype), np.concatenate(read, axis=1)
            along = rows.reshape(len(rows), entry.node.positions, layer.input_size).swapaxes(0, 1)
            assert_bits([values[entry.name]], [layer(along)[0].swapaxes(0, 1).reshape(len(rows), known.size)])
        if not isinstance(entry.node, Layer) and (specified := rounded(entry, dtype)):
            expected = specified.expected(values)
            tolerance = TOLERANCE * error_scale(specified, read, expected)
            np.testing.assert_allclose(values[entry.name], expected, rtol=0, atol=tolerance, err_msg=entry.name)


@settings(max_examples=examples(60))
@given(drawn=drawn_models(has_streams=True), dtype=dtypes, seed=seeds, unusual=st.booleans(), data=st.data())
def test_any_cut_of_a_sequence_has_the_bits_of_the_whole(
    drawn: DrawnModel, dtype: str, seed: int, unusual: bool, data: st.DataObject
) -> None:
    steps, batch = data.draw(lengths_of_sequences), data.draw(st.integers(1, 3))
    model, inputs = drawn.build().astype(dtype), drawn.draw_inputs(steps, batch, seed=seed, unusual=unusual)
    stream = model.stream(batch)
    parts = [stream.process(*cut(inputs, *edges)) for edges in data.draw(blocks(steps))]
    rows = joined([*parts, stream.flush()], drawn, batch)
    if has_answers(drawn, steps):
        assert_bits(answers(rows, drawn), whole(model, inputs))


@settings(max_examples=examples(40))
@given(drawn=drawn_models(has_streams=True), steps=lengths_of_sequences, seed=seeds)
def test_steps_and_a_block_have_the_bits_of_the_whole(drawn: DrawnModel, steps: int, seed: int) -> None:
    model, inputs = drawn.build(), drawn.draw_inputs(steps, seed=seed)
    stream = model.stream()
    hop = model.hop[0] if isinstance(model.hop, tuple) else model.hop
    parts = in_hops(stream, inputs, hop, 0, steps)
    parts += [stream.process(*cut(inputs, len(parts) * hop, steps)), stream.flush()]
    if has_answers(drawn, steps):
        assert_bits(answers(joined(parts, drawn), drawn), whole(model, inputs))


@settings(max_examples=examples(40))
@given(drawn=drawn_models(), dtype=dtypes, seed=seeds, unusual=st.booleans(), data=st.data())
def test_sequences_of_a_batch_have_the_bits_of_each_alone(
    drawn: DrawnModel, dtype: str, seed: int, unusual: bool, data: st.DataObject
) -> None:
    steps, batch = data.draw(lengths_of_sequences), data.draw(st.integers(1, 5))
    lengths = data.draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    model, inputs = drawn.build().astype(dtype), drawn.draw_inputs(steps, batch, seed=seed, unusual=unusual)
    together = whole(model, inputs)
    assert_bits(whole(model, inputs, num_threads=2), together)
    uneven = whole(model, inputs, lengths=lengths)
    for row, length in enumerate(lengths):
        one = [x[:, row] for x in inputs]
        places = [(row,) if drawn.values[name].pooled else (slice(None), row) for name in drawn.outputs]
        if has_answers(drawn, steps):
            assert_bits([y[place] for y, place in zip(together, places, strict=True)], whole(model, one))
        if has_answers(drawn, length):
            for y, place, alone in zip(uneven, places, whole(model, cut(one, 0, length)), strict=True):
                if len(place) == 1:
                    assert_bits([y[place]], [alone])
                else:
                    assert_bits([y[place][: len(alone)]], [alone])
                    assert not y[place][len(alone) :].any()


@settings(max_examples=examples(30))
@given(drawn=drawn_models(), dtype=dtypes, steps=lengths_of_sequences, seed=seeds, unusual=st.booleans())
def test_every_tier_has_the_same_bits(
    isa: str, drawn: DrawnModel, dtype: str, steps: int, seed: int, unusual: bool
) -> None:
    inputs = drawn.draw_inputs(steps, 2, seed=seed, unusual=unusual)
    if has_answers(drawn, steps):
        model = drawn.build(isa=isa).astype(dtype)
        assert model.isa == isa
        assert_bits(whole(model, inputs), whole(drawn.build().astype(dtype), inputs))


@settings(max_examples=examples(30))
@given(drawn=drawn_models(), dtype=dtypes, steps=lengths_of_sequences, seed=seeds)
def test_saved_and_pickled_models_have_the_same_bits(drawn: DrawnModel, dtype: str, steps: int, seed: int) -> None:
    model, inputs = drawn.build().astype(dtype), drawn.draw_inputs(steps, 2, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        fc.save(model, Path(folder, "model"))
        loaded = fc.load(Path(folder, "model"))
    for other in (loaded, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert (other.inputs, other.outputs, other.streamable) == (model.inputs, model.outputs, model.streamable)
        if has_answers(drawn, steps):
            assert_bits(whole(other, inputs), whole(model, inputs))


@settings(max_examples=examples(40))
@given(drawn=drawn_models(has_streams=True), dtype=dtypes, seed=seeds, data=st.data())
def test_copies_of_a_stream_go_on_as_it_does(drawn: DrawnModel, dtype: str, seed: int, data: st.DataObject) -> None:
    steps = data.draw(lengths_of_sequences)
    edges = data.draw(blocks(steps))
    place = data.draw(st.integers(0, len(edges)))
    model, inputs = drawn.build().astype(dtype), drawn.draw_inputs(steps, 2, seed=seed)
    stream = model.stream(2)
    before = [stream.process(*cut(inputs, *edge)) for edge in edges[:place]]
    again = model.stream(2)
    again.process(*cut(inputs, 0, edges[place - 1][1] if place else 0))
    assert stream.to_bytes() == again.to_bytes(), "the same rows in other pieces"
    if not has_answers(drawn, steps):
        return
    expected = whole(model, inputs)
    others = [stream.copy(), model.stream_from_bytes(stream.to_bytes()), stream]
    for other in others:
        after = [other.process(*cut(inputs, *edge)) for edge in edges[place:]]
        assert_bits(answers(joined([*before, *after, other.flush()], drawn, 2), drawn), expected)


@settings(max_examples=examples(30))
@given(drawn=drawn_models(has_streams=True), seed=seeds, data=st.data())
def test_a_stream_that_is_reset_starts_anew(drawn: DrawnModel, seed: int, data: st.DataObject) -> None:
    steps, has_ended = data.draw(lengths_of_sequences), data.draw(st.booleans())
    model, inputs = drawn.build(), drawn.draw_inputs(steps, 2, seed=seed)
    stream = model.stream(2)
    fresh = stream.to_bytes()
    stream.process(*inputs)
    if has_ended:
        stream.flush()
    stream.reset()
    assert stream.to_bytes() == fresh
    rows = joined([stream.process(*inputs), stream.flush()], drawn, 2)
    if has_answers(drawn, steps):
        assert_bits(answers(rows, drawn), whole(model, inputs))


@settings(max_examples=examples(30))
@given(drawn=drawn_models(has_streams=True, most_nodes=5), seed=seeds, data=st.data())
def test_rows_that_are_reset_start_anew_beside_the_others(drawn: DrawnModel, seed: int, data: st.DataObject) -> None:
    before, steps = data.draw(st.integers(0, 30)), data.draw(lengths_of_sequences)
    edges = [(before + a, before + b) for a, b in data.draw(blocks(steps))]
    model, inputs = drawn.build(), drawn.draw_inputs(before + steps, 3, seed=seed)
    stream, singles = model.stream(3), [model.stream() for _ in range(3)]
    chosen = data.draw(st.lists(st.integers(0, 2), unique=True, min_size=1, max_size=2))
    stream.process(*cut(inputs, 0, before))
    stream.reset(chosen)
    for row, single in enumerate(singles):
        if row not in chosen:
            single.process(*(x[:before, row] for x in inputs))

    def assert_rows_are_their_own(together: Any, alone: Sequence[Any]) -> None:
        for row, found in enumerate(alone):
            for y, own in zip(listed(together), listed(found), strict=True):
                missing = len(y) - len(own)  # rows that others have by now
                assert_bits([y[missing:, row]], [own])
                assert np.isnan(y[:missing, row]).all()

    for a, b in edges:
        alone = [single.process(*(x[a:b, row] for x in inputs)) for row, single in enumerate(singles)]
        assert_rows_are_their_own(stream.process(*cut(inputs, a, b)), alone)
    assert_rows_are_their_own(stream.flush(), [single.flush() for single in singles])


def rows_by_counting(model: Any, drawn: DrawnModel, steps: int) -> list[list[int]]:
    """How many rows of each output a stream has given after 1, 2, ... rows."""
    stream, found = model.stream(), [0] * len(drawn.outputs)
    counts = []
    inputs = drawn.draw_inputs(steps)
    for t in range(steps):
        given_now = joined([stream.process(*cut(inputs, t, t + 1))], drawn)
        found = [count + len(y) for count, y in zip(found, given_now, strict=True)]
        counts.append(found)
    return counts


@settings(max_examples=examples(40))
@given(drawn=drawn_models(has_streams=True, most_nodes=5))
def test_hop_and_delay_are_what_counting_finds(drawn: DrawnModel) -> None:
    model = drawn.build()
    rows_in, rows_out = model.hop if isinstance(model.hop, tuple) else (model.hop, 1)
    steps = 120
    counts = [[0] * len(drawn.outputs), *rows_by_counting(model, drawn, steps)]

    def of_hops(i: int, hop: int) -> set[int]:
        """How many rows hops of so many give in the long run."""
        found = [counts[t][i] for t in range(-(-steps // 2 // hop) * hop, steps + 1, hop)]
        return {b - a for a, b in itertools.pairwise(found)}

    for i in range(len(drawn.outputs)):
        assert of_hops(i, rows_in) == {rows_out}
    assert not any(len(of_hops(0, hop)) == 1 for hop in range(1, rows_in) if rows_in % hop == 0)
    first = next(t for t in range(1, steps) if all(counts[t]))
    assert model.delay == first - rows_in


def test_an_answer_that_is_made_of_no_rows_is_zero() -> None:
    model = fc.Model([("crop", nodes.Rows(-1, -1), "x"), ("last", nodes.Last(), "crop")], {"x": 64})
    for _ in range(5):
        found = model(np.full((3, 64), 7.5, np.float32))
        assert found.tolist() == [7.5] * 64
        del found  # whose memory the next answer may get
        assert not model(np.ones((1, 64), np.float32)).any()
        assert not model(np.ones((3, 1, 64), np.float32), lengths=[2]).any()


@pytest.mark.parametrize("lengths", [(0,), (0, 1), (2, 0, 1)])
def test_rows_of_padding_alone_are_as_many_as_they_are(lengths: tuple[int, ...]) -> None:
    count = fc.RNN.from_state_dict(
        {"weight_ih_l0": [[0.0]], "weight_hh_l0": [[1.0]], "bias_ih_l0": [1.0]}, nonlinearity="relu"
    )
    listed: list[Any] = [
        ("padded", nodes.Rows(4, 7), "x"),
        ("count", count, "padded"),
        ("second", nodes.MeanPool(1, stride=2), "count"),
        ("sixth", nodes.MeanPool(1, stride=3), "second"),
    ]
    model = fc.Model(listed, {"x": 1}, outputs=("count", "second", "sixth"))
    found = model(np.zeros((max(lengths), len(lengths), 1), np.float32), lengths=lengths)
    for y, stride in zip(found, (1, 2, 6), strict=True):
        for row, length in enumerate(lengths):
            expected = np.arange(1, 4 + length + 7 + 1, stride)
            np.testing.assert_array_equal(y[: len(expected), row, 0], expected)


@settings(max_examples=examples(30))
@given(drawn=drawn_models(), steps=st.integers(0, 60))
def test_rows_out_are_known_before(drawn: DrawnModel, steps: int) -> None:
    found = drawn.build().rows(steps)
    # An answer of the whole sequence is there of no rows too.
    assert listed(found) == [1 if drawn.values[name].pooled else drawn.rows(name, steps) for name in drawn.outputs]
