"""Fixed scales of int8 inputs, recorded from a stream of the user's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from .._base import FloatArray
from ..layers import Layer
from .arguments import number
from .single import as_steps, check_layer, in_order, joined, reverse_flags, single_layers

_RANGE = (2.0**-100, 2.0**100)


def input_scales(
    layer: Layer, blocks: npt.ArrayLike | Iterable[npt.ArrayLike], *, headroom: float = 1.0
) -> tuple[float, ...]:
    """Scales for ``layer.astype("int8", input_scales=...)``, one a layer.

    A scale is headroom times the largest magnitude among the inputs of its layer, over 127.

    `layer`, usually float32, gives the values. `blocks` is an array of floats, (T, I) or (T, B, I), or (B, T, I) with
    batch_first; or an iterable of such arrays with equal B that continue one another, so that states go on from block
    to block. For a bidirectional or reverse layer each block is a sequence of its own. A headroom above 1 leaves room
    for what is louder than these data: an input saturates at headroom times the largest seen.

    The scales are float32's values. Raises TypeError for what is not a layer or not floats; ValueError for another
    shape, values that are not finite, no steps at all, a layer whose inputs are all zero, a scale outside 2^-100 to
    2^100, or a headroom that is not a finite number above 0.
    """
    check_layer("layer", layer)
    headroom = number("headroom", headroom)
    if headroom <= 0:
        raise ValueError(f"headroom: expected a finite number above 0, got {headroom}")
    largest = np.zeros(layer.num_layers)
    run = _Run(layer)
    for x in _blocks(blocks, layer):
        if x.size:
            for index, inputs in enumerate(run.inputs(x)):
                largest[index] = np.maximum(largest[index], np.abs(inputs).max())
    if not run.batch:
        raise ValueError("blocks: expected at least one step, got none")
    return tuple(_scale(index, value, headroom) for index, value in enumerate(largest.tolist()))


def _scale(index: int, largest: float, headroom: float) -> float:
    if largest == 0:
        raise ValueError(f"blocks: the inputs of layer {index} are all zero, which gives them no scale")
    scale = headroom * largest / 127
    if not _RANGE[0] <= scale <= _RANGE[1]:
        blamed = "headroom" if _RANGE[0] <= largest / 127 <= _RANGE[1] else "blocks"
        raise ValueError(f"{blamed}: expected scales from 2^-100 to 2^100, but that of layer {index} would be {scale}")
    return float(np.float32(scale))


def _blocks(blocks: Any, layer: Layer) -> Iterable[FloatArray]:
    if hasattr(blocks, "__array__"):
        return [as_steps("blocks", blocks, layer)]
    if not isinstance(blocks, Iterable):
        raise TypeError(f"blocks: expected an array or an iterable of arrays, got {type(blocks).__name__}")
    return (as_steps(f"blocks[{index}]", block, layer) for index, block in enumerate(blocks))


class _Run:
    """The layers below the last one, with their states."""

    def __init__(self, layer: Layer) -> None:
        self._singles = single_layers(layer)[:-1]
        self._flags = reverse_flags(layer)
        self._whole = any(self._flags)  # sequences, as they are run from their ends
        self._streams: list[Any] = []
        self.batch = 0

    def inputs(self, x: FloatArray) -> Iterable[FloatArray]:
        """The inputs of each layer, (T, B, size), for the next block."""
        batch = x.shape[1]
        if not self.batch:
            self._streams = [] if self._whole else [single.stream(batch) for (single,) in self._singles]
        elif batch != self.batch and not self._whole:
            raise ValueError(f"blocks: expected {self.batch} batch rows in every block, got {batch}")
        self.batch = batch
        yield x
        if self._whole:
            for directions in self._singles:
                outputs = [
                    single.stack.run(in_order(x, reverse))[0]
                    for single, reverse in zip(directions, self._flags, strict=True)
                ]
                x = joined(outputs, self._flags)
                yield x
        for stream in self._streams:
            x = stream.process(x)
            yield x
