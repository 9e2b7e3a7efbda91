"""Weights of any width as those that are packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
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
    return array.astype(dtype)
