"""Which rows each result of a model's node is made of, and what nodes make of several rows, in float64.

x is a sequence of rows, (T, I). A window is `taps` of them, the oldest first and `dilation` rows apart. Window w begins
at row w * stride - left, where `padding` is (left, right): so many rows of zeros are before the first row and after the
last, or, where negative, so many rows are left out there. With span = (taps - 1) * dilation + 1 there are

    floor((T + left + right - span) / stride) + 1

windows, and none where that is below 1.

With `positions` = P a row is P positions of I / P features each, and windows are of positions, inside each row by
itself; a row's results are beside each other. None is a window of rows.

A shape that does not fit raises ValueError naming the argument.

Sources
- PyTorch: torch.nn.Conv1d, ConvTranspose1d, MaxPool1d and AvgPool1d (with count_include_pad),
  https://docs.pytorch.org/docs/stable/nn.html. There x is (C, T), and padding is alike on both sides.
- ONNX: operators Conv, ConvTranspose, MaxPool and AveragePool, whose `pads` are of each side,
  https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, as_float64, check_shape
from .int8 import IsInt8, int8_linear, quantise_weights


def windows(x: ArrayLike, *, taps: int, stride: int = 1, dilation: int = 1, padding: tuple[int, int] = (0, 0)) -> Array:
    """Returns the windows of x (T, I): (W, taps, I)."""
    rows = as_float64("x", x)
    left, right = padding
    span = (taps - 1) * dilation + 1
    count = max(0, (len(rows) + left + right - span) // stride + 1)
    index = np.arange(count)[:, None] * stride - left + np.arange(taps) * dilation
    inside = (index >= 0) & (index < len(rows))
    # What is outside reads the row of zeros behind the last one.
    return np.concatenate([rows, np.zeros((1, rows.shape[1]))])[np.where(inside, index, len(rows))]


def _of_windows(
    function: Callable[..., Any], x: ArrayLike, positions: int | None, padding: tuple[int, int], **window: int
) -> Array:
    """Returns function (W, taps, I) -> (W, O) of the windows of x: (W, O), or (T, W * O) with `positions`."""
    rows = as_float64("x", x)
    check_shape("x", rows, ("T", "I"))
    if positions is None:
        return np.asarray(function(windows(rows, padding=padding, **window)))
    if rows.shape[1] % positions:
        raise ValueError(f"x: expected rows of {positions} equal parts, got rows of {rows.shape[1]}")
    inner = rows.reshape(len(rows), positions, rows.shape[1] // positions)
    # One row more, so that there is one.
    every = [*inner, np.zeros(inner.shape[1:])]
    return np.stack([function(windows(row, padding=padding, **window)).reshape(-1) for row in every])[:-1]


def window(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    taps: int = 1,
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    repeat: int = 1,
    positions: int | None = None,
    int8: IsInt8 = False,
) -> Array:
    """Returns b + W w for each window w of x (T, I): a convolution, or with one tap a dense layer.

    weight is (O, taps * I / groups), its columns the features of the oldest tap first. Features and outputs are in
    `groups` equal parts, and each part of the outputs sees its part of each tap. The O results of a window are
    `repeat` rows of O / repeat. `int8` quantises the weights, and of each window what a group sees, as `int8.py` says,
    the latter to int16 where it is "int16".
    """
    w = as_float64("weight", weight)
    b = np.zeros(len(w)) if bias is None else as_float64("bias", bias)
    check_shape("bias", b, (len(w),))

    def linear(gathered: Array) -> Array:
        count, _, size = gathered.shape
        check_shape("weight", w, (len(w), taps * size // groups))
        parts = gathered.reshape(count, taps, groups, size // groups).swapaxes(1, 2).reshape(count, groups, w.shape[1])
        results = []
        for part, matrix, start in zip(parts.swapaxes(0, 1), np.split(w, groups), np.split(b, groups), strict=True):
            if int8:
                q, scale = quantise_weights(matrix)
                results.append(int8_linear(part, q, scale, bounded=False, start=start, int16=int8 == "int16"))
            else:
                results.append(start + part @ matrix.T)
        return np.concatenate(results, axis=1)

    y = _of_windows(linear, x, positions, padding, taps=taps, stride=stride, dilation=dilation)
    return y.reshape(len(y) * repeat, y.shape[1] // repeat)


def transposed(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
) -> Array:
    """Returns the transposed convolution of x (T, I): ((T - 1) * stride - 2 * padding + k + output_padding, O).

    weight is (I, O / groups, k), as PyTorch has it. Row t of x adds x_t weight[:, :, j] to row t * stride + j, of which
    `padding` rows are left out at both ends and `output_padding` rows added at the last.
    """
    rows, w = as_float64("x", x), as_float64("weight", weight)
    size, outputs, taps = w.shape
    check_shape("x", rows, ("T", size))
    b = np.zeros(groups * outputs) if bias is None else as_float64("bias", bias)
    y = np.zeros((max(0, (len(rows) - 1) * stride + taps + output_padding), groups, outputs))
    parts = rows.reshape(len(rows), groups, size // groups)
    for t, row in enumerate(parts):
        y[t * stride : t * stride + taps] += np.einsum("gi,giok->kgo", row, w.reshape(groups, -1, outputs, taps))
    return y.reshape(len(y), groups * outputs)[padding : max(padding, len(y) - padding)] + b


def depthwise(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int] = (0, 0),
    positions: int | None = None,
) -> Array:
    """Returns b + sum over taps of w[tap] x[tap], each feature by itself; weight (taps, I)."""
    w = as_float64("weight", weight)
    b = np.zeros(w.shape[1]) if bias is None else as_float64("bias", bias)

    def weighted(gathered: Array) -> Array:
        check_shape("weight", w, gathered.shape[1:])
        return np.asarray(b + np.einsum("wti,ti->wi", gathered, w))

    return _of_windows(weighted, x, positions, padding, taps=len(w), stride=stride, dilation=dilation)


def max_pool(
    x: ArrayLike,
    *,
    taps: int,
    stride: int | None = None,
    dilation: int = 1,
    padding: tuple[int, int] = (0, 0),
    positions: int | None = None,
) -> Array:
    """Returns the largest value of each feature in a window, NaN if one is; without a stride they do not overlap."""
    pool = partial(np.max, axis=1)
    return _of_windows(pool, x, positions, padding, taps=taps, stride=stride or taps, dilation=dilation)


def mean_pool(
    x: ArrayLike,
    *,
    taps: int,
    stride: int | None = None,
    dilation: int = 1,
    padding: tuple[int, int] = (0, 0),
    positions: int | None = None,
) -> Array:
    """Returns the sum of each feature in a window over `taps`, so that padding counts as zeros."""
    pool = partial(np.mean, axis=1)
    return _of_windows(pool, x, positions, padding, taps=taps, stride=stride or taps, dilation=dilation)


def rows(x: ArrayLike, *, padding: tuple[int, int]) -> Array:
    """Returns x with rows of zeros before the first and after the last, or without so many, where negative."""
    return windows(x, taps=1, padding=padding)[:, 0]
