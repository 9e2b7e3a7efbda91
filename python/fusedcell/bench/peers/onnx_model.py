"""ONNX models of one recurrent node, with its states as inputs and outputs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..._base import FloatArray
from ..cases import Case
from .weights import Int8Array, reordered

# Blocks of PyTorch's order i f g o or r z n that make ONNX's i o f c or z r h.
_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
_OPERATORS = {"lstm": "LSTM", "gru": "GRU", "gru_reset_before": "GRU", "rnn": "RNN"}
_MICROSOFT = "com.microsoft"

Quantise: TypeAlias = Callable[[FloatArray], tuple[Int8Array, FloatArray]]


def make_model(case: Case, steps: int) -> bytes:
    """Inputs X (steps, B, I), h and, for an LSTM, c (1, B, H); outputs Y (steps, 1, B, H), h_n and c_n."""
    operator = _OPERATORS[case.cell]
    w, r, b = _layer_arrays(case)
    states = _states(operator)
    attributes = {"linear_before_reset": int(case.cell == "gru")} if operator == "GRU" else {}
    node = _helper().make_node(
        operator,
        ["X", "W", "R", "B", "", *states],
        ["Y", *(f"{name}_n" for name in states)],
        hidden_size=case.size,
        **attributes,
    )
    return _serialised(case, steps, node, {"W": w[None], "R": r[None], "B": b})


def make_int8_model(case: Case, steps: int, quantise: Quantise) -> bytes:
    """The same LSTM as ONNX Runtime's quantiser writes it: weights transposed, each with its scales and zeros."""
    w, r, b = _layer_arrays(case)
    initializers: dict[str, npt.NDArray[Any]] = {"B": b}
    for name, weights in (("W", w), ("R", r)):
        integers, scales = quantise(weights)
        # A direction's scales: one for the whole matrix has no axis of its own for it.
        scales = scales if len(scales) == 1 else scales[None]
        initializers[name] = np.ascontiguousarray(integers.T)[None]
        initializers |= {f"{name}_scale": scales, f"{name}_zero": np.zeros(scales.shape, np.int8)}
    node = _helper().make_node(
        "DynamicQuantizeLSTM",
        ["X", "W", "R", "B", "", "h", "c", "", "W_scale", "W_zero", "R_scale", "R_zero"],
        ["Y", "h_n", "c_n"],
        domain=_MICROSOFT,
        hidden_size=case.size,
    )
    return _serialised(case, steps, node, initializers)


def _helper() -> Any:
    return importlib.import_module("onnx").helper


def _states(operator: str) -> list[str]:
    return ["h", "c"] if "LSTM" in operator else ["h"]


def _layer_arrays(case: Case) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights of x and of h, and both biases, (1, 2 G H), in ONNX's order of gates."""
    w, r, of_x, of_h = reordered(case, _ORDER[_OPERATORS[case.cell]])
    return w, r, np.concatenate([of_x, of_h])[None]


def _serialised(case: Case, steps: int, node: Any, initializers: Mapping[str, npt.NDArray[Any]]) -> bytes:
    onnx: Any = importlib.import_module("onnx")
    helper = onnx.helper
    batch, size = case.batch, case.size
    states = _states(node.op_type)

    def declared(name: str, shape: list[int]) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [node],
        "bench",
        [declared("X", [steps, batch, case.input_size]), *(declared(name, [1, batch, size]) for name in states)],
        [declared("Y", [steps, 1, batch, size]), *(declared(f"{name}_n", [1, batch, size]) for name in states)],
        [onnx.numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    # An opset and a format that every release of the last years reads.
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid(_MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    serialized: bytes = model.SerializeToString()
    return serialized
