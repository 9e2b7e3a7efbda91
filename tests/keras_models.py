"""Keras's recurrent layers in NumPy float64, in Keras's own layout, and files as Keras 2 and 3 write them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models import uniform

GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "relu": lambda v: np.maximum(v, 0),
    "linear": lambda v: v,
    "softsign": lambda v: v / (1 + np.abs(v)),
    "softplus": lambda v: np.logaddexp(0, v),
    "elu": lambda v: np.where(v > 0, v, np.expm1(np.minimum(v, 0))),
    "leaky_relu": lambda v: np.where(v > 0, v, 0.2 * v),
}
HARD_SIGMOID = {
    2: lambda v: np.clip(0.2 * v + 0.5, 0, 1),
    3: lambda v: np.clip(v / 6 + 0.5, 0, 1),
}

Arrays = dict[str, np.ndarray]
State = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class KerasCell:
    """A cell by Keras's options."""

    class_name: str
    units: int
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    use_bias: bool = True
    reset_after: bool = True

    @property
    def states(self) -> int:
        return 2 if self.class_name == "LSTM" else 1

    def arrays(self, inputs: int, seed: int) -> Arrays:
        rows = GATES[self.class_name] * self.units
        arrays = {
            "kernel": uniform(seed, inputs, rows) / np.float32(np.sqrt(inputs + 1)),
            "recurrent_kernel": uniform(seed + 1, self.units, rows) * np.float32(0.8 / np.sqrt(self.units + 1)),
        }
        if self.use_bias:
            shape = (2, rows) if self.class_name == "GRU" and self.reset_after else (rows,)
            arrays["bias"] = uniform(seed + 2, *shape) * np.float32(0.5)
        return arrays

    def config(self, **more: Any) -> dict[str, Any]:
        config: dict[str, Any] = {"units": self.units, "activation": self.activation, "use_bias": self.use_bias}
        if self.class_name != "SimpleRNN":
            config["recurrent_activation"] = self.recurrent_activation
        if self.class_name == "GRU":
            config["reset_after"] = self.reset_after
        return config | {"kernel_initializer": {"class_name": "Zeros", "config": {}}, "dropout": 0.25} | more

    def step(self, version: int, arrays: Mapping[str, np.ndarray], x: np.ndarray, state: State) -> State:
        """One step by the formulas of Keras's cells."""
        functions = FUNCTIONS | {"hard_sigmoid": HARD_SIGMOID[version]}
        act, gate = functions[self.activation], functions[self.recurrent_activation]
        K, U = arrays["kernel"], arrays["recurrent_kernel"]
        b = arrays.get("bias", np.zeros(1))
        h = state[0]
        if self.class_name == "SimpleRNN":
            return (act(x @ K + b + h @ U),)
        if self.class_name == "LSTM":
            i, f, c, o = np.split(x @ K + h @ U + b, 4, axis=-1)
            cell = gate(f) * state[1] + gate(i) * act(c)
            return gate(o) * act(cell), cell
        b_x, b_h = b if b.ndim == 2 else (b, np.zeros(1))
        x_z, x_r, x_h = np.split(x @ K + b_x, 3, axis=-1)
        U_z, U_r, U_h = np.split(U, 3, axis=-1)
        b_z, b_r, b_n = np.split(np.broadcast_to(b_h, U.shape[1]), 3)
        z, r = gate(x_z + h @ U_z + b_z), gate(x_r + h @ U_r + b_r)
        new = act(x_h + r * (h @ U_h + b_n) if self.reset_after else x_h + (r * h) @ U_h)
        return (z * h + (1 - z) * new,)


@dataclass(frozen=True)
class KerasCase:
    """A recurrent layer: stacked cells of one direction, or one cell each of two, and what it returns."""

    cells: Sequence[KerasCell]
    inputs: int = 3
    version: int = 3
    form: str = "layer"  # "layer", "RNN" of a cell, or "stacked" cells
    merge_mode: str | None = ""  # "" for one direction
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 1

    @property
    def bidirectional(self) -> bool:
        return self.merge_mode != ""

    def arrays(self) -> list[list[Arrays]]:
        """Each direction's and, in it, each cell's arrays."""
        found = []
        for direction in range(1 + self.bidirectional):
            inputs, stack = self.inputs, []
            for index, cell in enumerate(self.cells):
                stack.append(cell.arrays(inputs, 1000 * self.seed + 100 * direction + 10 * index))
                inputs = cell.units
            found.append(stack)
        return found

    def item(self, name: str = "recurrent") -> dict[str, Any]:
        """The layer's serialized form."""
        options = {"return_sequences": False, "return_state": False, "go_backwards": False, **self.options}
        first = self.cells[0]
        if self.form == "layer":
            inner = self.serialized(first.class_name, first.config(**options, name=name))
        else:
            cells = [self.serialized(f"{cell.class_name}Cell", cell.config()) for cell in self.cells]
            cell = cells[0] if self.form == "RNN" else self.serialized("StackedRNNCells", {"cells": cells})
            inner = self.serialized("RNN", {**options, "name": name, "cell": cell})
        if not self.bidirectional:
            return inner
        config = {"name": name, "merge_mode": self.merge_mode, "layer": inner}
        if self.version == 3:
            config["backward_layer"] = {**inner, "config": {**inner["config"], "go_backwards": True}}
        return self.serialized("Bidirectional", config)

    def serialized(self, class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
        item: dict[str, Any] = {"class_name": class_name, "config": dict(config)}
        return item if self.version == 2 else {"module": "keras.layers", **item, "registered_name": None}

    def expected(self, x: np.ndarray, mask: np.ndarray | None = None, state: Any = None) -> list[np.ndarray]:
        """What Keras returns, flat: the output, or both of merge_mode None, and the states with return_state."""
        returned = {"return_sequences": False, "return_state": False, "go_backwards": False, **self.options}
        sequences = returned["return_sequences"]
        zero = sequences if self.bidirectional else returned.get("zero_output_for_mask", False)
        outputs, finals = [], []
        for d, stack in enumerate(self.arrays()):
            backwards = d == 1 or returned["go_backwards"]
            given = None if state is None else state[d * self.state_count : (d + 1) * self.state_count]
            output, final = self._run(stack, x, mask, given, backwards=backwards, zero=zero)
            if not sequences:
                output = output[:, -1]
            elif d == 1:
                output = output[:, ::-1]
            outputs.append(output)
            finals += final
        if self.bidirectional:
            merge = {
                "concat": lambda a, b: [np.concatenate([a, b], axis=-1)],
                "sum": lambda a, b: [a + b],
                "ave": lambda a, b: [(a + b) / 2],
                "mul": lambda a, b: [a * b],
                None: lambda a, b: [a, b],
            }[self.merge_mode]
            outputs = merge(*outputs)
        return outputs + (finals if returned["return_state"] else [])

    @property
    def state_count(self) -> int:
        return sum(cell.states for cell in self.cells)

    def _run(
        self, stack: Sequence[Arrays], x: np.ndarray, mask: Any, given: Any, *, backwards: bool, zero: bool
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """One direction, in the order of its run."""
        arrays = [{name: array.astype(np.float64) for name, array in one.items()} for one in stack]
        states: list[State] = []
        left = iter(given or [])
        for cell in self.cells:
            zeros = np.zeros((len(x), cell.units))
            states.append(tuple(zeros if given is None else next(left) for _ in range(cell.states)))
        steps = range(x.shape[1])
        previous = np.zeros((len(x), self.cells[-1].units))
        outputs = []
        for t in reversed(steps) if backwards else steps:
            counts = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
            value = x[:, t].astype(np.float64)
            for index, cell in enumerate(self.cells):
                new = cell.step(self.version, arrays[index], value, states[index])
                value = new[0]
                states[index] = tuple(np.where(counts, n, o) for n, o in zip(new, states[index], strict=True))
            previous = np.where(counts, value, np.zeros_like(value) if zero else previous)
            outputs.append(previous)
        return np.stack(outputs, axis=1), [part for state in states for part in state]


def flat(result: Any) -> list[Any]:
    """The arrays or tensors of nested tuples and lists, in order."""
    return [part for item in result for part in flat(item)] if isinstance(result, (tuple, list)) else [result]


def sequential(items: Sequence[Mapping[str, Any]], version: int = 3) -> dict[str, Any]:
    dense = {"class_name": "Dense", "config": {"name": "head", "units": 1}}
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [*items, dense]}}


COMPUTED = object()  # of another layer's making


def serialized_value(value: Any, version: int) -> Any:
    """What a call's argument is in a file: arrays, tensors, and lists of them."""
    if isinstance(value, (list, tuple)):
        return [serialized_value(part, version) for part in value]
    if value is COMPUTED:
        history: list[Any] = ["before", 0, 0]
        return history if version == 2 else {"class_name": "__keras_tensor__", "config": {"keras_history": history}}
    if not isinstance(value, np.ndarray):
        return value
    config = {"value": value.tolist(), "dtype": value.dtype.name}
    return value.tolist() if version == 2 else {"class_name": "__numpy__", "config": config}


def call(version: int, *args: Any, x: Any = COMPUTED, **kwargs: Any) -> Any:
    """A call of a layer with x, and with more by position, which Keras 2 does not write, or by name."""
    values = {name: serialized_value(value, version) for name, value in kwargs.items()}
    if version == 3:
        return {"args": [serialized_value(value, 3) for value in (x, *args)], "kwargs": values}
    return [[*serialized_value(part, 2), values] for part in (x if isinstance(x, list) else [x])]


def functional(
    items: Sequence[tuple[Mapping[str, Any], Sequence[Any]]], name: str = "model", before: str = "Dense"
) -> dict[str, Any]:
    """A functional model of layers and their calls, and of one layer before them, called "before"."""
    layers = [{**item, "name": item["config"].get("name"), "inbound_nodes": list(calls)} for item, calls in items]
    first = {"class_name": before, "config": {"name": "before"}, "inbound_nodes": []}
    return {"class_name": "Functional", "config": {"name": name, "layers": [first, *layers]}}


def write_h5(
    path: Path, model: Mapping[str, Any], layers: Mapping[str, Sequence[Mapping[str, np.ndarray]]], version: str
) -> Path:
    """A whole model as Keras 2 writes it, and Keras 3 as ``.h5``: weights by layer, and their names in order."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version.encode()
        file.attrs["backend"] = b"tensorflow"
        file.attrs["model_config"] = json.dumps(model).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for name, cells in layers.items():
            layer = group.create_group(name)
            names = []
            for index, cell in enumerate(cells):
                for role, array in cell.items():
                    names.append(f"{name}/cell_{index}/{role}:0")
                    layer.create_dataset(names[-1], data=array)
            layer.attrs["weight_names"] = [text.encode() for text in names]
    return path


def write_keras(
    path: Path,
    model: Mapping[str, Any],
    groups: Mapping[str, Mapping[str, np.ndarray]],
    version: str = "3.4.1",
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A ``.keras`` file: weights by the group of their cell."""
    import io

    import h5py

    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for group, arrays in groups.items():
            variables = file.create_group(f"{group}/vars")
            for index, array in enumerate(arrays.values()):
                variables.create_dataset(str(index), data=array)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version, "date_saved": "2024-01-01@00:00:00"}))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


def write_case(
    path: Path, case: KerasCase, keras_version: str | None = None, model: Mapping[str, Any] | None = None
) -> Path:
    """A model of the one layer, "recurrent", and a Dense layer beside it, in the format of the path's suffix."""
    model = model or sequential([case.item()])
    arrays = case.arrays()
    if path.suffix == ".h5":
        cells = [cell for direction in arrays for cell in direction]
        return write_h5(path, model, {"recurrent": cells, "head": []}, keras_version or f"{case.version}.4.0")
    groups = {}
    names = {"SimpleRNN": "simple_rnn", "LSTM": "lstm", "GRU": "gru"}
    first = names[case.cells[0].class_name]
    for d, direction in enumerate(arrays):
        base = "layers/" + ("rnn" if case.form != "layer" else first)
        if case.bidirectional:
            base = "layers/bidirectional/" + ("forward_layer", "backward_layer")[d]
        for index, cell in enumerate(direction):
            end = f"/cells/{first}_cell" + (f"_{index}" if index else "") if case.form == "stacked" else ""
            groups[f"{base}/cell{end}"] = cell
    return write_keras(path, model, groups, keras_version or ("2.15.0" if case.version == 2 else "3.4.1"))


def whole_model(version: int) -> tuple[dict[str, Any], dict[str, list[Arrays]]]:
    """A functional model of words and frames, nested and shared, as Keras 2 or 3 serializes it, and its weights."""

    def item(class_name: str, name: str, *inputs: Any, **config: Any) -> dict[str, Any]:
        module: dict[str, Any] = {} if version == 2 else {"module": "keras.layers", "registered_name": None}
        calls: list[Any] = []
        for given in inputs:
            tensors = [given] if isinstance(given[0], str) else given
            if version == 2:
                calls.append([[*tensor, {}] for tensor in tensors])
            else:
                refs = [{"class_name": "__keras_tensor__", "config": {"keras_history": tensor}} for tensor in tensors]
                calls.append({"args": [refs[0] if tensors[0] is given else refs], "kwargs": {}})
        described = {"class_name": class_name, "name": name, "config": {"name": name, "trainable": True, **config}}
        return {**module, **described, "inbound_nodes": calls}

    def at(name: str, index: int = 0) -> list[Any]:
        return [name, index, 0]

    shape = "batch_input_shape" if version == 2 else "batch_shape"
    dense: dict[str, Any] = {"activation": "tanh", "use_bias": True}
    cell = KerasCell("LSTM", 3, recurrent_activation="hard_sigmoid")
    inner = [
        item("InputLayer", "inner_in", **{shape: [None, None, 3]}),
        item("Dense", "inner_dense", units=3, **dense),
    ]
    windows = {"padding": "causal", "data_format": "channels_last", "dilation_rate": [2], "groups": 1}
    layers = [
        item("InputLayer", "words", **{shape: [None, None]}, dtype="int32"),
        item("InputLayer", "frames", **{shape: [None, None, 4]}),
        item("Embedding", "table", at("words"), input_dim=5, output_dim=3, mask_zero=False),
        item(
            "Conv1D", "conv", at("frames"), filters=3, kernel_size=[3], strides=[1], **windows, activation="relu",
            use_bias=False,
        ),
        item("BatchNormalization", "norm", at("conv"), axis=[2], epsilon=0.001, center=True, scale=True, momentum=0.9),
        item("Sequential", "inner", at("norm"), at("table"), layers=inner),
        item("Concatenate", "both", [at("inner"), at("inner", 1)], axis=-1),
        item(
            "Bidirectional", "bi", at("both"), merge_mode="ave",
            layer={"class_name": "LSTM", "config": cell.config(name="lstm", return_sequences=True)},
        ),
        item("Dropout", "drop", at("bi"), rate=0.5),
        item("GlobalMaxPooling1D", "most", at("drop"), data_format="channels_last"),
        item("Dense", "head", at("most"), units=2, **dense | {"activation": "softmax"}),
    ]  # fmt: skip
    ends: dict[str, Any] = {
        "input_layers": [at("words"), at("frames")],
        "output_layers": [at("head"), at("drop")],
    }
    config = {"name": "model", "layers": layers, **ends}

    def arrays(seed: int, **shapes: tuple[int, ...]) -> list[Arrays]:
        return [{name: uniform(seed + i, *shape) for i, (name, shape) in enumerate(shapes.items())}]

    norm = arrays(30, gamma=(3,), beta=(3,), moving_mean=(3,), moving_variance=(3,))
    norm[0]["moving_variance"] = np.abs(norm[0]["moving_variance"]) + np.float32(0.5)
    return {"class_name": "Functional", "config": config}, {
        "table": arrays(10, embeddings=(5, 3)),
        "conv": arrays(20, kernel=(3, 4, 3)),
        "norm": norm,
        "inner": arrays(40, kernel=(3, 3), bias=(3,)),
        "bi": [cell.arrays(6, 50), cell.arrays(6, 60)],
        "head": arrays(70, kernel=(3, 2), bias=(2,)),
    }


def write_whole_model(path: Path, version: int) -> dict[str, list[Arrays]]:
    """Writes it in the format of the path's suffix; its weights."""
    config, weights = whole_model(version)
    if path.suffix == ".h5":
        inner = [{f"inner_dense/{role}": array for role, array in weights["inner"][0].items()}]
        write_h5(path, config, weights | {"inner": inner, "both": [], "drop": [], "most": []}, f"{version}.4.0")
        return weights
    groups = {
        "table": ["layers/embedding"],
        "conv": ["layers/conv1d"],
        "norm": ["layers/batch_normalization"],
        "inner": ["layers/sequential/layers/dense"],
        "bi": [f"layers/bidirectional/{direction}_layer/cell" for direction in ("forward", "backward")],
        "head": ["layers/dense"],
    }
    named = {group: array for name, each in groups.items() for group, array in zip(each, weights[name], strict=True)}
    write_keras(path, config, named, "2.15.0" if version == 2 else "3.4.1")
    return weights
