"""Graphs of operators, drawn or by hand, that make a recurrent node's state, lengths or weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZES = ((4, 2), (1, 1), (3, 5), (7, 3))  # steps and batch of the calls that are compared
FLOATS = (np.float32, np.float64)


class Graph:
    """A graph as it grows: nodes, constants, and what each value is for one size of X, so that what is drawn fits."""

    def __init__(self, opset: int = 18) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def constant(self, value: Any, dtype: Any = None) -> str:
        name = self.name()
        self.initializers[name] = np.asarray(value, dtype)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def __call__(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return self.several(op_type, 1, *inputs, **attributes)[0]

    def several(self, op_type: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, **attributes))
        return names

    def model(
        self,
        op: str,
        arrays: Mapping[str, np.ndarray],
        made: Mapping[str, str],
        x: Any = ("T", "B", 3),
        **attributes: Any,
    ) -> onnx.ModelProto:
        """The recurrent node of these arrays, but for the inputs that the graph has made."""
        roles = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")[: 8 if op == "LSTM" else 6]
        inputs = [made.get(role, role if role in arrays or role == "X" else "") for role in roles]
        outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
        units = arrays["R"].shape[2]
        node = helper.make_node(op, inputs, outputs, "recurrent", hidden_size=units, **attributes)
        held = {role: array for role, array in arrays.items() if role in roles and role not in made and role != "X"}
        graph = helper.make_graph(
            [*self.nodes, node],
            "graph",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, x)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in (held | self.initializers).items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def session_of(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def assert_as_onnx_runtime(model: onnx.ModelProto, layer: Any, sizes: Any = SIZES) -> int:
    """Holds the layer, given X alone, against the model at several sizes; how many of them the model runs at."""
    session = session_of(model)
    ran = 0
    for steps, batch in sizes:
        x = np.random.default_rng(steps * 10 + batch).uniform(-1, 1, (steps, batch, 3)).astype(np.float32)
        try:
            theirs = session.run(None, {"X": x})
        except Exception:
            continue
        ran += 1
        y, final = layer(x)
        finals = final if isinstance(final, tuple) else (final,)
        ours = [y.reshape(steps, batch, -1, layer.hidden_size).swapaxes(1, 2), *finals]
        for a, e in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)
    return ran
