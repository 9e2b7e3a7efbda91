"""PyTorch's tensors, and arrays in files, as NumPy arrays, without importing PyTorch: who has a tensor has it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_WIDER = ("float16", "bfloat16")
_AS_THEY_ARE = ("float32", "float64")


@dataclass(frozen=True)
class Stored:
    """An array in a file, which is read when it is asked for."""

    read: Callable[[], Any]


def is_tensor(value: object) -> bool:
    """Whether it is a tensor of PyTorch's."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_array(value: Any, name: str) -> Any:
    """A tensor as a NumPy array of the same values, half widths as float32; anything else as it is.

    Raises TypeError, naming the tensor, for one that is not of floats or has no values in reach, and what reading a
    file raises.
    """
    if isinstance(value, Stored):
        value = value.read()
    if not is_tensor(value):
        return value
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in _AS_THEY_ARE + _WIDER:
        raise TypeError(f"{name}: expected a tensor of {', '.join(_AS_THEY_ARE + _WIDER)}, got {dtype}")
    layout = str(value.layout).removeprefix("torch.")
    if layout != "strided":
        raise TypeError(f"{name}: expected a dense tensor, got one with layout {layout}")
    if value.device.type == "meta":
        raise TypeError(f"{name}: expected a tensor with values, got one on the device meta")
    array = value.float() if dtype in _WIDER else value
    try:
        return array.numpy(force=True)
    except RecursionError:
        raise
    except RuntimeError as error:  # as of some subclasses of Tensor
        raise TypeError(f"{name}: expected a tensor with values, got {type(value).__name__}: {error}") from error
