"""The operators that torch.compile and torch.export see: a whole layer or a cell is one, which they leave alone.

The weights are arguments, not a handle to packed ones. So an exported program carries its weights and runs in another
process, copies of a model have weights of their own, and a change of a weight is seen inside compiled code too. What is
packed of them is looked up in packs.py at each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._core import Stack
from ..convert.torch.modules import Form
from .packs import Storage, are_versioned, pack, packed

_FORM = (
    "Tensor[] weights, str class_name, str nonlinearity, int num_layers, bool bidirectional, bool bias, bool projected"
)


def run_layer(
    stack: Stack,
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    batch_sizes: Tensor | None,
    batch_first: bool,
    num_threads: int,
    lengths: Any = None,
    mask: Any = None,
) -> list[Tensor]:
    """y, h_n and, for an LSTM, c_n: on the memory of arrays that the layer returns. With batch sizes x is packed."""
    arrays: tuple[object, ...]
    if batch_sizes is None:
        arrays = stack.run(_array(x), _array(h_0), _array(c_0), lengths, mask, batch_first, num_threads)
    else:
        arrays = stack.run_packed(_array(x), _array(batch_sizes), _array(h_0), _array(c_0), num_threads)
    return [torch.from_numpy(array) for array in arrays if array is not None]


def run_cell(stack: Stack, x: Tensor, h: Tensor | None, c: Tensor | None) -> list[Tensor]:
    """The new h and, for an LSTM, c."""
    return [torch.from_numpy(array) for array in stack.step(_array(x), _array(h), _array(c)) if array is not None]


def _array(tensor: Tensor | None) -> object:
    # The tensor's own memory, with or without requires_grad; only a negation that is still to be done makes a copy.
    return None if tensor is None else tensor.numpy(force=True)


def _check_exporter(class_name: str) -> None:
    """Says what ONNX's exporters, which reach the operators only as fakes or in a trace, would put in riddles."""
    if torch.onnx.is_in_onnx_export():
        raise RuntimeError(
            f"torch.onnx.export: Fused{class_name} has no ONNX operator; call report.undo() of "
            "fusedcell.torch.accelerate first, or write the layer with fusedcell.to_onnx"
        )


def _stack(form: Form, weights: Sequence[Tensor], dtype: str, isa: str | None) -> Stack:
    storage = Storage(dtype, isa)
    return packed(form, weights, storage).stack if are_versioned(weights) else pack(form, weights, storage)


@torch.library.custom_op(
    "fusedcell::layer",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor x, Tensor? h_0, Tensor? c_0, Tensor? batch_sizes, {_FORM}, bool batch_first, str dtype, str? isa, "
    "int num_threads) -> Tensor[]",
)
def layer(
    x: Tensor, h_0: Tensor | None, c_0: Tensor | None, batch_sizes: Tensor | None, weights: Sequence[Tensor], *more: Any
) -> list[Tensor]:
    """Runs a layer as :func:`run_layer` does."""
    *form, batch_first, dtype, isa, num_threads = more
    _check_exporter(form[0])
    return run_layer(_stack(Form(*form), weights, dtype, isa), x, h_0, c_0, batch_sizes, batch_first, num_threads)


@layer.register_fake
def _(
    x: Tensor, h_0: Tensor | None, c_0: Tensor | None, batch_sizes: Tensor | None, weights: Sequence[Tensor], *more: Any
) -> list[Tensor]:
    class_name, _, num_layers, bidirectional, *_, batch_first, _, _, _ = more
    _check_exporter(class_name)
    directions = 1 + bidirectional
    if batch_sizes is not None:  # the first of them, which only a real tensor tells
        state = [torch.library.get_ctx().new_dynamic_size() if h_0 is None else h_0.shape[1]]
    else:
        state = [] if x.dim() == 2 else [x.shape[0] if batch_first else x.shape[1]]
    h_size = weights[1].shape[1]
    shapes = [[*x.shape[:-1], directions * h_size], [num_layers * directions, *state, h_size]]
    if class_name == "LSTM":
        shapes.append([num_layers * directions, *state, weights[0].shape[0] // 4])
    return [x.new_empty(shape) for shape in shapes]


@torch.library.custom_op(
    "fusedcell::cell",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor? h, Tensor? c, Tensor[] weights, str class_name, str nonlinearity, bool bias, str dtype, "
    "str? isa) -> Tensor[]",
)
def cell(
    x: Tensor, h: Tensor | None, c: Tensor | None, weights: Sequence[Tensor], class_name: str, *more: Any
) -> list[Tensor]:
    """Runs a cell as :func:`run_cell` does."""
    nonlinearity, bias, dtype, isa = more
    _check_exporter(class_name)
    return run_cell(_stack(Form(class_name, nonlinearity, bias=bias), weights, dtype, isa), x, h, c)


@cell.register_fake
def _(
    x: Tensor, h: Tensor | None, c: Tensor | None, weights: Sequence[Tensor], class_name: str, *more: Any
) -> list[Tensor]:
    _check_exporter(class_name)
    outputs = 2 if class_name == "LSTMCell" else 1
    return [x.new_empty([*x.shape[:-1], weights[1].shape[1]]) for _ in range(outputs)]
