"""What modules that are trained share: the tensors that they take, and what of autograd they refuse."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .. import _core
from ..convert.torch.export import is_followed
from . import packs

# PyTorch before 2.7 does not tell one from the other.
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


class TrainedModule(nn.Module):
    """A module of ``torch.nn`` with our forward and backward."""

    fusedcell_replaces: ClassVar[Any]  # of recurrent ones
    num_threads: int = 1

    def __init__(self, *args: Any, num_threads: int = 1, **kwargs: Any) -> None:
        threads = _core.checked_num_threads(num_threads)
        super().__init__(*args, **kwargs)
        self.num_threads = threads


def array_of(tensor: Tensor | None) -> Any:
    """The tensor's own memory as an array."""
    return None if tensor is None else tensor.numpy(force=True)


def flags_of(name: str, values: Any) -> Any:
    """An array of them; floats, as in which others keep what is done, become bools."""
    if values is None:
        return None
    array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind != "f":
        return array  # of bools or integers, or refused by the extension
    if not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{name}: expected bools, or 0 and 1, got other values")
    return array != 0


def is_exporting() -> bool:
    """Whether a call is exported, and so for inference."""
    return bool(_is_exporting())


def takes_pytorchs(module: nn.Module) -> bool:
    """Whether a call is to be of PyTorch's operators: in ONNX, in traces, in what is exported in training mode, and for
    ``fc.Model.from_torch``."""
    if torch.compiler.is_compiling():
        return is_followed() or torch.onnx.is_in_onnx_export() or (module.training and is_exporting())
    return bool(torch.jit.is_tracing())


def refuse_second_derivatives() -> None:
    """Raises RuntimeError in a way back that is to be differentiated itself."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "create_graph=True: fusedcell.torch computes no second derivatives; use torch.nn's module for them"
        )


def refuse_transforms() -> None:
    """Raises RuntimeError under functorch's transforms."""
    if torch.compiler.is_compiling():  # which says itself that our operators have none of their rules
        return
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise RuntimeError(
            "torch.func: fusedcell.torch computes no derivatives under functorch's transforms; use torch.nn's"
        )


def check_tensor(name: str, tensor: Any, ndims: tuple[int, ...], size: int) -> None:
    """Raises TypeError or ValueError, naming the argument, unless it is float32 on the CPU and ends in `size`."""
    check_float32(name, tensor)
    if tensor.dim() not in ndims or tensor.shape[-1] != size:
        dims = " or ".join(map(str, ndims))
        raise ValueError(f"{name}: expected {dims} dimensions, the last {size}, got shape {tuple(tensor.shape)}")


def check_float32(name: str, tensor: Any) -> None:
    """Raises TypeError, naming the argument, for anything but a float32 tensor on the CPU, or without memory."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if tensor.dtype != torch.float32 or tensor.device not in (packs.CPU, packs.META):
        raise TypeError(f"{name}: expected a float32 tensor on the CPU, got {packs.describe(tensor)}")


def warn_of_autocast() -> None:
    """Says that torch.autocast changes nothing: of this place, so that by Python's default filter it is said once."""
    warnings.warn("fusedcell.torch computes in float32, also within torch.autocast", stacklevel=1)
