"""What calls of models and their streams take, give and refuse; tests/test_models.py has the bits."""

from __future__ import annotations

import copy
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import nodes
from models import uniform


def two_inputs() -> fc.Model:
    """Takes x (3 features) and tokens t (0 to 9), answers with two outputs of 2 and 4 features."""
    return fc.Model(
        [
            ("emb", fc.Embedding(uniform(1, 10, 2)), "t"),
            ("head", fc.Dense(uniform(2, 4, 5)), ("x", "emb")),
        ],
        inputs=("x", "t"),
        outputs=("emb", "head"),
    )


def looks_ahead() -> fc.Model:
    """Answers each of its rows (3 features) one row later."""
    gru = fc.GRU.from_state_dict({"weight_ih_l0": uniform(3, 18, 5), "weight_hh_l0": uniform(4, 18, 6)})
    return fc.Model([("conv", fc.Window(uniform(5, 5, 9), taps=3, padding=(1, 1)), "x"), ("gru", gru, "conv")])


def layer_of_two() -> fc.GRU:
    """Takes 2 features and has 5 units."""
    return fc.GRU.from_state_dict({"weight_ih_l0": uniform(3, 15, 2), "weight_hh_l0": uniform(4, 15, 5)})


def of_two_rows() -> fc.Model:
    """Takes two rows (3 features) for one answer."""
    return fc.Model([("conv", fc.Window(uniform(6, 4, 6), taps=2, stride=2), "x")])


X = uniform(7, 3)
WRONG: dict[str, tuple[Callable[[fc.ModelStream], Any], type[Exception], str]] = {
    "features": (lambda s: s.step(X[:2], 1), ValueError, r"x: expected shape \(3,\), got \(2,\)"),
    "an axis": (lambda s: s.step(X[None], 1), ValueError, r"x: expected shape \(3,\), got \(1, 3\)"),
    "integers for floats": (lambda s: s.step([1, 2, 3], 1), TypeError, "x: expected an array of floats"),
    "a token beyond": (lambda s: s.step(X, 10), ValueError, "t: expected tokens from 0 to 9, got 10"),
    "a negative token": (
        lambda s: s.process(uniform(8, 2, 3), [3, -1]),
        ValueError,
        r"t: expected tokens from 0 to 9, got -1 at \(1,\)",
    ),
    "floats for tokens": (lambda s: s.step(X, 1.0), TypeError, "t: expected an array of integers, got dtype float64"),
    "other rows": (
        lambda s: s.process(uniform(8, 2, 3), [1, 2, 3]),
        ValueError,
        r"t: expected shape \(2,\), as many rows as 'x', got \(3,\)",
    ),
    "an input too few": (
        lambda s: s.step(X),
        TypeError,
        r"step\(x, t, out=None\): expected 2 or 3 positional arguments, got 1",
    ),
    "an input too many": (
        lambda s: s.process(X[None], [1], None),
        TypeError,
        r"process\(x, t\): expected 2 positional arguments, got 3",
    ),
    "two outs": (lambda s: s.step(X, 1, None, out=None), TypeError, "one value for 'out', got two"),
    "an unknown name": (lambda s: s.process(X[None], [1], **{"out": None}), TypeError, "no argument named 'out'"),
    "one out": (lambda s: s.step(X, 1, out=np.empty(4, np.float32)), TypeError, "out: expected a tuple of 2 arrays"),
    "out of another shape": (
        lambda s: s.step(X, 1, out=(np.empty(2, np.float32), np.empty(3, np.float32))),
        ValueError,
        r"out\[1\]: expected shape \(4,\), got \(3,\)",
    ),
    "out of another type": (
        lambda s: s.step(X, 1, out=(np.empty(2), np.empty(4, np.float32))),
        TypeError,
        r"out\[0\]: expected a float32 array, got dtype float64",
    ),
    "outs that overlap": (
        lambda s: s.step(X, 1, out=((y := np.empty(4, np.float32))[:2], y)),
        ValueError,
        r"out\[1\]: expected memory of its own",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_is_named_and_changes_nothing(
    call: Callable[[fc.ModelStream], Any], error: type[Exception], message: str
) -> None:
    stream = two_inputs().stream()
    stream.step(X, 3)
    before = stream.to_bytes()
    with pytest.raises(error, match=message):
        call(stream)
    assert stream.to_bytes() == before


def test_whole_calls_name_what_is_wrong() -> None:
    model = two_inputs()
    with pytest.raises(TypeError, match=r"model\(x, t\): expected 2 positional arguments, got 1"):
        model(uniform(8, 2, 3))
    with pytest.raises(ValueError, match=r"x: expected shape \(steps, 3\) or \(steps, batch, 3\), got \(3,\)"):
        model(X, [1])
    with pytest.raises(ValueError, match="lengths: expected values from 0 to the number of steps, 2, got 3"):
        model(uniform(8, 2, 1, 3), [[1], [2]], lengths=[3])
    with pytest.raises(ValueError, match="num_threads"):
        model(uniform(8, 2, 3), [1, 2], num_threads=0)


def test_tokens_are_integers_of_any_width() -> None:
    model = two_inputs()
    expected = model(uniform(8, 3, 3), [1, 9, 0])[1]
    for dtype in (np.int8, np.uint8, np.int32, np.uint64, ">i2"):
        np.testing.assert_array_equal(model(uniform(8, 3, 3), np.array([1, 9, 0], dtype))[1], expected)


def test_out_is_written_and_returned() -> None:
    model = looks_ahead()
    stream, twin = model.stream(2), model.stream(2)
    out = np.full((2, 6), 7, np.float32)
    for i, x in enumerate(uniform(9, 4, 2, 3)):
        y = stream.step(x, out=out)
        expected = twin.step(x)
        if i == 0:
            assert y is None
            assert expected is None
            assert (out == 7).all()
        else:
            assert y is out
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("axes", [{}, {"y": (3, 2, "time")}], ids=["rows", "axes"])
def test_out_follows_the_inputs_as_in_streams_of_layers(axes: dict[str, Any]) -> None:
    model = fc.Model([("y", fc.Dense(uniform(1, 6, 4)), "x")], axes=axes)
    out = np.zeros((3, 2) if axes else 6, np.float32)
    x = uniform(2, 4)
    assert model.stream().step(x, out) is out
    np.testing.assert_array_equal(out, model.stream().step(x))
    with pytest.raises(TypeError, match=r"step\(x, out=None\): expected 1 or 2 positional arguments, got 3"):
        model.stream().step(x, out, out)
    with pytest.raises(TypeError, match="one value for 'out', got two"):
        model.stream().step(x, out, out=out)


def features_last(batch_first: bool, axes: dict[str, Any]) -> fc.Model:
    return fc.Model([("y", fc.Dense(uniform(1, 6, 4)), "x")], batch_first=batch_first, axes=axes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: features_last(True, {})(uniform(2, 3, 4, 7)),
            "x: expected shape (steps, 4) or (batch, steps, 4), got (3, 4, 7); "
            "numpy.transpose(array, (0, 2, 1)), or (2, 0, 1), would fit",
        ),
        (
            lambda: features_last(True, {}).stream(3).process(uniform(2, 7, 3, 4)),
            "x: expected shape (3, steps, 4), got (7, 3, 4); numpy.transpose(array, (1, 0, 2)) would fit",
        ),
        (
            lambda: features_last(False, {"x": ("batch", "time", 2, 2)})(uniform(2, 2, 2, 7)),
            "x: expected shape (time, 2, 2), got (2, 2, 7); numpy.transpose(array, (2, 0, 1)), or (2, 1, 0), would fit",
        ),
        (
            lambda: layer_of_two()(uniform(2, 2, 7)),
            "x: expected shape (steps, batch, 2) or (steps, 2), got (2, 7); numpy.transpose(array, (1, 0)) would fit",
        ),
        (
            lambda: layer_of_two().stream(3).process(uniform(2, 3, 7, 2)),
            "block: expected shape (steps, 3, 2), got (3, 7, 2); numpy.transpose(array, (1, 0, 2)) would fit",
        ),
        (
            lambda: layer_of_two()(uniform(2, 7, 3, 2), np.zeros((3, 1, 5))),
            "h_0: expected shape (1, 3, 5), got (3, 1, 5); numpy.transpose(array, (1, 0, 2)) would fit",
        ),
        (
            lambda: features_last(True, {})(uniform(2, 3, 5, 7)),
            "x: expected shape (steps, 4) or (batch, steps, 4), got (3, 5, 7)",
        ),
    ],
)
def test_axes_in_another_order_are_told_the_transpose_that_fits(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    ("name", "instead"),
    [("bind", r"step\(x, out\)"), ("input_size", "sizes"), ("output_size", "sizes")],
)
def test_what_streams_of_layers_alone_have_says_what_there_is_instead(name: str, instead: str) -> None:
    stream = looks_ahead().stream()
    assert not hasattr(stream, name)
    with pytest.raises(AttributeError, match=f"'{name}' is of layers' streams; of a model's, .*{instead}"):
        getattr(stream, name)
    with pytest.raises(AttributeError, match=instead):
        setattr(stream, name, 0)


def test_a_hop_of_two_rows_is_an_axis() -> None:
    model = of_two_rows()
    assert (model.hop, model.delay, model.rows(7)) == (2, 0, 3)
    x = uniform(9, 2, 5, 3)
    y = model.stream(5).step(x)
    assert y.shape == (5, 4)
    np.testing.assert_array_equal(model.stream().step(x[:, 1]), y[1])
    first = fc.Model(model.nodes, batch_first=True).stream(5)
    np.testing.assert_array_equal(first.step(x.swapaxes(0, 1)), y)
    streams = [model.stream() for _ in range(5)]
    np.testing.assert_array_equal(model.step_many(streams, x.swapaxes(0, 1)), y)


def test_rows_that_a_sequence_lacks_after_its_own_reset_are_nan() -> None:
    model = looks_ahead()
    stream = model.stream(3)
    stream.process(uniform(9, 4, 3, 3))
    stream.reset([1])
    x = uniform(10, 5, 3, 3)
    y = stream.process(x)
    assert y.shape == (5, 3, 6)
    assert np.isnan(y[0, 1]).all()
    np.testing.assert_array_equal(y[1:, 1], model.stream().process(x[:, 1]))
    assert not np.isnan(y[:, [0, 2]]).any()
    fresh, other = model.stream(), model.stream()
    other.step(x[0, 0])
    rows = model.step_many([fresh, other], x[1, :2])
    assert np.isnan(rows[0]).all()
    assert not np.isnan(rows[1]).any()


def test_after_flush_only_reset_may_follow() -> None:
    stream = looks_ahead().stream(2)
    stream.process(uniform(9, 4, 2, 3))
    assert stream.flush().shape == (1, 2, 6)
    ended = r"stream: its rows have ended, by flush\(\)"
    calls: list[Callable[[], Any]] = [
        lambda: stream.step(uniform(9, 2, 3)), lambda: stream.process(uniform(9, 1, 2, 3)), stream.flush,
        stream.to_bytes, lambda: stream.reset([0]), stream.copy().flush,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match=ended):
            call()
    stream.reset()
    assert stream.process(uniform(9, 4, 2, 3)).shape == (3, 2, 6)


def test_decay_goes_towards_what_sequences_begin_with() -> None:
    stream = looks_ahead().stream(3)
    stream.process(uniform(9, 4, 3, 3))
    norms = stream.norm()
    stream.decay(0.5, [0, -1, 0])
    np.testing.assert_allclose(stream.norm(), norms * [0.5, 1, 0.5], rtol=1e-6)
    stream.decay(0)
    assert not stream.norm().any()
    assert stream.is_finite().all()
    stream.step(np.full((3, 3), [[0], [np.inf], [0]], np.float32))
    assert stream.is_finite().tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"factor: expected a number from 0 to 1, got 2\.0"):
        stream.decay(2)


def test_states_travel_and_refuse_what_is_altered() -> None:
    model = looks_ahead()
    stream = model.stream(3)
    stream.process(uniform(9, 4, 3, 3))
    stream.reset([1])
    data, x = stream.to_bytes(), uniform(10, 5, 3, 3)
    expected = stream.process(x)
    for other in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.stream_from_bytes(data).process(x), expected)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 0x40
        with pytest.raises(ValueError, match="data: "):
            model.stream_from_bytes(bytes(altered))
        with pytest.raises(ValueError, match="data: "):
            model.stream_from_bytes(data[:place])
    with pytest.raises(ValueError, match="data: expected a state of this model"):
        model.astype("int8").stream_from_bytes(data)
    with pytest.raises(TypeError, match="data: expected bytes, got str"):
        model.stream_from_bytes("data")  # type: ignore[arg-type] # wrong on purpose
    hostile = data[:16] + struct.pack("<Q", 2**62) + data[24:]
    with pytest.raises(ValueError, match="data: cut or altered"):
        model.stream_from_bytes(hostile)


def test_what_needs_the_whole_sequence_has_no_streams() -> None:
    model = fc.Model([("mean", fc.nodes.Mean(), "x")], inputs={"x": 3})
    assert not model.streamable
    calls: list[Callable[[], Any]] = [
        model.stream, lambda: model.hop, lambda: model.delay, lambda: model.step_many([], np.empty((0, 3))),
        lambda: model.stream_from_bytes(b""), lambda: fc.StreamPool(model, 2),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(fc.UnsupportedError, match="stream: mean: an answer of all rows needs the whole sequence"):
            call()
    assert model(np.empty((0, 2, 3), np.float32)).tolist() == [[0] * 3] * 2


def test_streams_of_other_models_and_twice_the_same_are_refused() -> None:
    model, other = looks_ahead(), looks_ahead()
    stream = model.stream()
    for streams, error, message in (
        ([stream, stream], ValueError, "streams: expected each stream once"),
        ([stream, other.stream()], ValueError, "streams: expected streams of this model.* at index 1 is of another"),
        ([stream, None], TypeError, "streams: expected a ModelStream at index 1, got NoneType"),
    ):
        with pytest.raises(error, match=message):
            model.step_many(streams, uniform(9, 2, 3))  # type: ignore[arg-type] # wrong on purpose
    assert stream.step(X) is None  # its first row still


def test_a_stream_that_answers_more_than_usual_steps_by_itself_first() -> None:
    model = fc.Model([("conv", fc.Window(uniform(5, 4, 3), taps=1, padding=(2, 0)), "x")])
    stream = model.stream()
    with pytest.raises(ValueError, match="x: the stream of row 0 gives 3 rows at once now"):
        model.step_many([stream], X[None])
    assert stream.step(X).shape == (3, 4)
    assert model.step_many([stream], X[None]).shape == (1, 4)


def test_pools_of_models_have_the_bits_of_streams_and_all_their_memory() -> None:
    model = looks_ahead()
    pool = fc.StreamPool(model, 4)
    nbytes = pool.nbytes
    slots = [pool.join() for _ in range(3)]
    streams = [model.stream() for _ in range(3)]
    generator = np.random.default_rng(1)
    for x in uniform(11, 12, 3, 3):
        order = generator.permutation(3)[: generator.integers(1, 4)]
        y = pool.step([slots[i] for i in order], x[order])
        for row, i in zip(y, order, strict=True):
            alone = streams[i].step(x[i])
            np.testing.assert_array_equal(row, np.full(6, np.nan) if alone is None else alone)
    pool.leave(slots[1])
    assert np.isnan(pool.step([pool.join()], X[None])).all()
    assert pool.nbytes == nbytes
    with pytest.raises(TypeError, match="state: "):
        pool.state(slots[0])


def test_models_say_what_they_are() -> None:
    model = two_inputs()
    assert (model.inputs, model.outputs, model.tokens) == (("x", "t"), ("emb", "head"), {"t": 10})
    assert model.sizes == {"x": 3, "t": 1, "emb": 2, "head": 4}
    assert repr(model).startswith("Model(x (3), t (1) -> emb (2), head (4); 2 nodes, ")
    assert [line.split()[:2] for line in model.describe().splitlines()[1:]] == [
        ["x", "input"], ["t", "input"], ["emb", "Embedding"], ["head", "Dense"],
    ]  # fmt: skip
    assert repr(model.stream(3)) == "ModelStream(x, t; batch_size=3)"
    with pytest.raises(TypeError, match=r"send stream.to_bytes\(\)"):
        pickle.dumps(model.stream())


def test_a_description_has_every_node_and_what_those_that_run_take() -> None:
    steps: list[Any] = [
        ("letters", nodes.Embedding(np.ones((5, 3))), "text"),
        ("rnn", fc.RNN.from_state_dict({"weight_ih_l0": np.ones((4, 3)), "weight_hh_l0": np.zeros((4, 4))}), "letters"),
        ("first", nodes.Take([0, 1]), "rnn"),
        ("answer", nodes.Dense(np.ones((1, 2))), "first"),
    ]
    lines = fc.Model(steps).describe().splitlines()
    assert [line.split()[0] for line in lines if line.strip(" -")] == ["name", "text", *(name for name, *_ in steps)]
    described = {line.split()[0]: line.split()[1:] for line in lines}
    assert described["text"] == ["input", "5", "tokens"]
    assert described["letters"] == ["Embedding", "text"]
    assert described["first"] == ["Take", "rnn"]
    assert described["answer"][:3] == ["Dense", "first", "1"]
    assert int(described["answer"][3]) > 0


def test_an_answer_of_a_whole_sequence_is_one_row_and_zeros_where_there_are_none() -> None:
    for pool in (nodes.Sum(), nodes.Mean(), nodes.Max(), nodes.Last()):
        model = fc.Model([("pool", pool, "x"), ("head", nodes.Dense(np.ones((2, 4)), [5, 6]), "pool")])
        assert model.rows(0) == model.rows(7) == 1
        assert model(np.zeros((0, 4), np.float32)).tolist() == [0, 0]
        both = model(np.zeros((3, 2, 4), np.float32), lengths=[3, 0])
        assert both.tolist() == [[5, 6], [0, 0]]
