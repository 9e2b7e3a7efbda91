"""What the matrices of a layer and of a model's nodes multiply, on data, by a run of the layers as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .. import _core
from .._base import FloatArray
from ..layers import Layer
from ..nodes import Window
from ..nodes.base import MatrixNode
from .single import in_order, joined, reverse_flags, single_layers

# Rows of a matrix, and the vectors (N, depth) that they multiply.
Products: TypeAlias = "list[tuple[slice, FloatArray]]"

_MOST_WINDOWS = 2**16
_ALL = slice(None)


@dataclass(frozen=True)
class Operands:
    """Of one layer and direction: y (T, B, P), and x, h before each step, a GRU's r and m = o h(c), a row a product."""

    y: FloatArray
    x: FloatArray
    h: FloatArray
    r: FloatArray | None
    m: FloatArray | None


def operands_of(single: Layer, x: FloatArray, state: tuple[FloatArray, ...] = ()) -> Operands:
    """Those of a single layer, run on x (T, B, I) as it takes it from a state of (1, B, size) arrays, or zeros."""
    projected, is_gru = bool(single.proj_size), single.stack.kind.startswith("gru")
    h_0, c_0 = (*state, None, None)[:2]
    y, _, _, c, gates = single.stack.run(x, h_0, c_0, return_cells=projected, return_gates=projected or is_gru)
    h = np.concatenate([state[0] if state else np.zeros_like(y[:1]), y[:-1]]).reshape(-1, y.shape[2])
    units, count = single.hidden_size, len(h)
    values = None if gates is None else gates.reshape(count, -1, units)
    r = values[:, 0] if values is not None and is_gru else None
    m = None if c is None or values is None else values[:, 3] * _h_of(single, c.reshape(count, units))
    return Operands(y, x.reshape(count, -1), h, r, m)


def _h_of(layer: Layer, c: FloatArray) -> FloatArray:
    """h(c) of an LSTM."""
    ((activations, clip, clip_before_h, _),) = layer.stack.options
    if clip is not None and clip_before_h:
        c = np.clip(c, np.float32(-clip), np.float32(clip))
    return _core.activate(*activations[2][:1], c, *activations[2][1:], layer.isa)


def of_layer(layer: Layer, x: FloatArray) -> Iterator[dict[str, Products]]:
    """Of each layer and direction in the order of packing, by the names of matrices; x is (T, B, I)."""
    flags = reverse_flags(layer)
    state = () if layer.initial_state is None else layer._start(x.shape[1])
    for index, directions in enumerate(single_layers(layer)):
        outputs = []
        for place, (single, reverse) in enumerate(zip(directions, flags, strict=True), index * len(flags)):
            seen = operands_of(single, in_order(x, reverse), tuple(part[place : place + 1] for part in state))
            outputs.append(seen.y)
            recurrent: Products = [(_ALL, seen.h)]
            if single.stack.kind == "gru_reset_before" and seen.r is not None:
                gates = 2 * single.hidden_size
                recurrent = [(slice(gates), seen.h), (slice(gates, None), seen.r * seen.h)]
            projection: dict[str, Products] = {} if seen.m is None else {"weight_hr": [(_ALL, seen.m)]}
            yield {"weight_ih": [(_ALL, seen.x)], "weight_hh": recurrent} | projection
        x = joined(outputs, flags)


def of_node(node: MatrixNode, x: FloatArray) -> Products:
    """Of a Dense or a Window, whose groups are rows of their own; x is (T, B, features).

    Of more than 65,536 windows as many are taken, evenly spaced.
    """
    if not isinstance(node, Window):
        return [(_ALL, x.reshape(-1, x.shape[2]))]
    if node.positions is not None:
        x = x.reshape(x.shape[0] * x.shape[1], node.positions, -1).swapaxes(0, 1)
    left, right = np.asarray(node.padding)
    x = x[max(0, -left) : len(x) - max(0, -right)]
    x = np.pad(x, ((max(0, left), max(0, right)), (0, 0), (0, 0)))
    starts = np.arange(0, len(x) - (node.taps - 1) * node.dilation, node.stride)
    starts = starts[:: 1 + len(starts) * x.shape[1] // _MOST_WINDOWS]
    windows = x[starts[:, None] + node.dilation * np.arange(node.taps)].swapaxes(1, 2)
    parts = windows.reshape(len(starts) * x.shape[1], node.taps, node.groups, -1)
    rows = len(node.weight) // node.groups
    return [
        (slice(group * rows, (group + 1) * rows), parts[:, :, group].reshape(len(parts), -1))
        for group in range(node.groups)
    ]
