"""Weights of ONNX Runtime's com.microsoft.DynamicQuantizeLSTM."""

from __future__ import annotations

import numpy as np

from .._base import FloatArray
from ..errors import UnsupportedError
from .onnx_file import Values


def dequantised(label: str, values: Values, scale: Values, zero_point: Values) -> FloatArray:
    """(q - zero_point) * scale, (D, K, G*H) float32, rounded once.

    q is int8 or uint8, (D, K, G*H); scale and zero_point are (D,), or (D, G*H) with one a column.

    Raises UnsupportedError for other types, ValueError for shapes that do not fit.
    """
    if values.dtype not in (np.int8, np.uint8):
        raise UnsupportedError(f"{label}: element type {values.dtype} is not supported; supported: int8, uint8")
    if values.ndim != 3:
        raise ValueError(f"{label}: expected three axes, got shape {values.shape}")
    directions, _, columns = values.shape
    if scale.dtype != np.float32:
        raise UnsupportedError(f"{label}_scale: element type {scale.dtype} is not supported; supported: float32")
    if zero_point.dtype != values.dtype:
        raise ValueError(f"{label}_zero_point: expected element type {values.dtype}, got {zero_point.dtype}")
    for name, array in (("scale", scale), ("zero_point", zero_point)):
        if array.shape not in ((directions,), (directions, columns)):
            raise ValueError(
                f"{label}_{name}: expected shape {(directions,)} or {(directions, columns)}, got {array.shape}"
            )
    if not (np.isfinite(scale).all() and (scale >= 0).all()):
        raise ValueError(f"{label}_scale: expected finite numbers from 0 on")
    # The difference is exact in float32, so the product is rounded once.
    shifted = values.astype(np.float32) - zero_point.astype(np.float32).reshape(directions, 1, -1)
    weights: FloatArray = shifted * scale.reshape(directions, 1, -1)
    return weights
