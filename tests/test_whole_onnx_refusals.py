"""What cannot be followed is refused by the name of its node, and so are names that are not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


import fusedcell as fc
from fusedcell.errors import UnsupportedError
from whole_onnx import array, graph_of, recurrent_arrays

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
    "an answer of merged axes": ("y = Reshape(x, s)", {"s": [-1]}, "output 'y': an answer of axes"),
    "a condition on sizes": (
        "s = Shape(x) t = Gather(s, i) c = Greater(t, n) y = If (c) <then_branch = t () => (float a) {a = Tanh(x)}, "
        "else_branch = e () => (float b) {b = Relu(x)}>",
        {"i": 1, "n": 3},
        "Greater node 'c': Greater of numbers that depend on the sizes",
    ),
    "a condition on what is not followed": (
        "e = Det(x) s = Shape(e) n = Size(s) b = Equal(n, two) c = Not(b) y = If (c) <then_branch = t () => (float a) "
        "{a = Tanh(x)}, else_branch = e () => (float b) {b = Relu(x)}>",
        {"two": 2},
        "Det node 'e': operator Det is not supported",
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
