"""The int8 definition: which integers and scales weights and inputs become, bit for bit, and what their product is.

n is 127 of inputs in int8, and 127 * 128 = 16,256 of inputs in int16; weights are in int8 either way.

Weights, each row by itself, with m = max |w|:

    scale = m / 127        q = round(w / scale), in [-127, 127]        both 0 if m < 2^-100

Inputs, each vector that multiplies a matrix by itself, with m = max |x|; the first line that applies:

    m is not finite                 scale = NaN        q = 0
    a static scale s                scale = s (127 / n)    q = round(clip(x * (1 / scale), -n, n))
    bounded by 1, and m <= 1        scale = 1 / n      q = round(x * n)
    m < 2^-100                      scale = 0          q = 0
    otherwise                       scale = m / n      q = round(x * (n / m))

Quotients and products are float32, rounded to nearest, ties to even, and so are the integers. What comes in as float64
is rounded to float32 first, so that one beyond its range counts as infinite.

A static scale is a constant of a layer's input x, found from data beforehand. Larger inputs than 127 s saturate, and
nothing of the vector's own size enters, so zero is an input like any other.

A static scale is from 2^-100 to 2^100, so every scale and factor is zero or a normal float. Denormals count as zero, as
in the kernels, which changes no integer: they are less than 2^-18 of a unit.

Source: docs/quantisation.md. `tests/bit_model.py` puts these integers into the kernels' float32 arithmetic, and
`int8_linear` into float64, where nothing but the quantisation loses anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array, as_float64, check_shape

Int8: TypeAlias = NDArray[np.int8]
Integers: TypeAlias = NDArray[np.int8] | NDArray[np.int16]
IsInt8: TypeAlias = bool | Literal["int16"]  # the latter: with inputs in int16
Float32: TypeAlias = NDArray[np.float32]

_F32 = np.float32
_UNITS = _F32(127)
_INT16_UNITS = _UNITS * _F32(128)
_SMALLEST = _F32(2.0**-100)
_SMALLEST_NORMAL = _F32(2.0**-126)


def quantise_weights(weights: ArrayLike) -> tuple[Int8, Float32]:
    """Returns q int8 (rows, depth) and scale float32 (rows,) of a matrix (rows, depth), which is about scale * q.

    Raises ValueError for another number of axes, and for weights that are not finite as float32.
    """
    return _quantised_weights("weights", weights)


@np.errstate(all="ignore")
def quantise_input(
    x: ArrayLike, *, bounded: bool, static_scale: float | None = None, int16: bool = False
) -> tuple[Integers, Float32]:
    """Returns q (..., size) and scale float32 (...,) of vectors (..., size), each of which is about scale * q.

    q is int8 or, with `int16`, int16.

    `bounded` says that x cannot leave [-1, 1] but by an initial state beyond it. `static_scale` takes the place of
    the rules that look at m. Raises ValueError for an x without an axis, and for a static scale outside [2^-100, 2^100]
    as float32.
    """
    values = _as_float32("x", x)
    units = _INT16_UNITS if int16 else _UNITS
    if values.ndim == 0:
        raise ValueError("x: expected shape (..., size), got ()")
    largest = np.abs(values).max(axis=-1, initial=0, keepdims=True)
    finite = np.isfinite(largest)
    if static_scale is None:
        rules = [~finite, bounded & (largest <= 1), largest < _SMALLEST]
        scale = np.select(rules, [_F32(np.nan), _F32(1) / units, _F32(0)], largest / units)
        factor = np.select(rules, [_F32(0), units, _F32(0)], units / largest)
    else:
        s = check_static_scale("static_scale", static_scale) * (_UNITS / units)
        scale = np.where(finite, s, _F32(np.nan))
        factor = _F32(1) / s
    products = np.where(finite, values, _F32(0)) * factor
    q = np.rint(np.clip(products, -units, units)).astype(np.int16 if int16 else np.int8)
    return q, scale[..., 0]


@np.errstate(invalid="ignore")
def int8_linear(
    x: ArrayLike,
    q: Int8,
    scale: Float32,
    *,
    bounded: bool,
    static_scale: float | None = None,
    start: ArrayLike = 0.0,
    int16: bool = False,
) -> Array:
    """Returns start + (q_x q^T) (scale_x scale) as float64 (..., rows), with the q_x and scale_x of `quantise_input`.

    x is (..., depth); q int8 (rows, depth) and scale float32 (rows,) are those of `quantise_weights`; start is added
    as it is, and its shape broadcasts to the result's. A vector with a NaN or an infinity gives NaN throughout. Raises
    ValueError as `quantise_input` does, and for shapes that do not fit.

    The integer is exact and the rest float64. The kernels round the integer, the product of the scales and the sum to
    float32; where the product of the scales leaves its range, below 2^-126 or above 2^128, they differ altogether.
    """
    check_shape("q", q, ("rows", "depth"))
    check_shape("scale", scale, (q.shape[0],))
    q_x, scale_x = quantise_input(x, bounded=bounded, static_scale=static_scale, int16=int16)
    check_shape("x", q_x, (*q_x.shape[:-1], q.shape[1]))
    # float64 holds every integer up to 2^53, so this product is exact, and quicker than one of integers.
    dot = q_x.astype(np.float64) @ q.T.astype(np.float64)
    result: Array = as_float64("start", start) + dot * (scale_x.astype(np.float64)[..., None] * scale)
    return result


@dataclass(frozen=True, eq=False)
class Int8Matrix:
    """A weight matrix (rows, depth) as q int8 (rows, depth) and scale float32 (rows,), and how its input is rounded.

    `input_scale` is the input's static scale, and `int16` says in how many bits it is.
    """

    q: Int8
    scale: Float32
    input_scale: float | None = None
    int16: bool = False

    @classmethod
    def of(
        cls, weights: MatrixLike, input_scale: float | None = None, *, int16: bool = False, name: str = "weights"
    ) -> Int8Matrix:
        """Quantises a matrix, unless it is quantised already; errors are those of the rules and speak of `name`."""
        if input_scale is not None:
            check_static_scale("input_scale", input_scale)
        if isinstance(weights, Int8Matrix):
            scale = weights.input_scale if input_scale is None else input_scale
            return cls(weights.q, weights.scale, scale, weights.int16 or int16)
        return cls(*_quantised_weights(name, weights), input_scale, int16)

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, depth)"""
        return self.q.shape

    def __getitem__(self, rows: slice) -> Int8Matrix:
        return Int8Matrix(self.q[rows], self.scale[rows], self.input_scale, self.int16)


Matrix: TypeAlias = Array | Int8Matrix
MatrixLike: TypeAlias = ArrayLike | Int8Matrix


def check_static_scale(name: str, value: float) -> np.float32:
    """Returns the scale as float32; raises ValueError unless it is from 2^-100 to 2^100."""
    scale = _F32(value)
    if not _SMALLEST <= scale <= 1 / _SMALLEST:
        raise ValueError(f"{name}: expected a number from 2^-100 to 2^100, got {value}")
    return scale


@np.errstate(over="ignore")
def _as_float32(name: str, value: ArrayLike) -> Float32:
    array = as_float64(name, value).astype(np.float32)
    return np.where(np.abs(array) < _SMALLEST_NORMAL, _F32(0), array)


def _quantised_weights(name: str, weights: ArrayLike) -> tuple[Int8, Float32]:
    values = _as_float32(name, weights)
    check_shape(name, values, ("rows", "depth"))
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected weights that int8 can hold, got one that is not finite")
    largest = np.abs(values).max(axis=1, initial=0)
    counts = largest >= _SMALLEST
    scale = np.where(counts, largest / _UNITS, _F32(0))
    quotients = values / np.where(counts, scale, _F32(np.inf))[:, None]
    return np.rint(np.clip(quotients, -_UNITS, _UNITS)).astype(np.int8), scale
