"""The other libraries: each is imported only if it is installed, and none is needed."""

from __future__ import annotations

import importlib
import importlib.util

from .base import Peer
from .numpy_peer import NumPy

__all__ = ["NumPy", "Peer", "load_peers"]

# What a peer needs installed, and where its adapter is.
_ADAPTERS = {
    "torch": (("torch",), "torch_peer", "Torch"),
    "onnxruntime": (("onnxruntime", "onnx"), "onnxruntime_peer", "OnnxRuntime"),
    "openvino": (("openvino",), "openvino_peer", "OpenVino"),
    "ncnn": (("ncnn",), "ncnn_peer", "Ncnn"),
}


def load_peers() -> tuple[list[Peer], dict[str, str]]:
    """Returns those that are installed and can be imported, and for each of the others the reason."""
    peers: list[Peer] = []
    absent: dict[str, str] = {}
    for name, (modules, adapter, class_name) in _ADAPTERS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            needed = [module for module in missing if module != name]
            absent[name] = "not installed" if name in missing else f"not measured: needs {', '.join(needed)} too"
            continue
        try:
            peer: Peer = getattr(importlib.import_module(f".{adapter}", __name__), class_name)()
        except Exception as error:    # whatever another library's import may raise
            absent[name] = f"cannot be used: {type(error).__name__}: {error}"
        else:
            peers.append(peer)
    return peers, absent
