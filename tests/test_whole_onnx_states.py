"""States that a graph takes and gives are the streams', and those that it fixes the layers'."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


import fusedcell as fc
from fusedcell.errors import UnsupportedError
from onnx_graphs import session_of
from whole_onnx import array, assert_agrees, graph_of, recurrent_arrays


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


# Graphs that take states and give them, and which.
UNNAMED: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "a layer's": (STATEFUL, STATES, "float y, float h1, float c1", {"h": "h1", "c": "c1"}),
    "rows kept": (
        "a = Concat <axis=1> (cache, x) y = MatMul(a, V) cacheN = Slice(a, minus, last, one)",
        "float[batch,time,4] x, float[batch,2,4] cache", "float y, float cacheN", {"cache": "cacheN"},
    ),
    "a cell's": (
        "a = MatMul(h, Q) b = MatMul(x, V) c = Add(a, b) hn = Tanh(c) y = Relu(hn)",
        "float[batch,4] x, float[batch,5] h", "float y, float hn", {"h": "hn"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNNAMED)
def test_states_that_are_not_named_are_told_by_name(name: str) -> None:
    body, inputs, outputs, states = UNNAMED[name]
    ints: dict[str, Any] = {"one": np.array([1]), "minus": np.array([-2]), "last": np.array([2**62])}
    model = graph_of(body, inputs, outputs, **ints, V=array(4, 5), Q=array(5, 5), **recurrent_arrays("LSTM"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            fc.Model.from_onnx(model)
            message = str(told[0].message)
        except UnsupportedError as refused:
            message = str(refused)
    advice = re.findall(r"read it with states=(\{.*?\})", message)
    assert [ast.literal_eval(each) for each in advice] == [states]
    fc.Model.from_onnx(model, states)


def test_the_advice_for_states_is_quick_for_many_inputs() -> None:
    count = 60
    inputs = ", ".join(f"float[batch,time,4] x{i}" for i in range(count))
    body = " ".join(f"y{i} = Det(x{i})" for i in range(count))
    with pytest.raises(UnsupportedError, match="operator Det is not supported"):
        fc.Model.from_onnx(graph_of(body, inputs, ", ".join(f"float y{i}" for i in range(count))))


def test_outputs_that_only_look_like_states_are_no_advice() -> None:
    model = graph_of(
        "y = Tanh(x) z = Add(x, k)", "float[batch,time,4] x, float[batch,time,4] k", "float[batch,time,4] y, float z"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fc.Model.from_onnx(model).inputs == ("x", "k")


@pytest.mark.parametrize("onward", ["h1", "h2"])
def test_the_final_state_of_one_layer_is_not_the_initial_state_of_another(onward: str) -> None:
    body = (
        "b, h1 = GRU <hidden_size=5> (x, W, R, B, , h) b2, h2 = GRU <hidden_size=5> (x, W, R, B, , h1) "
        "y = Squeeze(b2, one)"
    )
    inputs = "float[time,batch,4] x, float[1,batch,5] h"
    model = graph_of(body, inputs, f"float y, float {onward}", one=np.array([1]), **recurrent_arrays("GRU"))
    with pytest.raises(UnsupportedError, match="GRU node 'b2': an initial state that is computed"):
        fc.Model.from_onnx(model, {"h": onward})
