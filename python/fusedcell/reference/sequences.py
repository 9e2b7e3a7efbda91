"""How a cell runs over time: which steps count, what is written where they do not, and in which direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array, check_shape

State: TypeAlias = tuple[Array, ...]
Lengths: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]


def scan(
    step: Callable[[Array, State], State],
    x: Array,
    state: State,
    *,
    lengths: Lengths,
    mask: Mask,
    reverse: bool,
) -> tuple[Array, State]:
    """Runs `step(x_t, state) -> state` over x (T, B, I) and returns y (T, B, H) and the final state.

    The first part of the state, (B, H), is the output. lengths (B,) says where each row's sequence ends, mask (T, B)
    which of the steps before that end count. At a step that does not count the row's state is held, so that its x has
    no influence; y is then the held output inside the sequence and zero past its end. `reverse` visits the steps from
    the last to the first: the padding comes first there and holds the initial state up to the row's last valid step,
    and y stays aligned with x.
    """
    steps = x.shape[0]
    y = np.zeros((steps, *state[0].shape))
    for t in reversed(range(steps)) if reverse else range(steps):
        inside = (t < lengths)[:, None]
        counts = inside & mask[t][:, None]
        state = tuple(np.where(counts, new, old) for new, old in zip(step(x[t], state), state, strict=True))
        y[t] = np.where(inside, state[0], 0.0)
    return y, state


def as_lengths(name: str, lengths: ArrayLike | None, steps: int, batch: int) -> Lengths:
    """Returns the lengths as int64 (B,), all `steps` where None; they must be integers from 0 to `steps`."""
    if lengths is None:
        return np.full(batch, steps, dtype=np.int64)
    array = np.asarray(lengths)
    # An empty list has NumPy's default dtype, float64.
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{name}: expected integers, got dtype {array.dtype}")
    check_shape(name, array, (batch,))
    if array.size and (array.min() < 0 or array.max() > steps):
        raise ValueError(f"{name}: expected values from 0 to {steps}, got {array.tolist()}")
    return array.astype(np.int64)


def as_mask(name: str, mask: ArrayLike | None, shape: tuple[int, ...]) -> Mask:
    """Returns the mask as bool of this shape, all true where None."""
    if mask is None:
        return np.ones(shape, dtype=np.bool_)
    array = np.asarray(mask)
    check_shape(name, array, shape)
    if array.dtype != np.bool_:
        raise ValueError(f"{name}: expected dtype bool, got {array.dtype}")
    return array
