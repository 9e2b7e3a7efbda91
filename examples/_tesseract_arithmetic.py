"""What Tesseract 5.0 to 5.5.0 computes in its own way: pictures, random numbers, tanh and LSTM layers, with rounding.

Values between layers are multiples of 1/127 from -1 to 1. Sources are named at each; all are in
https://github.com/tesseract-ocr/tesseract. Its floats are float32 and its products and sums are rounded one by one, as
Debian builds it for x86-64.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from _tesseract import Layer, Matrix

Array = npt.NDArray[np.floating]
Float32 = npt.NDArray[np.float32]

LARGEST = 127
CELL_LIMIT = 100  # of |c|
TABLE_SIZE, TABLE_STEPS = 4096, 256  # of tanh and sigmoid from 0 on; steps for each unit of x

_arguments = np.arange(TABLE_SIZE) / TABLE_STEPS
_TANH = np.tanh(_arguments).astype(np.float32)
_SIGMOID = (1 / (1 + np.exp(-_arguments))).astype(np.float32)


class Random:
    """The numbers that fill what is outside of a picture: std::minstd_rand, by TRand of src/ccutil/helpers.h."""

    def __init__(self, seed: int) -> None:
        self._value = seed % (2**31 - 1) or 1
        self._next()

    def _next(self) -> int:
        self._value = self._value * 48271 % (2**31 - 1)
        return self._value

    def __call__(self, count: int) -> Array:
        values = np.array([self._next() for _ in range(count)]) * (2 * LARGEST / (2**31 - 1)) - LARGEST
        return rounded(values) / LARGEST


def rounded(values: Array) -> Array:
    """To whole numbers, halves away from zero: IntCastRounded of src/ccutil/helpers.h."""
    return np.trunc(values + np.copysign(values.dtype.type(0.5), values))


def percentile(values: Sequence[int], share: float, default: int) -> float:
    """Within the histogram's bar of width 1 that holds it: STATS::ile in src/ccstruct."""
    counts = np.bincount(values or [default])
    target = max(share * counts.sum(), 1.0)
    index = int(np.searchsorted(np.cumsum(counts), target))
    return float(index + 1 - (counts[: index + 1].sum() - target) / counts[index])


def normalised(picture: npt.NDArray[np.uint8]) -> Array:
    """(height, width, 1), black and white by the extremes of the middle row: src/lstm/networkio.cpp."""
    row = picture[len(picture) // 2].astype(int)
    before, now, after = row[:-2], row[1:-1], row[2:]
    minima = now[((now < before) & (now <= after)) | ((now <= before) & (now < after))]
    maxima = now[((now > before) & (now >= after)) | ((now >= before) & (now > after))]
    black, white = percentile(minima.tolist(), 0.25, 0), percentile(maxima.tolist(), 0.75, 255)
    contrast = np.float32((white - black) / 2) if white > black else np.float32(1)
    values = (picture.astype(np.float32) - np.float32(black)) / contrast - np.float32(1)
    return (np.clip(rounded(values * (LARGEST + 1)), -LARGEST, LARGEST) / LARGEST)[:, :, None]


def tanh_layer(layer: Layer, x: Array) -> Array:
    return _levels(_tanh(_sums(layer.matrices[0], _levels(x)))) / LARGEST


def lstm_layer(layer: Layer, x: Array, *, reverse: bool) -> Array:
    """Along the second axis of x (B, T, inputs): LSTM::Forward of src/lstm/lstm.cpp."""
    rows, steps, _ = x.shape
    h = np.zeros((rows, layer.outputs))
    c = np.zeros((rows, layer.outputs), np.float32)
    y = np.empty((rows, steps, layer.outputs))
    levels = _levels(x)
    for t in range(steps)[:: -1 if reverse else 1]:
        joined = np.concatenate([levels[:, t], h], axis=1)
        g, i, f, o = (_sums(matrix, joined) for matrix in layer.matrices)
        c = np.clip(_sigmoid(f) * c + _tanh(g) * _sigmoid(i), -CELL_LIMIT, CELL_LIMIT)
        h = _levels(_tanh(c) * _sigmoid(o))
        y[:, t] = h / LARGEST
    return y


def _levels(values: Array) -> Array:
    return np.clip(rounded(values * values.dtype.type(LARGEST)), -LARGEST, LARGEST)


def _sums(matrix: Matrix, levels: Array) -> Float32:
    # Whole numbers, and exact, as float64 holds them: src/arch/intsimdmatrix.cpp.
    total = levels @ matrix.weights.T.astype(np.float64) + LARGEST * matrix.biases.astype(np.float64)
    return total.astype(np.float32) * (matrix.scales / LARGEST).astype(np.float32)


def _tanh(x: Float32) -> Float32:
    return np.copysign(_interpolated(_TANH, np.abs(x)), x)


def _sigmoid(x: Float32) -> Float32:
    upper = _interpolated(_SIGMOID, np.abs(x))
    return np.where(x < 0, 1 - upper, upper)


def _interpolated(table: Float32, x: Float32) -> Float32:
    """On a straight line between the table's values, 1 past its end: src/lstm/functions.h."""
    position = x * np.float32(TABLE_STEPS)
    index = np.minimum(position.astype(np.int64), TABLE_SIZE - 2)
    low, high = table[index], table[index + 1]
    return np.where(
        position < TABLE_SIZE - 1, low + (high - low) * (position - index.astype(np.float32)), np.float32(1)
    )
