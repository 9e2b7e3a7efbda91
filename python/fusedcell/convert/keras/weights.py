"""Weights of Keras's cells in PyTorch's layout.

A cell has kernel (I, G * H), recurrent_kernel (H, G * H) and perhaps bias: gates i f c o, or z r h. Of a GRU with
reset_after, bias is (2, 3 * H), for x and for h. Keras 2's CuDNN layers keep cuDNN's own layout: of each gate the
kernel's memory is that of its transpose, the recurrent kernel is transposed, and both biases lie end to end. Source:
`_convert_rnn_weights` in tensorflow/python/keras/saving/hdf5_format.py, which converts between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ..._base import FloatArray
from ..spec import Arrays, RecurrentSpec, reordered
from .config import CellConfig, LayerConfig

Shape: TypeAlias = tuple[int | None, ...]
"""None is any size from 1 on."""

KerasArrays: TypeAlias = Mapping[str, FloatArray]
Reader: TypeAlias = Callable[[int, int, Mapping[str, Shape]], KerasArrays]
"""Reads a direction's and, in it, a cell's arrays, of these names and shapes."""

_BLOCKS = {"rnn_tanh": (0,), "lstm": (0, 1, 2, 3), "gru_reset_after": (1, 0, 2), "gru_reset_before": (1, 0, 2)}


def shapes(cell: CellConfig, inputs: int | None) -> dict[str, Shape]:
    """The names and shapes of a cell's arrays in Keras, in its order."""
    rows = cell.gates * cell.units
    found: dict[str, Shape] = {"kernel": (inputs, rows), "recurrent_kernel": (cell.units, rows)}
    if cell.cudnn:
        found["bias"] = (2 * rows,)
    elif cell.use_bias:
        found["bias"] = (2, rows) if cell.kind == "gru_reset_after" else (rows,)
    return found


def fits(shape: Sequence[int], expected: Shape) -> bool:
    """Whether a shape is as expected."""
    return len(shape) == len(expected) and all(
        size == want if want is not None else size >= 1 for size, want in zip(shape, expected, strict=True)
    )


def to_pytorch(cell: CellConfig, arrays: KerasArrays) -> Arrays:
    """A cell's arrays under PyTorch's names and in its layout."""
    kernels = np.split(arrays["kernel"], cell.gates, axis=1)
    recurrent = np.split(arrays["recurrent_kernel"], cell.gates, axis=1)
    if cell.cudnn:
        kernels = [kernel.T.reshape(kernel.shape, order="F") for kernel in kernels]
        recurrent = [kernel.T for kernel in recurrent]
    blocks = _BLOCKS[cell.kind]
    found: Arrays = {
        "weight_ih": reordered(np.concatenate(kernels, axis=1).T, blocks),
        "weight_hh": reordered(np.concatenate(recurrent, axis=1).T, blocks),
    }
    if "bias" in arrays:
        rows = cell.gates * cell.units
        for name, bias in zip(("bias_ih", "bias_hh"), arrays["bias"].reshape(-1, rows), strict=False):
            found[name] = reordered(bias, blocks)
    return found


def specification(layer: LayerConfig, read: Reader) -> RecurrentSpec:
    """What a layer of these weights becomes; `read` raises for arrays that are not there or do not fit."""
    found: list[list[Arrays]] = []
    for direction, cells in enumerate(layer.directions):
        inputs: int | None = None
        found.append([])
        for index, cell in enumerate(cells):
            found[-1].append(to_pytorch(cell, read(direction, index, shapes(cell, inputs))))
            inputs = cell.units
    # In the order of packing, layer by layer. Directions of several cells each are refused before.
    cells_in_order = [cell for level in zip(*layer.directions, strict=True) for cell in level]
    return RecurrentSpec(
        kind=cells_in_order[0].kind,
        cells=tuple(arrays for level in zip(*found, strict=True) for arrays in level),
        options=tuple(cell.options for cell in cells_in_order),
        num_layers=len(layer.directions[0]),
        reverse=layer.output.go_backwards and not layer.output.bidirectional,
        batch_first=True,
    )
