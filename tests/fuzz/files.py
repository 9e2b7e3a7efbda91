"""Targets that read files: whatever the bytes, a layer that works, or a clear refusal.

Packages that read a format are imported by the target that needs them, as not every environment has all.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fusedcell as fc
from fusedcell.convert import state_modules
from fusedcell.nodes import Last
from fuzz.outcome import bits, check, may_raise, same
from models import uniform

LAYERS = (fc.LSTM, fc.GRU, fc.RNN)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None)


def in_file(data: bytes, suffix: str) -> Path:
    path = Path(_folder().name) / f"input{suffix}"
    path.write_bytes(data)
    return path


def works(layer: Any) -> None:
    """What is read must compute, and be the same after a journey through a pickle."""
    rows = 1
    if getattr(layer, "initial_state", None) is not None:
        first = layer.initial_state[0] if isinstance(layer.initial_state, tuple) else layer.initial_state
        rows = first.shape[1]
    is_cell = not hasattr(layer, "num_layers")
    shape = (layer.input_size,) if is_cell else (rows, 3) if layer.batch_first else (3, rows)
    x = uniform(1, *(shape if is_cell else (*shape, layer.input_size)))
    result = layer(x)
    check(bits(result)[0][0][-1] > 0, "a layer without outputs")
    again = pickle.loads(pickle.dumps(layer))
    check(repr(again) == repr(layer), f"a pickle of {layer!r} is {again!r}")
    same(again(x), result, "a pickle")


def load(data: bytes) -> None:
    """A file for `fusedcell.load`."""
    path = in_file(data, ".safetensors")
    with may_raise(ValueError) as refusal:
        layer = fc.load(path)
    if refusal:
        return
    works(layer)
    other = path.with_name("saved.safetensors")
    fc.save(layer, other)
    first = other.read_bytes()
    fc.save(fc.load(other), other)
    check(other.read_bytes() == first, "a layer that was saved and loaded is saved as other bytes")


def model(data: bytes) -> None:
    """A file of a whole model for `fusedcell.load`."""
    path = in_file(data, ".safetensors")
    with may_raise(ValueError) as refusal:
        loaded = fc.load(path)
    if not refusal and isinstance(loaded, fc.Model):
        model_works(loaded)


def json_model(data: bytes) -> None:
    """A JSON file for `Model.from_json`."""
    path = in_file(data, ".json")
    with may_raise(ValueError) as refusal:
        loaded = fc.Model.from_json(path)
    if not refusal:
        model_works(loaded)


def model_works(loaded: fc.Model) -> None:
    """What is read must be the same after a journey through a pickle, and answer in one call as it does in blocks."""
    again = pickle.loads(pickle.dumps(loaded))
    check(repr(again) == repr(loaded), f"a pickle of {loaded!r} is {again!r}")
    axes = {name: [axis for axis in given if axis != "batch"] for name, given in loaded.axes.items()}
    xs = []
    for name in loaded.inputs:
        shape = [9 if axis == "time" else int(axis) for axis in axes[name]]
        tokens = np.arange(math.prod(shape)).reshape(shape) % loaded.tokens.get(name, 1)
        xs.append(tokens if name in loaded.tokens else uniform(1, *shape))
    answer: Any = None
    with may_raise(ValueError):  # rows do not meet
        answer = loaded(*xs)
    if answer is None:
        return
    same(again(*xs), answer, "a pickle")
    if (
        loaded.streamable
        and any("time" in axes[name] for name in loaded.inputs)
        and not any(isinstance(node, Last) for _, node, _ in loaded.nodes)
    ):
        stream = loaded.stream()
        halves = [
            np.split(x, [5], axes[name].index("time")) if "time" in axes[name] else [x, x]
            for name, x in zip(loaded.inputs, xs, strict=True)
        ]
        parts = [*(stream.process(*half) for half in zip(*halves, strict=True)), stream.flush()]
        pieces = zip(*(part if isinstance(part, tuple) else (part,) for part in parts), strict=True)
        joined = [
            np.concatenate(part, axes[name].index("time")) for name, part in zip(loaded.outputs, pieces, strict=True)
        ]
        whole = answer if isinstance(answer, tuple) else (answer,)
        # What no input has, a batch axis, is in the answers of calls alone.
        same(tuple(joined), tuple(w.reshape(j.shape) for w, j in zip(whole, joined, strict=True)), "blocks")


def _state_dict(path: Path) -> None:
    for cls in LAYERS:
        for prefix in ("", "lstm."):
            layer: Any = None
            with may_raise(ValueError, TypeError):
                layer = cls.from_state_dict(path, prefix)  # of layers alone
            if layer is not None:
                works(layer)
    found: list[Any] = []
    with may_raise(ValueError, TypeError):
        found = state_modules.report(path).modules
    for module in found[:4]:
        check((module.layer is None) == bool(module.refusal), f"{module} is neither loaded nor refused")
        if module.layer is not None:
            works(module.layer)


def state_dict(data: bytes) -> None:
    """A safetensors file for `from_state_dict`, and for the report of `fusedcell inspect`."""
    _state_dict(in_file(data, ".safetensors"))


def state_dict_pytorch(data: bytes) -> None:
    """What torch.save wrote, for the same."""
    _state_dict(in_file(data, ".pt"))


def onnx(data: bytes) -> None:
    """A model for `from_onnx`, and for the report of `fusedcell inspect`."""
    from fusedcell.convert.onnx.read import report

    reports: list[Any] = []
    with may_raise(ValueError):
        reports = report(data)
    for node in range(max(1, min(len(reports), 4))):
        layer: Any = None
        with may_raise(ValueError) as refusal:
            layer = fc.from_onnx(data, node if reports else None, dtype=("float32", "int8")[node % 2])
        if layer is not None:
            works(layer)
            check(bool(reports), "a model that loads and that inspect refuses")
        check(bool(refusal) or not reports[node].refusal or node % 2 == 1, "a node that loads and that inspect refuses")


def whole_onnx(data: bytes) -> None:
    """A graph for `Model.from_onnx`, with its second input as a state if it has one; it answers as its copy does."""
    import onnx

    states, proto = {}, onnx.ModelProto()
    with contextlib.suppress(Exception):  # which the model's own reader meets too
        proto.ParseFromString(data)
        if len(proto.graph.input) > 1 and len(proto.graph.output) > 1:
            states = {proto.graph.input[1].name: proto.graph.output[1].name}
    made: Any = None
    with may_raise(ValueError):
        made = fc.Model.from_onnx(data, states)
    if made is not None:
        again = pickle.loads(pickle.dumps(made))
        check(repr(again) == repr(made), f"a pickle of {made!r} is {again!r}")


def _keras(path: Path, *, as_keras: bool) -> None:
    layer: Any = None
    with may_raise(ValueError):
        layer = fc.from_keras(path, "recurrent", keras_output=True) if as_keras else fc.from_keras(path)
    if layer is None:
        return
    works(layer.layer if as_keras else layer)
    if as_keras:
        with may_raise(ValueError):
            layer(np.zeros((2, 3, layer.layer.input_size), np.float32))


def keras(data: bytes) -> None:
    """A ``.keras`` file for `from_keras`."""
    _keras(in_file(data, ".keras"), as_keras=len(data) % 2 == 1)


def keras_h5(data: bytes) -> None:
    """An ``.h5`` file for `from_keras`."""
    _keras(in_file(data, ".h5"), as_keras=len(data) % 2 == 1)


def keras_model(data: bytes) -> None:
    """A ``.keras`` file for `Model.from_keras`."""
    path = in_file(data, ".keras")
    with may_raise(ValueError) as refusal:
        loaded = fc.Model.from_keras(path)
    if not refusal:
        model_works(loaded)
