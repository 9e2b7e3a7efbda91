"""Matrices, tables and convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...tracing import TIME, RefusedError, Rows
from .interpreter import Args, Interpreter, each, operation
from .values import ATTENTION


# With weights.
@operation("linear")
def _linear(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.linear(a.input, interpreter.array(a.weight), interpreter.array(a.bias), place)


@operation("scaled_dot_product_attention", "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
            "baddbmm")  # fmt: skip
def _attention(interpreter: Interpreter, a: Args, place: str) -> Any:
    raise RefusedError(ATTENTION)


@operation("matmul", "mm", "bmm")
def _matmul(interpreter: Interpreter, a: Args, place: str) -> Any:
    first, second = a.self, getattr(a, "other", getattr(a, "mat2", None))
    if isinstance(second, Rows):
        if isinstance(first, Rows):
            raise RefusedError(f"a product of two tensors that both depend on the input, as in {ATTENTION}")
        left, rank = interpreter.array(first), len(second.axes)
        if left.ndim > 2 or rank < 2:
            raise RefusedError(f"a product of {left.ndim} axes of weights with {rank} axes")
        order = [*range(rank - 2), rank - 1, rank - 2]
        made = interpreter.tracer.linear(second.permuted(order), np.atleast_2d(left), None, place).permuted(order)
        return made if left.ndim == 2 else interpreter.tracer.squeeze(made, [-2])
    weight = interpreter.array(second)
    if weight.ndim == 1:
        made = interpreter.tracer.linear(first, weight[None], None, place)
        return interpreter.tracer.squeeze(made, [-1])
    if weight.ndim != 2:
        raise RefusedError(f"a product with {weight.ndim} axes of weights")
    return interpreter.tracer.linear(first, weight.T, None, place)


@operation("addmm")
def _addmm(interpreter: Interpreter, a: Args, place: str) -> Any:
    if a.alpha != 1 or a.beta != 1 or not isinstance(a.mat1, Rows):
        raise RefusedError("addmm but of an input, weights and a bias")
    weight, bias = interpreter.array(a.mat2).T, np.squeeze(interpreter.array(a.self))
    if bias.ndim > 1:
        raise RefusedError("addmm but of an input, weights and a bias")
    return interpreter.tracer.linear(a.mat1, weight, np.broadcast_to(bias, (len(weight),)), place)


@operation("einsum")
def _einsum(interpreter: Interpreter, a: Args, place: str) -> Any:
    given, _, wanted = a.equation.replace(" ", "").partition("->")
    labels = given.split(",")
    if sum(isinstance(value, Rows) for value in a.tensors) > 1:
        raise RefusedError(f"einsum {a.equation!r} of two tensors that both depend on the input, as in {ATTENTION}")
    if "." in given or not wanted or len(labels) != 2:
        raise RefusedError(f"einsum {a.equation!r}; supported: of one tensor and weights, with '->'")
    which = 0 if isinstance(a.tensors[0], Rows) else 1
    x, weight = a.tensors[which], interpreter.array(a.tensors[1 - which])
    own, others = labels[which], labels[1 - which]
    for label in [label for label in others if label in own and label in wanted]:  # a matrix for each index of an axis
        k, other = others.index(label), label.upper()
        if other in given + wanted or not isinstance(x.axes[own.index(label)], int):
            raise RefusedError(f"einsum {a.equation!r}; supported: matrices, also one for each of an axis of features")
        count = weight.shape[k]
        eye = np.eye(count, dtype=weight.dtype).reshape(
            [count if axis == k else 1 for axis in range(weight.ndim)] + [-1]
        )
        weight, others, wanted = weight[..., None] * eye, others + other, wanted.replace(label, other)
    summed = [label for label in own if label in others and label not in wanted]
    kept = [label for label in own if label not in summed]
    new = [label for label in others if label not in own]
    if len(set(own)) < len(own) or sorted(kept + new) != sorted(wanted) or sorted(summed + new) != sorted(others):
        raise RefusedError(f"einsum {a.equation!r}; supported: a product of matrices")
    moved = x.permuted([own.index(label) for label in kept + summed])
    sizes = moved.shapes[0][len(kept) :]
    for dim in range(len(kept), len(own)):
        moved.feature_dim(dim, "einsum")
    flat = moved.reshaped([(*moved.shapes[0][: len(kept)], math.prod(sizes))])
    matrix = np.transpose(weight, [others.index(label) for label in new + summed])
    made = interpreter.tracer.linear(flat, matrix.reshape(-1, math.prod(sizes)), None, place)
    made = made.reshaped([(*made.shapes[0][:-1], *matrix.shape[: len(new)])])
    return made.permuted([(kept + new).index(label) for label in wanted])


@operation("im2col")
def _unfolded(interpreter: Interpreter, a: Args, place: str) -> Any:
    x: Rows = a.self
    (taps, across), (left, pad), (stride, step) = a.kernel_size, a.padding, a.stride
    if x.axes[2:3] != (TIME,) or len(x.axes) != 4 or (taps, left, stride) != (1, 0, 1):
        raise RefusedError("unfold; supported: of (batch, channels, time, features), along features")
    wide = interpreter.tracer.pad(x, 3, pad, pad, place=place)
    count = (wide.size_of(wide.axes[3])[0] - (across - 1) * a.dilation[1] - 1) // step + 1
    which = np.arange(count)[:, None] * step + np.arange(across) * a.dilation[1]
    grid = wide.taken(3, which.reshape(-1)).grid.reshape(-1, count, across).transpose(0, 2, 1)
    return x.with_grid((x.axes[0], len(grid) * across, (TIME, count)), grid, constants=wide.constants)


@operation("embedding")
def _embedding(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.embedding(a.indices, interpreter.array(a.weight), place)


@operation("one_hot")
def _one_hot(interpreter: Interpreter, a: Args, place: str) -> Any:
    if a.num_classes < 1:
        raise RefusedError("one_hot without num_classes")
    return interpreter.tracer.embedding(a.self, np.eye(a.num_classes, dtype=np.float32), place)


@operation("convolution")
def _convolution(interpreter: Interpreter, a: Args, place: str) -> Any:
    return (_conv_transposed if a.transposed else _conv)(interpreter, a, place)


@operation("conv1d", "conv2d")
def _conv(interpreter: Interpreter, a: Args, place: str) -> Any:
    weight, bias = interpreter.array(a.weight), interpreter.array(a.bias)
    spatial = weight.ndim - 2
    x, is_single = _batched(interpreter, a.input, spatial)
    dilation, stride = each(a.dilation, spatial), each(a.stride, spatial)
    if a.padding == "valid":
        padding = [(0, 0)] * spatial
    elif a.padding == "same":
        spans = [(taps - 1) * spread for taps, spread in zip(weight.shape[2:], dilation, strict=True)]
        padding = [(span // 2, span - span // 2) for span in spans]
    else:
        padding = [(size, size) for size in each(a.padding, spatial)]
    made = interpreter.tracer.conv(
        x, weight, bias, stride=stride, dilation=dilation, padding=padding, groups=a.groups, place=place
    )
    return interpreter.tracer.squeeze(made, [0]) if is_single else made


@operation("conv_transpose1d", "conv_transpose2d")
def _conv_transposed(interpreter: Interpreter, a: Args, place: str) -> Any:
    weight, bias = interpreter.array(a.weight), interpreter.array(a.bias)
    spatial = weight.ndim - 2
    x, is_single = _batched(interpreter, a.input, spatial)
    options = {name: each(getattr(a, name), spatial) for name in ("stride", "dilation", "padding", "output_padding")}
    made = interpreter.tracer.conv_transposed(x, weight, bias, groups=a.groups, place=place, **options)
    return interpreter.tracer.squeeze(made, [0]) if is_single else made


def _batched(interpreter: Interpreter, x: Rows, spatial: int) -> tuple[Rows, bool]:
    if len(x.axes) == spatial + 1:
        return interpreter.tracer.unsqueeze(x, 0), True
    return x, False
