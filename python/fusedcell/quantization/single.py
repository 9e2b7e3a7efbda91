"""A layer's stack taken apart into single layers and directions, and data in the arrangement that those take."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._base import FloatArray
from .._core import as_array
from .._recurrent import make_stack
from ..errors import UnsupportedError
from ..layers import Layer


def check_layer(name: str, value: Any) -> None:
    """Raises TypeError for what is not a layer, UnsupportedError for one that starts from a state of its own."""
    if not isinstance(value, Layer):
        raise TypeError(f"{name}: expected a layer (LSTM, GRU or RNN), got {type(value).__name__}")
    if value.initial_state is not None:
        raise UnsupportedError(f"{name}: a layer with an initial_state is not supported; supported: zeros, None")


def single_layers(layer: Layer) -> list[tuple[Layer, ...]]:
    """Each layer's directions, forward first, as layers of their own that run forwards; their bits are the same.

    They take (T, B, I), as :func:`as_steps` gives it. The sequences of one that runs in reverse, as `reverse_flags`
    says, go in and come out with time flipped.
    """
    stack = layer.stack
    directions = stack.num_directions
    options = layer.cell_options
    singles = [
        layer._of(
            make_stack(
                stack.kind,
                [arrays],
                ["_l0"],
                1,
                [dtypes],
                stack.isa,
                stack.input_scales[index // directions :][:1],
                [options[index]],
            )
        )
        for index, (arrays, dtypes) in enumerate(zip(stack.arrays(), stack.dtypes, strict=True))
    ]
    return [tuple(singles[first : first + directions]) for first in range(0, len(singles), directions)]


def reverse_flags(layer: Layer) -> tuple[bool, ...]:
    """Of each direction, whether it runs from the last step to the first."""
    return (False, True) if layer.bidirectional else (layer.reverse,)


def in_order(x: FloatArray, reverse: bool) -> FloatArray:
    """x (T, B, I) in the order in which a direction takes it, contiguous."""
    return np.ascontiguousarray(x[::-1]) if reverse else x


def joined(outputs: list[FloatArray], flags: tuple[bool, ...]) -> FloatArray:
    """The output (T, B, D * P) of a layer whose directions gave `outputs`, each (T, B, P) in the order it took."""
    return np.concatenate([in_order(y, reverse) for reverse, y in zip(flags, outputs, strict=True)], axis=2)


@np.errstate(over="ignore")
def as_steps(name: str, data: Any, layer: Layer) -> FloatArray:
    """The data as (T, B, I) float32.

    Raises TypeError if they are not floats, ValueError for another shape, or a value that is not finite as float32.
    """
    array = as_array(data, name)
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected an array of floats, got dtype {array.dtype}")
    size = layer.input_size
    if array.ndim not in (2, 3) or array.shape[-1] != size:
        axes = "B, T" if layer.batch_first else "T, B"
        raise ValueError(f"{name}: expected shape (T, {size}) or ({axes}, {size}), got {array.shape}")
    steps = array.astype(np.float32)
    if array.ndim == 2:
        steps = steps[:, None]
    elif layer.batch_first:
        steps = steps.swapaxes(0, 1)
    bad = np.argwhere(~np.isfinite(steps))
    if len(bad):
        t, b, k = bad[0]
        raise ValueError(f"{name}: expected finite floats, got {steps[t, b, k]} at step {t}, row {b}, input {k}")
    return np.ascontiguousarray(steps)
