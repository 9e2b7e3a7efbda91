"""The operators that torch.compile and torch.export see: a whole layer or a cell is one, which they leave alone.

The weights are arguments, not a handle to packed ones. So an exported program carries its weights and runs in another
process, copies of a model have weights of their own, and a change of a weight is seen inside compiled code too. What is
packed of them is looked up in packs.py at each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .._core import Stack
from ..convert.torch.modules import Form
from .autograd import array_of, flags_of
from .packs import Storage, are_versioned, pack, packed

# What modules take as hx and give back, h or, of an LSTM, (h, c); and what layers answer, y, packed where the input is,
# and the state. Any, as all classes share a forward, and a union would need a cast wherever the class is known.
State: TypeAlias = Any
Answer: TypeAlias = Any

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
        arrays = stack.run(array_of(x), array_of(h_0), array_of(c_0), lengths, mask, batch_first, num_threads)
    else:
        arrays = stack.run_packed(array_of(x), array_of(batch_sizes), array_of(h_0), array_of(c_0), num_threads)
    return [torch.from_numpy(array) for array in arrays if array is not None]


def run_cell(stack: Stack, x: Tensor, h: Tensor | None, c: Tensor | None) -> list[Tensor]:
    """The new h and, for an LSTM, c."""
    arrays = stack.step(array_of(x), array_of(h), array_of(c))
    return [torch.from_numpy(array) for array in arrays if array is not None]


def watched_layer(
    form: Form,
    storage: Storage,
    weights: Sequence[Tensor],
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    batch_sizes: Tensor | None,
    batch_first: bool,
    num_threads: int,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
) -> list[Tensor]:
    """As :func:`run_layer`, of what is watched: through the operator."""
    more = (form.class_name, form.nonlinearity, form.num_layers, form.bidirectional, form.bias, form.projected)
    outputs: list[Tensor] = torch.ops.fusedcell.layer(
        *(x, h_0, c_0, batch_sizes, lengths, mask, weights),
        *more,
        *(batch_first, storage.dtype, storage.isa, num_threads),
    )
    return outputs


def watched_cell(
    form: Form, storage: Storage, weights: Sequence[Tensor], x: Tensor, h: Tensor | None, c: Tensor | None
) -> list[Tensor]:
    """As :func:`run_cell`, likewise."""
    outputs: list[Tensor] = torch.ops.fusedcell.cell(
        x, h, c, weights, form.class_name, form.nonlinearity, form.bias, storage.dtype, storage.isa
    )
    return outputs


def is_watched(x: Tensor) -> bool:
    """Whether something records or replaces operations, and so must meet our operator; else we save its overhead."""
    return bool(
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or type(x) is not Tensor
        or x.is_meta
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


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
    schema=f"(Tensor x, Tensor? h_0, Tensor? c_0, Tensor? batch_sizes, Tensor? lengths, Tensor? mask, {_FORM}, "
    "bool batch_first, str dtype, str? isa, int num_threads) -> Tensor[]",
)
def layer(*arguments: Any) -> list[Tensor]:
    """Runs a layer as :func:`run_layer` does."""
    x, h_0, c_0, batch_sizes, lengths, mask, weights, *form, batch_first, dtype, isa, num_threads = arguments
    _check_exporter(form[0])
    rows = array_of(lengths), flags_of("mask", mask)
    stack = _stack(Form(*form), weights, dtype, isa)
    return run_layer(stack, x, h_0, c_0, batch_sizes, batch_first, num_threads, *rows)


@layer.register_fake
def _(*arguments: Any) -> list[Tensor]:
    x, h_0, _, batch_sizes, _, _, weights, *more = arguments
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
