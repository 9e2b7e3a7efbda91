"""Whole graphs, drawn operator by operator over an X of (time, batch, features)."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import onnx
import onnx.reference
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx_graphs import INPUTS, SIZES, Graph, session_of

UNARY = ("Abs", "Exp", "LeakyRelu", "Neg", "Relu", "Sigmoid", "Softplus", "Tanh", "HardSwish", "Identity", "Elu")
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2")
UNITS = 3


class _Drawing:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.graph = Graph(18)
        self.random = np.random.default_rng(draw(st.integers(0, 99)))

    def array(self, *shape: int) -> str:
        return self.graph.constant(self.random.uniform(-0.6, 0.6, shape))

    def pick(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def axis(self, name: str) -> int:
        rank = self.graph.values[name].ndim
        return int(self.draw(st.integers(-rank, rank - 1))) if rank else 0

    def step(self, name: str, other: str) -> list[str]:
        """The names of a new operator's outputs; ValueError if it does not fit."""
        graph, shape = self.graph, self.graph.values[name].shape
        kind = self.pick(
            "unary", "unary", "binary", "binary", "constant", "transpose", "transpose", "reshape", "concat", "slice",
            "gather", "split",
            "softmax", "norm", "reduce", "matmul", "matmul", "conv", "conv", "pool", "rnn", "rnn", "pad", "unsqueeze",
            "squeeze", "expand", "flip", "clip", "sized",
        )  # fmt: skip
        if kind == "unary":
            return [graph(self.pick(*UNARY), name)]
        if kind == "binary":
            return [graph(self.pick("Add", "Mul", "Sub"), *self.pick((name, other), (other, name)))]
        if kind == "constant":
            size = shape[-1] if shape and self.draw(st.booleans()) else 1
            return [graph(self.pick("Add", "Mul", "Sub", "Div"), name, self.array(size))]
        if kind == "transpose":
            return [graph("Transpose", name, perm=self.draw(st.permutations(range(len(shape)))))]
        if kind == "reshape":
            wanted = self.draw(st.lists(st.sampled_from([0, -1, 1, 2, 3, 6]), min_size=1, max_size=4))
            return [graph("Reshape", name, graph.ints(*wanted))]
        if kind == "concat":
            return [graph("Concat", *self.pick((name, other), (name, name, other)), axis=self.axis(name))]
        if kind in ("slice", "flip"):
            first, last, step = self.draw(st.integers(-5, 2)), self.pick(-1, 2, 9, 2**31), self.pick(1, 1, 2)
            if kind == "flip":
                first, last, step = -1, -(2**31), -1
            return [graph("Slice", name, *map(graph.ints, (first, last, self.axis(name), step)))]
        if kind == "gather":
            index = self.pick(0, -1, 1, [0], [2, 0], [[1, 0], [0, 0]])
            return [graph("Gather", name, graph.constant(index, np.int64), axis=self.axis(name))]
        if kind == "split":
            return graph.several("Split", 2, name, axis=self.axis(name), num_outputs=2)
        if kind == "softmax":
            return [graph(self.pick("Softmax", "LogSoftmax"), name, axis=self.axis(name))]
        if kind == "norm":
            axis = self.pick(-1, -1, -2)
            part = shape[axis:]
            return [graph("LayerNormalization", name, self.array(*part), self.array(*part), axis=axis)]
        if kind == "reduce":
            axes = graph.ints(*self.pick([self.axis(name)], [self.axis(name)], [-1, -2]))
            return [graph(self.pick(*REDUCTIONS), name, axes, keepdims=self.pick(0, 1))]
        if kind == "matmul":
            return [graph("MatMul", name, self.array(shape[-1], self.pick(2, 3, 4)))]
        if kind == "conv":
            groups, taps = self.pick(1, 1, shape[1]), [self.pick(1, 2, 3) for _ in shape[2:]]
            weight = self.array(self.pick(2, 3) * groups, shape[1] // groups, *taps)
            pads = [self.pick(0, 0, 1, 2) for _ in taps * 2]
            options = {"group": groups, "pads": pads, "strides": [self.pick(1, 1, 2) for _ in taps]}
            if self.pick(True, True, False):
                return [graph("Conv", name, weight, **options, dilations=[self.pick(1, 2) for _ in taps])]
            weight = self.array(shape[1], self.pick(1, 2), *taps)
            return [graph("ConvTranspose", name, weight, **options | {"group": 1})]
        if kind == "pool":
            steps = [self.pick(1, 1, 2) for _ in shape[2:]]
            options = {"kernel_shape": [self.pick(1, 2) for _ in shape[2:]], "strides": steps}
            return [graph(self.pick("MaxPool", "AveragePool"), name, **options)]
        if kind == "rnn":
            return self._recurrent(name)
        if kind == "pad":
            pads = [self.pick(0, 0, 1, 2) for _ in range(2 * len(shape))]
            mode = self.pick("constant", "constant", "reflect", "edge")
            return [graph("Pad", name, graph.ints(*pads), mode=mode)]
        if kind in ("unsqueeze", "squeeze"):
            return [graph(kind.capitalize(), name, graph.ints(self.axis(name)))]
        if kind == "expand":
            return [graph("Expand", name, graph("Shape", other))]
        if kind == "clip":
            return [graph("Clip", name, graph.constant(-0.3), *self.pick([], [graph.constant(0.4)]))]
        # A shape made of another's sizes, as exporters make them.
        sizes = graph("Shape", other)
        index = graph.ints(*self.draw(st.lists(st.integers(0, 2), min_size=1, max_size=2)))
        return [graph("Reshape", name, graph("Concat", graph("Gather", sizes, index), graph.ints(-1), axis=0))]

    def _recurrent(self, name: str) -> list[str]:
        op, directions, size = self.pick("GRU", "LSTM", "RNN"), self.pick(1, 1, 2), self.graph.values[name].shape[-1]
        direction = "bidirectional" if directions == 2 else self.pick("forward", "forward", "reverse")
        rows = {"RNN": 1, "GRU": 3, "LSTM": 4}[op] * UNITS
        weights = [self.array(directions, rows, size), self.array(directions, rows, UNITS)]
        options: dict[str, Any] = {"hidden_size": UNITS, "direction": direction}
        if op == "GRU":
            options["linear_before_reset"] = self.pick(0, 1)
        if directions == 2:  # of which onnx.reference has no GRU and RNN
            op = "LSTM"
            weights = [self.array(2, 4 * UNITS, size), self.array(2, 4 * UNITS, UNITS)]
            options.pop("linear_before_reset", None)
        y, h = self.graph.several(op, 2, name, *weights, **options)
        if self.pick(True, False):
            y = self.graph("Transpose", y, perm=[0, 2, 1, 3])
            return [self.graph("Reshape", y, self.graph.ints(0, 0, -1)), h]
        return [y, h]


def runs_of(model: onnx.ModelProto) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """X and ONNX Runtime's answers at those of `SIZES` at which the model runs and everything has a row.

    ONNX Runtime ends the process where a recurrent node has no steps, so onnx.reference goes first. The largest of no
    rows is infinite there, and 0 of a model.
    """
    read = [node.input[0] for node in model.graph.node]
    longer = onnx.ModelProto()
    longer.CopyFrom(model)
    longer.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(read) if name != "X")
    reference = onnx.reference.ReferenceEvaluator(longer)
    runs = []
    for steps, batch in SIZES:
        x = np.random.default_rng(steps).uniform(-1, 1, (steps, batch, INPUTS)).astype(np.float32)
        with contextlib.suppress(Exception):  # shapes that do not fit at this size
            if all(value.size for value in reference.run(None, {"X": x})):
                runs.append((x, session_of(model).run(None, {"X": x})))
    return runs


@st.composite
def whole_graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A model with one or two outputs of up to 12 operators."""
    drawing = _Drawing(draw)
    graph, pool = drawing.graph, ["X"]
    for _ in range(draw(st.integers(1, 12))):
        name, other = (draw(st.sampled_from(pool[-4:] + pool[-1:])), draw(st.sampled_from(pool)))
        with contextlib.suppress(ValueError, IndexError, ZeroDivisionError):
            made = drawing.step(name, other)
            pool += [n for n in made if 0 < graph.values[n].size < 2000 and graph.values[n].dtype == np.float32]
    outputs = [f"{name}_out" for name in dict.fromkeys([pool[-1], draw(st.sampled_from(pool[-3:]))])]
    ends = [helper.make_node("Tanh", [name.removesuffix("_out")], [name]) for name in outputs]
    proto = helper.make_graph(
        [*graph.nodes, *ends],
        "graph",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", INPUTS])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(held, name) for name, held in graph.initializers.items()],
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", graph.opset)], ir_version=8)
