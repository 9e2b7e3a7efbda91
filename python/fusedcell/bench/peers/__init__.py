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
"""The peers, and what must be installed for each."""

_CLASSES = {"torch": "Torch", "onnxruntime": "OnnxRuntime", "openvino": "OpenVino", "ncnn": "Ncnn"}


def load_peer(name: str) -> Peer:
    """Imports the library and returns its adapter."""
    peer: Peer = getattr(importlib.import_module(f".{name}_peer", __name__), _CLASSES[name])()
    return peer


def load_peers() -> tuple[list[Peer], dict[str, str]]:
    """Returns those that are installed and can be imported, and for each of the others the reason."""
    peers: list[Peer] = []
    absent: dict[str, str] = {}
    for name, modules in REQUIRED.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if name in missing:
            absent[name] = "not installed"
        elif missing:
            absent[name] = f"not measured, as it needs {' and '.join(missing)}"
        else:
            try:
                peers.append(load_peer(name))
            except Exception as error:  # whatever another library's import may raise
                absent[name] = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
    return peers, absent
