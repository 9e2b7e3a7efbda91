"""Products of a layer's matrices and vectors in float64, and what rounding either adds to them.

With W, x before and W', x' after rounding,

    W' x' - W x = (W' - W) x + W' (x' - x)

which are the parts of the weights and of the input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _core
from .._dtypes import QUANTISED
from ..layers import Layer

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Matrix:
    """One matrix (rows, depth) as a layer multiplies by it, its bias (rows,), and how the input is rounded.

    An `input_scale` of 0 lets each input have its own.
    """

    weights: Array
    bias: Array
    int8: bool
    int16: bool
    bounded: bool
    input_scale: float
    isa: str

    def rounded(self, x: npt.NDArray[np.floating]) -> Array:
        """What the product sees of inputs (N, depth)."""
        if not self.int8:
            return x.astype(np.float64)
        q, scale = _core.quantise(x, self.bounded, self.input_scale, self.isa, self.int16)
        return q.astype(np.float64) * scale[:, None]

    def product(self, x: npt.NDArray[np.floating]) -> Array:
        """W x + b for inputs (N, depth): (N, rows)."""
        sums: Array = self.rounded(x) @ self.weights.T + self.bias
        return sums

    def __getitem__(self, rows: slice) -> Matrix:
        return replace(self, weights=self.weights[rows], bias=self.bias[rows])


def product_errors(before: Matrix, after: Matrix, x: npt.NDArray[np.floating]) -> tuple[Array, Array]:
    """What rounding the weights and then rounding x (N, depth) adds to the product, each (N, rows)."""
    exact = before.rounded(x)
    of_weights = exact @ (after.weights - before.weights).T + (after.bias - before.bias)
    return of_weights, (after.rounded(x) - exact) @ after.weights.T


def has_bounded_products(layer: Layer) -> bool:
    """Whether h, r h or o h(c) of one layer and direction cannot leave [-1, 1], as docs/quantisation.md says."""
    ((activations, *_),) = layer.stack.options
    names = [name for name, _, _ in activations]
    squashing = {"Tanh", "Sigmoid"}
    if layer.stack.kind.startswith("gru"):
        return names[0] == "Sigmoid" and names[1] in squashing
    return names[0] in squashing and names[-1] in squashing


def matrices_of(layer: Layer) -> dict[str, Matrix]:
    """The matrices of a layer of one layer and one direction, by their names."""
    (arrays,) = layer.stack.arrays()
    (dtypes,) = layer.stack.dtypes
    is_bounded = has_bounded_products(layer)
    bounded = {"weight_ih": False, "weight_hh": is_bounded and not layer.proj_size, "weight_hr": is_bounded}
    scales = layer.input_scales
    matrices = {}
    for name in bounded.keys() & arrays.keys():
        weights = arrays[name].astype(np.float64)
        int8 = dtypes[name] in QUANTISED
        if int8:
            weights *= arrays[name + "_scale"][:, None]
        bias = arrays.get(name.replace("weight", "bias"), np.zeros(len(weights))).astype(np.float64)
        input_scale = scales[0] if scales and name == "weight_ih" else 0.0
        int16 = dtypes[name] == "int8_int16"
        matrices[name] = Matrix(weights, bias, int8, int16, bounded[name], input_scale, layer.isa)
    return matrices
