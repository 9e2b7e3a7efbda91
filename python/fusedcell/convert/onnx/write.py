"""ONNX models from layers: one node for each layer, and what arranges its inputs and outputs as the layer does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base import KINDS, FloatArray
from ..._files import write_file
from ..._options import ACTIVATIONS
from ...cell_options import CellOptions
from ...errors import UnsupportedError
from ...layers import Layer
from ..spec import reordered
from .builder import Builder

if TYPE_CHECKING:
    from onnx import ModelProto

# Where ONNX's blocks z r h, i o f c and, of the peepholes, i o f are among PyTorch's.
_BLOCKS = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
_PEEPHOLE_BLOCKS = (0, 2, 1)


def to_onnx(layer: Layer, path: str | os.PathLike[str] | None = None, *, state_inputs: bool = False) -> ModelProto:
    """An ``onnx.ModelProto`` that computes what the layer does, written to `path` too, as by ``save``, if there is one.

    Input X and output Y are shaped as the layer's x and y, with a batch; Y_h and, of an LSTM, Y_c are the final states,
    (num_layers * D, B, H). With `state_inputs` the graph has inputs initial_h and initial_c of that shape too; without,
    it starts from the layer's :attr:`~fusedcell.layers.Layer.initial_state`, or zeros. Operator set 17.

    Weights are float32: those of a half-width or int8 layer are what they stand for, and the model computes in float32
    throughout. Where ONNX Runtime departs from the operators' text (LSTM's clip, ThresholdedRelu), so does its answer.

    Raises UnsupportedError for a projection, for clip with clip_before_h=False and for weights of 2 GiB and more, none
    of which ONNX can express, TypeError for what is not a layer, ImportError without the package onnx
    (``pip install fusedcell[onnx]``).

    >>> import numpy as np, fusedcell as fc
    >>> rnn = fc.RNN.from_state_dict({"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.ones((2, 2))})
    >>> model = fc.to_onnx(rnn, "rnn.onnx")
    >>> [output.name for output in model.graph.output]
    ['Y', 'Y_h']
    """
    if not isinstance(layer, Layer):
        advice = "; model.to_onnx(path) writes it" if hasattr(layer, "to_onnx") else ""
        raise TypeError(f"layer: expected a layer (LSTM, GRU or RNN), got {type(layer).__name__}{advice}")
    graph = Builder()
    writer = _LayerWriter(graph, layer)
    x = graph.add("Transpose", ["X"], "x_0", perm=[1, 0, 2]) if layer.batch_first else "X"
    initial = {state: f"initial_{state}" for state in writer.states} if state_inputs else {}
    final = {state: f"Y_{state}" for state in writer.states}
    y = f"x_{layer.num_layers}" if layer.batch_first else "Y"
    writer.write(x, y, initial, final)
    if layer.batch_first:
        graph.add("Transpose", [y], "Y", perm=[1, 0, 2])
    writer.join(final)

    axes = ("batch", "steps") if layer.batch_first else ("steps", "batch")
    directions = 2 if layer.bidirectional else 1
    state_shape = (layer.num_layers * directions, "batch", layer.hidden_size)
    inputs = [("X", (*axes, layer.input_size)), *((name, state_shape) for name in initial.values())]
    outputs = [("Y", (*axes, directions * layer.hidden_size)), *((name, state_shape) for name in final.values())]
    model = graph.model([graph.value(*each) for each in inputs], [graph.value(*each) for each in outputs])
    if path is not None:
        write_file(path, model.SerializeToString(deterministic=True))
    return model


def write_layer(graph: Builder, layer: Layer, x: str, y: str, prefix: str) -> None:
    """Adds what computes y (T, B, D * H) of x (T, B, I) from the layer's initial state; `prefix` begins its names."""
    _LayerWriter(graph, layer, prefix).write(x, y, {}, {})


class _LayerWriter:
    def __init__(self, graph: Builder, layer: Layer, prefix: str = "") -> None:
        if layer.proj_size:
            raise UnsupportedError(f"proj_size={layer.proj_size} is not supported; supported: none, as ONNX has none")
        self._graph = graph
        self._layer = layer
        self._prefix = prefix
        self._stack = layer.astype("float32").stack
        self._family = self._stack.kind.partition("_")[0]
        self.states = ("h", "c") if self._family == "lstm" else ("h",)

    def write(self, x: str, y: str, initial: Mapping[str, str], final: Mapping[str, str]) -> None:
        """Adds what computes y of x, from these initial states or its own, to final states that `join` names."""
        directions, count = self._stack.num_directions, self._layer.num_layers
        cells, options = self._stack.arrays(), self._layer.cell_options
        begin = {state: self._initial(state, index, x, initial) for index, state in enumerate(self.states)}
        for k in range(count):
            mine = slice(k * directions, (k + 1) * directions)
            names = [x, *self._weights(k, cells[mine])]
            names[4:4] = ["", *(begin[state][k] for state in self.states)]
            outputs = [self._name(f"y_{k}"), *(self._final(name, state, k) for state, name in final.items())]
            attributes = self._attributes(options[mine])
            self._graph.add(self._family.upper(), names, outputs, self._name(f"layer_{k}"), **attributes)
            x = self._joined(k, y if k + 1 == count else self._name(f"x_{k + 1}"))

    def join(self, final: Mapping[str, str]) -> None:
        """Adds what puts the layers' final states together."""
        count = self._layer.num_layers
        if count > 1:
            for state, name in final.items():
                self._graph.add("Concat", [self._final(name, state, k) for k in range(count)], name, axis=0)

    def _final(self, name: str, state: str, k: int) -> str:
        return name if self._layer.num_layers == 1 else self._name(f"{state}_{k}")

    def _name(self, label: str) -> str:
        return self._prefix + label

    def _integers(self, label: str, *values: int) -> str:
        return self._graph.integers(self._name(label), *values)

    def _weights(self, k: int, cells: list[dict[str, FloatArray]]) -> list[str]:
        """Names of the node's W, R, B and, with peepholes, P."""
        blocks = _BLOCKS[self._family]
        found = {"W": [], "R": [], "B": [], "P": []}  # type: dict[str, list[FloatArray]]
        for cell in cells:
            found["W"].append(reordered(cell["weight_ih"], blocks))
            found["R"].append(reordered(cell["weight_hh"], blocks))
            biases = (reordered(cell[name], blocks) for name in ("bias_ih", "bias_hh"))
            found["B"].append(np.concatenate(list(biases)))
            if "weight_peephole" in cell:
                found["P"].append(reordered(cell["weight_peephole"], _PEEPHOLE_BLOCKS))
        constant = self._graph.constant
        return [constant(self._name(f"{role}_{k}"), np.stack(arrays)) for role, arrays in found.items() if arrays]

    def _attributes(self, options: tuple[CellOptions, ...]) -> dict[str, Any]:
        stack, first = self._stack, options[0]
        attributes: dict[str, Any] = {"hidden_size": stack.hidden_size}
        if stack.num_directions == 2 or stack.reverse:
            attributes["direction"] = "reverse" if stack.reverse else "bidirectional"
        if self._family == "gru":
            attributes["linear_before_reset"] = int(stack.kind == "gru_reset_after")
        for name in ("clip", "input_forget", "clip_before_h"):
            if any(getattr(each, name) != getattr(first, name) for each in options):
                values = [getattr(each, name) for each in options]
                raise UnsupportedError(f"{name}={values} is not supported; supported: one value for both directions")
        if first.clip is not None:
            if not first.clip_before_h:
                raise UnsupportedError(
                    "clip_before_h=False is not supported; supported: True, as ONNX has no attribute for it"
                )
            attributes["clip"] = first.clip
        if first.input_forget:
            attributes["input_forget"] = 1
        if stack.kind == "rnn_relu" or any(each.activations is not None for each in options):
            attributes |= _activations(stack.kind, options)
        return attributes

    def _initial(self, state: str, index: int, x: str, given: Mapping[str, str]) -> list[str]:
        """Names of each layer's initial state, "" for zeros."""
        layer, directions, graph = self._layer, self._stack.num_directions, self._graph
        count, name = layer.num_layers, given.get(state, self._name(f"initial_{state}"))
        parts = [name] if count == 1 else [self._name(f"initial_{state}_{k}") for k in range(count)]
        if state not in given:
            if layer._initial_state is None:
                return [""] * count
            array = layer._initial_state[index]
            if array.shape[1] != 1:
                graph.constant(name, array)
            else:
                if index == 0:
                    graph.add("Shape", [x], self._name("x_shape"))
                    slice_of = [self._name("x_shape"), self._integers("one", 1), self._integers("two", 2)]
                    graph.add("Slice", slice_of, self._name("batch"))
                ends = self._integers("states", array.shape[0]), self._integers("units", array.shape[2])
                sizes = graph.add("Concat", [ends[0], self._name("batch"), ends[1]], f"{name}_sizes", axis=0)
                graph.add("Expand", [graph.constant(f"{name}_row", array), sizes], name)
        if count > 1:
            split = self._integers("directions", *[directions] * count)
            graph.add("Split", [name, split], parts, f"{name}_split", axis=0)
        return parts

    def _joined(self, k: int, output: str) -> str:
        """[T, D, B, H] as (T, B, D * H)."""
        y = self._name(f"y_{k}")
        if self._stack.num_directions == 1:
            return self._graph.add("Squeeze", [y, self._integers("direction_axis", 1)], output)
        by_row = self._graph.add("Transpose", [y], f"{y}_by_row", perm=[0, 2, 1, 3])
        shape = self._integers("joined_shape", 0, 0, 2 * self._layer.hidden_size)
        return self._graph.add("Reshape", [by_row, shape], output)


def _activations(kind: str, options: tuple[CellOptions, ...]) -> dict[str, Any]:
    """Names, and the parameters of those that take any, in the order in which ONNX hands them out."""
    names: list[str] = []
    values: dict[str, list[float]] = {"alpha": [], "beta": []}
    for each in options:
        if each.activations is None:
            names += KINDS[kind].activations
            continue
        for activation in each.activations:
            names.append(activation.name)
            for parameter in ACTIVATIONS[activation.name]:
                values[parameter].append(getattr(activation, parameter))
    given = {f"activation_{parameter}": found for parameter, found in values.items() if found}
    return {"activations": names, **given}
