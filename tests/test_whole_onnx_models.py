"""A graph becomes a model that answers as ONNX Runtime does, or is refused by the name of what cannot be followed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnx.parser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import fusedcell as fc
from drawn import examples
from drawn_models import drawn_models
from drawn_onnx_graphs import runs_of, whole_graphs
from fusedcell.errors import UnsupportedError
from model_entries import LENGTHS, DrawnModel
from onnx_graphs import session_of

SIZES = ((3, 12), (1, 20))


def array(*shape: int, low: float = -0.5, high: float = 0.5) -> np.ndarray:
    size = int(np.prod(shape))
    return np.random.default_rng(size).uniform(low, high, shape).astype(np.float32)


def graph_of(
    body: str,
    inputs: str = "float[batch,time,4] x",
    outputs: str = "float y",
    *,
    opset: int = 18,
    **constants: Any,
) -> onnx.ModelProto:
    """A model in ONNX's text form, with initializers by name."""
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items())
    return model


def feeds_of(model: onnx.ModelProto, batch: int, steps: int) -> dict[str, np.ndarray]:
    held = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for seed, value in enumerate(each for each in model.graph.input if each.name not in held):
        kind = value.type.tensor_type
        shape = [{"batch": batch, "time": steps}.get(dim.dim_param, dim.dim_value) for dim in kind.shape.dim]
        random = np.random.default_rng(seed)
        is_float = kind.elem_type == onnx.TensorProto.FLOAT
        feeds[value.name] = (
            random.uniform(-1, 1, shape).astype(np.float32) if is_float else random.integers(0, 7, shape)
        )
    return feeds


def assert_agrees(model: onnx.ModelProto, sizes: Any = SIZES, tolerance: float = 1e-5, **options: Any) -> fc.Model:
    ours = fc.Model.from_onnx(model, **options)
    session = session_of(model)
    names = [output.name for output in session.get_outputs()]
    states = options.get("states", {})
    for batch, steps in sizes:
        feeds = feeds_of(model, batch, steps)
        feeds |= {name: np.zeros_like(feeds[name]) for name in states}
        feeds |= options.get("constants", {})
        expected = dict(zip(names, session.run(None, feeds), strict=True))
        answers = ours(*(feeds[name] for name in ours.inputs))
        answers = answers if isinstance(answers, tuple) else (answers,)
        wanted = [name for name in names if name not in states.values()]
        assert len(answers) == len(wanted)
        for name, answer in zip(wanted, answers, strict=True):
            np.testing.assert_allclose(answer, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)
    return ours


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
    "HardSigmoid": ("y = HardSigmoid <alpha=0.3> (x)", {}),
    "HardSwish": ("y = HardSwish(x)", {}),
    "Identity": ("a = Identity(x) y = Tanh(a)", {}),
    "If": (
        "y = If (c) <then_branch = t () => (float a) {a = Tanh(x)}, else_branch = e () => (float b) {b = Det(x)}>",
        {"c": True},
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
    "MaxPool": ("a = Transpose <perm=[0,2,1]> (x) y = MaxPool <kernel_shape=[3], strides=[2]> (a)", {}),
    "MaxPool inside": ("a = Unsqueeze(x, i) y = MaxPool <kernel_shape=[1,3], pads=[0,1,0,1]> (a)", {"i": [1]}),
    "AveragePool": ("a = Transpose <perm=[0,2,1]> (x) y = AveragePool <kernel_shape=[3]> (a)", {}),
    "AveragePool, padding counted": (
        "a = Transpose <perm=[0,2,1]> (x) y = AveragePool <kernel_shape=[3], pads=[1,1], count_include_pad=1> (a)",
        {},
    ),
    "Min": ("y = Min(c, x)", {"c": np.float32(0.1)}),
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


def recurrent_arrays(op: str, directions: int = 1, units: int = 5, inputs: int = 4) -> dict[str, Any]:
    rows = {"RNN": 1, "GRU": 3, "LSTM": 4}[op] * units
    shapes = {"W": (directions, rows, inputs), "R": (directions, rows, units), "B": (directions, 2 * rows)}
    return {name: array(*shape) for name, shape in shapes.items()}


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


def test_initial_states_that_the_file_fixes_are_the_layers() -> None:
    body = (
        "s = Shape(x) n = Slice(s, one, two) f = Concat <axis=0> (one, n, five) h0 = Expand(c, f) "
        "z = ConstantOfShape(f) l = Slice(s, zero, one) k = Expand(l, n) m = Cast <to=6> (k) "
        "b, h, c1 = LSTM <hidden_size=5> (x, W, R, B, m, h0, z) y = Squeeze(b, one)"
    )
    ints = {"zero": [0], "one": [1], "two": [2], "five": [5]}
    constants: dict[str, Any] = {name: np.array(value) for name, value in ints.items()} | {"c": array(1, 1, 5)}
    assert_agrees(graph_of(body, "float[time,batch,4] x", **constants, **recurrent_arrays("LSTM")))


STATEFUL = (
    "a = Transpose <perm=[1,0,2]> (x) b, h1, c1 = LSTM <hidden_size=5> (a, W, R, B, , h, c) s = Squeeze(b, one) "
    "y = Transpose <perm=[1,0,2]> (s)"
)
STATES = "float[batch,time,4] x, float[1,batch,5] h, float[1,batch,5] c"


def test_states_by_name_are_the_streams() -> None:
    model = graph_of(STATEFUL, STATES, "float y, float h1, float c1", one=np.array([1]), **recurrent_arrays("LSTM"))
    ours = assert_agrees(model, states={"h": "h1", "c": "c1"})
    assert ours.inputs == ("x",)
    session, stream = session_of(model), ours.stream(3)
    state = [np.zeros((1, 3, 5), np.float32)] * 2
    for seed in range(4):
        x = array(3, 2, 4) * (seed + 1)
        y, *state = session.run(None, {"x": x, "h": state[0], "c": state[1]})
        np.testing.assert_allclose(stream.process(x), y, rtol=1e-5, atol=1e-5)


def test_states_may_be_packed_into_one_and_moved() -> None:
    body = (
        "h, c = Split <axis=0> (state, ones) a = Transpose <perm=[1,0,2]> (x) "
        "b, h1, c1 = LSTM <hidden_size=5> (a, W, R, B, , h, c) s = Squeeze(b, one) y = Transpose <perm=[1,0,2]> (s) "
        "p = Concat <axis=0> (h1, c1) stateN = Add(p, zero)"
    )
    constants: dict[str, Any] = {
        "ones": np.array([1, 1]),
        "one": np.array([1]),
        "zero": np.float32(0),
    } | recurrent_arrays("LSTM")
    inputs = "float[batch,time,4] x, float[2,batch,5] state"
    assert_agrees(graph_of(body, inputs, "float y, float stateN", **constants), states={"state": "stateN"})
    swapped = graph_of(body.replace("(h1, c1)", "(c1, h1)"), inputs, "float y, float stateN", **constants)
    with pytest.raises(UnsupportedError, match="'stateN' is not what the nodes that start from 'state' end with"):
        fc.Model.from_onnx(swapped, states={"state": "stateN"})


@pytest.mark.parametrize("steps", ["time", "1"])
def test_rows_kept_for_the_next_call_are_left_padding(steps: str) -> None:
    body = "a = Concat <axis=2> (cache, x) y = Conv <dilations=[2]> (a, w) " + (
        "cacheN = Slice(a, first, last, axis)" if steps == "1" else "cacheN = Slice(a, minus, last, axis)"
    )
    constants: dict[str, Any] = {
        "w": array(6, 4, 3),
        "first": np.array([1]),
        "minus": np.array([-4]),
        "last": np.array([2**62]),
    }
    constants["axis"] = np.array([2])
    inputs = f"float[1,4,{steps}] x, float[1,4,4] cache"
    model = graph_of(body, inputs, "float y, float cacheN", **constants)
    ours = fc.Model.from_onnx(model, states={"cache": "cacheN"})
    session, stream, cache = session_of(model), ours.stream(), np.zeros((1, 4, 4), np.float32)
    for seed in range(7):
        x = array(1, 4, 1) * (seed - 3)
        y, cache = session.run(None, {"x": x, "cache": cache})
        np.testing.assert_allclose(stream.step(x[0, :, 0]), y[0, :, 0], rtol=1e-5, atol=1e-5)


def test_a_graph_of_one_step_is_a_model_of_one_step_a_call() -> None:
    body = "a = Unsqueeze(x, zero) b, h1 = GRU <hidden_size=5> (a, W, R, B, , h) s = Squeeze(b, front) y = Sigmoid(s)"
    constants: dict[str, Any] = {"zero": np.array([0]), "front": np.array([0, 1])} | recurrent_arrays("GRU")
    model = graph_of(body, "float[batch,4] x, float[1,batch,5] h", "float y, float h1", **constants)
    ours = fc.Model.from_onnx(model, states={"h": "h1"})
    session, stream, state = session_of(model), ours.stream(2), np.zeros((1, 2, 5), np.float32)
    for seed in range(4):
        x = array(2, 4) * (seed + 1)
        y, state = session.run(None, {"x": x, "h": state})
        np.testing.assert_allclose(stream.step(x), y, rtol=1e-5, atol=1e-5)


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


def test_a_graph_of_fixed_sizes_takes_others_where_nothing_in_it_depends_on_them() -> None:
    body = "a = Transpose <perm=[1,0,2]> (x) b, h = GRU <hidden_size=5> (a, W, R, B) y = Squeeze(b, one)"
    model = graph_of(body, "float[1,7,4] x", one=np.array([1]), **recurrent_arrays("GRU"))
    ours = assert_agrees(model, [(1, 7)])
    assert ours(np.zeros((3, 9, 4))).shape == (9, 3, 5)
    fixed = graph_of("a = Reshape(x, s) b = MatMul(a, w) y = Reshape(b, t)", "float[1,7,4] x",
                     s=np.array([7, 4]), t=np.array([1, 7, 3]), w=array(4, 3))  # fmt: skip
    assert_agrees(fixed, [(1, 7)])


def test_functions_are_followed() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "own" : 1]> g (float[batch,time,4] x) => (float y)
        { y = own.twice <f = 0.3> (x) }
        <domain: "own", opset_import: ["" : 18]> twice <f> (a) => (c)
        { b = LeakyRelu <alpha: float = @f> (a) c = Add(b, b) }"""
    assert_agrees(onnx.parser.parse_model(text))


def test_names_are_those_of_the_graph() -> None:
    model = fc.Model.from_onnx(graph_of("a = MatMul(x, w) y = Relu(a)", w=array(4, 2)))
    assert (model.inputs, model.outputs) == (("x",), ("y",))


LAST = np.array([2**62])
# What is refused, and what the error says of it.
REFUSALS: dict[str, tuple[str, dict[str, Any], str]] = {
    "another operator": ("y = Det(x)", {}, "Det node 'y': operator Det is not supported; supported: Abs, "),
    "attention": (
        "a = Transpose <perm=[0,2,1]> (x) b = MatMul(x, a) y = Softmax(b)",
        {},
        "MatMul node 'b': of two tensors",
    ),
    "a division of data": ("a = Abs(x) y = Div(x, a)", {}, "Div node 'y': a division by what depends on the input"),
    "a norm over time": ("y = Softmax <axis=1> (x)", {}, "Softmax node 'y': .* along time"),
    "reflecting along time": (
        'y = Pad <mode="reflect"> (x, p)',
        {"p": [0, 1, 0, 0, 0, 0]},
        "Pad node 'y': reflect padding along time",
    ),
    "the first rows": (
        "y = Slice(x, a, b, i)",
        {"a": [0], "b": [5], "i": [1]},
        "Slice node 'y': a slice along time of a fixed number of rows",
    ),
    "at most so many rows": (
        "y = Slice(x, a, b, i)",
        {"a": [0], "b": [1000], "i": [1]},
        "Slice node 'y': to 0:1000 of any number of time",
    ),
    "the last rows": (
        "y = Slice(x, a, b, i)",
        {"a": [-1000], "b": LAST, "i": [1]},
        "Slice node 'y': to -1000:",
    ),
    "a condition on sizes": (
        "s = Shape(x) t = Gather(s, i) c = Greater(t, n) y = If (c) <then_branch = t () => (float a) {a = Tanh(x)}, "
        "else_branch = e () => (float b) {b = Relu(x)}>",
        {"i": 1, "n": 3},
        "Greater node 'c': Greater of numbers that depend on the sizes",
    ),
    "a size cut off": (
        "s = Shape(x) t = Gather(s, i) m = Min(t, n) z = Unsqueeze(m, o) y = Slice(x, o, z, one)",
        {"i": 1, "n": 3, "o": [0], "one": [1]},
        "Min node 'm': Min of numbers that depend on the sizes",
    ),
    "half precision": ("y = Cast <to=10> (x)", {}, "Cast node 'y': to FLOAT16"),
    "a reshape that mixes": (
        "y = Reshape(x, s)",
        {"s": [-1, 0]},
        "Reshape node 'y': a reshape of .* mixes batch, time and features",
    ),
    "lengths": (
        "y, h = GRU <hidden_size=5> (x, W, R, B, n)",
        {"inputs": "float[time,batch,4] x, int32[batch] n", **recurrent_arrays("GRU")},
        "GRU node 'y': sequence_lens is computed .*model takes lengths=",
    ),
    "a state without its name": (
        "y, h1 = GRU <hidden_size=5> (x, W, R, B, , h)",
        {"inputs": "float[time,batch,4] x, float[1,batch,5] h", **recurrent_arrays("GRU")},
        "GRU node 'y': an initial state that is computed .* states= names",
    ),
    "the cell state as an answer": (
        "a, b, y = LSTM <hidden_size=5> (x, W, R, B)",
        {"inputs": "float[time,batch,4] x", **recurrent_arrays("LSTM")},
        "LSTM node 'a': the cell state as an answer",
    ),
    "half of the data": ("y = Tanh(x)", {"inputs": "float16[batch,time,4] x"}, "input 'x' of FLOAT16 is not supported"),
    "arithmetic of integers": (
        "a = Add(t, one) y = Gather(c, a)",
        {"inputs": "int64[batch,time] t", "c": array(9, 3), "one": 1},
        "Add node 'a': of integers",
    ),
    "a training batch norm": (
        "y, m1, v1 = BatchNormalization <training_mode=1> (x, w, w, w, w)",
        {"w": array(20, low=1, high=2)},
        "BatchNormalization node 'y': training_mode=1 is not supported",
    ),
    "a bound above the other": (
        "y = Clip(x, a, b)",
        {"a": np.float32(1), "b": np.float32(0)},
        "Clip node 'y': bounds 1 and 0",
    ),
    "an older operator set": ("y = Tanh(x)", {"opset": 6}, "operator set 6 is not supported; supported: 7 to "),
    "an output that is fixed": ("y = Tanh(c)", {"c": array(3)}, "output 'y' does not depend on the model's inputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_followed_is_refused_with_its_node(name: str) -> None:
    body, options, message = REFUSALS[name]
    with pytest.raises(UnsupportedError, match=message) as refused:
        fc.Model.from_onnx(graph_of(body, **options))
    assert "fc.Model.from_torch(module, example)" in str(refused.value) or "input 'x'" in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"states": {"z": "y"}}, "states: 'z' is no input of the model; there are x"),
        ({"states": {"x": "z"}}, "states: 'z' is no output of the model; there are y"),
        ({"axes": {"x": ("batch", "time")}}, 'axes: x: expected 3 of "batch", "time" and numbers of features'),
        ({"axes": {"x": ("batch", "steps", 4)}}, 'axes: x: expected 3 of "batch", "time" and numbers of features'),
        ({"axes": {"x": ("batch", "time", 5)}}, r"axes: x: expected sizes as the model's, \('batch', 'time', 4\)"),
        ({"constants": {"x": 3}}, r"constants: x: expected 3 axes, got shape \(\)"),
    ],
)
def test_names_that_do_not_fit_are_told(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fc.Model.from_onnx(graph_of("y = Tanh(x)"), **options)


def test_quantised_graphs_compute_with_what_their_integers_stand_for() -> None:
    body = (
        "q, s, z = DynamicQuantizeLinear(x) m = MatMulInteger(q, W, z, wz) f = Cast <to=1> (m) k = Mul(s, ws) "
        "g = Mul(f, k) y = Add(g, b)"
    )
    W = np.random.default_rng(0).integers(-100, 100, (4, 6)).astype(np.int8)
    model = graph_of(body, W=W, wz=np.int8(3), ws=np.float32(0.01), b=array(6))
    floats = graph_of("m = MatMul(x, W) y = Add(m, b)", W=(W.astype(np.float32) - 3) * np.float32(0.01), b=array(6))
    ours = fc.Model.from_onnx(model)
    x = feeds_of(model, 2, 9)["x"]
    np.testing.assert_allclose(ours(x), session_of(floats).run(None, {"x": x})[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours(x), session_of(model).run(None, {"x": x})[0], atol=0.05)


def test_quantised_data_stay_in_the_range_of_their_integers() -> None:
    body = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(W, s, wz) y = MatMul(d, w)"
    W = np.random.default_rng(0).integers(-100, 100, (4, 6)).astype(np.int8)
    constants: dict[str, Any] = {"s": np.float32(0.005), "z": np.uint8(0), "W": W, "wz": np.int8(0)}
    model = graph_of(body, opset=13, **constants)
    x = feeds_of(model, 2, 9)["x"]
    expected = np.clip(x, 0, 255 * 0.005) @ (W * np.float32(0.005))
    np.testing.assert_allclose(fc.Model.from_onnx(model)(x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(expected, session_of(model).run(None, {"x": x})[0], atol=0.02)


def test_a_dynamically_quantised_lstm_is_one_of_its_weights() -> None:
    W = np.random.default_rng(0).integers(-100, 100, (1, 4, 20)).astype(np.int8)
    R = np.random.default_rng(1).integers(-100, 100, (1, 5, 20)).astype(np.int8)
    scale, zero = np.array([0.01], np.float32), np.array([0], np.int8)
    body = "y, h = com.microsoft.DynamicQuantizeLSTM <hidden_size=5> (x, W, R, , , , , , s, z, s, z)"
    model = graph_of(body, "float[time,batch,4] x", W=W, R=R, s=scale, z=zero)
    floats = graph_of("y, h = LSTM <hidden_size=5> (x, W, R)", "float[time,batch,4] x",
                      W=W.swapaxes(1, 2) * scale, R=R.swapaxes(1, 2) * scale)  # fmt: skip
    x = array(7, 2, 4)
    expected = session_of(floats).run(None, {"x": x})[0]
    np.testing.assert_allclose(fc.Model.from_onnx(model)(x), expected, rtol=1e-5, atol=1e-5)


def test_hostile_graphs_end_in_an_error_soon() -> None:
    growing = " ".join(f"c{i + 1} = Concat <axis=0> (c{i}, c{i}, c{i}, c{i})" for i in range(40))
    with pytest.raises(ValueError, match="too large for what the file holds"):
        fc.Model.from_onnx(graph_of(f"{growing} y = Add(x, c40)", c0=array(4)))
    with pytest.raises(ValueError, match="supported: "):
        fc.Model.from_onnx(graph_of("y = Pad(x, p)", p=[0, 0, 0, 0, 0, 2**40]))
    with pytest.raises(ValueError, match="supported: "):
        fc.Model.from_onnx(graph_of("y = Tile(x, r)", r=[1, 1, 2**40]))
    with pytest.raises(ValueError, match="supported: "):
        fc.Model.from_onnx(graph_of("a = Unsqueeze(x, i) y = Expand(a, s)", i=[3], s=[1, 1, 4, 2**40]))
    cycle = graph_of("a = Add(x, y) y = Tanh(a)")
    with pytest.raises(ValueError, match="makes 'y' after it is used"):
        fc.Model.from_onnx(cycle)


@settings(max_examples=examples(60))
@given(drawn_models(most_nodes=5), st.booleans())
def test_what_to_onnx_writes_is_read_back_or_refused(drawn: DrawnModel, batch_first: bool) -> None:
    model = drawn.build(batch_first=batch_first)
    try:
        again = fc.Model.from_onnx(model.to_onnx())
    except UnsupportedError:
        return
    enough = [int(steps) for steps in LENGTHS[:60] if all(value.rows[steps] for value in drawn.values.values())]
    for steps in enough[-2:]:
        inputs = [x.swapaxes(0, 1) if batch_first else x for x in drawn.draw_inputs(steps, 2)]
        pairs = zip(*(a if isinstance(a, tuple) else (a,) for a in (again(*inputs), model(*inputs))), strict=True)
        for answer, expected in pairs:
            np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(whole_graphs())
def test_a_drawn_graph_answers_as_onnx_runtime_or_is_refused(model: onnx.ModelProto) -> None:
    try:
        ours = fc.Model.from_onnx(model)
    except UnsupportedError:
        return
    for x, expected in runs_of(model):
        answers = ours(x)
        for a, e in zip(answers if isinstance(answers, tuple) else (answers,), expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)
