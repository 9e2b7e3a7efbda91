"""Cells that a graph has as the operators which they consist of are layers, and their states the streams'."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from hypothesis import HealthCheck, given, settings

import fusedcell as fc
from drawn import examples
from drawn_onnx_cells import cells
from fusedcell.errors import UnsupportedError
from onnx_graphs import session_of
from whole_onnx import array, graph_of

LAYERS = (fc.GRU, fc.LSTM, fc.RNN)


def assert_streams_agree(model: onnx.ModelProto, states: dict[str, str], *, batch: int = 3) -> fc.Model:
    """Of a graph of one step: steps of a stream, whose states go from call to call in ONNX Runtime."""
    ours, session = fc.Model.from_onnx(model, states), session_of(model)
    shapes = {
        each.name: [batch if isinstance(size, str) else size for size in each.shape] for each in session.get_inputs()
    }
    is_batch = isinstance(session.get_inputs()[0].shape[0], str)
    stream = ours.stream(batch if is_batch else 1)
    state = {name: np.zeros(shapes[name], np.float32) for name in states}
    names = [output.name for output in session.get_outputs()]
    for seed in range(6):
        random = np.random.default_rng(seed)
        feeds = {
            each.name: random.normal(size=shapes[each.name]).astype(np.float32)
            if each.type == "tensor(float)" else random.integers(0, 7, shapes[each.name])
            for each in session.get_inputs() if each.name not in states
        }  # fmt: skip
        made = dict(zip(names, session.run(None, {**feeds, **state}), strict=True))
        answers = stream.step(*(feeds[name] for name in ours.inputs))
        wanted = [made[name] for name in names if name not in states.values()]
        for answer, expected in zip(answers if isinstance(answers, tuple) else (answers,), wanted, strict=True):
            np.testing.assert_allclose(answer.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)
        state = {name: made[onward] for name, onward in states.items()}
    return ours


@settings(max_examples=examples(10), suppress_health_check=[HealthCheck.too_slow])
@given(cells())
def test_a_drawn_cell_is_a_layer_and_its_states_the_streams(drawn: tuple[onnx.ModelProto, dict[str, str]]) -> None:
    model, states = drawn
    ours = assert_streams_agree(model, states)
    layers = len({name.lstrip("s")[1:] for name in states})
    assert sum(isinstance(node, LAYERS) for _, node, _ in ours.nodes) == layers


def gru(x: str = "x", h: str = "h", mark: str = "") -> str:
    """z * h + (1 - z) * tanh(...) as exporters write it, of which names end with a mark."""
    text = (
        "a' = Gemm <transB=1> (X, W, w) b' = Gemm <transB=1> (H, R, r) ar', az', an' = Split <axis=1> (a', s) "
        "br', bz', bn' = Split <axis=1> (b', s) cr' = Add(ar', br') cz' = Add(az', bz') g' = Sigmoid(cr') "
        "z' = Sigmoid(cz') k' = Mul(g', bn') q' = Add(an', k') n' = Tanh(q') d' = Sub(H, n') e' = Mul(z', d') "
        "hN' = Add(n', e')"
    )
    return text.replace("'", mark).replace("(X", f"({x}").replace("(H", f"({h}")


ANSWER = "y = MatMul(hN, V)"
ARRAYS: dict[str, Any] = {
    "W": array(15, 4),
    "w": array(15),
    "R": array(15, 5),
    "r": array(15),
    "V": array(5, 7),
    "s": [5, 5, 5],
}
STEP = "float[batch,4] x, float[batch,5] h"


def test_a_decoders_step_takes_tokens_and_keeps_its_state() -> None:
    body = f"x = Gather(T, t) {gru()} {ANSWER}"
    model = graph_of(body, "int64[batch] t, float[batch,5] h", "float y, float hN", T=array(7, 4), **ARRAYS)
    ours = assert_streams_agree(model, {"h": "hN"})
    assert [type(node) for _, node, _ in ours.nodes] == [fc.Embedding, fc.GRU, fc.Dense]


def test_a_cell_over_several_inputs_takes_them_beside_each_other() -> None:
    of_both = "a0 = Gemm <transB=1> (x, W, w) a1 = MatMul(u, U) a = Add(a0, a1)"
    body = f"{gru().replace('a = Gemm <transB=1> (x, W, w)', of_both)} {ANSWER}"
    inputs = f"{STEP}, float[batch,3] u"
    assert_streams_agree(graph_of(body, inputs, "float y, float hN", U=array(3, 15), **ARRAYS), {"h": "hN"})


def test_a_cells_answer_may_go_on_through_other_layers_to_another_cell() -> None:
    body = f"{gru()} i = MatMul(hN, I) p = Relu(i) {gru('p', 'h2', '2')} y = MatMul(hN2, V)"
    model = graph_of(body, f"{STEP}, float[batch,5] h2", "float y, float hN, float hN2", I=array(5, 4), **ARRAYS)
    assert_streams_agree(model, {"h": "hN", "h2": "hN2"})


@pytest.mark.parametrize(
    ("what", "by"),
    [
        ("e = Mul(z, d)", "e = Mul(g, d)"),  # the other gate, which a GRU may have
        ("z = Sigmoid(cz)", "z = Tanh(cz)"),
        ("q = Add(an, k)", "q = Add(an, bn)"),
        ("d = Sub(h, n)", "d = Sub(n, h)"),
        ("hN = Add(n, e)", "hN0 = Add(n, e) hN = Mul(hN0, hN0)"),
        ("k = Mul(g, bn)", "k = Mul(z, bn)"),
        ("d = Sub(h, n)", "h2 = Gather <axis=1> (h, turned) d = Sub(h2, n)"),
        ("k = Mul(g, bn)", "k0 = Mul(g, bn) k = Mul(k0, half)"),
    ],
)
def test_what_is_nearly_a_cell_answers_as_onnx_runtime_or_is_refused(what: str, by: str) -> None:
    constants: dict[str, Any] = {**ARRAYS, "turned": [4, 3, 2, 1, 0], "half": np.float32(0.5)}
    model = graph_of(f"{gru().replace(what, by)} {ANSWER}", STEP, "float y, float hN", **constants)
    try:
        assert_streams_agree(model, {"h": "hN"})
    except UnsupportedError as error:
        refused = str(error)
        assert re.search("Gemm node 'b': of 'h', a state; supported: that a recur|'hN' is not what the nodes", refused)


def test_a_state_that_does_not_come_out_where_it_went_in_is_refused() -> None:
    turned = gru().replace("hN = Add", "m = Add") + " y = MatMul(m, V) hN = Gather <axis=1> (m, turned)"
    model = graph_of(turned, STEP, "float y, float hN", **ARRAYS, turned=[4, 3, 2, 1, 0])
    with pytest.raises(UnsupportedError, match="output 'hN' is not what the nodes that start from 'h' end with"):
        fc.Model.from_onnx(model, {"h": "hN"})
