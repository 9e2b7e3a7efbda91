"""Weights of any width as those that are packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from .._dtypes import QUANTISED
from ..errors import UnsupportedError


def to_float32(values: npt.NDArray[Any], label: str) -> npt.NDArray[np.float32]:
    """Floats of any width as float32, rounded to nearest where they are wider; ValueError where one is too large."""
    # bfloat16 is a type of ml_dtypes, which NumPy counts as "void"; integers are not weights unless they have scales.
    if values.dtype.kind not in "fV":
        raise UnsupportedError(f"{label}: element type {values.dtype} is not supported; supported: floats")
    with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are values that a file may hold
        is_wide = values.dtype.kind == "f" and values.itemsize > 4
        # NumPy would round as the thread's floating-point mode does.
        floats = _core.nearest_float32(values) if is_wide else np.asarray(values, np.float32, order="C")
        if values.itemsize > floats.itemsize and (np.isinf(floats) & np.isfinite(values)).any():
            raise ValueError(f"{label}: a value is beyond float32")
    return floats


def array_of(pickled: Any) -> npt.NDArray[Any]:
    """An array in a pickle: its dtype's code, shape and bytes, or in an older one the array itself."""
    if isinstance(pickled, np.ndarray):
        return pickled
    code, shape, data = pickled
    array: npt.NDArray[Any] = np.frombuffer(data, code).reshape(shape)
    return array


def narrowed(array: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    """Floats that are values of `dtype` already, as that type's bits."""
    if dtype == "bfloat16":
        return (array.view(np.uint32) >> 16).astype(np.uint16)
    return array.astype(np.int8 if dtype in QUANTISED else dtype)


def widened(stored: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], str]:
    """What `narrowed` gives as floats, and its type; int8 as whole numbers."""
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32), "bfloat16"
    return stored.astype(np.float32), stored.dtype.name


def rounded(
    matrix: npt.NDArray[np.float32], dtype: str, label: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """The values of a matrix that `dtype` can hold, ties to even, and in int8 each row's scale, as csrc/pack rounds.

    Raises ValueError, naming the array, for a weight that is beyond the dtype.
    """
    scales = None
    with np.errstate(all="ignore"):
        if dtype == "bfloat16":
            bits = matrix.view(np.uint32)
            values = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
        elif dtype == "float16":
            values = matrix.astype(np.float16).astype(np.float32)
        elif dtype in QUANTISED:
            largest = np.abs(matrix).max(axis=1)
            scales = np.where(largest < 2.0**-100, 0, largest / np.float32(127)).astype(np.float32)
            divisors = np.where(scales == 0, np.inf, scales).astype(np.float32)[:, None]
            values = np.rint(matrix / divisors) * scales[:, None]
        else:
            values = matrix.copy()
    beyond = np.argwhere(~np.isfinite(values))
    if len(beyond):
        place = tuple(beyond[0].tolist())
        raise ValueError(f"{label}: expected weights that {dtype} can hold, got {matrix[place]} at index {place}")
    for array in (values, scales):
        if array is not None:
            array.setflags(write=False)
    return values, scales
