"""Graphs of operators, by hand or drawn, that make a recurrent node's states, lengths or weights."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

# Steps and batch of the calls that are compared; the first is what graphs are drawn for.
SIZES = ((4, 2), (1, 1), (3, 5), (7, 3))
INPUTS = 3


class Graph:
    """A graph as it grows, and what each value is for one X, so that what is drawn next fits it."""

    def __init__(self, opset: int = 18) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.values = {"X": np.zeros((*SIZES[0], INPUTS), np.float32)}

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = self.initializers[name] = np.asarray(value, dtype)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def several(self, op_type: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """The names of a new node's outputs; ValueError if it does not fit."""
        names = [f"v{len(self.values) + index}" for index in range(outputs)]
        node = helper.make_node(op_type, list(inputs), names, **attributes)
        graph = helper.make_graph([node], "one", [onnx.ValueInfoProto(name=n) for n in inputs], [])
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        opset = max(self.opset, 19) if op_type == "DequantizeLinear" else self.opset  # it has no older one
        evaluator = onnx.reference.ReferenceEvaluator(graph, opsets={"": opset})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = evaluator.run(None, {name: self.values[name] for name in inputs})
        except Exception as error:
            raise ValueError(op_type) from error
        self.nodes.append(node)
        self.values |= dict(zip(names, map(np.asarray, values), strict=True))
        return names

    def __call__(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return self.several(op_type, 1, *inputs, **attributes)[0]

    def model(
        self, op: str, arrays: Mapping[str, np.ndarray], made: Mapping[str, str], **attributes: Any
    ) -> onnx.ModelProto:
        """The recurrent node of these arrays, but for the inputs that the graph makes, with X alone for input."""
        roles = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")[: 8 if op == "LSTM" else 6]
        held = {role: array for role, array in arrays.items() if role not in made and role != "X"}
        inputs = ["X", *(made.get(role, role if role in held else "") for role in roles[1:])]
        outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
        if arrays["R"].shape[0] == 2:
            attributes["direction"] = "bidirectional"
        node = helper.make_node(op, inputs, outputs, "recurrent", hidden_size=arrays["R"].shape[2], **attributes)
        graph = helper.make_graph(
            [*self.nodes, node],
            "graph",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", INPUTS])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in (held | self.initializers).items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def session_of(model: onnx.ModelProto) -> Any:
    """ONNX Runtime's, without which the test is skipped; raises its errors for a model that it does not take."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def runs_of(model: onnx.ModelProto) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """X and ONNX Runtime's answers at those of `SIZES` at which the model runs."""
    session = session_of(model)
    runs = []
    for steps, batch in SIZES:
        x = np.random.default_rng(steps).uniform(-1, 1, (steps, batch, INPUTS)).astype(np.float32)
        with contextlib.suppress(Exception):  # shapes that do not fit at this size
            runs.append((x, session.run(None, {"X": x})))
    return runs


def assert_as_onnx_runtime(model: onnx.ModelProto, layer: Any) -> int:
    """Holds the layer, given X alone, against ONNX Runtime at several sizes; at how many of them the model runs."""
    runs = runs_of(model)
    for x, theirs in runs:
        y, final = layer(x)
        ours = [y.reshape(*y.shape[:2], -1, layer.hidden_size).swapaxes(1, 2)]
        ours += final if isinstance(final, tuple) else [final]
        for a, e in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)
    return len(runs)


# What may come next: an operator, of which kinds its inputs are (i integers, f floats, b truths), and attributes.
AXIS = ("axis", (0, 1, 2))
STEPS: tuple[tuple[Any, ...], ...] = (
    *((name, "ii") for name in ("Add", "Sub", "Mul", "Max", "Min", "Equal", "Less", "Greater", "GreaterOrEqual")),
    ("Concat", "ii", ("axis", (0,))),
    ("Gather", "ii", ("axis", (0,))),
    ("Slice", "iii"),
    *((name, "i", ("keepdims", (0, 1))) for name in ("ReduceProd", "ReduceSum")),
    *((name, "ii") for name in ("Unsqueeze", "Squeeze")),
    ("Cast", "i", ("to", (TensorProto.FLOAT,))),
    ("Cast", "f", ("to", (TensorProto.INT64,))),
    ("Where", "bii"),
    ("Not", "b"),
    *((name, "fi") for name in ("Expand", "Expand", "Tile", "Reshape", "Unsqueeze", "Squeeze", "ReduceSum")),
    *((name, "ff") for name in ("Add", "Mul", "Sub", "MatMul")),
    ("ConstantOfShape", "i"),
    ("Where", "bff"),
    ("Concat", "ff", AXIS),
    ("Gather", "fi", AXIS),
    ("Slice", "fiii"),
    ("Transpose", "f", ("perm", ([1, 0, 2], [0, 2, 1], [2, 0, 1]))),
    ("Tanh", "f"),
)  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn, directions: int, units: int) -> tuple[Graph, str, str]:
    """A graph of operators over the shape of X and constants; a state and, not for all, lengths that it makes."""
    graph = Graph(draw(st.sampled_from([18, 21])))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    steps, batch = SIZES[0]
    shape = graph("Shape", "X")
    rows = graph("Slice", shape, graph.ints(1), graph.ints(2))
    full = graph("Concat", graph.ints(directions), rows, graph.ints(units), axis=0)
    pools = {
        "i": [graph.ints(n) for n in (0, 1, 2)] + [graph.constant(n, np.int64) for n in (0, 1, batch, 7)],
        "f": [graph.constant(random.uniform(-1, 1, s)) for s in ((directions, 1, units), (1, 1, units), ())],
        "b": [],
    }
    pools["i"] += [graph("Gather", shape, graph.constant(n, np.int64)) for n in (0, 1)] + [shape, rows, full]
    pools["f"] += [graph.constant(np.zeros((directions, 1, units))), graph.constant(0.0)]
    for _ in range(draw(st.integers(1, 12))):
        op_type, kinds, *options = draw(st.sampled_from(STEPS))
        if not all(pools[kind] for kind in kinds):
            continue
        # The last ones twice as likely, so that chains grow.
        inputs = [draw(st.sampled_from(pools[kind] + pools[kind][-4:])) for kind in kinds]
        try:
            name = graph(op_type, *inputs, **{key: draw(st.sampled_from(values)) for key, values in options})
        except ValueError:
            continue
        if graph.values[name].size < 1000:
            pools[graph.values[name].dtype.kind].append(name)
    # One of the last, which Expand brings to the shape of a state if it can; else the first, which it can.
    for source in (draw(st.sampled_from(pools["f"][-3:])), pools["f"][0]):
        with contextlib.suppress(ValueError):
            state = source if graph.values[source].ndim == 3 else graph("Expand", source, full)
            if graph.values[state].shape != (directions, batch, units):
                state = graph("Expand", source, full)
            if graph.values[state].shape == (directions, batch, units):
                break
    lengths = draw(st.sampled_from([*pools["i"][-3:], ""]))
    if lengths:
        made = graph("Cast", lengths, to=TensorProto.INT32)
        try:
            lengths = graph("Expand", made, rows)
        except ValueError:
            return graph, state, ""
        value = graph.values[lengths]
        if value.shape != (batch,) or not ((value > 0) & (value <= steps)).all():
            lengths = ""
    return graph, state, lengths
