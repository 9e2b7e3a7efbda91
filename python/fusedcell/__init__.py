"""fusedcell: trained recurrent networks (RNN, LSTM, GRU) on a CPU, one step at a time or a whole sequence.

>>> import numpy as np, fusedcell as fc
>>> weights = {"weight_ih_l0": np.ones((4, 1)), "weight_hh_l0": np.zeros((4, 1))}
>>> lstm = fc.LSTM.from_state_dict(weights)
>>> stream = lstm.stream()
>>> y = stream.step(np.zeros(1, np.float32))
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from . import _core  # where it cannot be, it says so before NumPy loads

Stream = _core.Stream
__version__ = _core.__version__

# Each name is loaded when it is asked for; __init__.pyi says the same to type checkers.
_MODULES = {
    "cells": ("GRUCell", "LSTMCell", "RNNCell"),
    "checking": ("Check", "check"),
    "convert.keras.layers": ("from_keras",),
    "convert.onnx.read": ("from_onnx",),
    "convert.onnx.write": ("to_onnx",),
    "convert.torch.modules": ("from_torch",),
    "errors": ("QuantizationWarning", "UnsupportedError"),
    "layers": ("GRU", "LSTM", "RNN"),
    "model": ("Model",),
    "model_stream": ("ModelStream",),
    "nodes": ("Dense", "Embedding", "Window"),
    "runtime": ("isas", "runtime_info", "show_runtime"),
    "storage": ("load", "save"),
    "stream_pool": ("StreamPool",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted([*_MODULE_OF, "Stream", "__version__", "nodes", "quantization", "reference"])


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        return value
    whole = f"{__name__}.{name}"
    reason = f"module {__name__!r} has no attribute {name!r}"
    try:
        if name.isidentifier() and not name.startswith("_"):
            return import_module(whole)
    except ImportError as error:  # of a package that is not there; who asks whether there is such an attribute gets no
        if not isinstance(error, ModuleNotFoundError) or error.name != whole:
            raise AttributeError(str(error)) from error
    raise AttributeError(reason)


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | {*__all__})
