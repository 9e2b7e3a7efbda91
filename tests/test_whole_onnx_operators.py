"""A graph of one operator, or few, answers as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnx.parser

import fusedcell as fc
from fusedcell.errors import UnsupportedError
from onnx_graphs import session_of
from whole_onnx import array, assert_agrees, feeds_of, graph_of, recurrent_arrays

# One operator, or few, with its constants.
OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "Abs": ("y = Abs(x)", {}),
    "Add": ("y = Add(x, c)", {"c": array(4)}),
    "Add of two": ("a = Tanh(x) y = Add(x, a)", {}),
    "Add of a column": ("a = ReduceMean <axes=[-1]> (x) y = Add(a, x)", {"opset": 17}),
    "BatchNormalization": (
        "a = Transpose <perm=[0,2,1]> (x) y = BatchNormalization <epsilon=0.01> (a, w, b, m, v)",
        {"w": array(4), "b": array(4), "m": array(4), "v": array(4, low=0.5, high=2)},
    ),
    "Cast": ("a = Cast <to=11> (x) b = Mul(a, c) y = Cast <to=1> (b)", {"c": 2.0}),
    "Celu": ("y = Celu <alpha=0.7> (x)", {}),
    "Clip": ("y = Clip(x, a, b)", {"a": np.float32(-0.2), "b": np.float32(0.3)}),
    "Clip below": ("y = Clip(x, a)", {"a": np.float32(-0.2)}),
    "Clip above": ("y = Clip(x, , a)", {"a": np.float32(0.2)}),
    "Clip of set 6": ("y = Clip <min=-0.2, max=0.1> (x)", {"opset": 10}),
    "Concat": ("a = Relu(x) y = Concat <axis=-1> (x, a, x)", {}),
    "Concat of constants": ("s = Shape(x) a = Expand(c, s) y = Concat <axis=2> (x, a)", {"c": array(4)}),
    "Constant": ("c = Constant <value_float=2.5> () y = Mul(c, x)", {}),
    "Conv": (
        "a = Transpose <perm=[0,2,1]> (x) y = Conv <pads=[2,1], dilations=[2]> (a, w, b)",
        {"w": array(6, 4, 3), "b": array(6)},
    ),
    "Conv with a stride": (
        "a = Transpose <perm=[0,2,1]> (x) y = Conv <strides=[2], pads=[2,0], group=2> (a, w)",
        {"w": array(6, 2, 3)},
    ),
    "Conv of each": ("a = Transpose <perm=[0,2,1]> (x) y = Conv <group=4> (a, w)", {"w": array(4, 1, 3)}),
    "Conv auto_pad": (
        'a = Transpose <perm=[0,2,1]> (x) y = Conv <auto_pad="SAME_LOWER"> (a, w)',
        {"w": array(6, 4, 4)},
    ),
    "Conv auto_pad, above": (
        'a = Transpose <perm=[0,2,1]> (x) y = Conv <auto_pad="SAME_UPPER"> (a, w)',
        {"w": array(6, 4, 4)},
    ),
    "Conv inside": (
        "a = Unsqueeze(x, i) b = Conv <pads=[0,1,0,1], strides=[1,2]> (a, w) y = Relu(b)",
        {"i": [1], "w": array(3, 1, 1, 3)},
    ),
    "Conv along both": ("a = Unsqueeze(x, i) y = Conv <pads=[2,1,0,1]> (a, w)", {"i": [1], "w": array(3, 1, 3, 3)}),
    "ConvTranspose": (
        "a = Transpose <perm=[0,2,1]> (x) y = ConvTranspose <strides=[2], pads=[1,1]> (a, w, b)",
        {"w": array(4, 3, 4), "b": array(3)},
    ),
    "ConvTranspose, one end": (
        "a = Transpose <perm=[0,2,1]> (x) y = ConvTranspose <strides=[2], pads=[0,2]> (a, w)",
        {"w": array(4, 3, 4)},
    ),
    "ConvTranspose in groups": (
        "a = Transpose <perm=[0,2,1]> (x) y = ConvTranspose <strides=[3], group=2, output_padding=[1]> (a, w)",
        {"w": array(4, 3, 4)},
    ),
    "Div": ("y = Div(x, c)", {"c": array(4, low=1, high=2)}),
    "Dropout": ("y = Dropout(x)", {}),
    "Elu": ("y = Elu <alpha=0.3> (x)", {}),
    "Exp": ("y = Exp(x)", {}),
    "Expand": ("a = ReduceMax <axes=[-1]> (x) y = Expand(a, s)", {"s": [1, 1, 5], "opset": 17}),
    "Flatten": ("y = Flatten(x)", {"inputs": "float[batch,3,2] x"}),
    "Gather one": ("y = Gather <axis=2> (x, i)", {"i": -2}),
    "Gather several": ("y = Gather <axis=2> (x, i)", {"i": [[3, 0], [1, 1]]}),
    "Gather the last row": ("y = Gather <axis=1> (x, i)", {"i": -1}),
    "Gather of a table": ("y = Gather(c, t)", {"inputs": "int64[batch,time] t", "c": array(7, 5)}),
    "Gelu": ("y = Gelu(x)", {"opset": 20}),
    "Gelu by tanh": ('y = Gelu <approximate="tanh"> (x)', {"opset": 20}),
    "Gemm": (
        "y = Gemm <alpha=0.5, beta=2.0, transB=1> (x, w, b)",
        {"inputs": "float[batch,4] x", "w": array(6, 4), "b": array(6)},
    ),
    "GlobalAveragePool": ("a = Unsqueeze(x, i) b = GlobalAveragePool(a) y = Flatten(b)", {"i": [-1]}),
    "GlobalMaxPool": ("a = Transpose <perm=[0,2,1]> (x) y = GlobalMaxPool(a)", {}),
    "GroupNormalization": (
        "s = Shape(x) a = Reshape(x, i) n = GroupNormalization <num_groups=2, epsilon=0.1> (a, w, b) y = Reshape(n, s)",
        {"i": [-1, 4, 1], "w": array(4), "b": array(4), "opset": 21},
    ),
    "HardSigmoid": ("y = HardSigmoid <alpha=0.3> (x)", {}),
    "HardSwish": ("y = HardSwish(x)", {}),
    "Identity": ("a = Identity(x) y = Tanh(a)", {}),
    "If": (
        "y = If (c) <then_branch = t () => (float a) {a = Tanh(x)}, else_branch = e () => (float b) {b = Det(x)}>",
        {"c": True},
    ),
    "InstanceNormalization": (
        "s = Shape(x) a = Reshape(x, i) n = InstanceNormalization <epsilon=0.01> (a, w, b) y = Reshape(n, s)",
        {"i": [-1, 2, 2], "w": array(2), "b": array(2)},
    ),
    "LayerNormalization": (
        "y = LayerNormalization <epsilon=0.001> (x, w, b)",
        {"w": array(4), "b": array(4)},
    ),
    "LeakyRelu": ("y = LeakyRelu <alpha=0.2> (x)", {}),
    "Log": ("e = Exp(x) a = Add(e, x) b = Add(a, c) y = Log(b)", {"c": np.float32(3)}),
    "LogSoftmax": ("y = LogSoftmax(x)", {}),
    "LpNormalization": ("y = LpNormalization(x)", {}),
    "MatMul": ("y = MatMul(x, w)", {"w": array(4, 6)}),
    "MatMul from the left": ("a = Transpose <perm=[0,2,1]> (x) y = MatMul(w, a)", {"w": array(6, 4)}),
    "MatMul by a vector": ("y = MatMul(x, w)", {"w": array(4)}),
    "Max": ("y = Max(x, c)", {"c": np.float32(0.1)}),
    "Max of several": ("a = Tanh(x) b = Neg(x) y = Max(c, a, x, b)", {"c": array(4)}),
    "MaxPool": ("a = Transpose <perm=[0,2,1]> (x) y = MaxPool <kernel_shape=[3], strides=[2]> (a)", {}),
    "MaxPool inside": ("a = Unsqueeze(x, i) y = MaxPool <kernel_shape=[1,3], pads=[0,1,0,1]> (a)", {"i": [1]}),
    "AveragePool": ("a = Transpose <perm=[0,2,1]> (x) y = AveragePool <kernel_shape=[3]> (a)", {}),
    "AveragePool, padding counted": (
        "a = Transpose <perm=[0,2,1]> (x) y = AveragePool <kernel_shape=[3], pads=[1,1], count_include_pad=1> (a)",
        {},
    ),
    "Min": ("y = Min(c, x)", {"c": np.float32(0.1)}),
    "Min of several": ("a = ReduceMean <axes=[-1]> (x) y = Min(x, a, c)", {"c": array(4), "opset": 17}),
    "Mish": ("y = Mish(x)", {}),
    "Mul": ("y = Mul(x, c)", {"c": array(1, 1, 4)}),
    "Neg": ("y = Neg(x)", {}),
    "OneHot": ("y = OneHot(t, d, v)", {"inputs": "int64[batch,time] t", "d": 7, "v": np.array([-1, 2], np.float32)}),
    "PRelu": ("y = PRelu(x, c)", {"c": array(4)}),
    "PRelu of channels": ("a = Transpose <perm=[0,2,1]> (x) y = PRelu(a, c)", {"c": array(4, 1)}),
    "Pad": ("y = Pad(x, p, v)", {"p": [0, 2, 1, 0, 1, 3], "v": np.float32(0)}),
    "Pad of set 2": ("y = Pad <pads=[0,0,1,0,0,2], value=0.5> (x)", {"opset": 10}),
    "Pad, reflecting": ('y = Pad <mode="reflect"> (x, p)', {"p": [0, 0, 2, 0, 0, 1]}),
    "Pad of axes": ("y = Pad(x, p, , a)", {"p": [1, 2, 0, 1], "a": [-1, 1]}),
    "Pow": ("y = Pow(x, c)", {"c": np.float32(2)}),
    "Pow 3": ("y = Pow(x, c)", {"c": np.float32(3)}),
    "ReduceL1": ("y = ReduceL1(x, a)", {"a": [2]}),
    "ReduceL2": ("y = ReduceL2(x, a)", {"a": [2]}),
    "ReduceMax over time": ("y = ReduceMax <keepdims=0> (x, a)", {"a": [1]}),
    "ReduceMean over time": ("y = ReduceMean <keepdims=0> (x, a)", {"a": [1]}),
    "ReduceMin": ("y = ReduceMin <keepdims=0> (x, a)", {"a": [-1]}),
    "ReduceSum": ("y = ReduceSum <keepdims=0> (x, a)", {"a": [2]}),
    "ReduceSumSquare": ("y = ReduceSumSquare(x, a)", {"a": [2]}),
    "Relu": ("y = Relu(x)", {}),
    "Reshape": ("a = Reshape(x, s) b = Softmax(a) y = Reshape(b, t)", {"s": [0, 0, 2, 2], "t": [0, -1, 4]}),
    "Reshape of a row to two": ("y = Reshape(x, s)", {"s": [0, -1, 2]}),
    "Reshape of two rows to one": ("y = Reshape(x, s)", {"s": [0, -1, 8]}),
    "Selu": ("y = Selu(x)", {}),
    "Sigmoid": ("y = Sigmoid(x)", {}),
    "Slice": ("y = Slice(x, a, b, i)", {"a": [1, 2], "b": [3, 2**31 - 1], "i": [2, 1]}),
    "Slice, backwards": ("y = Slice(x, a, b, i, s)", {"a": [-1], "b": [-(2**63)], "i": [2], "s": [-1]}),
    "Slice of set 1": ("y = Slice <starts=[0], ends=[-2], axes=[1]> (x)", {"opset": 9}),
    "Slice of every other": ("y = Slice(x, a, b, i, s)", {"a": [1], "b": [2**40], "i": [1], "s": [2]}),
    "Softmax": ("y = Softmax <axis=2> (x)", {}),
    "Softmax of set 11": ("y = Softmax <axis=2> (x)", {"opset": 11}),
    "Softplus": ("y = Softplus(x)", {}),
    "Softsign": ("y = Softsign(x)", {}),
    "Split": ("a, b = Split <axis=2> (x, s) y = Mul(a, b)", {"s": [2, 2]}),
    "Split equally": ("a, b = Split <axis=-1> (x) y = Sub(b, a)", {"opset": 13}),
    "Sqrt": ("a = Abs(x) y = Sqrt(a)", {}),
    "Squeeze": ("a = Unsqueeze(x, i) b = Tanh(a) y = Squeeze(b, i)", {"i": [2]}),
    "Squeeze of set 1": ("a = Unsqueeze <axes=[1]> (x) y = Squeeze <axes=[1]> (a)", {"opset": 11}),
    "Sub": ("y = Sub(c, x)", {"c": array(4)}),
    "Sum": ("a = Tanh(x) y = Sum(x, a, x)", {}),
    "Tanh": ("y = Tanh(x)", {}),
    "Tile": ("y = Tile(x, r)", {"r": [1, 1, 3]}),
    "Transpose": ("a = Transpose <perm=[1,0,2]> (x) y = Transpose <perm=[1,2,0]> (a)", {}),
    "swish": ("a = Sigmoid(x) y = Mul(x, a)", {}),
    "GELU by Erf": (
        "a = Div(x, r) b = Erf(a) c = Add(b, o) d = Mul(x, c) y = Mul(d, h)",
        {"r": np.float32(2**0.5), "o": np.float32(1), "h": np.float32(0.5)},
    ),
    "GELU by Erf, the half first": (
        "a = Mul(r, x) b = Erf(a) c = Add(o, b) e = Mul(h, x) y = Mul(c, e)",
        {"r": np.float32(0.5**0.5), "o": np.float32(1), "h": np.float32(0.5)},
    ),
    "layer norm by operators": (
        "m = ReduceMean <axes=[-1]> (x) d = Sub(x, m) s = Pow(d, two) v = ReduceMean <axes=[-1]> (s) e = Add(v, eps) "
        "r = Sqrt(e) n = Div(d, r) w = Mul(n, g) y = Add(w, b)",
        {"two": np.float32(2), "eps": np.float32(1e-5), "g": array(4), "b": array(4), "opset": 17},
    ),
    "RMS norm by operators": (
        "s = Mul(x, x) v = ReduceMean <axes=[-1]> (s) e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r) n = Mul(x, i) "
        "y = Mul(n, g)",
        {"eps": np.float32(1e-5), "g": array(4), "opset": 17},
    ),
    "comparisons": (
        "a = Tanh(x) g = Greater(x, a) l = LessOrEqual(x, c) o = GreaterOrEqual(c, a) s = Less(x, k) n = Not(s) "
        "d = And(g, l) e = Or(d, o) h = Xor(e, n) y = Cast <to=1> (h)",
        {"c": array(4), "k": np.float32(0.1)},
    ),
    "Equal": ("r = Relu(x) e = Equal(r, z) f = Equal(x, r) o = Xor(e, f) y = Cast <to=1> (o)", {"z": np.float32(0)}),
    "Where": ("g = Greater(x, z) n = Neg(x) y = Where(g, n, c)", {"z": np.float32(0.1), "c": array(4)}),
    "Where by constants": ("n = Neg(x) y = Where(m, x, n)", {"m": np.array([True, False, True, True])}),
    "ThresholdedRelu by Where": ("l = Less(x, t) y = Where(l, z, x)", {"t": np.float32(0.2), "z": np.float32(0)}),
    "Softplus with a threshold": (
        "a = Mul(x, b) g = Greater(a, t) s = Softplus(a) d = Div(s, b) y = Where(g, x, d)",
        {"b": np.float32(2), "t": np.float32(20)},
    ),
    "normalize by operators": (
        "s = Shape(x) l = ReduceL2 <axes=[-1]> (x) c = Clip(l, eps) e = Expand(c, s) y = Div(x, e)",
        {"eps": np.float32(1e-12), "opset": 17},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_answers_as_onnx_runtime(name: str) -> None:
    body, options = OPERATORS[name]
    assert_agrees(graph_of(body, **options))


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_recurrent_node_gives_its_rows_and_its_last_state(op: str, direction: str) -> None:
    body = (
        f'a = Transpose <perm=[1,0,2]> (x) b, h = {op} <direction="{direction}", hidden_size=5> (a, W, R, B) '
        "c = Transpose <perm=[2,0,1,3]> (b) y = Reshape(c, s)"
    )
    directions = 2 if direction == "bidirectional" else 1
    constants = recurrent_arrays(op, directions) | {"s": np.array([0, 0, -1])}
    model = assert_agrees(graph_of(body, outputs="float y, float h", **constants))
    assert model.streamable == (direction == "forward")


def test_an_output_that_a_graph_names_twice_is_given_twice() -> None:
    assert_agrees(graph_of("y = Tanh(x)", outputs="float y, float y"))


def test_a_recurrent_node_over_a_sequence_turned_round_and_back() -> None:
    body = (
        "r = Slice(x, a, b, t, s) i = Transpose <perm=[1,0,2]> (r) "
        'o, h = GRU <hidden_size=5, direction="bidirectional"> (i, W, R, B) q = Slice(o, a, b, z, s) '
        "p = Transpose <perm=[2,0,1,3]> (q) y = Reshape(p, f)"
    )
    ints = {"a": [-1], "b": [-(2**31)], "t": [1], "z": [0], "s": [-1], "f": [0, 0, -1]}
    constants: dict[str, Any] = {name: np.array(value) for name, value in ints.items()}
    constants |= recurrent_arrays("GRU", 2)
    assert_agrees(graph_of(body, outputs="float y, float h", **constants))


def test_a_graph_as_tensorflow_models_become() -> None:
    body = (
        "a = Transpose <perm=[0,2,1]> (x) b = Unsqueeze(a, two) c = Conv <pads=[0,2,0,0], strides=[1,1]> (b, K, k) "
        "d = Squeeze(c, two) e = Relu(d) f = Transpose <perm=[2,0,1]> (e) "
        'g, h, i = LSTM <direction="bidirectional", hidden_size=5> (f, W, R, B) j = Transpose <perm=[2,0,1,3]> (g) '
        "s = Shape(j) n = Slice(s, zero, two) m = Concat <axis=0> (n, minus) l = Reshape(j, m) "
        "o = MatMul(l, V) p = Add(o, v) y = Softmax(p)"
    )
    constants: dict[str, Any] = {"two": [2], "zero": [0], "minus": [-1]}
    arrays: dict[str, Any] = {
        "K": array(4, 4, 1, 3),
        "k": array(4),
        "V": array(10, 3),
        "v": array(3),
    } | recurrent_arrays("LSTM", 2)
    graph = graph_of(body, **constants, **arrays)
    assert_agrees(graph)


# Conditions, and whether they hold of x (batch, time, 4).
CONDITIONS = {
    "c = Not(yes)": False,
    "a = Not(yes) c = Or(a, yes)": True,
    "a = Not(yes) c = And(a, yes)": False,
    "a = Not(yes) c = Xor(a, yes)": True,
    "c = Equal(four, four)": True,
    "a = Sub(four, four) b = Greater(four, a) c = Not(b)": False,
    "a = Cast <to=7> (yes) c = Less(a, four)": True,
    "c = LessOrEqual(four, four)": True,
    "s = Shape(x) n = Gather(s, two) b = Equal(n, four) c = Not(b)": False,
    "s = Shape(x) n = Gather(s, two) a = Cast <to=1> (n) b = Cast <to=1> (four) c = GreaterOrEqual(a, b)": True,
    "s = Shape(x) n = Size(s) b = Equal(n, two) d = Not(b) c = Cast <to=9> (d)": True,  # as LSTMCell asks for its batch
    "s = Shape <start=2> (x) n = Squeeze(s) a = Greater(n, two) b = Less(n, four) c = And(a, b)": False,
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_on_constants_and_sizes_that_are_known_is_decided(condition: str) -> None:
    taken, other = ("Tanh(x)", "Det(x)") if CONDITIONS[condition] else ("Det(x)", "Tanh(x)")
    body = (
        f"{condition} a2 = If (c) <then_branch = t () => (float p) {{p = {taken}}}, "
        f"else_branch = e () => (float q) {{q = {other}}}> y = Relu(a2)"
    )
    constants: dict[str, Any] = {"yes": np.array(True), "four": np.array(4), "two": np.array(2)}
    model, answer = graph_of(body, **constants), graph_of("a = Tanh(x) y = Relu(a)")
    x = feeds_of(model, 2, 9)["x"]
    expected = session_of(answer).run(None, {"x": x})[0]
    np.testing.assert_allclose(fc.Model.from_onnx(model)(x), expected, rtol=1e-5, atol=1e-5)


def test_inputs_that_a_call_of_the_model_does_not_take_are_constants() -> None:
    body = (
        "c = Equal(rate, sixteen) y = If (c) <then_branch = t () => (float a) {a = Tanh(x)}, "
        "else_branch = e () => (float b) {b = Relu(x)}>"
    )
    model = graph_of(body, "float[batch,time,4] x, int64 rate", sixteen=np.array(16))
    for rate in (8, 16):
        assert_agrees(model, constants={"rate": np.array(rate)})
    with pytest.raises(UnsupportedError, match="'rate' is one number"):
        fc.Model.from_onnx(model)


def test_functions_are_followed() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "own" : 1]> g (float[batch,time,4] x) => (float y)
        { y = own.twice <f = 0.3> (x) }
        <domain: "own", opset_import: ["" : 18]> twice <f> (a) => (c)
        { b = LeakyRelu <alpha: float = @f> (a) c = Add(b, b) }"""
    assert_agrees(onnx.parser.parse_model(text))
