"""Models whose arrays have axes of their own: the same bits as rows give, moved by hand."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fusedcell as fc
from drawn_models import blocks
from fusedcell import nodes
from models import KIND, uniform
from test_model_files import of_file, to_file

GRU = KIND["gru_reset_after"]
FACTORS = {1: [(), (1,)], 2: [(2,), (2, 1)], 6: [(6,), (2, 3), (3, 1, 2)], 12: [(12,), (3, 4), (2, 3, 2)]}


def looks_ahead() -> fc.Model:
    """Of x (12) and tokens t, whose y (6) comes a row later, and the whole sequence's answer l (2)."""
    return fc.Model(
        [
            ("e", nodes.Embedding(uniform(1, 9, 6)), "t"),
            ("c", nodes.Window(uniform(2, 6, 54), taps=3, padding=(1, 1), activation="tanh"), ("x", "e")),
            ("g", GRU.make(GRU.weights(6, 2)), "c"),
            ("y", nodes.Dense(uniform(3, 6, 2)), "g"),
            ("l", nodes.Last(), "g"),
        ],
        inputs=("x", "t"),
        outputs=("y", "l"),
        batch_first=True,
    )


def every_other() -> fc.Model:
    """Takes two rows of 6 for one of 1."""
    return fc.Model([("y", nodes.Window(uniform(4, 1, 12), taps=2, stride=2), "x")], batch_first=True)


def twice() -> fc.Model:
    """Gives two rows of 6 for one of 1."""
    return fc.Model(
        [("up", nodes.Window(uniform(5, 12, 1), repeat=2, taps=1), "x"), ("y", GRU.make(GRU.weights(6, 6)), "up")],
        batch_first=True,
    )


def begins_with_more() -> fc.Model:
    """Of a row of 6 gives one of 2, and of the first another one."""
    return fc.Model([("r", nodes.Rows(1, 0), "x"), ("y", nodes.Dense(uniform(7, 2, 6)), "r")], batch_first=True)


MODELS = [looks_ahead(), every_other(), twice(), begins_with_more()]


def numbers_of(axes: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in axes if not isinstance(axis, str))


def arrange(rows: Any, front: str, axes: tuple[Any, ...]) -> Any:
    """Rows behind the axes b and t, or those of them that `front` has, in these axes."""
    numbers = numbers_of(axes)
    letters = iter(features := "uvwxyz"[: len(numbers)])
    wanted = "".join(axis[0] if isinstance(axis, str) else next(letters) for axis in axes)
    kept = "".join(letter for letter in wanted if letter not in "bt" or letter in front)
    return np.einsum(f"{front}{features}->{kept}", rows.reshape(rows.shape[: len(front)] + numbers))


def arrange_inputs(model: fc.Model, values: list[Any], front: str) -> list[Any]:
    return [arrange(value, front, model.axes[name]) for name, value in zip(model.inputs, values, strict=True)]


def check(model: fc.Model, given: Any, expected: Any, front: str) -> None:
    """Answers are what rows gave, which are behind these axes, or those but for time."""
    if not isinstance(expected, tuple):
        given, expected = (given,), (expected,)
    for name, got, rows in zip(model.outputs, given, expected, strict=True):
        if rows is None:
            assert got is None
            continue
        axes, has = model.axes[name], front if rows.ndim > len(front) else front.replace("t", "")
        if "t" in has and "time" not in axes:
            place = axes.index("batch") + 1 if model.batch_first else 0
            axes = (*axes[:place], "time", *axes[place:])
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, arrange(rows, has, axes), strict=True)


@st.composite
def arranged_models(draw: Any) -> tuple[fc.Model, fc.Model]:
    """A model of rows, and the same with other axes."""
    plain = draw(st.sampled_from(MODELS))
    axes = {}
    for name, size in plain.sizes.items():
        features = () if name in plain.tokens else draw(st.sampled_from(FACTORS[size]))
        named = ("batch",) if name == "l" else ("batch", "time")
        axes[name] = tuple(draw(st.permutations([*named, *features])))
    made = fc.Model(plain.nodes, plain.inputs, plain.outputs, draw(st.booleans()), axes=axes)
    assert made.axes == axes
    return plain, made


def inputs_of(model: fc.Model, *front: int, seed: int = 1) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [
        generator.integers(0, model.tokens[name], front) if name in model.tokens else uniform(seed, *front, size)
        for name, size in ((name, model.sizes[name]) for name in model.inputs)
    ]


def default_axes(model: fc.Model) -> dict[str, tuple[str | int, ...]]:
    return fc.Model(model.nodes, model.inputs, model.outputs, model.batch_first).axes


@given(arranged_models(), st.integers(0, 3), st.integers(0, 7), st.booleans())
def test_calls_take_and_give_arrays_so_arranged(
    models: tuple[fc.Model, fc.Model], batch: int, steps: int, has_lengths: bool
) -> None:
    plain, model = models
    x = inputs_of(plain, batch, steps)
    lengths = np.random.default_rng(0).integers(0, steps + 1, batch) if has_lengths else None
    check(model, model(*arrange_inputs(model, x, "bt"), lengths=lengths), plain(*x, lengths=lengths), "bt")
    one = inputs_of(plain, steps)
    check(model, model(*arrange_inputs(model, one, "t")), plain(*one), "t")


@given(arranged_models(), st.integers(1, 3), blocks(9))
def test_every_cut_of_a_stream_is_so_arranged(
    models: tuple[fc.Model, fc.Model], batch: int, cuts: list[tuple[int, int]]
) -> None:
    plain, model = models
    front = "bt" if batch > 1 else "t"
    x = inputs_of(plain, *([batch] if batch > 1 else []), 9)
    stream, rows = model.stream(batch), plain.stream(batch)
    for begin, end in cuts:
        part = [value[:, begin:end] if batch > 1 else value[begin:end] for value in x]
        check(model, stream.process(*arrange_inputs(model, part, front)), rows.process(*part), front)
        stream = model.stream_from_bytes(stream.copy().to_bytes())
    check(model, stream.flush(), rows.flush(), front)


@given(arranged_models(), st.integers(1, 3), st.booleans())
def test_steps_are_arranged_alike_without_time(models: tuple[fc.Model, fc.Model], batch: int, has_out: bool) -> None:
    plain, model = models
    hop = plain._core.hop[0]
    stream, rows = model.stream(batch), plain.stream(batch)
    front = ("b" if batch > 1 else "") + ("t" if hop > 1 else "")
    answer_front = "bt" if batch > 1 else "t"
    outs: Any = None
    for seed in range(4):
        x = inputs_of(plain, *([batch] if batch > 1 else []), *([hop] if hop > 1 else []), seed=seed)
        given, expected = stream.step(*arrange_inputs(model, x, front), out=outs), rows.step(*x)
        check(model, given, expected, answer_front)
        assert (given is outs) == (outs is not None)
        if has_out and seed > 0:  # where every output has an answer
            outs = tuple(y.copy() for y in given) if isinstance(given, tuple) else given.copy()


@given(arranged_models(), st.integers(0, 3))
def test_one_step_of_many_has_the_rows_of_all_in_the_place_of_the_batch(
    models: tuple[fc.Model, fc.Model], count: int
) -> None:
    plain, model = models
    hop = plain._core.hop[0]
    assume(plain is not MODELS[3])  # whose streams have to begin alone
    assume(model.axes != default_axes(model))  # of which X is (N, hop, I) with any batch_first
    front = "bt" if hop > 1 else "b"
    sides = [(each, fc.StreamPool(each, 3), [each.stream() for _ in range(count)]) for each in models]
    slots = [[pool.join() for _ in range(3)][:count] for _, pool, _ in sides]
    assert slots[0] == slots[1]
    outs: Any = None
    for seed in range(3):
        x = inputs_of(plain, count, *([hop] if hop > 1 else []), seed=seed)
        arranged = arrange_inputs(model, x, front)
        X, Y = (values[0] if len(values) == 1 else tuple(values) for values in (x, arranged))
        expected = sides[0][0].step_many(sides[0][2], X)
        given = sides[1][0].step_many(iter(sides[1][2]), Y, outs)
        check(model, given, expected, "bt")
        check(model, sides[1][1].step(slots[0], Y), sides[0][1].step(slots[0], X), "bt")
        assert (given is outs) == (outs is not None)
        outs = tuple(y.copy() for y in given) if isinstance(given, tuple) else given.copy()


@given(arranged_models())
def test_files_pickles_and_other_types_keep_the_axes(models: tuple[fc.Model, fc.Model]) -> None:
    plain, model = models
    x = inputs_of(plain, 2, 6)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), fc.Model._from_bytes(model._to_bytes())):
        assert other.axes == model.axes
        check(model, other(*arrange_inputs(model, x, "bt")), plain(*x), "bt")
    small = model.astype("int8")
    assert small.axes == model.axes
    check(model, small(*arrange_inputs(model, x, "bt")), plain.astype("int8")(*x), "bt")


def conditioned(**axes: tuple[Any, ...]) -> fc.Model:
    """Of rows x (2) and a speaker s (3)."""
    return fc.Model(
        [
            ("c", nodes.Window(uniform(6, 4, 10), taps=2, stride=2, padding=(1, 0)), ("x", "s")),
            ("y", GRU.make(GRU.weights(4, 2)), "c"),
        ],
        {"x": 2, "s": 3},
        batch_first=True,
        axes=axes,
    )


@given(st.permutations(["batch", 3]), st.integers(1, 3), blocks(9))
def test_an_input_without_time_is_the_same_row_at_every_step(
    axes: list[Any], batch: int, cuts: list[tuple[int, int]]
) -> None:
    plain, model = conditioned(), conditioned(s=tuple(axes))
    x, s = uniform(1, batch, 9, 2), uniform(2, batch, 3)
    held = np.repeat(s[:, None], 9, axis=1)
    given = s if axes[0] == "batch" else s.T
    np.testing.assert_array_equal(model(x, given), plain(x, held))
    np.testing.assert_array_equal(model(x[0], s[0]), plain(x[0], held[0]))
    if batch == 1:
        x, held, given = x[0], held[0], s[0]
    stream, rows = model.stream(batch), plain.stream(batch)
    for begin, end in cuts:
        part = (..., slice(begin, end), slice(None))
        np.testing.assert_array_equal(stream.process(x[part], given), rows.process(x[part], held[part]))
    hop = (..., slice(0, 2), slice(None))
    stream.reset()
    rows.reset()
    for _ in range(2):
        np.testing.assert_array_equal(stream.step(x[hop], given), rows.step(x[hop], held[hop]))


def test_where_no_input_has_time_a_call_is_a_step() -> None:
    steps: list[tuple[str, Any, Any]] = [("g", GRU.make(GRU.weights(6, 4)), "x"), ("l", nodes.Last(), "g")]
    plain = fc.Model(steps, outputs=("g", "l"))
    model = fc.Model(steps, outputs=("g", "l"), axes={"x": (2, "batch", 3), "g": (2, "batch", 2)})
    assert model.axes == {"x": (2, "batch", 3), "g": (2, "batch", 2), "l": ("batch", 4)}
    x = uniform(1, 7, 5, 6)
    given = x.reshape(7, 5, 2, 3).swapaxes(1, 2)
    (g, last), (g_of_rows, last_of_rows) = model(given[0]), plain(x[:1])
    np.testing.assert_array_equal(g, g_of_rows[0].reshape(5, 2, 2).swapaxes(0, 1), strict=True)
    np.testing.assert_array_equal(last, last_of_rows, strict=True)
    assert model(given[0, :, 0])[0].shape == (2, 2)
    rows = plain(x)[0].reshape(7, 5, 2, 2).swapaxes(1, 2)
    stream, blocks_of_one = model.stream(5), model.stream(5)
    for t in range(7):
        np.testing.assert_array_equal(stream.step(given[t])[0], rows[t], strict=True)
        np.testing.assert_array_equal(blocks_of_one.process(given[t])[0], rows[t : t + 1], strict=True)
    with pytest.raises(ValueError, match=r"x: expected shape \(2, 5, 3\), got \(7, 2, 5, 3\)"):
        stream.process(given)
    with_time = fc.Model(steps[:1], axes={"x": ("batch", 6), "g": ("batch", "time", 4)})
    np.testing.assert_array_equal(with_time(x[0]), plain(x[:1])[0][0][:, None], strict=True)


def test_what_has_no_batch_is_one_sequence_and_streams_are_many() -> None:
    steps = [("y", GRU.make(GRU.weights(1, 1)), "x")]
    plain, model = fc.Model(steps), fc.Model(steps, axes={"x": ("time",), "y": ("time",)})
    x = uniform(1, 6, 3, 1)
    expected = plain(x)[..., 0]
    np.testing.assert_array_equal(model(x[:, 0, 0]), expected[:, 0], strict=True)
    stream = model.stream()
    y = stream.step(0.5)
    assert y.shape == ()
    out = np.zeros((), np.float32)
    assert stream.step(x[0, 0, 0], out=out) is out
    streams = [model.stream() for _ in range(3)]
    pool = fc.StreamPool(model, 3)
    slots = [pool.join() for _ in range(3)]
    for t in range(6):
        np.testing.assert_array_equal(model.step_many(streams, x[t, :, 0]), expected[t], strict=True)
        np.testing.assert_array_equal(pool.step([True] * 3, x[t, :, 0]), expected[t], strict=True)
    assert slots == [0, 1, 2]
    with pytest.raises(ValueError, match="x: expected a batch of 1, as its axes have no 'batch', got 2"):
        model.stream(2)
    answers = fc.Model(steps, axes={"x": ("time",)})(x[:, 0, 0])
    np.testing.assert_array_equal(answers[:, 0, 0], expected[:, 0])


def test_arrays_without_their_batch_are_answered_so() -> None:
    model = fc.Model(
        MODELS[0].nodes, {"x": 12, "t": 9}, ("y", "l"), axes={"x": (12, "batch", "time"), "y": ("batch", 6, "time")}
    )
    x, t = uniform(1, 12, 5), np.arange(5)
    y, last = model(x, t)
    assert (y.shape, last.shape) == ((6, 5), (2,))
    y, last = model(x[:, None], t[:, None])
    assert (y.shape, last.shape) == ((1, 6, 5), (1, 2))
    stream = model.stream()
    assert [part.shape for part in stream.process(x, t)] == [(6, 4), (4, 2)]
    assert [part.shape for part in stream.process(x[:, None], t[:, None])] == [(1, 6, 5), (5, 1, 2)]
    assert [part.shape for part in stream.flush()] == [(6, 1), (1, 2)]


def test_the_usual_axes_change_nothing() -> None:
    model = fc.Model(MODELS[1].nodes, axes={"x": ("time", "batch", 6)})
    assert model.axes == {"x": ("time", "batch", 6), "y": ("time", "batch", 1)}
    assert type(model.stream()) is fc.ModelStream
    assert "axes" not in of_file(fc.Model(MODELS[1].nodes)._to_bytes())[0]
    assert MODELS[0].axes["t"] == ("batch", "time")
    assert MODELS[0].axes["l"] == ("batch", 2)


X = ("batch", 3, "time", 4)
WRONG: list[tuple[Any, type[Exception], str]] = [
    ({"z": X}, ValueError, "axes: 'z' is neither an input nor an output"),
    ({"e": ("batch", "time", 6)}, ValueError, "axes: 'e' is neither an input nor an output"),
    ({"x": ("batch", "batch", "time", 12)}, ValueError, r"x\.axes: 'batch' comes twice"),
    ({"y": ("time", "batch", "time", 6)}, ValueError, r"y\.axes: 'time' comes twice"),
    ({"x": ("batch", "steps", 12)}, ValueError, r"x\.axes: expected 'batch', 'time' or a number of features, got 'st"),
    ({"x": ("batch", "time", 5)}, ValueError, r"x\.axes: expected numbers whose product is the size of a row, 12, got"),
    ({"x": ("batch", "time")}, ValueError, r"x\.axes: expected numbers whose product is the size of a row, 12"),
    ({"x": ("batch", "time", 12, 12)}, ValueError, r"x\.axes: expected numbers whose product"),
    ({"x": ("batch", "time", 13)}, ValueError, r"x\.axes: expected a whole number from 1 to 12, got 13"),
    ({"x": ("batch", "time", 0)}, ValueError, r"x\.axes: expected a whole number from 1 to 12, got 0"),
    ({"x": (-1, "batch", "time", -12)}, ValueError, r"x\.axes: expected a whole number from 1 to 12, got -1"),
    ({"x": (2**70, "time")}, ValueError, r"x\.axes: expected a whole number from 1 to 12"),
    ({"t": ("batch", "time", 9)}, ValueError, r"t\.axes: expected a whole number from 1 to 1, got 9"),
    ({"x": (*X, *[1] * 27)}, ValueError, r"x\.axes: expected at most 30"),
    ({"y": ("batch", 6)}, ValueError, r"y\.axes: expected 'time', as an input has it"),
    ({"x": ("batch", 12), "y": ("batch", 6)}, ValueError, r"y\.axes: expected 'time', as an input has it"),
    ({"l": ("batch", "time", 2)}, ValueError, r"l\.axes: expected no 'time', as this is one answer of a whole"),
    ({"x": "batch"}, TypeError, "axes: x: expected a tuple of 'batch', 'time' and numbers of features, got 'batch'"),
    ({"x": ("batch", 12.0)}, TypeError, "axes: x: expected a tuple"),
    ([X], TypeError, "axes: expected a mapping from names to tuples, got list"),
]


@pytest.mark.parametrize(("axes", "error", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_axes_that_do_not_fit_are_refused_by_name(axes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fc.Model(MODELS[0].nodes, {"x": 12, "t": 9}, ("y", "l"), axes=axes)


def test_steps_that_are_not_single_rows_have_time() -> None:
    for steps, expected in (
        (twice().nodes, r"y\.axes: expected 'time', as a call, whose inputs have none, gives 2 rows"),
        (every_other().nodes, r"y\.axes: expected 'time', as a call, whose inputs have none, gives 0 rows"),
        ([("y", nodes.Window(uniform(1, 1, 6), taps=1, stride=2), "x")], "axes: expected 'time' in those of an input"),
    ):
        size = fc.Model(steps).sizes["x"]
        with pytest.raises(ValueError, match=expected):
            fc.Model(steps, axes={"x": ("batch", size)})


def test_arrays_that_do_not_fit_are_refused_in_the_models_axes() -> None:
    model = fc.Model(
        MODELS[0].nodes, {"x": 12, "t": 9}, ("y", "l"), axes={"x": X, "y": (6, "time", "batch"), "t": ("time", "batch")}
    )
    x, t = uniform(1, 2, 3, 5, 4), np.zeros((5, 2), int)
    stream = model.stream(2)
    before = stream.to_bytes()
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: model(x[:, :2], t), ValueError, r"x: expected shape \(batch, 3, time, 4\), got \(2, 2, 5, 4\)"),
        (lambda: model(x[0, :2], t), ValueError, r"x: expected shape \(3, time, 4\), got \(2, 5, 4\)"),
        (lambda: model(t, t), ValueError, r"x: expected shape \(batch, 3, time, 4\) or \(3, time, 4\), got \(5, 2\)"),
        (lambda: model(x, t[:4]), ValueError, r"t: expected shape \(5, 2\), got \(4, 2\)"),
        (lambda: model(x, t[:, 0]), ValueError, r"t: expected shape \(5, 2\), got \(5,\)"),
        (lambda: model(x), TypeError, r"model\(x, t\): expected 2 positional arguments, got 1"),
        (lambda: model(x, t.astype(float)), TypeError, "t: expected an array of integers, got dtype float64"),
        (lambda: model(x.astype(int), t), TypeError, "x: expected an array of floats, got dtype int64"),
        (lambda: stream.process(x[:1], t), ValueError, r"x: expected shape \(2, 3, time, 4\), got \(1, 3, 5, 4\)"),
        (lambda: stream.process(x[0], t), ValueError, r"x: expected shape \(2, 3, time, 4\), got \(3, 5, 4\)"),
        (lambda: stream.process(x), TypeError, r"process\(x, t\): expected 2 positional arguments, got 1"),
        (lambda: stream.step(x, t[0]), ValueError, r"x: expected shape \(2, 3, 4\), got \(2, 3, 5, 4\)"),
        (lambda: stream.step(x[:, :, 0], t), ValueError, r"t: expected shape \(2,\), got \(5, 2\)"),
        (lambda: stream.step(x[:, :, 0], t[0] - 1), ValueError, "t: expected tokens from 0 to 8, got -1"),
        (
            lambda: model(x, t + np.eye(5, 2, -3, int) * 9),
            ValueError,
            r"t: expected tokens from 0 to 8, got 9 at \(3, 0\)",
        ),
        (
            lambda: model.step_many(cast(Any, 5), (x[:, :, 0], t[0])),
            TypeError,
            "streams: expected a sequence of streams, got int",
        ),
        (lambda: stream.step(x[:, :, 0]), TypeError, "expected 2 or 3 positional arguments, got 1"),
        (lambda: step(out=x[0, 0]), TypeError, "out: expected a tuple of 2 arrays, one an output, got ndarray"),
        (lambda: step(out=(new(2, 6), new(2, 2))), ValueError, r"out\[0\]: expected shape \(6, 2\), got \(2, 6\)"),
        (lambda: step(out=(new(2, 6).T, new(2, 2))), ValueError, r"out\[0\]: expected a writeable, aligned, C-contig"),
        (lambda: step(out=(new(6, 2), np.zeros((2, 2)))), TypeError, r"out\[1\]: expected a float32 array, got dtype"),
        (lambda: step(out=((y := new(6, 2)), y[:2])), ValueError, r"out\[1\]: expected memory of its own"),
        (lambda: model.step_many([stream], x[:, :, 0]), TypeError, "x: expected a tuple of 2 arrays"),
        (lambda: model.step_many([stream], (x[:, :, 0],)), TypeError, "x: expected a tuple of 2 arrays"),
        (lambda: model.step_many([stream], (x[:1, :, 0], t[0])), ValueError, r"x: expected shape \(2, 3, 4\), got \(1"),
        (
            lambda: model.step_many([stream, model.stream()], (x[:, :, 0], t[0])),
            ValueError,
            r"x: expected shape \(3, 3, 4\)",
        ),
    ]

    def new(*shape: int) -> Any:
        return np.zeros(shape, np.float32)

    def step(out: Any) -> Any:
        return stream.step(x[:, :, 0], t[0], out=out)

    for call, error, message in wrong:
        with pytest.raises(error, match=message):
            call()
    assert stream.to_bytes() == before


def test_axes_of_a_file_are_checked_as_those_of_a_model(tmp_path: Path) -> None:
    description, tensors = of_file(MODELS[0]._to_bytes())
    path = tmp_path / "model.safetensors"
    more = [([], "axes: expected an object"), ({"x": 12}, r"x\.axes: expected a list, got 12")]
    more += [
        ({"x": ["batch", value, "time"]}, r"x\.axes: expected a whole number from 1 to 12") for value in (1.5, None)
    ]
    texts = [(axes, message) for axes, error, message in WRONG if error is ValueError]
    for axes, message in texts + more:
        path.write_bytes(to_file(description | {"axes": axes}, tensors))
        with pytest.raises(ValueError, match=message):
            fc.load(path)
    text = to_file(description | {"axes": {"x": list(X), "y": ["batch", "time", 6]}}, tensors)
    twice_x = text.replace(b'\\"y\\": [\\"batch\\", \\"time\\", 6]', b'\\"x\\": [\\"batch\\", \\"time\\", 6]')
    assert len(twice_x) == len(text)
    path.write_bytes(twice_x)
    with pytest.raises(ValueError, match="axes: 'x' comes twice"):
        fc.load(path)
    path.write_bytes(to_file(description | {"axes": {"x": X}}, tensors))
    assert fc.load(path).axes["x"] == X


def test_a_stream_of_one_sequence_takes_a_batch_of_one_too() -> None:
    dense = fc.Dense([[1.0, 2.0]], [0.5])
    model = fc.Model([("y", dense, "x")], axes={"x": ("batch", 2), "y": ("batch", 1)})
    stream = model.stream()
    np.testing.assert_array_equal(stream.step([3.0, 4.0]), [11.5])
    np.testing.assert_array_equal(stream.step([[3.0, 4.0]]), [[11.5]])
    with pytest.raises(ValueError, match=r"x: expected shape \(1, 2\), got \(2, 2\)"):
        stream.step(np.zeros((2, 2)))
