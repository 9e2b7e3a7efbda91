"""Symmetric int8 weights, as the other libraries' own tools make them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..._base import FloatArray

Int8Array = npt.NDArray[np.int8]


def by_row(weights: FloatArray) -> tuple[Int8Array, FloatArray]:
    """Integers (R, C) and scales (R,), with weights = integers * scales."""
    scales = np.max(np.abs(weights), axis=1) / np.float32(127)
    return _rounded(weights / scales[:, None]), scales


def by_matrix(weights: FloatArray) -> tuple[Int8Array, FloatArray]:
    """Integers (R, C) and one scale (1,)."""
    scale = np.max(np.abs(weights)).reshape(1) / np.float32(127)
    return _rounded(weights / scale), scale


def _rounded(values: FloatArray) -> Int8Array:
    return np.clip(np.rint(values), -127, 127).astype(np.int8)
