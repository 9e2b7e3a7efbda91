"""A model's nodes as ONNX operators, each over rows that have the axes of time, batch and features."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ... import nodes
from ..._base import FloatArray
from ...errors import UnsupportedError
from ...layers import Layer
from .builder import Builder
from .write import write_layer

_END = 2**63 - 1
# Activations that are an operator of the same name, and which of alpha and beta are its attributes.
_OPERATORS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", "Abs", "Sqrt", "Exp", "Log"), ()),
    **dict.fromkeys(("LeakyRelu", "Elu"), ("alpha",)),
    "HardSigmoid": ("alpha", "beta"),
}


@dataclass(frozen=True)
class Rows:
    """A value of the graph: floats (T, B, size) or tokens (T, B); `steps` is T, or what the graph calls it."""

    name: str
    size: int
    steps: int | str


class NodeWriter:
    """Adds the operators of one node to a graph; `prefix` begins the names of what it adds."""

    def __init__(self, graph: Builder, name: str, prefix: str) -> None:
        self._graph = graph
        self._other_steps = f"{name}_steps"
        self._prefix = prefix
        self._count = 0

    def write(self, node: nodes.Node | Layer, sources: Sequence[Rows]) -> Rows:
        """The node's rows. Raises UnsupportedError, which does not name the node."""
        first = sources[0]
        if isinstance(node, nodes.Add | nodes.Multiply):
            name = first.name
            for source in sources[1:]:
                name = self.add("Add" if isinstance(node, nodes.Add) else "Mul", name, source.name)
            return replace(first, name=name)
        x = first
        if len(sources) > 1:
            beside = self.add("Concat", *(source.name for source in sources), axis=2)
            x = Rows(beside, sum(source.size for source in sources), first.steps)
        if isinstance(node, Layer):
            write_layer(self._graph, node, x.name, f"{self._prefix}y", self._prefix)
            directions = 2 if node.bidirectional else 1
            return Rows(f"{self._prefix}y", directions * node.hidden_size, x.steps)
        write = _WRITERS.get(type(node))
        if write is None:
            supported = ", ".join(cls.__name__ for cls in _WRITERS)
            raise UnsupportedError(f"{type(node).__name__} is not supported; supported: {supported}")
        result = write(self, node, x)
        return result if isinstance(result, Rows) else Rows(result, node._output_size(x.size), x.steps)

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator with one output; returns its name."""
        self._count += 1
        return self._graph.add(op_type, inputs, f"{self._prefix}{op_type}_{self._count}", **attributes)

    def integers(self, *values: int) -> str:
        """The name of these int64."""
        label = "_".join(map(str, values)).replace("-", "minus_")
        return self._graph.integers(f"{self._prefix}int64_{label}", *values)

    def reshape(self, x: str, *shape: int) -> str:
        """The same values; 0 keeps an axis."""
        return self.add("Reshape", x, self.integers(*shape))

    def _floats(self, label: str, values: Any) -> str:
        return self._graph.constant(self._prefix + label, np.asarray(values, np.float32))

    def _number(self, value: float) -> str:
        return self._floats(f"float_{value!r}".replace("-", "minus_"), value)

    def _by(self, op_type: str, x: str, value: float) -> str:
        return self.add(op_type, x, self._number(value))

    def _slice(self, x: str, axis: int, begin: int, end: int) -> str:
        return self.add("Slice", x, self.integers(begin), self.integers(end), self.integers(axis))

    def _scaled(self, x: str, weight: FloatArray | None, bias: FloatArray | None) -> str:
        if weight is not None:
            x = self.add("Mul", x, self._floats("weight", weight))
        return x if bias is None else self.add("Add", x, self._floats("bias", bias))

    def _activated(self, x: str, activation: Any) -> str:
        name, alpha, beta = activation.name, activation.alpha, activation.beta
        if name in _OPERATORS:
            return self.add(name, x, **{key: getattr(activation, key) for key in _OPERATORS[name]})
        if name == "Affine":
            return self._by("Add", self._by("Mul", x, alpha), beta)
        if name == "ScaledTanh":
            return self._by("Mul", self.add("Tanh", self._by("Mul", x, beta)), alpha)
        if name == "Clip":
            return self.add("Clip", x, self._number(alpha), self._number(beta))
        if name == "ThresholdedRelu":  # whose threshold itself ONNX's operator leaves out
            return self.add("Where", self._by("Less", x, alpha), self._number(0.0), x)
        if name == "Square":
            return self.add("Mul", x, x)
        if name == "Silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if name == "Gelu":
            share = self._by("Add", self.add("Erf", self._by("Div", x, math.sqrt(2))), 1.0)
            return self._by("Mul", self.add("Mul", x, share), 0.5)
        if name == "GeluTanh":
            cubic = self._by("Mul", self.add("Mul", self.add("Mul", x, x), x), 0.044715)
            argument = self._by("Mul", self.add("Add", x, cubic), math.sqrt(8 / math.pi))
            return self.add("Mul", x, self.add("Sigmoid", argument))  # (1 + tanh(z)) / 2 is sigmoid(2 z)
        raise UnsupportedError(f"activation {name} is not supported")

    # Over windows of rows

    def _padded(self, x: str, rank: int, axis: int, left: int, right: int) -> str:
        """Zeros at both ends of an axis; of negative numbers, what is there is left out."""
        if max(left, right) > 0:
            pads = [0] * (2 * rank)
            pads[axis], pads[rank + axis] = max(left, 0), max(right, 0)
            x = self.add("Pad", x, self.integers(*pads))
        if min(left, right) < 0:
            x = self._slice(x, axis, max(-left, 0), min(right, 0) or _END)
        return x

    def _convolved(self, node: Any, x: Rows, weight: FloatArray, bias: FloatArray | None, groups: int) -> str:
        weight = weight if node.positions is None else weight[:, :, None]
        names = [self._floats("weight", weight), *([] if bias is None else [self._floats("bias", bias)])]
        return self._over("Conv", node, x, *names, group=groups)

    def _over(self, op_type: str, node: Any, x: Rows, *weights: str, **attributes: Any) -> str:
        """A convolution or a pool over windows of rows or, with positions, inside each row."""
        inside, (left, right) = node.positions is not None, node.padding
        value, pads = x.name, (left, right)
        if inside:
            value = self.reshape(value, 0, 0, node.positions, x.size // node.positions)
        if op_type != "Conv" or min(pads) < 0:
            value, pads = self._padded(value, 4 if inside else 3, 2 if inside else 0, left, right), (0, 0)
        # Inside rows the batch takes the place of an image's height, in windows of one.
        one, none = ([1], [0]) if inside else ([], [])
        if op_type != "AveragePool":
            attributes["dilations"] = [*one, node.dilation]
        attributes |= {"kernel_shape": [*one, node.taps], "strides": [*one, node.stride]}
        attributes["pads"] = [*none, pads[0], *none, pads[1]]
        value = self.add("Transpose", value, perm=[0, 3, 1, 2] if inside else [1, 2, 0])
        value = self.add(op_type, value, *weights, **attributes)
        value = self.add("Transpose", value, perm=[0, 2, 3, 1] if inside else [2, 0, 1])
        return self.reshape(value, 0, 0, node._output_size(x.size)) if inside else value

    def _repeated(self, x: str, repeat: int, size: int) -> str:
        """Rows of `size` features, of which each row here has `repeat`."""
        if repeat == 1:
            return x
        # -1 stands for steps times repeat, which have to be neighbours.
        apart = self.reshape(self.add("Transpose", x, perm=[1, 0, 2]), 0, -1, size)
        return self.add("Transpose", apart, perm=[1, 0, 2])

    def _steps(self, node: Any, x: Rows, repeat: int = 1) -> int | str:
        """The name of how many rows windows give."""
        is_as_many = node.stride == 1 and sum(node.padding) == (node.taps - 1) * node.dilation
        return x.steps if repeat == 1 and (is_as_many or node.positions is not None) else self._other_steps

    def _dense(self, node: nodes.Dense, x: Rows) -> str:
        name = self.add("MatMul", x.name, self._floats("weight", node.weight.T))
        name = self._scaled(name, None, node.bias)
        return name if node.activation is None else self._activated(name, node.activation)

    def _window(self, node: nodes.Window, x: Rows) -> Rows:
        weight = node.weight.reshape(len(node.weight), node.taps, -1).transpose(0, 2, 1)
        name = self._convolved(node, x, weight, node.bias, node.groups)
        if node.activation is not None:
            name = self._activated(name, node.activation)
        size = node._output_size(x.size)
        return Rows(self._repeated(name, node.repeat, size), size, self._steps(node, x, node.repeat))

    def _depthwise(self, node: nodes.Depthwise, x: Rows) -> Rows:
        name = self._convolved(node, x, node.weight.T[:, None], node.bias, node.weight.shape[1])
        return Rows(name, node._output_size(x.size), self._steps(node, x))

    def _pool(self, node: nodes.MaxPool | nodes.MeanPool, x: Rows) -> Rows:
        if isinstance(node, nodes.MaxPool):
            name = self._over("MaxPool", node, x)
        elif node.dilation == 1:
            name = self._over("AveragePool", node, x)
        else:  # which mean pools have from operator set 19 on
            features = x.size // (node.positions or 1)
            shares = np.full((features, 1, node.taps), 1 / node.taps, np.float32)
            name = self._convolved(node, x, shares, None, features)
        return Rows(name, node._output_size(x.size), self._steps(node, x))

    def _embedding(self, node: nodes.Embedding, x: Rows) -> str:
        return self.add("Gather", self._floats("table", node.table), x.name)

    # Over the features of a row

    def _activation(self, node: nodes.Activation, x: Rows) -> str:
        return self._activated(x.name, node)

    def _scale(self, node: nodes.Scale, x: Rows) -> str:
        return self._scaled(x.name, node.weight, node.bias)

    def _prelu(self, node: nodes.PReLU, x: Rows) -> str:
        return self.add("PRelu", x.name, self._floats("slope", node.slope))

    def _glu(self, node: nodes.GLU, x: Rows) -> str:
        half = x.size // 2
        gate = self.add("Sigmoid", self._slice(x.name, 2, half, x.size))
        return self.add("Mul", self._slice(x.name, 2, 0, half), gate)

    def _apart(self, node: Any, x: Rows) -> str:
        return x.name if node.parts == 1 else self.reshape(x.name, 0, 0, node.parts, x.size // node.parts)

    def _together(self, node: Any, x: Rows, name: str) -> str:
        return name if node.parts == 1 else self.reshape(name, 0, 0, x.size)

    def _softmax(self, node: nodes.Softmax | nodes.LogSoftmax, x: Rows) -> str:
        return self._together(node, x, self.add(type(node).__name__, self._apart(node, x), axis=-1))

    def _layer_norm(self, node: nodes.LayerNorm, x: Rows) -> str:
        if node.parts > 1 or node.weight is None:
            ones = self._floats("ones", np.ones(x.size // node.parts))
            name = self.add("LayerNormalization", self._apart(node, x), ones, epsilon=node.eps)
            return self._scaled(self._together(node, x, name), node.weight, node.bias)
        arrays = [self._floats("weight", node.weight)]
        arrays += [] if node.bias is None else [self._floats("bias", node.bias)]
        return self.add("LayerNormalization", x.name, *arrays, epsilon=node.eps)

    def _rms_norm(self, node: nodes.RMSNorm, x: Rows) -> str:
        parts = self._apart(node, x)
        squares = self.add("ReduceMean", self.add("Mul", parts, parts), axes=[-1])
        name = self.add("Div", parts, self.add("Sqrt", self._by("Add", squares, node.eps)))
        return self._scaled(self._together(node, x, name), node.weight, None)

    def _l2_norm(self, node: nodes.L2Norm, x: Rows) -> str:
        parts = self._apart(node, x)
        length = self._by("Max", self.add("ReduceL2", parts, axes=[-1]), node.eps)
        return self._together(node, x, self.add("Div", parts, length))

    def _take(self, node: nodes.Take, x: Rows) -> Rows:
        begin, count = int(node.indices[0]), len(node.indices)
        if (node.indices == np.arange(begin, begin + count)).all():
            name = self._slice(x.name, 2, begin, begin + count)
        else:
            name = self.add("Gather", x.name, self._graph.constant(f"{self._prefix}indices", node.indices), axis=2)
        size = count // node.repeat
        return Rows(self._repeated(name, node.repeat, size), size, x.steps if node.repeat == 1 else self._other_steps)

    def _inside(self, node: nodes.Inside, x: Rows) -> str:
        # The rows of all sequences are a batch, and what the layer gives is as many rows again.
        parts = self.reshape(x.name, -1, node.positions, node.layer.input_size)
        y = f"{self._prefix}along"
        write_layer(self._graph, node.layer, self.add("Transpose", parts, perm=[1, 0, 2]), y, self._prefix)
        shape = self.add("Concat", self.add("Shape", x.name, end=2), self.integers(node._output_size(x.size)), axis=0)
        return self.add("Reshape", self.add("Transpose", y, perm=[1, 0, 2]), shape)

    # Over the rows of a sequence

    def _rows(self, node: nodes.Rows, x: Rows) -> Rows:
        padded = self._padded(x.name, 3, 0, node.left, node.right)
        return Rows(padded, x.size, self._other_steps if node.left + node.right else x.steps)

    def _last(self, node: nodes.Last, x: Rows) -> Rows:
        name = self._slice(x.name, 0, -1, _END)
        if node.num_directions == 2:
            half = x.size // 2
            first = self._slice(self._slice(x.name, 0, 0, 1), 2, half, x.size)
            name = self.add("Concat", self._slice(name, 2, 0, half), first, axis=2)
        return Rows(name, x.size, 1)

    def _reduced(self, node: nodes.Mean | nodes.Max | nodes.Sum, x: Rows) -> Rows:
        if isinstance(node, nodes.Sum):  # whose axes are an input from operator set 13 on
            return Rows(self.add("ReduceSum", x.name, self.integers(0)), x.size, 1)
        return Rows(self.add(f"Reduce{type(node).__name__}", x.name, axes=[0]), x.size, 1)


_WRITERS: dict[type[nodes.Node], Callable[[NodeWriter, Any, Rows], str | Rows]] = {
    nodes.Dense: NodeWriter._dense,
    nodes.Window: NodeWriter._window,
    nodes.Depthwise: NodeWriter._depthwise,
    nodes.MaxPool: NodeWriter._pool,
    nodes.MeanPool: NodeWriter._pool,
    nodes.Embedding: NodeWriter._embedding,
    nodes.Activation: NodeWriter._activation,
    nodes.Scale: NodeWriter._scale,
    nodes.PReLU: NodeWriter._prelu,
    nodes.GLU: NodeWriter._glu,
    nodes.Softmax: NodeWriter._softmax,
    nodes.LogSoftmax: NodeWriter._softmax,
    nodes.LayerNorm: NodeWriter._layer_norm,
    nodes.RMSNorm: NodeWriter._rms_norm,
    nodes.L2Norm: NodeWriter._l2_norm,
    nodes.Take: NodeWriter._take,
    nodes.Inside: NodeWriter._inside,
    nodes.Rows: NodeWriter._rows,
    nodes.Last: NodeWriter._last,
    nodes.Mean: NodeWriter._reduced,
    nodes.Max: NodeWriter._reduced,
    nodes.Sum: NodeWriter._reduced,
}
