"""Operations of a source on symbolic tensors, as nodes of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ... import nodes
from ...layers import Layer
from ..spec import ModelSpec
from .graph import Graph
from .rows import (
    BATCH,
    TIME,
    Axis,
    Floats,
    Indices,
    OtherRowsError,
    RefusedError,
    Rows,
    Shapes,
    Sizes,
    check_features,
    flat,
    said,
)

Operand: TypeAlias = Any  # Rows, or a constant: a number, an array, or a list of arrays, one for each probe

_NO_END = 2**31 - 1  # the least that a slice's open end is


def check_ends(starts: Sizes, stops: Sizes, sizes: Sizes) -> None:
    """Refuses a slice along time that is all of these sequences, and part of longer ones."""
    for begin, end, size in zip(starts, stops, sizes, strict=True):
        if size < end < _NO_END or -_NO_END < begin < -size:
            raise RefusedError(f"a slice along time from {begin} to {end}, which all of a shorter sequence fits into")


class RowTracer:
    """Makes a model's nodes of what is done to symbolic tensors.

    - batch, steps: sequences, and rows of an input with time, at each probe

    Every method that makes nodes takes `place`, a name for them. They raise RefusedError for what a model cannot do.
    """

    def __init__(self, batch: Sequence[int], steps: Sequence[int]) -> None:
        self.batch: Sizes = tuple(batch)
        self.steps: Sizes = tuple(steps)
        self._times = {self.steps}  # all numbers of rows so far
        self.graph = Graph()

    def input(self, name: str, axes: Sequence[Axis], *, tokens: int = 0, kind: str = "") -> Rows:
        """An input of the model: of floats, or of so many tokens. Its kind, where none is given, follows from time."""
        size = math.prod(axis for axis in axes if isinstance(axis, int))
        has_time = TIME in flat(axes)
        kind = kind or ("rows" if has_time else "held")
        steps = self.steps if has_time else (1,) * len(self.steps)
        if kind != "state":
            self.graph.add_input(name, size, tokens, tuple(axes), held=not has_time)
        return Rows(tuple(axes), (name,), np.arange(size), self.batch, steps, kind)

    # What moves data.

    def concat(self, values: Sequence[Operand], dim: int, place: str = "concat") -> Rows:
        """The tensors beside each other along an axis of features, or along time a state and the rows after it."""
        given = [value for value in values if isinstance(value, Rows)]
        dim = given[0].dim(dim)
        if given[0].axes[dim] == TIME or any(value.kind == "state" for value in given):
            return self._after(values, dim, place)
        for value in given:
            value.feature_dim(dim, "a concatenation")
        made = [value if isinstance(value, Rows) else self._constant_like(value, given[0], dim) for value in values]
        like = _without(made[0].axes, dim)
        for value in made:
            if len(value.axes) != len(made[0].axes) or _without(value.axes, dim) != like:
                raise RefusedError(f"a concatenation of {said(made[0].axes)} and {said(value.axes)} along axis {dim}")
        made = self._together(made, place)
        parts = tuple(dict.fromkeys(part for value in made for part in value.parts))
        starts = self.graph.starts(parts)
        place_of = made[0].feature_dim(dim, "a concatenation")
        constants = tuple(number for value in made for number in value.constants)
        grids, used = [], 0
        for value in made:
            offset = np.concatenate([starts[part] + np.arange(self.graph.size(part)) for part in value.parts])
            moved = np.where(value.grid >= 0, offset[np.maximum(value.grid, 0)], value.grid - used)
            grids.append(moved)
            used += len(value.constants)
        axes = list(made[0].axes)
        axes[dim] = sum(value.axes[dim] for value in made)  # type: ignore[misc] # numbers, as checked
        return made[0].with_grid(axes, np.concatenate(grids, place_of), parts=parts, constants=constants)

    def expand(self, x: Rows, shapes: Shapes, place: str = "expand") -> Rows:
        """Broadcast to a shape, one for each probe; -1 keeps a size. What is the same at every row gets time so."""
        made: Rows = x.expanded(shapes, self._times)
        if made.has_time == x.has_time:
            return made
        change = {steps - own for steps, own in zip(made.steps, self.steps, strict=True)}
        if len(change) > 1:
            raise RefusedError("an input without time repeated for a number of rows that is no input's")
        made = replace(made, steps=self.steps, kind="rows")
        return self.pad(made, made.axes.index(TIME), 0, change.pop(), place=place)

    def stack(self, values: Sequence[Operand], dim: int, place: str = "stack") -> Rows:
        """The tensors along a new axis."""
        rank = next(len(value.axes) for value in values if isinstance(value, Rows)) + 1
        dim %= rank
        return self.concat([self.unsqueeze(value, dim) for value in values], dim, place)

    def unsqueeze(self, value: Operand, dim: int) -> Operand:
        """A new axis of one feature."""
        if not isinstance(value, Rows):
            return [np.expand_dims(array, dim) for array in self._each(value)]
        axes = list(value.axes)
        axes.insert(dim if dim >= 0 else dim + len(axes) + 1, 1)
        return value.with_grid(axes, value.indices)

    def squeeze(self, x: Rows, dims: Iterable[int]) -> Rows:
        """Without these axes, if they are of one feature."""
        gone = {x.dim(dim) for dim in dims}
        axes = [axis for dim, axis in enumerate(x.axes) if dim not in gone or axis != 1]
        return x.with_grid(axes, x.indices)

    def slice(
        self, x: Rows, dim: int, start: int | Sizes, stop: int | Sizes, step: int = 1, place: str = "slice"
    ) -> Rows:
        """x[..., start:stop:step, ...]; ends are numbers, or one for each probe."""
        dim = x.dim(dim)
        sizes = x.size_of(x.axes[dim])
        starts, stops = self._sizes(start), self._sizes(stop)
        if x.axes[dim] == TIME:
            check_ends(starts, stops, sizes)
        spans = [slice(a, b).indices(size) for a, b, size in zip(starts, stops, sizes, strict=True)]
        left, right = (
            {first for first, *_ in spans},
            {size - last for (_, last, _), size in zip(spans, sizes, strict=True)},
        )
        if all((first, last) == (0, size) for (first, last, _), size in zip(spans, sizes, strict=True)) and step == 1:
            return x
        if isinstance(x.axes[dim], int):
            return x.taken(dim, slice(spans[0][0], max(spans[0][:2]), step))
        if x.axes[dim] != TIME:
            raise RefusedError(f"a slice along {said(x.axes[dim])}; supported: along features and time")
        if all(last - first == 1 for first, last, _ in spans):
            row: Rows = self.unsqueeze(self.select(x, dim, tuple(first for first, *_ in spans), place), dim)
            return row
        if len(left) > 1 or len(right) > 1:
            raise RefusedError("a slice along time of a fixed number of rows; supported: rows left out at either end")
        x = self.pad(x, dim, -left.pop(), -right.pop(), place=place)
        return x if step == 1 else self._every(x, step, place)

    def select(self, x: Rows, dim: int, index: int | Sizes, place: str = "select") -> Rows:
        """x[..., index, ...]; of time the last or the first row."""
        dim = x.dim(dim)
        indices = [i % size if size else i for i, size in zip(self._sizes(index), x.size_of(x.axes[dim]), strict=True)]
        if isinstance(x.axes[dim], int):
            return x.taken(dim, self._sizes(index)[0])
        if x.axes[dim] != TIME:
            raise RefusedError(f"one of {said(x.axes[dim])}; supported: features, and the last or first row")
        if all(i == steps - 1 for i, steps in zip(indices, x.steps, strict=True)):
            return self._end(x, dim, first=x.reversed, place=place)
        if not any(indices):
            return self._end(x, dim, first=not x.reversed, place=place)
        raise RefusedError(f"row {self._sizes(index)[0]} of a sequence; supported: the last and the first")

    def pad(
        self, x: Rows, dim: int, left: int, right: int, mode: str = "constant", value: float = 0, place: str = "pad"
    ) -> Rows:
        """More, or less, at both ends of an axis; mode "constant", "reflect", "replicate" or "circular"."""
        dim = x.dim(dim)
        if not (left or right):
            return x
        if x.axes[dim] == TIME:
            if (mode != "constant" or value != 0) and max(left, right) > 0:
                what = f"padding along time with {value}" if mode == "constant" else f"{mode} padding along time"
                raise RefusedError(f"{what}; supported: with zeros, and along features")
            if x.reversed:
                left, right = right, left
            name = self.graph.add(place, nodes.Rows(left, right), self.sources(x), len(x.indices))
            return self._made(x, name, x.axes, steps=tuple(steps + left + right for steps in x.steps))
        size, place_of = x.size_of(x.axes[dim])[0], x.feature_dim(dim, "padding")
        if mode == "constant":
            widths = [(0, 0)] * len(x.features)
            widths[place_of] = (max(left, 0), max(right, 0))
            check_features(x.grid.size // size * (size + sum(widths[place_of])))
            grid = np.pad(x.grid, widths, constant_values=-1 - len(x.constants))
            x = x.with_grid(_replaced(x.axes, dim, grid.shape[place_of]), grid, constants=(*x.constants, value))
            return x.taken(dim, slice(max(-left, 0), grid.shape[place_of] - max(-right, 0)))
        numpy_mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
        if min(left, right) < 0 or max(left, right) > size - (mode == "reflect"):
            raise RefusedError(f"{mode} padding of {left, right} of {size}")
        return x.taken(dim, np.pad(np.arange(size), (left, right), numpy_mode))  # type: ignore[call-overload]

    def joined(self, x: Rows, count: int, place: str = "joined") -> Rows:
        """(..., time, features): so many rows beside each other become one, and what is left at the end goes."""
        early = [self.pad(x, -2, -row, row + 1 - count, place=f"{place}.rows") for row in range(count)]
        return self.concat([self._every(rows, count, f"{place}.every") for rows in early], -1, place)

    def spread(self, x: Rows, indices: Indices, count: int, place: str = "spread", axes: Sequence[Axis] = ()) -> Rows:
        """A row becomes so many, of equal parts of these features; they have x's axes, or others."""
        if x.kind != "rows":
            raise RefusedError(f"{place} of what has no time")
        if x.reversed:
            raise RefusedError("rows repeated of a sequence that runs backwards")
        source = x.with_grid((len(indices),), np.asarray(indices))
        node = nodes.Take(np.arange(len(indices)), repeat=count)
        name = self.graph.add(place, node, self.sources(source), len(indices) // count)
        return self._made(x, name, axes or x.axes, steps=tuple(steps * count for steps in x.steps))

    # Elementwise.

    def add(self, a: Operand, b: Operand, place: str = "add") -> Rows:
        """a + b, broadcast."""
        return self._pairwise(a, b, nodes.Add(), place, lambda c: (np.ones(c.shape), c))

    def subtract(self, a: Operand, b: Operand, place: str = "sub") -> Rows:
        """a - b, broadcast."""
        if isinstance(b, Rows):
            return self.add(a, self.multiply(b, -1.0, place), place)
        return self.add(a, [-array for array in self._each(b)], place)

    def multiply(self, a: Operand, b: Operand, place: str = "mul") -> Rows:
        """a * b, broadcast."""
        return self._pairwise(a, b, nodes.Multiply(), place, lambda c: (c, np.zeros(c.shape)))

    def divide(self, a: Operand, b: Operand, place: str = "div") -> Rows:
        """a / b, broadcast, by a constant."""
        if isinstance(b, Rows):
            raise RefusedError("a division by what depends on the input; supported: by constants")
        return self.multiply(a, [1 / array for array in self._each(b)], place)

    def affine(self, x: Rows, weight: Floats, bias: Floats, place: str) -> Rows:
        """weight * x + bias of each feature, both in the shape of the features, float64."""
        weight, bias = weight.reshape(-1), bias.reshape(-1)
        return self._elementwise(
            [x], lambda names, order: self.graph.add_affine(place, weight[order], bias[order], names)
        )

    def activation(self, x: Rows, name: str, *numbers: float, place: str = "") -> Rows:
        """An activation by its name, with alpha and beta."""
        node, place = nodes.Activation(name, *numbers), place or name.lower()
        return self._elementwise([x], lambda names, order: self.graph.add(place, node, names, len(order)))

    def prelu(self, x: Rows, slope: Floats, dim: int | None = 1, place: str = "prelu") -> Rows:
        """x where it is not negative, else slope * x: one slope, one for each of an axis, or of no axis broadcast."""
        slope = np.asarray(slope)
        if dim is not None:
            shape = [1] * len(x.axes)
            if slope.size > 1:
                shape[x.dim(dim)] = slope.size
            slope = slope.reshape(shape)
        slopes = self._features_of(slope, x.axes).reshape(-1)
        return self._elementwise(
            [x], lambda names, order: self.graph.add(place, nodes.PReLU(slopes[order]), names, len(order))
        )

    def _elementwise(self, values: Sequence[Rows], add: Callable[[tuple[str, ...], Indices], str]) -> Rows:
        """What a node makes of tensors of the same axes, feature by feature: `add` gets its sources, and which feature
        of the tensors each of the sources' is.

        Where all of what a node made has only been moved since, alike in all tensors, the sources are as they were
        made, and what is made of them counts as moved.
        """
        x = values[0]
        order = np.argsort(x.indices)
        if all(
            value.kind != "state"
            and len(value.parts) == 1
            and len(order) == self.graph.size(value.parts[0])
            and np.array_equal(value.indices, x.indices)
            for value in values
        ) and np.array_equal(x.indices[order], np.arange(len(order))):
            return replace(x, parts=(add(tuple(value.parts[0] for value in values), order),))
        names = self.sources(x) if len(values) == 1 else tuple(self._one(value, "take") for value in values)
        return self._made(x, add(names, np.arange(len(order))), x.axes)

    # Over the features of each row.

    def over(self, x: Rows, dims: Sequence[int], make: Callable[[int], Any], place: str) -> Rows:
        """A node that works on equal parts of a row, each of which is what these axes span; it is made of how many."""
        rank = len(x.axes)
        dims = [x.dim(dim) for dim in dims]
        for dim in dims:
            x.feature_dim(dim, place)
        order = [dim for dim in range(rank) if dim not in dims] + dims
        moved = x.permuted(order)
        size = math.prod(moved.features[len(moved.features) - len(dims) :])
        name = self.graph.add(place, make(len(x.indices) // size), self.sources(moved), len(x.indices))
        return self._made(moved, name, moved.axes).permuted([order.index(dim) for dim in range(rank)])

    def softmax(self, x: Rows, dim: int, *, log: bool = False, place: str = "softmax") -> Rows:
        """Softmax along an axis of features."""
        return self.over(x, [dim], lambda parts: (nodes.LogSoftmax if log else nodes.Softmax)(parts), place)

    def layer_norm(
        self, x: Rows, dims: Sequence[int], weight: Any, bias: Any, eps: float, place: str = "layer_norm"
    ) -> Rows:
        """(x - mean) / sqrt(variance + eps) over these axes, by weight and bias in their shape."""

        def make(parts: int) -> Any:
            tiled = [
                None if array is None else np.tile(np.asarray(array).reshape(-1), parts) for array in (weight, bias)
            ]
            return nodes.LayerNorm(*tiled, eps=eps, parts=parts)

        return self.over(x, dims, make, place)

    def rms_norm(self, x: Rows, dims: Sequence[int], weight: Any, eps: float, place: str = "rms_norm") -> Rows:
        """x / sqrt(mean of squares + eps) over these axes, by weight in their shape."""

        def make(parts: int) -> Any:
            tiled = None if weight is None else np.tile(np.asarray(weight).reshape(-1), parts)
            return nodes.RMSNorm(tiled, eps=eps, parts=parts)

        return self.over(x, dims, make, place)

    def l2_norm(self, x: Rows, dim: int, eps: float = 1e-12, place: str = "normalize") -> Rows:
        """x / max(its length along an axis, eps)."""
        return self.over(x, [dim], lambda parts: nodes.L2Norm(eps, parts), place)

    def glu(self, x: Rows, dim: int, place: str = "glu") -> Rows:
        """The first half of an axis by the sigmoid of the second."""
        half = x.size_of(x.axes[x.dim(dim)])[0] // 2
        first, second = x.taken(dim, slice(0, half)), x.taken(dim, slice(half, 2 * half))
        both = (*self.sources(first), *self.sources(second))
        return self._made(first, self.graph.add(place, nodes.GLU(), both, len(first.indices)), first.axes)

    def batch_norm(
        self, x: Rows, dim: int, mean: Any, variance: Any, weight: Any, bias: Any, eps: float, place: str = "batch_norm"
    ) -> Rows:
        """(x - mean) / sqrt(variance + eps) * weight + bias along an axis; weight and bias may be None."""
        center, spread = (np.asarray(array, np.float64) for array in (mean, variance))
        factor = (1.0 if weight is None else np.asarray(weight, np.float64)) / np.sqrt(spread + eps)
        offset = (0.0 if bias is None else np.asarray(bias, np.float64)) - center * factor
        shape = [1] * len(x.axes)
        shape[x.dim(dim)] = -1
        return self.affine(
            x, self._features_of(factor.reshape(shape), x.axes), self._features_of(offset.reshape(shape), x.axes), place
        )

    # With weights.

    def linear(self, x: Rows, weight: Floats, bias: Any = None, place: str = "linear") -> Rows:
        """x W^T + b along the last axis, W (O, I)."""
        x.feature_dim(-1, "a matrix")
        weight = np.asarray(weight)
        positions = len(x.indices) // weight.shape[1]
        if x.axes[-1] != weight.shape[1]:
            raise RefusedError(f"a matrix of {weight.shape} after {said(x.axes)}")
        node: nodes.Node = nodes.Dense(weight, bias)
        if positions > 1:
            node = nodes.Window(weight, bias, taps=1, positions=positions)
        name = self.graph.add_matrix(place, node, self.sources(x), positions * len(weight), weight, bias)
        return self._made(x, name, _replaced(x.axes, len(x.axes) - 1, len(weight)))

    def embedding(self, x: Rows, table: Floats, place: str = "embedding") -> Rows:
        """Rows of a table by the tokens of an input."""
        if x.parts != x.parts[:1] or not self.graph.is_input(x.parts[0]) or x.indices.tolist() != [0]:
            raise RefusedError("an embedding of what is computed; supported: of an input of tokens")
        self.graph.has_tokens(x.parts[0], len(table))
        name = self.graph.add(place, nodes.Embedding(table), x.parts, table.shape[1])
        return self._made(x, name, (*x.axes, table.shape[1]))

    def recurrent(self, x: Rows, layer: Callable[[bool], Layer], place: str = "rnn") -> Rows:
        """A layer over (time, batch, features) in either order of the first two, or without batch.

        `layer` makes it, running backwards if asked to.
        """
        if len(x.axes) not in (2, 3) or set(x.axes[:-1]) - {BATCH} != {TIME} or not isinstance(x.axes[-1], int):
            raise RefusedError(
                f"a recurrent layer over {said(x.axes)}; supported: (batch, time, features) in either order"
            )
        if x.kind == "state":
            raise RefusedError("a recurrent layer over a state")
        made = layer(x.reversed)
        size = (made.proj_size or made.hidden_size) * (2 if made.bidirectional else 1)
        if made.input_size != x.axes[-1]:
            raise RefusedError(f"a layer of {made.input_size} inputs over {said(x.axes)}")
        name = self.graph.add(place, made, self.sources(x), size)
        return self._made(x, name, (*x.axes[:-1], size))

    def ends(self, x: Rows, dim: int, place: str = "last") -> Rows:
        """The last row of the first half of the last axis, and the first row of the second, where reverse ends."""
        return self._over_time(x, x.dim(dim), nodes.Last(2), place)

    def reduce(self, x: Rows, kind: str, dims: Sequence[int], *, keepdims: bool = False, place: str = "") -> Rows:
        """The "mean", "sum" or "max" over axes: of features, or over all rows of a sequence."""
        place = place or kind
        dims = sorted(x.dim(dim) for dim in dims)
        inside = [dim for dim in dims if x.axes[dim] != TIME]
        if inside:
            count = math.prod(x.size_of(x.axes[dim])[0] for dim in inside)
            for dim in inside:
                x.feature_dim(dim, f"a {kind}")
            moved = x.permuted([*inside, *(dim for dim in range(len(x.axes)) if dim not in inside)])
            rest = len(x.indices) // count
            node = nodes.MaxPool(count, positions=count) if kind == "max" else nodes.MeanPool(count, positions=count)
            name = self.graph.add(place, node, self.sources(moved), rest)
            axes = tuple(1 if dim in inside else axis for dim, axis in enumerate(x.axes))
            x = self._made(x, name, axes)
            if kind == "sum":
                x = self.multiply(x, float(count), place)
        if len(inside) < len(dims):
            dim = next(dim for dim in dims if dim not in inside)
            x = self._over_time(x, dim, {"mean": nodes.Mean, "sum": nodes.Sum, "max": nodes.Max}[kind](), place)
            x = self.unsqueeze(x, dim)
        return x if keepdims else self.squeeze(x, dims)

    def finish(self, outputs: Sequence[tuple[str, Rows]]) -> ModelSpec:
        """The model whose answers these are, each with its name in the source, or ""."""
        return self.graph.finish([(name, self._answer(x), x.axes) for name, x in outputs])

    # What the others share.

    def sources(self, x: Rows, place: str = "take") -> tuple[str, ...]:
        """The nodes whose features, beside each other, are the tensor's; where it needs one, a node that moves them."""
        if x.kind == "state":
            raise RefusedError(
                "a state that is read otherwise than by a recurrent layer, or in front of what follows it"
            )
        return self.graph.gathered(x.parts, x.indices, np.array(x.constants), place)

    def _made(self, x: Rows, name: str, axes: Sequence[Axis], **changes: Any) -> Rows:
        """What a node makes, in the axes that x had, but for features."""
        size = self.graph.size(name)
        made = replace(x, axes=tuple(axes), parts=(name,), indices=np.arange(size), constants=(), **changes)
        self._times.add(made.steps)
        if math.prod(made.features) != size:
            raise RefusedError(f"{name}: {size} features in axes {said(axes)}")
        return made

    def _sizes(self, given: int | Sizes) -> Sizes:
        return tuple(given) if isinstance(given, tuple) else (given,) * len(self.batch)

    def _each(self, value: Operand) -> list[Floats]:
        """A constant at each probe."""
        each = value if isinstance(value, list) else [value] * len(self.batch)
        return [np.asarray(array, np.float64) for array in each]

    def _features_of(self, value: Operand, axes: Sequence[Axis]) -> Floats:
        """A constant, broadcast to a tensor of these axes, in the shape of its features."""
        found: list[Floats] = []
        for array in self._each(value):
            array = array.reshape((1,) * (len(axes) - array.ndim) + array.shape)
            for dim, axis in enumerate(axes):
                if not isinstance(axis, int):
                    first = array.take([0], dim)
                    if array.shape[dim] > 1 and not (array == first).all():
                        raise RefusedError(f"a constant that varies along {said(axis)}")
                    array = first
            shape = tuple(axis if isinstance(axis, int) else 1 for axis in axes)
            spread = np.broadcast_to(array, shape)
            found.append(spread.reshape([axis for axis in axes if isinstance(axis, int)]))
        if any(not np.array_equal(array, found[0]) for array in found[1:]):
            raise RefusedError("a constant that depends on the number of rows or sequences")
        if any(isinstance(axis, tuple) and any(isinstance(part, int) for part in flat(axis)) for axis in axes):
            raise RefusedError(f"a constant beside {said(axes)}, in which batch and features are merged")
        return found[0]

    def _constant_like(self, value: Operand, like: Rows, dim: int) -> Rows:
        """A constant as a tensor with the axes of another but one."""
        size = self._each(value)[0].shape[dim]
        axes = _replaced(like.axes, dim, size)
        values = self._features_of(value, axes)
        grid = -1 - np.arange(values.size).reshape(values.shape)
        return like.with_grid(axes, grid, constants=tuple(values.reshape(-1).tolist()), parts=like.parts)

    def _pairwise(self, a: Operand, b: Operand, node: Any, place: str, of_constant: Any) -> Rows:
        if not isinstance(a, Rows):
            a, b = b, a
        rank = max(len(a.axes), len(b.axes) if isinstance(b, Rows) else max(array.ndim for array in self._each(b)))
        a = self._with_rank(a, rank)
        if not isinstance(b, Rows):
            shapes = [
                np.broadcast_shapes(shape, array.shape) for shape, array in zip(a.shapes, self._each(b), strict=True)
            ]
            a = a.expanded(shapes)
            weight, bias = of_constant(self._features_of(b, a.axes))
            return self.affine(a, weight, bias, place)
        b = self._with_rank(b, rank)
        try:
            shapes = [np.broadcast_shapes(*pair) for pair in zip(a.shapes, b.shapes, strict=True)]
        except ValueError:
            raise RefusedError(f"{said(a.axes)} beside {said(b.axes)}") from None
        a, b = self._together([_beside(a, b, shapes), _beside(b, a, shapes)], place)
        if a.axes != b.axes:
            raise RefusedError(f"{said(a.axes)} beside {said(b.axes)}")
        return self._elementwise([a, b], lambda names, order: self.graph.add(place, node, names, len(order)))

    def _with_rank(self, x: Rows, rank: int) -> Rows:
        return x.with_grid((1,) * (rank - len(x.axes)) + x.axes, x.indices)

    def _one(self, x: Rows, place: str) -> str:
        """The one node whose features are the tensor's."""
        names = self.sources(x, place)
        if len(names) == 1:
            return names[0]
        return self.graph.add(place, nodes.Take(np.arange(len(x.indices))), names, len(x.indices))

    def _together(self, values: Sequence[Rows], place: str) -> list[Rows]:
        """Tensors that one node reads: of rows and held ones rows, of answers and held ones answers."""
        kinds = {value.kind for value in values}
        if len({value.reversed for value in values if value.kind == "rows"}) > 1:
            raise RefusedError("a sequence beside one that runs backwards")
        if {"rows", "whole"} <= kinds:
            raise RefusedError("an answer of the whole sequence beside rows of a sequence")
        if kinds == {"held", "whole"}:
            return [self._last(value, place) if value.kind == "held" else value for value in values]
        if kinds != {"held", "rows"}:
            if len({value.steps for value in values}) > 1 and "rows" in kinds:
                raise OtherRowsError(
                    f"sequences of {values[0].steps[0]} and of other numbers of rows beside each other"
                )
            return list(values)
        like = next(value for value in values if value.kind == "rows")
        if any(value.steps != like.steps for value in values if value.kind == "rows"):
            raise OtherRowsError(f"sequences of {like.steps[0]} and other numbers of rows beside each other")
        changes = {steps - own for steps, own in zip(like.steps, self.steps, strict=True)}
        if len(changes) > 1:
            raise RefusedError("an input without time beside rows of another rate")
        change = changes.pop()
        made = []
        for value in values:
            if value.kind == "held" and change:
                name = self.graph.add(place, nodes.Rows(0, change), self.sources(value), len(value.indices))
                value = self._made(value, name, value.axes)
            held: Any = {"steps": like.steps, "kind": "rows", "reversed": like.reversed}
            made.append(replace(value, **held) if value.kind == "held" else value)
        return made

    def _after(self, values: Sequence[Operand], dim: int, place: str) -> Rows:
        """A state of some rows, or zeros, and what follows along time: as many rows of zeros in front."""
        rows = [value for value in values if isinstance(value, Rows) and value.kind == "rows"]
        others = [value for value in values if value is not (rows[0] if rows else None)]
        if len(rows) != 1 or rows[0].axes[dim] != TIME:
            raise RefusedError("sequences one after another")
        left = right = 0
        count: Any
        before = True
        for value in values:
            if value is rows[0]:
                before = False
                continue
            if isinstance(value, Rows):
                if value.kind != "state" or not before or not isinstance(value.axes[dim], int):
                    raise RefusedError("sequences one after another")
                count = value.axes[dim]
                self.graph.carries[value.parts[0]] = count
            else:
                arrays = self._each(value)
                if any(array.any() for array in arrays) or len({array.shape[dim] for array in arrays}) > 1:
                    raise RefusedError("constants other than zeros in front of, or after, a sequence")
                count = arrays[0].shape[dim]
            left, right = left + count * before, right + count * (not before)
        assert others
        return self.pad(rows[0], dim, left, right, place=place)

    def _every(self, x: Rows, step: int, place: str) -> Rows:
        """Each step-th row from the first on."""
        if x.reversed:
            raise RefusedError("each other row of a sequence that runs backwards")
        name = self.graph.add(place, nodes.MaxPool(1, stride=step), self.sources(x), len(x.indices))
        return self._made(x, name, x.axes, steps=tuple(-(-steps // step) for steps in x.steps))

    def _end(self, x: Rows, dim: int, *, first: bool, place: str) -> Rows:
        if not first:
            return self._over_time(x, dim, nodes.Last(), place)
        # Of two directions the second answers with its first row.
        both = self.graph.add(place, nodes.Last(2), (*self.sources(x), *self.sources(x)), 2 * len(x.indices))
        size = len(x.indices)
        half = replace(x, parts=(both,), indices=np.arange(size, 2 * size), constants=())
        return replace(half, axes=_without(x.axes, dim), kind="whole", reversed=False)

    def _over_time(self, x: Rows, dim: int, node: Any, place: str) -> Rows:
        if x.kind != "rows":
            raise RefusedError(f"{place} over time of what has no time")
        name = self.graph.add(place, node, self.sources(x), len(x.indices))
        return self._made(x, name, _without(x.axes, dim), kind="whole", reversed=False)

    def _last(self, x: Rows, place: str) -> Rows:
        name = self.graph.add(place, nodes.Last(), self.sources(x), len(x.indices))
        return self._made(x, name, x.axes, kind="whole")

    def _answer(self, x: Rows) -> str:
        """The node that answers with a tensor."""
        if x.kind == "state":
            raise RefusedError("a state as an answer")
        if x.reversed:
            raise RefusedError("an answer that runs backwards; supported: one that is turned again")
        if any(isinstance(axis, tuple) for axis in x.axes):
            raise RefusedError(f"an answer of axes {said(x.axes)}, in which some are merged")
        if x.kind == "held" and self.graph.has_time:
            x = self._last(x, "last")
        name = self._one(x, "output")
        return (
            self.graph.add("output", nodes.Take(np.arange(len(x.indices))), (name,), len(x.indices))
            if (self.graph.is_input(name))
            else name
        )


def _beside(x: Rows, other: Rows, shapes: Shapes) -> Rows:
    """Broadcast along features to the other's; a batch, and a time of which x is held, it has not."""
    axes, grid, place = list(x.axes), x.grid, 0
    for dim, (own, axis) in enumerate(zip(x.axes, other.axes, strict=True)):
        if own == 1 and axis != 1:
            if isinstance(axis, int):
                axes[dim], grid = axis, grid.repeat(axis, place)
            elif axis == TIME and x.kind == "held":
                axes[dim], grid = TIME, grid.squeeze(place)
                place -= 1
            else:
                raise RefusedError(f"{said(x.axes)} beside {said(other.axes)}")
        place += sum(isinstance(part, int) for part in flat((own,)))
    return x.with_grid(axes, grid)


def _without(axes: Sequence[Axis], dim: int) -> tuple[Axis, ...]:
    return tuple(axis for place, axis in enumerate(axes) if place != dim)


def _replaced(axes: Sequence[Axis], dim: int, by: Axis) -> tuple[Axis, ...]:
    return tuple(by if place == dim else axis for place, axis in enumerate(axes))
