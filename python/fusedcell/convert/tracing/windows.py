"""Convolutions and pools of symbolic tensors, along time, inside rows, or both.

What runs along time and features at once is made of two: the taps along time lie beside each other in one row, as
copies of the sequence that are some rows early or late, and a window inside that row does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ... import nodes
from .rows import TIME, Axis, Floats, RefusedError, Rows, flat, said
from .tracer import RowTracer

Pair: TypeAlias = "tuple[int, int]"
_TURNED = (0, 1, 3, 2)  # time and features of (batch, channels, features, time)


class Tracer(RowTracer):
    """Makes a model's nodes of what is done to symbolic tensors, convolutions and pools among it."""

    def conv(self, x: Rows, weight: Floats, bias: Any = None, *, place: str = "conv", **options: Any) -> Rows:
        """Convolution of (batch, channels, one or two axes), weight (O, C / groups, *taps) as in PyTorch.

        `options`, a number for each axis of taps: stride, dilation, padding (pairs); and groups.
        """
        return _either_way(_conv, self, x, weight, bias, place, options)

    def conv_transposed(
        self, x: Rows, weight: Floats, bias: Any = None, *, place: str = "conv", **options: Any
    ) -> Rows:
        """Transposed convolution, weight (C, O / groups, *taps) as in PyTorch.

        `options`: stride, dilation, padding, output_padding, a number for each axis of taps; and groups.
        """
        return _either_way(_conv_transposed, self, x, weight, bias, place, options)

    def pool(self, x: Rows, kind: str, *, place: str = "pool", **options: Any) -> Rows:
        """The "max" or "mean" over windows of the last one or two axes.

        `options`, a number for each of them: taps, stride, dilation, padding (pairs); and count_include_pad.
        """
        return _pool(self, x, kind, place, **options)


def _either_way(
    convolve: Callable[..., Rows],
    tracer: RowTracer,
    x: Rows,
    weight: Floats,
    bias: Any,
    place: str,
    options: Mapping[str, Any],
) -> Rows:
    """A convolution over (batch, channels, features, time) is turned; any other is as it is."""
    weight = np.asarray(weight)
    if x.axes[3:] != (TIME,):
        return convolve(tracer, x, weight, bias, place, **options)
    turned = {name: given if name == "groups" else given[::-1] for name, given in options.items()}
    made = convolve(tracer, x.permuted(_TURNED), weight.transpose(_TURNED), bias, place, **turned)
    return made.permuted(_TURNED)


def _conv(
    tracer: RowTracer,
    x: Rows,
    weight: Floats,
    bias: Any,
    place: str,
    *,
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[Pair],
    groups: int = 1,
) -> Rows:
    _check(x, weight.ndim - 2, weight.shape[1] * groups)
    if x.axes[2:] == (TIME,):
        before = padding[0]
        if x.reversed:
            if stride[0] > 1:
                raise RefusedError("a convolution with a stride over a sequence that runs backwards")
            weight, before = weight[:, :, ::-1], before[::-1]
        options = {"stride": stride[0], "dilation": dilation[0], "padding": before}
        name = _window(tracer, place, x, weight, bias, groups, options)
        steps = _steps(x, weight.shape[2], stride[0], dilation[0], before)
        return tracer._made(x, name, (x.axes[0], weight.shape[0], TIME), steps=steps)
    if weight.ndim == 3:
        moved = x.permuted((0, 2, 1))
        options = {"stride": stride[0], "dilation": dilation[0], "padding": padding[0], "positions": x.axes[2]}
        name = _window(tracer, place, moved, weight, bias, groups, options)
        length = _length(x.axes[2], weight.shape[2], stride[0], dilation[0], padding[0])
        return tracer._made(moved, name, (x.axes[0], length, len(weight))).permuted((0, 2, 1))
    taps = weight.shape[2]
    stacked = _stacked(tracer, x, taps, stride[0], dilation[0], padding[0], place)
    # (outputs, C / groups, taps along the first axis, along the second), to those of one window with more channels
    flattened = weight.transpose(0, 2, 1, 3).reshape(len(weight), taps * weight.shape[1], weight.shape[3])
    grouped = _group_major(stacked, groups, taps)
    return _inside(tracer, grouped, flattened, bias, place, stride[1], dilation[1], padding[1], groups)


def _conv_transposed(
    tracer: RowTracer,
    x: Rows,
    weight: Floats,
    bias: Any,
    place: str,
    *,
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int = 1,
) -> Rows:
    _check(x, weight.ndim - 2, weight.shape[0])
    if x.reversed:
        raise RefusedError("a transposed convolution over a sequence that runs backwards")
    outputs = weight.shape[1] * groups
    weight = _dilated(weight, dilation)
    options: Any = {
        "stride": stride[-1],
        "padding": padding[-1],
        "output_padding": output_padding[-1],
        "groups": groups,
    }
    length = [
        (size - 1) * stride[-1] - 2 * padding[-1] + weight.shape[-1] + output_padding[-1]
        for size in x.size_of(x.axes[-1])
    ]
    if x.axes[2:] == (TIME,):
        name = tracer.graph.add(place, nodes.Window.transposed(weight, bias, **options), tracer.sources(x), outputs)
        return tracer._made(x, name, (x.axes[0], outputs, TIME), steps=tuple(length))
    moved = x
    if weight.ndim == 4:
        if stride[0] != 1 or output_padding[0]:
            raise RefusedError("a transposed convolution with a stride along the first of two axes")
        edge = weight.shape[2] - 1 - padding[0]
        taps = weight.shape[2]
        moved = _stacked(tracer, x, taps, 1, 1, (edge, edge), place)
        # Along an axis without stride it is a convolution with its taps backwards.
        grouped = weight[:, :, ::-1].reshape(groups, -1, *weight.shape[1:])
        weight = grouped.transpose(0, 3, 1, 2, 4).reshape(taps * len(weight), outputs // groups, weight.shape[3])
        moved = _group_major(moved, groups, taps)
    rows = moved.permuted((*range(len(moved.axes) - 2), len(moved.axes) - 1, len(moved.axes) - 2))
    if len(rows.axes) > 3 and any(axis != TIME for axis in rows.axes[1:-2]):
        raise RefusedError("a transposed convolution over two axes of features")
    node = nodes.Window.transposed(weight, bias, positions=rows.features[-2], **options)
    name = tracer.graph.add(place, node, tracer.sources(rows), outputs * length[0])
    made = tracer._made(rows, name, (*rows.axes[:-2], length[0], outputs))
    order = (0, 2, 1) if len(rows.axes) == 3 else (0, 3, 1, 2)
    return made.permuted(order)


def _pool(
    tracer: RowTracer,
    x: Rows,
    kind: str,
    place: str,
    *,
    taps: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[Pair],
    dilation: Sequence[int] | None = None,
    count_include_pad: bool = True,
) -> Rows:
    if kind == "mean" and not count_include_pad and any(map(any, padding)):
        raise RefusedError("a mean over windows that counts no padding; supported: no padding, or count_include_pad")
    dilation = dilation or [1] * len(taps)
    rank = len(x.axes)
    for place_of, (size, step, pad, spread) in enumerate(zip(taps, stride, padding, dilation, strict=True)):
        dim = rank - len(taps) + place_of
        if x.axes[dim] == TIME:
            x = _pool_time(tracer, x, kind, place, size, step, pad, spread)
        else:
            x = _pool_inside(tracer, x, dim, kind, place, size, step, pad, spread)
    return x


def _pool_time(
    tracer: RowTracer, x: Rows, kind: str, place: str, taps: int, stride: int, padding: Pair, dilation: int
) -> Rows:
    if x.reversed and (stride > 1 or any(padding)):
        raise RefusedError("a pool with a stride over a sequence that runs backwards")
    if kind == "max" and any(padding):
        raise RefusedError("a maximum along time with padding; supported: without")
    cls = nodes.MaxPool if kind == "max" else nodes.MeanPool
    node = cls(taps, stride=stride, padding=padding, dilation=dilation)
    name = tracer.graph.add(place, node, tracer.sources(x), len(x.indices))
    return tracer._made(x, name, x.axes, steps=_steps(x, taps, stride, dilation, padding))


def _pool_inside(
    tracer: RowTracer, x: Rows, dim: int, kind: str, place: str, taps: int, stride: int, padding: Pair, dilation: int
) -> Rows:
    x.feature_dim(dim, "a pool")
    if kind == "max" and any(padding):  # what is never the largest, but of what is infinite
        x = tracer.pad(x, dim, *padding, value=float(np.finfo(np.float32).min), place=place)
        padding = (0, 0)
    moved = x.moved(dim, 0)
    positions = x.size_of(x.axes[dim])[0]
    length = _length(positions, taps, stride, dilation, padding)
    cls = nodes.MaxPool if kind == "max" else nodes.MeanPool
    node = cls(taps, stride=stride, padding=padding, dilation=dilation, positions=positions)
    name = tracer.graph.add(place, node, tracer.sources(moved), len(x.indices) // positions * length)
    return tracer._made(moved, name, (length, *moved.axes[1:])).moved(0, dim)


def _check(x: Rows, spatial: int, channels: int) -> None:
    if len(x.axes) != 2 + spatial:
        raise RefusedError(f"a convolution of {spatial} axes over {said(x.axes)}")
    if not isinstance(x.axes[1], int) or x.axes[1] != channels:
        raise RefusedError(f"a convolution of {channels} channels over {said(x.axes)}")
    if TIME in flat((x.axes[0],)) and TIME in x.axes[2:]:
        raise RefusedError(f"a convolution over {said(x.axes)}")
    if any(axis != TIME and not isinstance(axis, int) for axis in x.axes[2:]):
        raise RefusedError(f"a convolution over {said(x.axes)}; supported: of axes (batch, channels, time, features)")


def _window(
    tracer: RowTracer, place: str, x: Rows, weight: Floats, bias: Any, groups: int, options: dict[str, Any]
) -> str:
    """A convolution whose input has its channels last in each position, as one node."""
    outputs, inputs, taps = weight.shape
    positions = options.get("positions")
    length = 1
    if positions is not None:
        length = _length(positions, taps, options["stride"], options["dilation"], options["padding"])
        if min(options["padding"]) < 0 or length < 1:
            raise RefusedError(f"a convolution of {taps} taps over {positions} features")
    if groups == outputs and inputs == 1 and groups > 1:
        depthwise = nodes.Depthwise(weight[:, 0].T, bias, **options)
        exact = weight.reshape(outputs, -1)
        return tracer.graph.add_matrix(place, depthwise, tracer.sources(x), length * outputs, exact, bias)
    node = nodes.Window.from_conv1d(weight, bias, groups=groups, **options)
    exact = weight.transpose(0, 2, 1)
    return tracer.graph.add_matrix(place, node, tracer.sources(x), length * outputs, exact, bias)


def _steps(x: Rows, taps: int, stride: int, dilation: int, padding: Pair) -> tuple[int, ...]:
    return tuple(_length(steps, taps, stride, dilation, padding) for steps in x.steps)


def _length(size: Any, taps: int, stride: int, dilation: int, padding: Pair) -> int:
    return max(0, (int(size) + sum(padding) - (taps - 1) * dilation - 1) // stride + 1)


def _stacked(tracer: RowTracer, x: Rows, taps: int, stride: int, dilation: int, padding: Pair, place: str) -> Rows:
    """Of (batch, channels, first, second) the taps along the first axis as channels, taps before those of the source.

    The axes are then (batch, first, taps * channels, second).
    """
    first = x.axes[2]
    span = (taps - 1) * dilation
    if first == TIME:
        early = [
            tracer.pad(x, 2, padding[0] - tap * dilation, padding[1] - span + tap * dilation, place=f"{place}.rows")
            for tap in range(taps)
        ]
        joined = tracer.concat([tracer.unsqueeze(value, 1) for value in early], 1)
        if stride > 1:
            joined = tracer._every(joined, stride, f"{place}.stride")
        moved = joined.permuted((0, 3, 1, 2, 4))
    else:
        count = _length(first, taps, stride, dilation, padding)
        if count < 1:
            raise RefusedError(f"a convolution of {taps} taps over {first} features")
        wide = tracer.pad(x, 2, *padding)
        which = np.arange(count)[:, None] * stride + np.arange(taps) * dilation
        gathered = wide.taken(2, which.reshape(-1))
        grid = gathered.grid.reshape(*gathered.features[:-2], count, taps, gathered.features[-1])
        moved = gathered.with_grid((x.axes[0], x.axes[1], count, taps, x.axes[3]), grid).permuted((0, 2, 3, 1, 4))
    axes = (moved.axes[0], moved.axes[1], taps * moved.features[-2], moved.axes[4])
    return moved.with_grid(axes, moved.indices)


def _group_major(x: Rows, groups: int, taps: int) -> Rows:
    """The channels of `_stacked`, (taps, groups, each), as (groups, taps, each)."""
    if groups == 1:
        return x
    first = [part for part in flat(x.axes[:2]) if isinstance(part, int)]
    grid = x.indices.reshape(*first, taps, groups, -1, x.features[-1])
    order = (*range(len(first)), *(len(first) + i for i in (1, 0, 2, 3)))
    return x.with_grid(x.axes, grid.transpose(order))


def _inside(
    tracer: RowTracer,
    x: Rows,
    weight: Floats,
    bias: Any,
    place: str,
    stride: int,
    dilation: int,
    padding: Pair,
    groups: int,
) -> Rows:
    """A convolution along the last axis of (batch, first, channels, last), as (batch, outputs, first, last)."""
    blocks = 1 if x.axes[1] == TIME else x.size_of(x.axes[1])[0]
    size = x.features[-1]
    length = _length(size, weight.shape[2], stride, dilation, padding)
    moved = x.permuted((0, 1, 3, 2))
    positions, kept = size, length
    if blocks > 1:
        # The blocks beside each other, each with its own zeros; windows that begin in one and end in the next go.
        positions = -(-(size + sum(padding)) // stride) * stride
        moved = tracer.pad(moved, 2, padding[0], positions - size - padding[0])
        kept, positions, padding = positions // stride, positions * blocks, (0, 0)
        moved = tracer.pad(
            moved.with_grid((x.axes[0], 1, positions, moved.axes[3]), moved.indices),
            2,
            0,
            (weight.shape[2] - 1) * dilation,
        )
        positions = moved.features[-2]
    options = {"stride": stride, "dilation": dilation, "padding": padding, "positions": positions}
    name = _window(tracer, place, moved, weight, bias, groups, options)
    outputs = len(weight)
    axes: tuple[Axis, ...] = (x.axes[0], x.axes[1], length, outputs)
    if blocks == 1:
        return tracer._made(moved, name, axes).permuted((0, 3, 1, 2))
    total = tracer.graph.size(name) // outputs
    grid = (
        np.arange(total * outputs).reshape(total, outputs)[: blocks * kept].reshape(blocks, kept, outputs)[:, :length]
    )
    made = tracer._made(moved, name, (x.axes[0], total, outputs))
    return made.with_grid(axes, grid).permuted((0, 3, 1, 2))


def _dilated(weight: Floats, dilation: Sequence[int]) -> Floats:
    """The taps with zeros between them."""
    for axis, spread in enumerate(dilation, 2):
        if spread > 1:
            wide = np.zeros(
                (*weight.shape[:axis], (weight.shape[axis] - 1) * spread + 1, *weight.shape[axis + 1 :]), weight.dtype
            )
            wide[(slice(None),) * axis + (slice(None, None, spread),)] = weight
            weight = wide
    return weight
