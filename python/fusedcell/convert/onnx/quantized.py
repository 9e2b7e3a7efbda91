"""Weights of ONNX Runtime's com.microsoft.DynamicQuantizeLSTM.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftdynamicquantizelstm
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..._base import FloatArray
from ...errors import UnsupportedError
from ..spec import reordered
from .file import Values

_SMALLEST_SCALE = 2.0**-107  # of int8 weights; smaller ones count as zero


@dataclass(frozen=True)
class QuantisedMatrix:
    """(q - zero_point) * scale, for each direction: integers (D, G*H, K) and scales (D, 1 or G*H, 1) float32."""

    integers: FloatArray
    scales: FloatArray

    @property
    def floats(self) -> FloatArray:
        """The weights (D, G*H, K), each rounded once."""
        product: FloatArray = self.integers * self.scales
        return product

    @property
    def fits_int8(self) -> bool:
        """Whether our int8 can hold these integers and scales as they are."""
        held = (self.scales == 0) | (self.scales >= _SMALLEST_SCALE)
        return bool((np.abs(self.integers) <= 127).all() and held.all())

    def int8_arrays(self, name: str, direction: int, blocks: tuple[int, ...]) -> dict[str, FloatArray]:
        """The weights of one direction under `name`, and their scales, one a row, in PyTorch's order of gates."""
        rows = self.integers.shape[1]
        scales = np.broadcast_to(self.scales[direction, :, 0], (rows,))
        integers = np.where(scales[:, None] == 0, np.float32(0), self.integers[direction])
        return {name: reordered(integers, blocks), f"{name}_scale": reordered(scales, blocks)}


def quantised_matrix(label: str, values: Values, scale: Values, zero_point: Values) -> QuantisedMatrix:
    """What the node's inputs mean: q is int8 or uint8, (D, K, G*H); scale and zero_point are (D,) or (D, G*H).

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
    zeros = zero_point.astype(np.float32).reshape(directions, 1, -1)
    integers = (values.astype(np.float32) - zeros).swapaxes(1, 2)
    return QuantisedMatrix(integers, scale.reshape(directions, -1, 1))
