"""Weights that a file makes of constants are what ONNX Runtime makes of them, as exporters write them and drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper

import fusedcell as fc
from drawn import examples
from fusedcell.convert.onnx.read import report
from onnx_graphs import SIZES, Graph, assert_as_onnx_runtime
from onnx_models import arrays_for

ARRAYS = arrays_for("GRU", directions=1, units=4, absent=("sequence_lens", "initial_h"))
R = ARRAYS["R"]


def weight_norm(g: Graph) -> str:
    """As PyTorch's legacy exporter writes it."""
    v = g.constant(R[0])
    norm = g("ReduceL2", v, g.ints(1), keepdims=1) if g.opset >= 18 else g("ReduceL2", v, axes=[1], keepdims=1)
    return g("Unsqueeze", g("Mul", g("Div", v, norm), g.constant(np.linspace(0.5, 1, 12)[:, None])), g.ints(0))


def weight_norm_by_powers(g: Graph) -> str:
    """As PyTorch's newer exporter does: the norm by a power, a sum and another power."""
    v = g.constant(R[0])
    squares = g("ReduceSum", g("Pow", g("Abs", v), g.constant(2)), g.ints(1), keepdims=1)
    norm = g("Pow", squares, g.constant(0.5))
    return g("Unsqueeze", g("Mul", v, g("Div", g.constant(np.linspace(0.5, 1, 12)[:, None]), norm)), g.ints(0))


def quantised_and_back(g: Graph) -> str:
    """As training that knows of quantisation leaves it."""
    scale, zero = g.constant(0.01), g.constant(3, np.int8)
    return g("DequantizeLinear", g("QuantizeLinear", g.constant(R), scale, zero), scale, zero)


def dequantised_by_hand(g: Graph) -> str:
    q = g.constant(np.round(R * 50), np.int8)
    floats = g("Sub", g("Cast", q, to=TensorProto.FLOAT), g.constant(2))
    return g("Mul", floats, g.constant(np.linspace(0.01, 0.02, 12)[:, None]))


def four_bits(g: Graph) -> str:
    """Two numbers to a byte."""
    packed = g.constant(np.random.default_rng(0).integers(0, 256, (12, 2)), np.uint8)
    low = g("BitwiseAnd", packed, g.constant(15, np.uint8))
    high = g("BitShift", packed, g.constant(4, np.uint8), direction="RIGHT")
    pairs = g("Concat", g("Unsqueeze", low, g.ints(2)), g("Unsqueeze", high, g.ints(2)), axis=2)
    floats = g("Cast", g("Reshape", pairs, g.ints(1, 12, 4)), to=TensorProto.FLOAT)
    return g("Mul", g("Sub", floats, g.constant(8)), g.constant(0.05))


def gates_split_and_joined(g: Graph) -> str:
    parts = g.several("Split", 3, g.constant(R), g.ints(4, 4, 4), axis=1)
    return g("Concat", parts[1], parts[0], parts[2], axis=1)


def low_rank(g: Graph) -> str:
    a, b = g.constant(R[0, :, :2]), g.constant(R[0, :2])
    return g("Unsqueeze", g("Add", g.constant(R[0]), g("Mul", g("MatMul", a, b), g.constant(0.5))), g.ints(0))


def masked(g: Graph) -> str:
    return g("Where", g("Greater", g("Abs", g.constant(R)), g.constant(0.1)), g.constant(R), g.constant(0))


def padded(g: Graph) -> str:
    return g("Pad", g.constant(R[:, :, :3]), g.ints(0, 0, 0, 0, 0, 1))


def gathered(g: Graph) -> str:
    return g("Gather", g.constant(np.concatenate([R, R[:, ::-1]], 1)), g.ints(*range(2, 14)), axis=1)


def bounded(g: Graph) -> str:
    return g("Mul", g("Tanh", g.constant(R)), g("Sqrt", g("ReduceSum", g("Mul", g.constant(R), g.constant(R)))))


MADE: tuple[Callable[[Graph], str], ...] = (
    weight_norm, weight_norm_by_powers, quantised_and_back, dequantised_by_hand, four_bits, gates_split_and_joined,
    low_rank, masked, padded, gathered, bounded,
)  # fmt: skip


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_weights_made_of_constants(make: Callable[[Graph], str], opset: int) -> None:
    if make is four_bits and opset < 18:
        pytest.skip("BitwiseAnd is newer")
    graph = Graph(opset)
    model = graph.model("GRU", ARRAYS, {"R": make(graph)})
    assert assert_as_onnx_runtime(model, fc.from_onnx(model)) == len(SIZES)


def test_biases_that_are_added() -> None:
    graph = Graph()
    bias = graph("Add", graph.constant(ARRAYS["B"]), graph.constant(np.linspace(-1, 1, 24)))
    model = graph.model("GRU", ARRAYS, {"B": bias})
    assert assert_as_onnx_runtime(model, fc.from_onnx(model)) == len(SIZES)


def test_the_report_says_of_what_weights_are_made() -> None:
    graph = Graph()
    W = graph("Mul", graph.constant(ARRAYS["W"]), graph.constant(2))
    (found,) = report(graph.model("GRU", ARRAYS, {"W": W}))
    assert found.reading is not None
    assert found.reading.weights.source == "initializer 'v1' and initializer 'v2' through Mul"


ONE = ("Abs", "Neg", "Tanh", "Sigmoid", "Exp", "Relu", "Softplus", "Sign", "Floor", "Ceil", "Round", "Identity")
TWO = ("Add", "Sub", "Mul", "Max", "Min", "MatMul", "Equal", "Greater", "Pow")


@given(st.data())
@settings(max_examples=examples(60))
def test_weights_by_drawn_operators_are_what_onnx_runtime_makes(data: Any) -> None:
    draw = data.draw
    graph = Graph(draw(st.sampled_from([13, 18, 21])))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    pool = [graph.constant(random.uniform(-1, 1, s)) for s in ((1, 12, 4), (12, 4), (4, 4), (12, 1), (4,), (1, 12, 4))]
    indices = graph.ints(*random.permutation(4)[:3])
    for _ in range(draw(st.integers(1, 10))):
        with contextlib.suppress(ValueError):
            a, b = (draw(st.sampled_from(pool[-6:] if draw(st.booleans()) else pool)) for _ in range(2))
            kind = draw(st.integers(0, 7))
            axis = draw(st.integers(-3, 2))
            if kind == 0:
                name = graph(draw(st.sampled_from(ONE)), a)
            elif kind <= 2:
                name = graph(draw(st.sampled_from(TWO)), a, b)
            elif kind == 3:
                name = graph("Transpose", a, perm=draw(st.permutations(range(graph.values[a].ndim))))
            elif kind == 4:
                name = graph("Concat", a, b, axis=axis)
            elif kind == 5:
                name = graph("Gather", a, indices, axis=axis)
            elif kind == 6:
                name = graph("Slice", a, graph.ints(draw(st.integers(-3, 3))), graph.ints(2**40), graph.ints(axis))
            else:
                name = graph("ReduceSum", a, graph.ints(axis), keepdims=draw(st.integers(0, 1)))
            value = graph.values[name]
            if value.dtype == bool:
                name = graph("Not", name) if draw(st.booleans()) else name
                name = graph("Cast", name, to=TensorProto.FLOAT)
            if 0 < value.size < 500 and np.abs(value.astype(np.float32)).max() < 10:
                pool.append(name)
    R = graph.constant(np.zeros((1, 12, 4)))
    for made in reversed(pool):
        try:
            added = graph("Add", made, R)
        except ValueError:
            continue
        if graph.values[added].shape == (1, 12, 4):
            model = graph.model("GRU", ARRAYS, {"R": added})
            assert assert_as_onnx_runtime(model, fc.from_onnx(model)) == len(SIZES)
            return


class TestBounds:
    """An operator whose result is large for what the file holds is refused before it is made."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda g: g.lazy("Pad", g.constant(R), g.ints(0, 0, 0, 0, 0, 2**40)),
            lambda g: g.lazy("Range", *(g.constant(n, np.int64) for n in (0, 2**50, 1))),
            lambda g: g.lazy("ConstantOfShape", g.ints(2**30, 2**30)),
            lambda g: g.lazy("Add", g.constant(np.ones((4000, 1))), g.constant(np.ones(4000))),
            lambda g: g.lazy("MatMul", g.constant(np.ones((4000, 1))), g.constant(np.ones((1, 4000)))),
            lambda g: g.lazy("Gather", g.constant(np.ones((1, 4000))), g.ints(*[0] * 4000), axis=0),
            lambda g: g.lazy(
                "DequantizeLinear", g.constant(R, np.int8), g.constant(R[:, :1]), axis=1, block_size=2**40
            ),
            lambda g: g.lazy("Tile", g.constant(np.ones((2, 2, 2))), g.ints(2**20, 2**20, 2**20)),
            lambda g: g.lazy("Expand", g.constant(R[:1, :1, :1]), g.ints(2**20, 2**20, 2**20)),
        ],
    )
    def test_before_it_is_made(self, make: Callable[[Any], str]) -> None:
        class Lazy(Graph):
            """Whose nodes are not run."""

            def lazy(self, op_type: str, *inputs: str, **attributes: Any) -> str:
                self.nodes.append(helper.make_node(op_type, inputs, ["made"], **attributes))
                return "made"

        graph = Lazy(21)
        model = graph.model("GRU", ARRAYS, {"R": make(graph)})
        with pytest.raises(ValueError, match=r"too large for what the file holds|too long to follow|do not fit"):
            fc.from_onnx(model)

    def test_data_outside_the_file_by_way_of_an_attribute_is_not_read(self, tmp_path: Any) -> None:
        (tmp_path / "secret").write_bytes(bytes(1000))
        for op_type, name in (("ConstantOfShape", "value"), ("Constant", "value"), ("Transpose", "perm")):
            tensor = onnx.TensorProto(data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
            for key, value in (("location", str(tmp_path / "secret")), ("length", "4")):
                tensor.external_data.add(key=key, value=value)
            graph = Graph()
            inputs = [] if op_type == "Constant" else [graph.ints(1, 12, 4)]
            graph.nodes.append(helper.make_node(op_type, inputs, ["made"]))
            graph.nodes[0].attribute.append(helper.make_attribute(name, tensor))
            with pytest.raises(ValueError, match=r"its data is in the file|attribute perm: expected type INTS"):
                fc.from_onnx(graph.model("GRU", ARRAYS, {"R": "made"}))
