"""The specification agrees with ONNX Runtime wherever ONNX Runtime follows the operators' text.

It does not where a length is 0 (it returns a zero state), in LSTM's clip (it leaves the cell state that enters h alone,
microsoft/onnxruntime#27224) and in ThresholdedRelu (it leaves out the threshold itself, and its default alpha is 0). It
refuses layout=1, which is checked here against layout=0.
"""

from typing import Any

import numpy as np
import pytest

from fusedcell import reference

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
SPECIFICATION: dict[str, Any] = {"RNN": reference.onnx_rnn, "GRU": reference.onnx_gru, "LSTM": reference.onnx_lstm}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
STEPS, BATCH, INPUT, HIDDEN = 6, 3, 4, 5


@pytest.fixture(params=GATES)
def op(request: Any) -> Any:
    return request.param


@pytest.fixture(params=DIRECTIONS)
def direction(request: Any) -> Any:
    return request.param


def draw(op: Any, direction: Any = "forward", scale: Any = 1.0) -> Any:
    """Returns every input of the operator but sequence_lens."""
    rng = np.random.default_rng(6)
    rows, count = GATES[op] * HIDDEN, DIRECTIONS[direction]
    shapes = {
        "X": (STEPS, BATCH, INPUT),
        "W": (count, rows, INPUT),
        "R": (count, rows, HIDDEN),
        "B": (count, 2 * rows),
        "initial_h": (count, BATCH, HIDDEN),
    }
    if op == "LSTM":
        shapes |= {"initial_c": (count, BATCH, HIDDEN), "P": (count, 3 * HIDDEN)}
    return {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def run_ort(op: Any, inputs: Any, **attributes: Any) -> Any:
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h"] + ["initial_c", "P"] * (op == "LSTM")
    outputs = ["Y", "Y_h"] + ["Y_c"] * (op == "LSTM")
    node = onnx.helper.make_node(
        op, [name if name in inputs else "" for name in names], outputs, hidden_size=HIDDEN, **attributes
    )
    element = {np.dtype(np.float32): onnx.TensorProto.FLOAT, np.dtype(np.int32): onnx.TensorProto.INT32}
    graph = onnx.helper.make_graph(
        [node],
        "recurrent",
        [onnx.helper.make_tensor_value_info(name, element[a.dtype], a.shape) for name, a in inputs.items()],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def assert_same(ours: Any, theirs: Any, tolerance: Any = 1e-5) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "absent", [(), ("B",), ("initial_h",), ("initial_c",), ("P",), ("B", "initial_h", "initial_c", "P")]
)
def test_inputs_and_directions(op: Any, direction: Any, absent: Any) -> None:
    inputs = {name: array for name, array in draw(op, direction).items() if name not in absent}
    assert_same(SPECIFICATION[op](**inputs, direction=direction), run_ort(op, inputs, direction=direction))


def test_sequence_lens(op: Any, direction: Any) -> None:
    inputs = draw(op, direction) | {"sequence_lens": np.array([2, STEPS, 4], dtype=np.int32)}
    assert_same(SPECIFICATION[op](**inputs, direction=direction), run_ort(op, inputs, direction=direction))


def test_an_empty_sequence_keeps_the_initial_state_where_ort_returns_zeros(op: Any, direction: Any) -> None:
    inputs = draw(op, direction) | {"sequence_lens": np.array([2, 0, 4], dtype=np.int32)}
    Y, *ours = SPECIFICATION[op](**inputs, direction=direction)
    their_Y, *theirs = run_ort(op, inputs, direction=direction)
    assert_same([Y], [their_Y])
    for a, b, initial in zip(ours, theirs, ("initial_h", "initial_c"), strict=False):
        assert_same([np.delete(a, 1, axis=1)], [np.delete(b, 1, axis=1)])
        assert np.array_equal(a[:, 1], inputs[initial][:, 1])
        assert not b[:, 1].any()


def test_layout(op: Any, direction: Any) -> None:
    inputs = draw(op, direction)
    Y, *final = SPECIFICATION[op](**inputs, direction=direction)
    batch_first = {
        name: array.swapaxes(0, 1) if name in ("X", "initial_h", "initial_c") else array
        for name, array in inputs.items()
    }
    other_Y, *other_final = SPECIFICATION[op](**batch_first, direction=direction, layout=1)
    assert np.array_equal(other_Y, Y.transpose(2, 0, 1, 3))
    for a, b in zip(other_final, final, strict=True):
        assert np.array_equal(a, b.swapaxes(0, 1))


@pytest.mark.parametrize("lbr", [0, 1])
@pytest.mark.parametrize("clip", [None, 0.7])
def test_gru_linear_before_reset_and_clip(direction: Any, lbr: Any, clip: Any) -> None:
    attributes = {"direction": direction, "linear_before_reset": lbr} | ({"clip": clip} if clip else {})
    inputs = draw("GRU", direction)
    assert_same(reference.onnx_gru(**inputs, **attributes), run_ort("GRU", inputs, **attributes))


def test_rnn_clip(direction: Any) -> None:
    inputs = draw("RNN", direction)
    attributes = {"direction": direction, "clip": 0.7}
    assert_same(reference.onnx_rnn(**inputs, **attributes), run_ort("RNN", inputs, **attributes))


@pytest.mark.parametrize("coupled", [0, 1])
@pytest.mark.parametrize("clip", [None, 0.7])
def test_lstm_input_forget_and_clip(direction: Any, coupled: Any, clip: Any) -> None:
    attributes = {"direction": direction, "input_forget": coupled} | ({"clip": clip} if clip else {})
    inputs = draw("LSTM", direction)
    expected = run_ort("LSTM", inputs, **attributes)
    assert_same(reference.onnx_lstm(**inputs, **attributes, clip_before_h=False), expected)


@pytest.mark.parametrize(
    ("name", "alpha", "beta"),
    [
        ("Relu", None, None),
        ("Tanh", None, None),
        ("Sigmoid", None, None),
        ("Affine", 0.3, 0.2),
        ("LeakyRelu", 0.3, None),
        ("LeakyRelu", None, None),
        ("ThresholdedRelu", 0.3, None),
        ("ScaledTanh", 0.3, 0.2),
        ("HardSigmoid", 0.3, 0.2),
        ("HardSigmoid", None, None),
        ("Elu", 0.3, None),
        ("Elu", None, None),
        ("Softsign", None, None),
        ("Softplus", None, None),
    ],
)
def test_activations(op: Any, direction: Any, name: Any, alpha: Any, beta: Any) -> None:
    """The gates of GRU and LSTM stay sigmoid, as a GRU whose z leaves 0 to 1 diverges."""
    others = FUNCTIONS[op] - 1
    names = (["Sigmoid"] + [name] * others if others else [name]) * DIRECTIONS[direction]
    attributes = {"direction": direction, "activations": names}
    attributes |= {
        f"activation_{key}": [value] * names.count(name)
        for key, value in (("alpha", alpha), ("beta", beta))
        if value is not None
    }
    inputs = draw(op, direction, scale=0.4)
    assert_same(SPECIFICATION[op](**inputs, **attributes), run_ort(op, inputs, **attributes))


@pytest.mark.parametrize("values", [([0.3, 1.1, 0.05, 0.25], [0.4, 0.9, 0.6]), ([0.3, 1.1], [0.4, 0.9])])
def test_alpha_and_beta_are_consumed_in_order_then_defaults_hold(values: Any) -> None:
    attributes = {
        "direction": "bidirectional",
        "activations": ["HardSigmoid", "TANH", "scaledtanh", "Sigmoid", "LeakyRelu", "HardSigmoid"],
        "activation_alpha": values[0],
        "activation_beta": values[1],
    }
    inputs = draw("LSTM", "bidirectional")
    assert_same(reference.onnx_lstm(**inputs, **attributes), run_ort("LSTM", inputs, **attributes))
