"""The other libraries: each is imported only if it is installed, and none is needed."""

from __future__ import annotations

import importlib
import importlib.util

from .base import Forms, Peer
from .numpy_peer import NumPy

__all__ = ["REQUIRED", "Forms", "NumPy", "Peer", "load_peer", "load_peers"]

REQUIRED = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino",),
    "ncnn": ("ncnn",),
}
"""The libraries, and what must be installed for each."""

_CLASSES = {"torch": "Torch", "onnxruntime": "OnnxRuntime", "openvino": "OpenVino", "ncnn": "Ncnn"}


def load_peer(name: str, dtype: str = "float32") -> Peer:
    """Imports the library and returns its adapter for float32 or int8."""
    module = importlib.import_module(f".{name}_peer", __name__)
    peer: Peer = getattr(module, _CLASSES[name] + ("Int8" if dtype == "int8" else ""))()
    return peer


def load_peers(dtype: str = "float32") -> tuple[list[Peer], dict[str, str]]:
    """Returns those that are installed and can be imported, in float32 and, for int8, in int8 as well.

    For each of the others, by name, the reason.
    """
    peers: list[Peer] = []
    absent: dict[str, str] = {}
    for name, modules in REQUIRED.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if name in missing:
            absent[name] = "not installed"
        elif missing:
            absent[name] = f"not measured, as it needs {' and '.join(missing)}"
        else:
            for offered in ("float32", "int8") if dtype == "int8" else ("float32",):
                try:
                    peers.append(load_peer(name, offered))
                except Exception as error:  # whatever another library's import may raise
                    label = name if offered == "float32" else f"{name} {offered}"
                    absent[label] = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
    return peers, absent
