"""States and lengths that a model makes of the sizes of its inputs are what they come to, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

from onnx import TensorProto, numpy_helper

import fusedcell as fc
from drawn import examples
from onnx_graphs import SIZES, Graph, assert_as_onnx_runtime, graphs, runs_of, session_of
from onnx_models import arrays_for

Build = Callable[[Graph], str]
UNITS = 5
ROW = np.random.default_rng(3).uniform(-1, 1, (2, 1, UNITS)).astype(np.float32)
TABLE = np.random.default_rng(4).uniform(-1, 1, (4, 1, UNITS)).astype(np.float32)
OPSETS = (7, 9, 11, 13, 18, 21)


def arrays_of(op: str, directions: int = 2) -> dict[str, np.ndarray]:
    return arrays_for(op, directions=directions, absent=("sequence_lens", "initial_h", "initial_c", "P"))


def size(graph: Graph, axis: int, source: str = "X") -> str:
    """One size of X, as a vector."""
    return slice_of(graph, graph("Shape", source), axis, axis + 1)


def slice_of(graph: Graph, source: str, start: int, end: int, axis: int = 0) -> str:
    if graph.opset < 10:
        return graph("Slice", source, starts=[start], ends=[end], axes=[axis])
    return graph("Slice", source, graph.ints(start), graph.ints(end), graph.ints(axis))


def unsqueezed(graph: Graph, source: str, axis: int = 0) -> str:
    if graph.opset < 13:
        return graph("Unsqueeze", source, axes=[axis])
    return graph("Unsqueeze", source, graph.ints(axis))


def filled(graph: Graph, value: float, *sizes: str) -> str:
    """One value in a shape: ConstantOfShape, which is of opset 9, or what converters wrote before."""
    shape = graph("Concat", *sizes, axis=0)
    if graph.opset < 9:
        ones = graph("Tile", graph.constant(np.ones((1,) * len(sizes))), shape)
        return graph("Mul", ones, graph.constant(value))
    return graph("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([value], np.float32)))


def full_shape(graph: Graph, directions: int = 2) -> str:
    return graph("Concat", graph.ints(directions), size(graph, 1), graph.ints(UNITS), axis=0)


def where_shape(graph: Graph, sizes: str) -> str:
    """The shape as PyTorch's expand writes it: each -1 replaced by 1."""
    flat = graph("Reshape", sizes, graph.ints(-1))
    ones = graph("ConstantOfShape", graph("Shape", flat), value=numpy_helper.from_array(np.ones(1, np.int64)))
    missing = graph("Equal", flat, graph("Mul", ones, graph.constant(-1, np.int64)))
    return graph("Where", missing, ones, flat)


def one(value: float) -> list[Build]:
    """Chains that make this number everywhere."""
    half = value / 2

    def each_direction(g: Graph) -> str:
        """As tf2onnx writes a Keras Bidirectional layer."""
        parts = [unsqueezed(g, filled(g, value, size(g, 1), g.ints(UNITS))) for _ in range(2)]
        return g("Concat", *parts, axis=0)

    def floats_and_back(g: Graph) -> str:
        """As tf2onnx handles shapes where an operator takes floats only."""
        floats = g("Cast", g("Shape", "X"), to=TensorProto.FLOAT)
        rows = g("Cast", slice_of(g, floats, 1, 2), to=TensorProto.INT64)
        return filled(g, value, g.ints(2), rows, g.ints(UNITS))

    return [
        lambda g: filled(g, value, g.ints(2), size(g, 1), g.ints(UNITS)),
        each_direction,
        floats_and_back,
        lambda g: g("Tile", g.constant(np.full((2, 1, UNITS), value)), repeats(g)),
        lambda g: g("Add", filled(g, half, g.ints(2), size(g, 1), g.ints(UNITS)), g.constant(half)),
        lambda g: slice_of(g, filled(g, value, g.ints(4), size(g, 1), g.ints(UNITS)), 1, 3),
        lambda g: g("Transpose", filled(g, value, size(g, 1), g.ints(2), g.ints(UNITS)), perm=[1, 0, 2]),
        lambda g: g("Reshape", filled(g, value, size(g, 1), g.ints(2 * UNITS)), g.ints(2, -1, UNITS)),
        lambda g: g("Add", g("Mul", rows_of_x(g), g.constant(np.zeros((2, 1, 1)))), g.constant(np.full(UNITS, value))),
        lambda g: g("Div", filled(g, value, g.ints(2), size(g, 1), g.ints(UNITS)), g.constant(1)),
    ]  # fmt: skip


def repeats(graph: Graph) -> str:
    return graph("Concat", graph.ints(1), size(graph, 1), graph.ints(1), axis=0)


def rows_of_x(graph: Graph) -> str:
    """(1, B, 1) of X's own values, whatever they are."""
    return slice_of(graph, slice_of(graph, "X", 0, 1), 0, 1, axis=2)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("index", range(len(one(0))))
def test_one_number_by_any_chain_is_zeros_or_one_row(index: int, value: float, opset: int) -> None:
    graph = Graph(opset)
    made = one(value)[index](graph)
    model = graph.model("GRU", arrays_of("GRU"), {"initial_h": made})
    layer = fc.from_onnx(model)
    assert_is(layer.initial_state, None if value == 0 else np.full((2, 1, UNITS), value, np.float32))
    assert assert_as_onnx_runtime(model, layer) == len(SIZES)


def assert_is(state: Any, expected: Any) -> None:
    if expected is None:
        assert state is None
    else:
        np.testing.assert_array_equal(state, expected)


ROWS: dict[str, Build] = {
    "expand": lambda g: g("Expand", g.constant(ROW), full_shape(g)),
    "expand, of which -1 leaves two axes": lambda g: g(
        "Expand", g.constant(ROW), where_shape(g, g("Concat", g.ints(-1), size(g, 1), g.ints(-1), axis=0))
    ),
    "expand, then the slice of a layer": lambda g: slice_of(
        g, g("Expand", g.constant(np.concatenate([ROW, TABLE])), full_shape(g, 6)), 0, 2
    ),
    "expand by ones, then tile": lambda g: g("Tile", g("Expand", g.constant(ROW), g.ints(1, 1, 1)), repeats(g)),
    "a row for each direction, joined": lambda g: g(
        "Concat", *(g("Expand", g.constant(ROW[d : d + 1]), full_shape(g, 1)) for d in range(2)), axis=0
    ),
    "a row for each direction, split": lambda g: g(
        "Concat", *reversed(g.several("Split", 2, g("Expand", g.constant(ROW[::-1]), full_shape(g)), axis=0, **(
            {"num_outputs": 2} if g.opset >= 18 else {}))), axis=0
    ),
    "batch first, then transposed": lambda g: g(
        "Transpose",
        g("Expand", g.constant(ROW.swapaxes(0, 1)), g("Concat", size(g, 1), g.ints(2, UNITS), axis=0)),
        perm=[1, 0, 2],
    ),
    "layers and directions apart": lambda g: g(
        "Gather",
        g(
            "Reshape",
            g("Expand", g.constant(np.concatenate([TABLE[:2], ROW])), full_shape(g, 4)),
            g("Concat", g.ints(2, 2), size(g, 1), g.ints(UNITS), axis=0),
        ),
        g.constant(1, np.int64),
        axis=0,
    ),
    "the batch for -1": lambda g: g("Reshape", g("Expand", g.constant(ROW), full_shape(g)), g.ints(2, -1, UNITS)),
    "rows of a table": lambda g: g(
        "Expand", g("Gather", g.constant(np.concatenate([TABLE, ROW])), g.ints(4, 5), axis=0), full_shape(g)
    ),
    "zeros plus a row": lambda g: g("Add", filled(g, 0.0, g.ints(2), size(g, 1), g.ints(UNITS)), g.constant(ROW)),
    "a dense layer of zeros": lambda g: g(
        "Add",
        g("MatMul", filled(g, 0.0, g.ints(2), size(g, 1), g.ints(3)), g.constant(np.ones((3, UNITS)))),
        g.constant(ROW),
    ),
    "a dense layer of ones": lambda g: g(
        "Sub",
        g("MatMul", filled(g, 1.0, g.ints(2), size(g, 1), g.ints(1)), g.constant(np.ones((1, UNITS)))),
        g.constant(1 - ROW),
    ),
    "the last of steps": lambda g: g(
        "Gather",
        g("Expand", g.constant(ROW[None]), g("Concat", size(g, 0), full_shape(g), axis=0)),
        g.constant(-1, np.int64),
        axis=0,
    ),
    "the mean over steps": lambda g: g(
        "ReduceMean",
        g("Expand", g.constant(ROW[None]), g("Concat", size(g, 0), full_shape(g), axis=0)),
        *([g.ints(0)] if g.opset >= 18 else []),
        keepdims=0,
        **({} if g.opset >= 18 else {"axes": [0]}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("name", ROWS)
def test_a_learned_row_by_any_chain_serves_every_batch(name: str, opset: int) -> None:
    graph = Graph(opset)
    model = graph.model("GRU", arrays_of("GRU"), {"initial_h": ROWS[name](graph)})
    layer: Any = fc.from_onnx(model)
    np.testing.assert_allclose(layer.initial_state, ROW, rtol=1e-6)
    assert assert_as_onnx_runtime(model, layer) == len(SIZES)


def test_the_two_states_of_an_lstm_each_on_its_own() -> None:
    graph = Graph()
    made = {"initial_h": one(0.0)[1](graph), "initial_c": ROWS["expand"](graph)}
    model = graph.model("LSTM", arrays_of("LSTM"), made)
    layer = fc.from_onnx(model)
    h, c = layer.initial_state  # type: ignore[misc] # an LSTM's is a pair
    np.testing.assert_array_equal(h, np.zeros_like(ROW))
    np.testing.assert_array_equal(c, ROW)
    assert assert_as_onnx_runtime(model, layer) == len(SIZES)


def rows(graph: Graph) -> str:
    return size(graph, 1)


def int32(graph: Graph, source: str) -> str:
    return graph("Cast", source, to=TensorProto.INT32)


def tiled_through_floats(g: Graph) -> str:
    """As tf2onnx wrote a dynamic_rnn without lengths."""
    floats = g("Cast", g("Shape", "X"), to=TensorProto.FLOAT)
    rows = g("Cast", slice_of(g, floats, 1, 2), to=TensorProto.INT64)
    return int32(g, g("Tile", slice_of(g, floats, 0, 1), rows))


FULL: dict[str, Build] = {
    "tile": tiled_through_floats,
    "expand": lambda g: int32(g, g("Expand", size(g, 0), size(g, 1))),
    "fill and multiply": lambda g: int32(
        g, g("Mul", g("ConstantOfShape", size(g, 1), value=numpy_helper.from_array(np.ones(1, np.int64))), size(g, 0))
    ),
    "fill and add": lambda g: int32(
        g, g("Add", g("ConstantOfShape", size(g, 1), value=numpy_helper.from_array(np.zeros(1, np.int64))), size(g, 0))
    ),
    "the sum of a mask of ones": lambda g: int32(
        g, g("ReduceSum", filled(g, 1.0, size(g, 0), size(g, 1)), g.ints(0), keepdims=0)
    ),
    "there and back": lambda g: int32(
        g, g("Expand", g("Sub", g("Add", size(g, 0), size(g, 1)), size(g, 1)), size(g, 1))
    ),
    "sizes multiplied and divided": lambda g: int32(
        g, g("Expand", g("Div", g("Mul", size(g, 0), size(g, 1)), size(g, 1)), size(g, 1))
    ),
    "all positions over the rows": lambda g: int32(
        g, g("Expand", g("Div", g("ReduceProd", slice_of(g, g("Shape", "X"), 0, 2), keepdims=0), rows(g)), rows(g))
    ),
    "no less than itself": lambda g: int32(g, g("Expand", g("Max", size(g, 0), size(g, 0)), size(g, 1))),
}  # fmt: skip


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", FULL)
def test_lengths_that_are_all_steps_change_nothing(name: str, opset: int) -> None:
    if opset < {"tile": 7, "expand": 8, "no less than itself": 12, "the sum of a mask of ones": 13}.get(name, 9):
        pytest.skip("the operators are newer")
    graph = Graph(opset)
    model = graph.model("LSTM", arrays_of("LSTM", 1), {"sequence_lens": FULL[name](graph)})
    assert assert_as_onnx_runtime(model, fc.from_onnx(model)) == len(SIZES)


def chosen(test: str, number: int, axis: int) -> Build:
    """Zeros or ones, by a comparison of a size with a number."""

    def build(g: Graph) -> str:
        condition = g(test, size(g, axis), g.ints(number))
        return g("Expand", g("Where", condition, g.constant(np.ones(1)), g.constant(np.zeros(1))), full_shape(g))

    return build


def wrapped(dtype: int, number: float) -> Build:
    """(size + number) - number - size, which is 0 of numbers without end, and not in every type."""

    def build(g: Graph) -> str:
        batch = g("Cast", size(g, 1), to=dtype)
        constant = g("Cast", g.constant(np.array([number])), to=dtype)
        zero = g("Sub", g("Sub", g("Add", batch, constant), constant), batch)
        return g("Expand", g("Cast", zero, to=TensorProto.FLOAT), full_shape(g))

    return build


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (wrapped(TensorProto.FLOAT, 2.0**27), r"Add node '\w+': .* as float32 may overflow or be rounded"),
        (wrapped(TensorProto.INT32, 2.0**31 - 1024), r"Add node '\w+': .* as int32 may overflow or be rounded"),
        (chosen("Equal", 7, 1), r"Equal node '\w+': whether B == 7 depends"),
        (chosen("Less", 100, 0), r"Less node '\w+': whether 100 - T > 0 depends"),
        (chosen("Greater", 0, 1), r"Greater node '\w+': whether B > 0 depends"),
        (lambda g: g("Expand", g("Cast", size(g, 1), to=TensorProto.FLOAT), full_shape(g)), "depend on the sizes"),
        (lambda g: slice_of_rows(g, g.constant(np.arange(10 * UNITS * 2).reshape(2, 10, UNITS))), r"Slice node '\w+'"),
        (
            lambda g: g(
                "Expand",
                g("Gather", g.constant(TABLE), g("Cast", size(g, 1), to=TensorProto.INT64), axis=0),
                full_shape(g),
            ),
            r"Gather node '\w+'",
        ),
        (
            lambda g: g(
                "Reshape",
                g("Expand", g.constant(ROW), full_shape(g)),
                g("Concat", size(g, 1), g.ints(2, UNITS), axis=0),
            ),
            r"Reshape node '\w+'",
        ),
        (
            lambda g: g(
                "Concat",
                filled(g, 0.0, g.ints(2), size(g, 1), g.ints(UNITS)),
                filled(g, 1.0, g.ints(2), size(g, 1), g.ints(UNITS)),
                axis=1,
            ),
            r"Concat node '\w+'",
        ),
        (lambda g: g("RandomNormal", shape=[2, 2, UNITS]), "RandomNormal of constants is not followed; run the model"),
    ],
)
def test_states_that_are_not_the_same_for_every_row_and_size_are_refused(build: Build, message: str) -> None:
    graph = Graph()
    model = graph.model("GRU", arrays_of("GRU"), {"initial_h": build(graph)})
    with pytest.raises(fc.UnsupportedError, match=f"input initial_h: .*{message}"):
        fc.from_onnx(model)


def slice_of_rows(graph: Graph, table: str) -> str:
    return graph("Slice", table, graph.ints(0), size(graph, 1), graph.ints(1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda g: g("Sub", size(g, 0), g.ints(1)), r"\[-1 \+ T\], made by the model itself, and X has T steps"),
        (lambda g: size(g, 1), r"\[B\], made by"),
        (lambda g: g("Min", size(g, 0), g.ints(5)), r"Min node '\w+': whether -4 \+ T > 0 depends on the sizes"),
        (lambda g: g("Div", g("Mul", size(g, 0), g.ints(3)), g.ints(2)), r"Div node '\w+': \(3 \* T\) / \(2\) is not"),
        (lambda g: g.ints(4), r"\[4\], made by the model itself, and X has T steps"),
        (
            lambda g: g("ReduceSum", filled(g, 1.0, size(g, 1)), keepdims=1, noop_with_empty_axes=1),
            r"ReduceSum node '\w+': its result depends on the sizes",
        ),
        (lambda g: g("Range", *(g.constant(n, np.int64) for n in (3, 5, 1))), r"\[3, 4\], made by"),
    ],
)
def test_lengths_that_are_not_all_steps_are_refused(build: Build, message: str) -> None:
    graph = Graph()
    lengths = int32(graph, graph("Expand", build(graph), size(graph, 1)))
    model = graph.model("GRU", arrays_of("GRU"), {"sequence_lens": lengths})
    with pytest.raises(fc.UnsupportedError, match=f"input sequence_lens: .*{message}"):
        fc.from_onnx(model)


@given(st.data(), st.integers(1, 2), st.integers(2, 4))
@settings(max_examples=examples(30))
def test_whatever_loads_of_drawn_graphs_is_what_onnx_runtime_runs(data: Any, directions: int, units: int) -> None:
    graph, state, lengths = data.draw(graphs(directions, units))
    arrays = arrays_for("GRU", directions=directions, units=units, absent=("sequence_lens", "initial_h"))
    made = {"initial_h": state} | ({"sequence_lens": lengths} if lengths else {})
    model = graph.model("GRU", arrays, made)
    try:
        session_of(model)
    except Exception:  # what it finds not to fit at any size
        return
    try:
        layer = fc.from_onnx(model)
    except fc.UnsupportedError:
        return
    except ValueError:
        assert runs_of(model) == []
        return
    assert_as_onnx_runtime(model, layer)
