"""Conversion to float64, and shape checks whose errors name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]


class Shaped(Protocol):
    """An array, as far as `check_shape` looks at one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""


def as_float64(name: str, value: ArrayLike) -> Array:
    """Returns `value` as a float64 array, without a copy where it is one already; refuses what is not real numbers."""
    array = np.asarray(value)
    if not np.can_cast(array.dtype, np.float64, "same_kind"):
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array.astype(np.float64, copy=False)


def check_shape(name: str, array: Shaped, expected: Sequence[int | str]) -> None:
    """Raises ValueError unless the shape is `expected`; an axis given as a string may have any length."""
    fits = len(expected) == len(array.shape) and all(
        isinstance(want, str) or want == got for want, got in zip(expected, array.shape, strict=True)
    )
    if not fits:
        axes = ", ".join(map(str, expected)) + ("," if len(expected) == 1 else "")
        raise ValueError(f"{name}: expected shape ({axes}), got {array.shape}")
