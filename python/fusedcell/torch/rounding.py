"""The rounding of docs/quantisation.md in PyTorch, for training: gradients pass as if nothing had been rounded.

What comes back has the values that the integers stand for, q times its scale, and so have products of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNITS = {"int8": 127.0, "int16": 16256.0}
"""What the largest magnitude of an input becomes."""

_WEIGHT_UNITS = 127.0
_SMALLEST = 2.0**-100


def rounded_input(x: Tensor, units: float, *, bounded: bool = False) -> Tensor:
    """Vectors along the last axis, each by a scale of its own, or where `bounded` by 1 / units while it is within 1."""
    values = x.detach().float()
    largest = values.abs().amax(-1, keepdim=True)
    # A tensor, as some devices multiply by the inverse of a number that they should divide by.
    whole = torch.full_like(largest, units)
    scale, factor = largest / whole, whole / largest
    if bounded:
        within = largest <= 1
        scale, factor = torch.where(within, 1 / whole, scale), torch.where(within, whole, factor)
    return _through(x, torch.where(largest < _SMALLEST, 0.0, (values * factor).round() * scale))


def rounded_within_one(x: Tensor, units: float) -> Tensor:
    """The same of vectors that are bounded, and known to be within [-1, 1]."""
    return _through(x, (x.detach().float() * units).round() * (1 / units))


def rounded_rows(weight: Tensor) -> Tensor:
    """The rows of a matrix, each by a scale of its own."""
    values = weight.detach().float()
    largest = values.abs().amax(-1, keepdim=True)
    scale = largest / torch.full_like(largest, _WEIGHT_UNITS)
    return _through(weight, torch.where(largest < _SMALLEST, 0.0, (values / scale).round() * scale))


def _through(x: Tensor, rounded: Tensor) -> Tensor:
    return rounded + (x - x.detach())  # exactly `rounded`, as x - x is 0 or, where a NaN is right, NaN
