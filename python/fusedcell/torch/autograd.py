"""What modules that are trained share: the tensors that they take, and what of autograd they refuse."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import _core
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


def is_exported() -> bool:
    """Whether a call is exported or traced, where it is to be of PyTorch's operators."""
    return bool(_is_exporting() or torch.jit.is_tracing())


def refuse_second_derivatives() -> None:
    """Raises RuntimeError in a way back that is to be differentiated itself."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "create_graph=True: fusedcell.torch computes no second derivatives; use torch.nn's module for them"
        )


def refuse_transforms() -> None:
    """Raises RuntimeError under functorch's transforms."""
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
    """Raises TypeError, naming the argument, for anything but a float32 tensor on the CPU."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if tensor.dtype != torch.float32 or tensor.device != packs.CPU:
        raise TypeError(f"{name}: expected a float32 tensor on the CPU, got {packs.describe(tensor)}")


def warn_of_autocast() -> None:
    """Says that torch.autocast changes nothing: of this place, so that by Python's default filter it is said once."""
    warnings.warn("fusedcell.torch computes in float32, also within torch.autocast", stacklevel=1)
