"""Whole graphs, quantised, written by us or drawn, answer as ONNX Runtime does or are refused."""

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

import fusedcell as fc
from drawn import examples
from drawn_models import drawn_models
from drawn_onnx_graphs import runs_of, whole_graphs
from fusedcell.errors import UnsupportedError
from model_entries import LENGTHS, DrawnModel
from onnx_graphs import session_of
from whole_onnx import array, feeds_of, graph_of


def test_names_are_those_of_the_graph() -> None:
    model = fc.Model.from_onnx(graph_of("a = MatMul(x, w) y = Relu(a)", w=array(4, 2)))
    assert (model.inputs, model.outputs) == (("x",), ("y",))


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
