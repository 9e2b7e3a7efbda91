"""What a model cannot do is refused, naming the node and why."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import nodes
from models import KIND, uniform

pytestmark = [pytest.mark.core, pytest.mark.any_cpu]


def layer(size: int, **options: Any) -> Any:
    kind = KIND["gru_reset_after"]
    return kind.make(kind.weights(size, 4, **options))


def window(size: int, taps: int, **options: Any) -> Any:
    return nodes.Window(uniform(1, 4, taps * size), taps=taps, **options)


def model(*listed: Any, **options: Any) -> Any:
    return fc.Model(list(listed), options.pop("inputs", {"x": 3}), **options)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (layer(4, directions=2), "bidirectional"),
        (nodes.Mean(), "whole sequence"),
        (nodes.Max(), "whole sequence"),
        (nodes.Sum(), "whole sequence"),
        (nodes.Last(num_directions=2), "whole sequence"),
    ],
)
def test_what_needs_the_whole_sequence_has_no_streams_and_says_so(node: Any, reason: str) -> None:
    whole = model(("dense", nodes.Dense(uniform(1, 4, 3)), "x"), ("culprit", node, "dense"))
    assert not whole.streamable
    for make in (whole.stream, lambda: fc.StreamPool(whole, 2)):
        with pytest.raises(fc.errors.UnsupportedError, match=f"culprit.*{reason}"):
            make()


def test_values_of_other_rates_do_not_meet() -> None:
    slow = ("slow", window(3, 2, stride=2), "x")
    with pytest.raises(ValueError, match=r"both.*'slow'.*1.*2.*'x'|both.*'x'.*'slow'"):
        model(slow, ("both", nodes.Dense(uniform(1, 2, 7)), ("slow", "x")))
    with pytest.raises(ValueError, match="both"):
        model(slow, ("same", window(3, 2), "x"), ("both", nodes.Add(), ("slow", "same")))


def test_values_of_other_numbers_of_rows_do_not_meet() -> None:
    with pytest.raises(ValueError, match=r"both.*'short'.*'x'"):
        model(("short", window(3, 3), "x"), ("both", nodes.Dense(uniform(1, 2, 7)), ("short", "x")))


def test_an_answer_of_the_whole_sequence_does_not_meet_one_of_each_row() -> None:
    with pytest.raises(ValueError, match=r"both.*'last'.*'x'"):
        model(("last", nodes.Last(), "x"), ("both", nodes.Add(), ("last", "x")))
    with pytest.raises(ValueError, match=r"after.*'last'"):
        model(("last", nodes.Last(), "x"), ("after", layer(3), "last"))


def test_sequences_too_short_for_branches_to_meet_are_refused_by_the_node() -> None:
    # Of one row the window has no row, and padding alone makes as many of the other branch's.
    branches = model(
        ("valid", window(3, 3), "x"),
        ("padded", nodes.Rows(2, 0), "valid"),
        ("both", nodes.Dense(uniform(1, 2, 7)), ("padded", "x")),
    )
    assert branches.rows(5) == 5
    with pytest.raises(ValueError, match=r"both.*'padded'.*'x'"):
        branches.rows(1)
    with pytest.raises(ValueError, match=r"both.*'padded'.*'x'"):
        branches(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    ("listed", "error", "message"),
    [
        ([], ValueError, "nodes"),
        ([("a", nodes.GLU(), "x"), ("a", nodes.GLU(), "x")], ValueError, "a: two nodes"),
        ([("a", nodes.GLU(), "b"), ("b", nodes.GLU(), "x")], ValueError, "a.*'b'"),
        ([("a", nodes.GLU(), "a")], ValueError, "a.*'a'"),
        ([("a", nodes.GLU(), "nothing")], ValueError, "a.*'nothing'"),
        ([("x", nodes.Softmax(), "x")], ValueError, "x"),
        ([("a", nodes.GLU(), "x")], ValueError, "a.*3"),
        ([("a", nodes.Dense(uniform(1, 2, 4)), "x")], ValueError, "a.*4.*3|a.*3.*4"),
        ([("a", layer(5), "x")], ValueError, "a.*5.*3|a.*3.*5"),
        ([("a", nodes.Scale(uniform(1, 4)), "x")], ValueError, "a.*4.*3|a.*3.*4"),
        ([("a", nodes.Take([3]), "x")], ValueError, "a.*3"),
        ([("a", nodes.Softmax(2), "x")], ValueError, "a.*2.*3|a.*3.*2"),
        ([("a", nodes.Add(), ("x", "x", "b"))], ValueError, "a.*'b'"),
        ([("b", nodes.Take([0]), "x"), ("a", nodes.Add(), ("x", "b"))], ValueError, "a.*'x'.*'b'|a.*3.*1|a.*1.*3"),
        ([("a", "glu", "x")], TypeError, "a: expected a node"),
        ([("a", nodes.GLU())], TypeError, r"nodes\[0\]"),
        ([("a", nodes.GLU(), 3)], TypeError, "a: expected the name"),
        ([("a", nodes.Embedding(uniform(1, 5, 2)), "b")], ValueError, "a.*'b'"),
        ([("", nodes.Softmax(), "x")], ValueError, "name"),
        ([("n" * 201, nodes.Softmax(), "x")], ValueError, "name"),
    ],
)
def test_nodes_that_do_not_fit_are_refused_by_name(listed: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        fc.Model(listed, {"x": 3})


def test_an_embedding_reads_an_input_alone() -> None:
    with pytest.raises(ValueError, match="words"):
        fc.Model(
            [("square", nodes.Activation("square"), "x"), ("words", nodes.Embedding(uniform(1, 5, 2)), "square")],
            {"x": 1},
        )


def test_tokens_outside_the_table_are_refused_and_the_stream_goes_on() -> None:
    words = fc.Model([("words", nodes.Embedding(uniform(1, 5, 2)), "tokens")])
    stream = words.stream()
    stream.step(4)
    before = stream.to_bytes()
    for token in (5, -1):
        with pytest.raises(ValueError, match=rf"tokens: .*0 to 4, got {token}"):
            stream.step(token)
        with pytest.raises(ValueError, match="tokens"):
            words(np.array([0, token]))
    with pytest.raises((TypeError, ValueError), match="tokens"):
        words(np.array([0.5]))
    assert stream.to_bytes() == before


def test_outputs_and_inputs_are_named_ones() -> None:
    listed = [("a", nodes.Softmax(), "x")]
    with pytest.raises(ValueError, match="'b'"):
        fc.Model(listed, {"x": 3}, outputs="b")
    with pytest.raises(ValueError, match="'x'"):
        fc.Model(listed, {"y": 3})
    with pytest.raises(ValueError, match="x"):
        fc.Model([("a", nodes.Softmax(), "x")])  # of which nothing says the size


def test_a_stream_that_has_ended_takes_nothing_but_a_reset() -> None:
    windows = model(("a", window(3, 3, padding=(1, 1)), "x"))
    stream = windows.stream()
    stream.process(uniform(1, 5, 3))
    stream.flush()
    for call in (lambda: stream.step(uniform(1, 3)), lambda: stream.process(uniform(1, 2, 3)), stream.flush):
        with pytest.raises(ValueError, match=re.escape("reset")):
            call()
    stream.reset()
    assert stream.step(uniform(1, 3)) is None


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.zeros((5, 2), np.float32), r"x.*3.*\(5, 2\)"),
        (np.zeros(3, np.float32), r"x.*\(3,\)"),
        (np.zeros((5, 3), "S4"), "x"),
        (np.zeros((2, 5, 1, 3), np.float32), r"x.*\(2, 5, 1, 3\)"),
    ],
)
def test_rows_of_another_shape_are_refused_by_name(x: Any, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        model(("a", window(3, 3), "x"))(x)


def test_inputs_that_differ_in_rows_are_refused() -> None:
    both = fc.Model([("both", nodes.Dense(uniform(1, 2, 5)), ("x", "z"))], {"x": 3, "z": 2})
    with pytest.raises(ValueError, match="z"):
        both(np.zeros((5, 3)), np.zeros((4, 2)))
    with pytest.raises(TypeError, match=r"x, z.*2.*got 1"):
        both(np.zeros((5, 3)))


def test_a_models_bytes_of_another_stream_are_refused() -> None:
    first, second = model(("a", window(3, 3), "x")), model(("a", window(3, 4), "x"))
    with pytest.raises(ValueError, match=r"data: .*state of this model"):
        second.stream_from_bytes(first.stream().to_bytes())
    data = first.stream().to_bytes()
    with pytest.raises(ValueError, match="data: "):
        first.stream_from_bytes(data[:-1])


def test_a_length_whose_rows_do_not_meet_is_refused_by_the_call_and_at_a_streams_end() -> None:
    steps: list[Any] = [
        ("down", nodes.Window(np.ones((1, 5)), taps=5, stride=2), "x"),
        ("up", nodes.Window.transposed(np.ones((1, 1, 5)), stride=2), "down"),
        ("sum", nodes.Add(), ("up", "x")),
    ]
    model = fc.Model(steps, {"x": 1})
    x = np.ones((8, 1), np.float32)
    assert model(x[:7]).shape == (7, 1)
    stream = model.stream()
    stream.process(x)
    for run in (lambda: model(x), stream.flush):
        with pytest.raises(ValueError, match="sum: of 8 rows in, 'up' has 7 rows and 'x' has 8"):
            run()
    np.testing.assert_array_equal(stream.process(x[:1]).shape[1:], (1,))  # it has not ended


def test_what_would_wait_without_measure_is_refused() -> None:
    steps: list[Any] = [
        ("first", nodes.Take([0]), "x"),
        ("down", nodes.MeanPool(1, stride=1 << 10), "first"),
        ("late", nodes.MeanPool(1 << 9, stride=1, padding=(0, (1 << 9) - 1)), "down"),
    ]
    for i in range(10):
        steps.append((f"up{i}", nodes.Take([0, 0], repeat=2), steps[-1][0]))
    model = fc.Model([*steps, ("sum", nodes.Add(), (steps[-1][0], "first"))], {"x": 1 << 13})
    with pytest.raises(ValueError, match="at most 2\\^28 can"):
        model.stream()
