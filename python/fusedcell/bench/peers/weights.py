"""Weights in the order of gates that a library wants, and in int8 as the libraries' own tools make them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ... import _core
from ..._base import FloatArray
from ..cases import GATES, Case

Int8Array = npt.NDArray[np.int8]


def reordered(case: Case, order: Sequence[int]) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Weights of x and of h, and their biases; `order` has the places of PyTorch's gates i f g o or r z n."""

    def blocks(name: str) -> FloatArray:
        array = case.weights[f"{name}_l0"]
        return array.reshape(GATES[case.cell], case.size, *array.shape[1:])[list(order)].reshape(array.shape)

    return blocks("weight_ih"), blocks("weight_hh"), blocks("bias_ih"), blocks("bias_hh")


def with_one_bias(case: Case, order: Sequence[int]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same with the sum of the biases, but for the candidate of PyTorch's GRU, which keeps its two apart."""
    w, r, of_x, of_h = reordered(case, order)
    gates = 2 * case.size
    apart = case.cell == "gru"
    return w, r, np.concatenate([(of_x + of_h)[:gates], of_x[gates:], of_h[gates:]]) if apart else of_x + of_h


def largest_integer() -> int:
    """What int8 weights go to in a library that adds products of bytes in pairs of 16 bits.

    x86 before VNNI does so, and the sum of two is cut off unless weights leave one bit unused: 2 * 255 * 64 < 2**15.
    The libraries' own tools offer that as a reduced range.
    """
    features = set(_core.cpu_features())
    return 64 if "ssse3" in features and not features & {"avx512vnni", "avxvnni"} else 127


def by_row(weights: FloatArray, largest: int = 127) -> tuple[Int8Array, FloatArray]:
    """Integers (R, C) and scales (R,), with weights = integers * scales."""
    scales = np.max(np.abs(weights), axis=1) / np.float32(largest)
    return _rounded(weights / scales[:, None], largest), scales


def by_matrix(weights: FloatArray, largest: int = 127) -> tuple[Int8Array, FloatArray]:
    """Integers (R, C) and one scale (1,)."""
    scale = np.max(np.abs(weights)).reshape(1) / np.float32(largest)
    return _rounded(weights / scale, largest), scale


def _rounded(values: FloatArray, largest: int) -> Int8Array:
    return np.clip(np.rint(values), -largest, largest).astype(np.int8)
