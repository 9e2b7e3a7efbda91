"""Targets that read files: whatever the bytes, a layer that works, or a clear refusal.

Packages that read a format are imported by the target that needs them, as not every environment has all.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fusedcell as fc
from fusedcell.convert import state_modules
from fusedcell.nodes import Node
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
    """A file of a whole model for `fusedcell.load`; it answers in one call as it does in blocks."""
    path = in_file(data, ".safetensors")
    with may_raise(ValueError) as refusal:
        loaded = fc.load(path)
    if refusal or not isinstance(loaded, fc.Model):
        return
    again = pickle.loads(pickle.dumps(loaded))
    check(repr(again) == repr(loaded), f"a pickle of {loaded!r} is {again!r}")
    rows = 9
    xs = [
        np.arange(rows) % loaded.tokens[name] if name in loaded.tokens else uniform(1, rows, loaded.sizes[name])
        for name in loaded.inputs
    ]
    answer: Any = None
    with may_raise(ValueError):  # rows do not meet
        answer = loaded(*xs)
    if answer is None:
        return
    same(again(*xs), answer, "a pickle")
    if loaded.streamable and not any(node.type == "last" for _, node, _ in loaded.nodes if isinstance(node, Node)):
        stream = loaded.stream()
        parts = [stream.process(*(x[:5] for x in xs)), stream.process(*(x[5:] for x in xs)), stream.flush()]
        parts = [part if isinstance(part, tuple) else (part,) for part in parts]
        whole = answer if isinstance(answer, tuple) else (answer,)
        same(tuple(np.concatenate(pieces) for pieces in zip(*parts, strict=True)), whole, "blocks")


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
        found, _ = state_modules.report(path)
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
    from fusedcell.convert.onnx_read import report

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
