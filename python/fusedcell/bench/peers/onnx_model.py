"""The ONNX model of one recurrent node, with its states as inputs and outputs."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..._base import FloatArray
from ..cases import GATES, Case

# Blocks of PyTorch's order i f g o or r z n that make ONNX's i o f c or z r h.
_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
_OPERATORS = {"lstm": "LSTM", "gru": "GRU", "gru_reset_before": "GRU", "rnn": "RNN"}


def make_model(case: Case, steps: int) -> bytes:
    """Inputs X (steps, 1, I), h and, for an LSTM, c (1, 1, H); outputs Y (steps, 1, 1, H), h_n and c_n."""
    onnx: Any = importlib.import_module("onnx")
    helper = onnx.helper
    operator = _OPERATORS[case.cell]
    size = case.size

    def reordered(name: str) -> FloatArray:
        array = case.weights[name]
        blocks = array.reshape(GATES[case.cell], size, *array.shape[1:])
        return blocks[list(_ORDER[operator])].reshape(array.shape)

    initializers = {
        "W": reordered("weight_ih_l0")[None],
        "R": reordered("weight_hh_l0")[None],
        "B": np.concatenate([reordered("bias_ih_l0"), reordered("bias_hh_l0")])[None],
    }
    states = ["h", "c"] if operator == "LSTM" else ["h"]
    attributes = {"linear_before_reset": int(case.cell == "gru")} if operator == "GRU" else {}
    node = helper.make_node(
        operator,
        ["X", "W", "R", "B", "", *states],
        ["Y", *(f"{name}_n" for name in states)],
        hidden_size=size,
        **attributes,
    )

    def declared(name: str, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [node],
        "bench",
        [declared("X", [steps, 1, size]), *(declared(name, [1, 1, size]) for name in states)],
        [declared("Y", [steps, 1, 1, size]), *(declared(f"{name}_n", [1, 1, size]) for name in states)],
        [onnx.numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    # An opset and a format that every release of the last years reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    serialized: bytes = model.SerializeToString()
    return serialized
