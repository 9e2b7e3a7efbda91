"""ONNX models from layers: one node for each layer, and what arranges its inputs and outputs as the layer does."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .. import _core
from .._base import KINDS, FloatArray
from .._files import write_file
from .._options import ACTIVATIONS
from ..cell_options import CellOptions
from ..errors import UnsupportedError
from ..layers import Layer
from .onnx_file import import_onnx
from .spec import reordered

# The newest that the versions of ONNX Runtime and OpenVINO of the last years all read.
_OPSET = 17
_IR_VERSION = 8
_LARGEST = 2**31 - 2**20  # protobuf's limit, and room for what is not weights

# Where ONNX's blocks z r h, i o f c and, of the peepholes, i o f are among PyTorch's.
_BLOCKS = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
_PEEPHOLE_BLOCKS = (0, 2, 1)


def to_onnx(layer: Layer, path: str | os.PathLike[str] | None = None, *, state_inputs: bool = False) -> Any:
    """An ``onnx.ModelProto`` that computes what the layer does, written to `path` too, as by ``save``, if there is one.

    Input X and output Y are shaped as the layer's x and y, with a batch; Y_h and, of an LSTM, Y_c are the final states,
    (num_layers * D, B, H). With `state_inputs` the graph has inputs initial_h and initial_c of that shape too; without,
    it starts from the layer's :attr:`~fusedcell.layers.Layer.initial_state`, or zeros. Operator set 17.

    Weights are float32: those of a half-width or int8 layer are what they stand for, and the model computes in float32
    throughout. Where ONNX Runtime departs from the operators' text (LSTM's clip, ThresholdedRelu), so does its answer.

    Raises UnsupportedError for a projection, for clip with clip_before_h=False and for weights of 2 GiB and more, none
    of which ONNX can express, TypeError for what is not a layer, ImportError without the package onnx
    (``pip install fusedcell[onnx]``).
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"layer: expected a layer (LSTM, GRU or RNN), got {type(layer).__name__}")
    model = _Writer(layer, state_inputs=bool(state_inputs)).model()
    if path is not None:
        write_file(path, model.SerializeToString(deterministic=True))
    return model


class _Writer:
    def __init__(self, layer: Layer, *, state_inputs: bool) -> None:
        if layer.proj_size:
            raise UnsupportedError(f"proj_size={layer.proj_size} is not supported; supported: none, as ONNX has none")
        self._onnx: Any = import_onnx()
        self._layer = layer
        self._stack = layer.astype("float32").stack
        self._family = self._stack.kind.partition("_")[0]
        self._states = ("h", "c") if self._family == "lstm" else ("h",)
        self._state_inputs = state_inputs
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._bytes = 0

    def model(self) -> Any:
        layer, helper = self._layer, self._onnx.helper
        directions, count, units = self._stack.num_directions, layer.num_layers, layer.hidden_size
        cells, options = self._stack.arrays(), layer.cell_options

        x = "X"
        if layer.batch_first:
            x = self._add("Transpose", ["X"], "x_0", perm=[1, 0, 2])
        initial = {state: self._initial(state, index, x) for index, state in enumerate(self._states)}
        for k in range(count):
            mine = slice(k * directions, (k + 1) * directions)
            names = [x, *self._weights(k, cells[mine])]
            names[4:4] = ["", *(initial[state][k] for state in self._states)]
            outputs = [f"y_{k}", *(self._final(state, k) for state in self._states)]
            self._nodes.append(
                helper.make_node(self._family.upper(), names, outputs, f"layer_{k}", **self._attributes(options[mine]))
            )
            last = k + 1 == count
            x = self._joined(k, "Y" if last and not layer.batch_first else f"x_{k + 1}")
        if layer.batch_first:
            self._add("Transpose", [x], "Y", perm=[1, 0, 2])
        if count > 1:
            for state in self._states:
                self._add("Concat", [self._final(state, k) for k in range(count)], f"Y_{state}", axis=0)

        axes = ("batch", "steps") if layer.batch_first else ("steps", "batch")
        state_shape = (count * directions, "batch", units)
        inputs = [self._value("X", (*axes, layer.input_size))]
        if self._state_inputs:
            inputs += [self._value(f"initial_{state}", state_shape) for state in self._states]
        outputs = [self._value("Y", (*axes, directions * units))]
        outputs += [self._value(f"Y_{state}", state_shape) for state in self._states]
        graph = helper.make_graph(self._nodes, "fusedcell", inputs, outputs, self._initializers)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="fusedcell",
            producer_version=_core.__version__,
        )

    def _add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(op_type, inputs, [output], output, **attributes))
        return output

    def _constant(self, name: str, array: Any) -> str:
        self._bytes += array.nbytes
        if self._bytes > _LARGEST:
            raise UnsupportedError("weights of 2 GiB and more are not supported; supported: what one ONNX file holds")
        self._initializers.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _integers(self, name: str, *values: int) -> str:
        if all(tensor.name != name for tensor in self._initializers):
            self._constant(name, np.array(values, np.int64))
        return name

    def _value(self, name: str, shape: tuple[int | str, ...]) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape)

    def _final(self, state: str, k: int) -> str:
        return f"Y_{state}" if self._layer.num_layers == 1 else f"{state}_{k}"

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
        return [self._constant(f"{role}_{k}", np.stack(arrays)) for role, arrays in found.items() if arrays]

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

    def _initial(self, state: str, index: int, x: str) -> list[str]:
        """Names of each layer's initial state, "" for zeros."""
        layer, directions = self._layer, self._stack.num_directions
        count, name = layer.num_layers, f"initial_{state}"
        parts = [name] if count == 1 else [f"{name}_{k}" for k in range(count)]
        if self._state_inputs:
            whole = name
        elif layer._initial_state is None:
            return [""] * count
        else:
            array = layer._initial_state[index]
            if array.shape[1] != 1:
                whole = self._constant(name, array)
            else:
                if index == 0:
                    self._add("Shape", [x], "x_shape")
                    self._add("Slice", ["x_shape", self._integers("one", 1), self._integers("two", 2)], "batch")
                sizes = [self._integers("states", array.shape[0]), "batch", self._integers("units", array.shape[2])]
                self._add("Concat", sizes, f"{name}_sizes", axis=0)
                whole = self._add("Expand", [self._constant(f"{name}_row", array), f"{name}_sizes"], name)
        if count > 1:
            split = self._integers("directions", *[directions] * count)
            self._nodes.append(self._onnx.helper.make_node("Split", [whole, split], parts, f"{name}_split", axis=0))
        return parts

    def _joined(self, k: int, output: str) -> str:
        """[T, D, B, H] as (T, B, D * H)."""
        if self._stack.num_directions == 1:
            return self._add("Squeeze", [f"y_{k}", self._integers("direction_axis", 1)], output)
        self._add("Transpose", [f"y_{k}"], f"y_{k}_by_row", perm=[0, 2, 1, 3])
        shape = self._integers("joined_shape", 0, 0, 2 * self._layer.hidden_size)
        return self._add("Reshape", [f"y_{k}_by_row", shape], output)


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
