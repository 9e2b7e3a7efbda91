"""What a model's nodes make of each row by itself, or of all rows of a sequence, in float64.

x is (T, I). Results are (T, O), or of all rows (1, O); of a sequence without rows there is none of these. With `parts`
the features are in so many equal parts, each for itself, and weight and bias, (I,), are of all of them.

A shape that does not fit raises ValueError naming the argument.

Sources
- PyTorch: torch.nn.functional's embedding, prelu, glu, softmax, log_softmax, layer_norm, rms_norm, normalize, gelu and
  silu, https://docs.pytorch.org/docs/stable/nn.functional.html
- ONNX: operators of the same names, https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .activations import ACTIVATIONS, Activation, activation, sigmoid
from .arrays import Array, as_float64, check_shape

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def gelu(x: Array) -> Array:
    """x Phi(x) = x / 2 erfc(-x / sqrt(2)), Phi the standard normal distribution's function"""
    # An infinity times the zero that Phi is there would be NaN.
    return np.where(x == -np.inf, 0.0, x * (0.5 * _erfc(-x / math.sqrt(2))))


def gelu_tanh(x: Array) -> Array:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))"""
    # (1 + tanh(z)) / 2 is sigmoid(2 z), which loses nothing where tanh is near -1.
    return np.where(x == -np.inf, 0.0, x * sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Array) -> Array:
    """x / (1 + e^{-x})"""
    return np.where(x == -np.inf, 0.0, x * sigmoid(x))


_OF_NODES: Mapping[str, Activation] = {
    "Gelu": gelu,
    "GeluTanh": gelu_tanh,
    "Silu": silu,
    "Abs": np.abs,
    "Square": np.square,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
}
NODE_ACTIVATIONS = (*ACTIVATIONS, *_OF_NODES, "Clip")


def node_activation(name: str, alpha: float | None = None, beta: float | None = None) -> Activation:
    """Returns an activation as `activation` does, or one of those that only a model's nodes have.

    Gelu, GeluTanh, Silu, Abs, Square, Sqrt, Exp, Log take no alpha or beta; Clip bounds to [alpha, beta].
    """
    if name == "Clip":
        return partial(np.clip, a_min=-np.inf if alpha is None else alpha, a_max=np.inf if beta is None else beta)
    return _OF_NODES[name] if name in _OF_NODES else activation(name, alpha, beta)


@np.errstate(all="ignore")
def elementwise(x: ArrayLike, *, name: str, alpha: float | None = None, beta: float | None = None) -> Array:
    """Returns the named activation of each value."""
    return node_activation(name, alpha, beta)(as_float64("x", x))


def embedding(x: ArrayLike, table: ArrayLike) -> Array:
    """Returns table[x] for tokens x (T,) or (T, 1); table (V, E)."""
    return as_float64("table", table)[np.asarray(x).reshape(-1).astype(np.int64)]


def add(*sources: ArrayLike) -> Array:
    """Returns the sum of arrays of one shape."""
    return np.asarray(reduce(np.add, map(partial(as_float64, "x"), sources)))


def multiply(*sources: ArrayLike) -> Array:
    """Returns the product of arrays of one shape."""
    return np.asarray(reduce(np.multiply, map(partial(as_float64, "x"), sources)))


def scale(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Array:
    """Returns weight x + bias, each feature by itself."""
    return _scaled(as_float64("x", x), weight, bias)


def prelu(x: ArrayLike, slope: ArrayLike) -> Array:
    """Returns x where x >= 0, else slope x, each feature by itself."""
    rows = as_float64("x", x)
    return np.where(rows < 0, _scaled(rows, slope), rows)


def glu(x: ArrayLike) -> Array:
    """Returns the first half of the features times the sigmoid of the second."""
    first, second = np.split(as_float64("x", x), 2, axis=1)
    return first * sigmoid(second)


def softmax(x: ArrayLike, *, parts: int = 1) -> Array:
    """Returns e^x over its sum, within each part."""
    return np.exp(log_softmax(x, parts=parts))


def log_softmax(x: ArrayLike, *, parts: int = 1) -> Array:
    """Returns x less the logarithm of the sum of e^x, within each part."""
    inner = _parts(x, parts)
    shifted = inner - inner.max(axis=2, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))
    return _joined(y)


def layer_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    parts: int = 1,
) -> Array:
    """Returns (x - mean) / sqrt(variance + eps) * weight + bias; the variance is the mean square of x - mean."""
    inner = _parts(x, parts)
    centred = inner - inner.mean(axis=2, keepdims=True)
    y = centred / np.sqrt(np.square(centred).mean(axis=2, keepdims=True) + eps)
    return _scaled(_joined(y), weight, bias)


def rms_norm(x: ArrayLike, weight: ArrayLike | None = None, *, eps: float = 1e-5, parts: int = 1) -> Array:
    """Returns x / sqrt(mean square + eps) * weight."""
    inner = _parts(x, parts)
    y = inner / np.sqrt(np.square(inner).mean(axis=2, keepdims=True) + eps)
    return _scaled(_joined(y), weight)


def l2_norm(x: ArrayLike, *, eps: float = 1e-12, parts: int = 1) -> Array:
    """Returns x / max(the root of the sum of squares, eps)."""
    inner = _parts(x, parts)
    y = inner / np.maximum(np.sqrt(np.square(inner).sum(axis=2, keepdims=True)), eps)
    return _joined(y)


def take(x: ArrayLike, indices: Sequence[int]) -> Array:
    """Returns the features of these indices."""
    return as_float64("x", x)[:, np.asarray(indices, np.int64)]


def last(x: ArrayLike, *, num_directions: int = 1) -> Array:
    """Returns the last row; with two directions, the second half of its features is the first row's.

    So of a bidirectional layer these are both directions' last steps, which is what torch.nn.LSTM's h_n has.
    """
    rows = as_float64("x", x)
    if num_directions == 1:
        return rows[-1:]
    half = rows.shape[1] // 2
    return np.concatenate([rows[-1:, :half], rows[:1, half:]], axis=1)


def of_rows(function: Callable[..., Any], x: ArrayLike) -> Array:
    """Returns np.mean, np.max or np.sum of each feature over the rows."""
    rows = as_float64("x", x)
    return rows if len(rows) == 0 else np.asarray(function(rows, axis=0, keepdims=True))


def _parts(x: ArrayLike, parts: int) -> Array:
    rows = as_float64("x", x)
    check_shape("x", rows, ("T", "I"))
    if rows.shape[1] % parts:
        raise ValueError(f"x: expected rows of {parts} equal parts, got rows of {rows.shape[1]}")
    return rows.reshape(len(rows), parts, rows.shape[1] // parts)


def _joined(y: Array) -> Array:
    return y.reshape(len(y), y.shape[1] * y.shape[2])


def _scaled(x: Array, weight: ArrayLike | None, bias: ArrayLike | None = None) -> Array:
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            check_shape(name, as_float64(name, value), x.shape[1:])
    y = x if weight is None else x * as_float64("weight", weight)
    return y if bias is None else y + as_float64("bias", bias)
