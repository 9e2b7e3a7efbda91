"""Rounding to int8 in which each column makes up for the errors of those before it, by what the matrix multiplies.

For a row w that multiplies vectors x with second moments M = mean of x x^T, rounding w to q costs (w - q) M (w - q)^T.
Column by column, the error of one is carried over to those not yet rounded, by the least squares that M says (GPTQ,
E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", 2022): with U the upper Cholesky factor of M^-1, for j = 1, 2, ...

    q_j = round(w_j)          e = (w_j - q_j) / U_jj          w_k := w_k - e U_jk for k > j

Columns go by falling moments, whose errors most others can make up for. To M's diagonal is added the variance that int8
inputs have themselves, which no weight can make up for, and 0.03 of its mean, so that few data are not taken for all.
Scales are those of plain rounding. Where four neighbours of a row, k a multiple of 4, are zero, they stay so: a pruned
matrix stays sparse.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from .._base import FloatArray
from .networks import Call, Matrix, Network
from .operands import Products
from .products import Array

_DAMPING = 0.03
_LEVELS = 127
_GROUP = 4  # k of a block that a sparse matrix leaves out


class Moments:
    """Second moments of what the matrices of a network multiply, added up call by call."""

    def __init__(self, network: Network, calls: Iterable[Call]) -> None:
        self._sums: dict[str, list[tuple[slice, Array]]] = {}
        for call in calls:
            for found in network.products(call):
                for name, products in found.items():
                    self._add(name, products)

    def _add(self, name: str, products: Products) -> None:
        sums = [(rows, _moments(x.astype(np.float64))) for rows, x in products]
        known = self._sums.get(name)
        self._sums[name] = (
            sums if known is None else [(rows, a + b) for (rows, a), (_, b) in zip(known, sums, strict=True)]
        )

    def compensated(self, name: str, matrix: Matrix) -> Matrix:
        """The matrix in int8; plainly rounded where nothing has multiplied it."""
        plain = matrix.astype("int8", name)
        assert plain.scales is not None
        weights = plain.weights.copy()
        scales = plain.scales.astype(np.float64)[:, None]
        in_levels = matrix.values / np.where(scales == 0, np.inf, scales)
        for rows, moments in self._sums.get(name, []):
            if moments.trace() > 0:
                weights[rows] = compensated(in_levels[rows], moments)
        return Matrix(weights, "int8", plain.scales)


def _moments(x: Array) -> Array:
    """The sum of x x^T over vectors (N, depth), and on its diagonal that of the variance of rounding them to int8."""
    rounding = np.square(np.abs(x).max(axis=1, initial=0) / _LEVELS) / 12
    moments: Array = x.T @ x + rounding.sum() * np.eye(x.shape[1])
    return moments


def compensated(rows: Array, moments: Array) -> FloatArray:
    """Rows (N, depth) in units of their scales as whole numbers from -127 to 127, by moments (depth, depth)."""
    diagonal = moments.diagonal()
    order = np.argsort(-diagonal, kind="stable")
    damped = moments / diagonal.mean() + _DAMPING * np.eye(len(moments))
    U = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left = rows[:, order].astype(np.float64).T.copy()  # columns, each contiguous
    pruned = _pruned(rows)[:, order].T
    for j in range(len(left)):
        whole = np.where(pruned[j], 0, np.clip(np.rint(left[j]), -_LEVELS, _LEVELS))
        left[j + 1 :] -= np.outer(U[j, j + 1 :], (left[j] - whole) / U[j, j])
        left[j] = whole
    found = np.empty(rows.shape, np.float32)
    found[:, order] = left.T
    return found


def _pruned(rows: Array) -> npt.NDArray[np.bool_]:
    depth = rows.shape[1]
    padded = np.pad(rows == 0, ((0, 0), (0, -depth % _GROUP)), constant_values=True)
    groups = padded.reshape(len(rows), -1, _GROUP).all(axis=2)
    found: npt.NDArray[np.bool_] = groups.repeat(_GROUP, axis=1)[:, :depth]
    return found
