"""ONNX models of recurrent nodes, made with the onnx package, and the specification's answers for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper

from fusedcell import reference
from models import uniform

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
SPECIFICATION: dict[str, Any] = {"RNN": reference.onnx_rnn, "GRU": reference.onnx_gru, "LSTM": reference.onnx_lstm}
ROLES = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
NEWEST = onnx.defs.onnx_opset_version()

# Gates that stay within [-1, 1], and functions for the rest; those that grow do so no faster than their input.
GATE_FUNCTIONS = ("Sigmoid", "HardSigmoid", "Tanh", "Softsign")
FUNCTIONS = (
    *GATE_FUNCTIONS,
    "Relu",
    "LeakyRelu",
    "ThresholdedRelu",
    "Elu",
    "Softplus",
    "Affine",
    "ScaledTanh",
)
PARAMETERS = {
    "LeakyRelu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Affine": ("alpha", "beta"),
    "ScaledTanh": ("alpha", "beta"),
}


@dataclass(frozen=True)
class NodeCase:
    """One recurrent node: attributes, the arrays of its inputs, and which of them the file holds."""

    op: str
    arrays: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 22
    constants: frozenset[str] = frozenset({"W", "R", "B", "P"})
    dtype: int = TensorProto.FLOAT

    @property
    def batch_first(self) -> bool:
        return self.attributes.get("layout", 0) == 1

    def node(self, **changes: Any) -> onnx.NodeProto:
        roles = ROLES if self.op == "LSTM" else ROLES[:6]
        names = [role if role in self.arrays else "" for role in roles]
        while not names[-1]:
            names.pop()
        outputs = ["Y", "Y_h", "Y_c"][: 3 if self.op == "LSTM" else 2]
        return helper.make_node(self.op, names, outputs, "recurrent", **{**self.attributes, **changes})

    def tensor(self, role: str) -> onnx.TensorProto:
        array = self.arrays[role]
        dtype = TensorProto.INT32 if role == "sequence_lens" else self.dtype
        return helper.make_tensor(role, dtype, array.shape, array.reshape(-1))

    def model(self, **changes: Any) -> onnx.ModelProto:
        return model_of([self.node(**changes)], self)

    def run(self, layer: Any) -> list[np.ndarray]:
        """What the layer returns for it, in the shapes of the operator's outputs."""
        given = {role: self.arrays[role] for role in self.arrays if role not in self.constants}
        states = [given.get(role) for role in ("initial_h", "initial_c")[: 2 if self.op == "LSTM" else 1]]
        state: Any = None
        if any(part is not None for part in states):
            like = next(part for part in states if part is not None)
            filled = tuple(np.zeros_like(like) if part is None else part for part in states)
            if self.batch_first:
                filled = tuple(part.swapaxes(0, 1) for part in filled)
            state = filled if self.op == "LSTM" else filled[0]
        y, final = layer(given["X"], state, lengths=given.get("sequence_lens"))
        finals = final if isinstance(final, tuple) else (final,)
        directions = self.arrays["W"].shape[0]
        y = y.reshape(*y.shape[:2], directions, -1)
        if self.batch_first:
            return [y, *(part.swapaxes(0, 1) for part in finals)]
        return [y.transpose(0, 2, 1, 3), *finals]

    def expected(self, **options: Any) -> list[np.ndarray]:
        """The float64 specification's answer, with attributes in the float32 of the file."""
        attributes = {name: as_file(value) for name, value in self.attributes.items()}
        return list(SPECIFICATION[self.op](**self.arrays, **attributes, **options))


def as_file(value: Any) -> Any:
    if isinstance(value, float):
        return float(np.float32(value))
    if isinstance(value, list) and value and isinstance(value[0], float):
        return [float(np.float32(item)) for item in value]
    return value


def model_of(
    nodes: Sequence[onnx.NodeProto],
    case: NodeCase,
    *,
    initializers: Sequence[onnx.TensorProto] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """A model of these nodes with the case's inputs; without `initializers`, with its constants as such."""
    if initializers is None:
        initializers = [case.tensor(role) for role in case.arrays if role in case.constants]
    inputs = [
        helper.make_tensor_value_info(role, case.tensor(role).data_type, array.shape)
        for role, array in case.arrays.items()
        if role not in case.constants
    ]
    outputs = [helper.make_tensor_value_info(name, case.dtype, None) for name in (nodes[-1].output if nodes else ())]
    graph = helper.make_graph(list(nodes), "graph", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **options)


def arrays_for(
    op: str,
    *,
    directions: int = 1,
    steps: int = 4,
    batch: int = 2,
    inputs: int = 3,
    units: int = 5,
    layout: int = 0,
    absent: Sequence[str] = ("sequence_lens",),
    seed: int = 1,
) -> dict[str, np.ndarray]:
    """Every input of the operator but those `absent`, with weights that shrink."""
    rows = GATES[op] * units
    shapes = {
        "X": (batch, steps, inputs) if layout else (steps, batch, inputs),
        "W": (directions, rows, inputs),
        "R": (directions, rows, units),
        "B": (directions, 2 * rows),
        "initial_h": (batch, directions, units) if layout else (directions, batch, units),
    }
    if op == "LSTM":
        shapes |= {"initial_c": shapes["initial_h"], "P": (directions, 3 * units)}
    arrays = {}
    for index, (role, shape) in enumerate(shapes.items()):
        if role not in absent:
            scale = 1.0 if role == "X" else 0.8 / np.sqrt(shape[-1] + 1)
            arrays[role] = uniform(100 * seed + index, *shape) * np.float32(scale)
    if "sequence_lens" not in absent:
        arrays["sequence_lens"] = np.random.default_rng(seed).integers(0, steps + 1, batch).astype(np.int32)
    return arrays


@st.composite
def cases(draw: st.DrawFn, *, for_ort: bool = False) -> NodeCase:
    """Any node: operator, attributes, which inputs there are and which are constants, opset and element type.

    With `for_ort`, what ONNX Runtime does as the text says, but for LSTM's clip.
    """
    op = draw(st.sampled_from(sorted(GATES)))
    newest = min(NEWEST, 22) if for_ort else NEWEST
    opset = draw(st.sampled_from([7, 13, 14, 21, newest]))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    layout = draw(st.integers(0, 1)) if opset >= 14 and not for_ort else 0
    attributes: dict[str, Any] = {}
    if direction != "forward" or draw(st.booleans()):
        attributes["direction"] = direction
    if layout or (opset >= 14 and draw(st.booleans())):
        attributes["layout"] = layout
    units = draw(st.integers(1, 9))
    if for_ort or draw(st.booleans()):
        attributes["hidden_size"] = units
    if op == "GRU" and draw(st.booleans()):
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if op == "LSTM" and draw(st.booleans()):
        attributes["input_forget"] = draw(st.integers(0, 1))
    if draw(st.booleans()):
        attributes["clip"] = draw(st.sampled_from([0.125, 0.5, 3.0, 100.0]))
    if draw(st.booleans()):
        attributes |= draw(_activations(op, directions, for_ort))

    optional = ["B", "initial_h", "sequence_lens"] + ["initial_c", "P"] * (op == "LSTM")
    absent = draw(st.sets(st.sampled_from(optional)))
    constants = {"W", "R", "B", "P"} | draw(st.sets(st.sampled_from(["initial_h", "initial_c"])))
    if "initial_h" in constants or "initial_c" in constants:  # both or neither, as a call gives both or neither
        constants |= {"initial_h", "initial_c"}
    arrays = arrays_for(
        op,
        directions=directions,
        steps=draw(st.integers(1, 5)),
        batch=draw(st.integers(1, 4)),
        inputs=draw(st.integers(1, 9)),
        units=units,
        layout=layout,
        absent=sorted(absent),
        seed=draw(st.integers(1, 50)),
    )
    types = [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE]
    if opset >= 22:
        types.append(TensorProto.BFLOAT16)
    dtype = TensorProto.FLOAT if for_ort else draw(st.sampled_from(types))
    arrays = {role: array if role == "sequence_lens" else _rounded(array, dtype) for role, array in arrays.items()}
    if for_ort and "sequence_lens" in arrays:
        arrays["sequence_lens"] = np.maximum(arrays["sequence_lens"], 1)
    return NodeCase(op, arrays, attributes, opset, frozenset(constants), dtype)


def _rounded(array: np.ndarray, dtype: int) -> np.ndarray:
    """Float32 values that the element type can hold."""
    if dtype == TensorProto.FLOAT16:
        return array.astype(np.float16).astype(np.float32)
    if dtype == TensorProto.BFLOAT16:
        return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return array


@st.composite
def _activations(draw: st.DrawFn, op: str, directions: int, for_ort: bool) -> dict[str, Any]:
    others = {"RNN": 1, "GRU": 1, "LSTM": 2}[op]
    allowed = [name for name in FUNCTIONS if not (for_ort and name == "ThresholdedRelu")]
    names = []
    for _ in range(directions):
        if op != "RNN":
            names.append(draw(st.sampled_from(GATE_FUNCTIONS)))
        names += [draw(st.sampled_from(allowed)) for _ in range(others)]
    attributes: dict[str, Any] = {}
    for key, values in (("alpha", [0.25, 0.3, 0.9]), ("beta", [0.25, 0.4, -0.125])):
        takers = [name for name in names if key in PARAMETERS.get(name, ())]
        required = max((i + 1 for i, name in enumerate(takers) if name in ("Affine", "ScaledTanh")), default=0)
        count = draw(st.integers(required, len(takers)))
        if count:
            attributes[f"activation_{key}"] = [draw(st.sampled_from(values)) for _ in range(count)]
    if not (for_ort and op == "RNN"):  # whose names ONNX Runtime takes in the text's case only
        names = [draw(st.sampled_from([name, name.lower(), name.upper()])) for name in names]
    return {"activations": names, **attributes}
