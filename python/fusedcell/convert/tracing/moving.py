"""What moves symbolic tensors, and all that nodes are made with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ... import nodes
from .graph import Graph
from .rows import (
    BEFORE_ITS_ROWS,
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


class Mover:
    """Makes a model's nodes of what moves symbolic tensors.

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
            x = x.with_grid(replaced(x.axes, dim, grid.shape[place_of]), grid, constants=(*x.constants, value))
            return x.taken(dim, slice(max(-left, 0), grid.shape[place_of] - max(-right, 0)))
        numpy_mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
        if min(left, right) < 0 or max(left, right) > size - (mode == "reflect"):
            raise RefusedError(f"{mode} padding of {left, right} of {size}")
        return x.taken(dim, np.pad(np.arange(size), (left, right), numpy_mode))  # type: ignore[call-overload] # one of NumPy's names

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

    # What all nodes are made with.

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
        axes = replaced(like.axes, dim, size)
        values = self._features_of(value, axes)
        grid = -1 - np.arange(values.size).reshape(values.shape)
        return like.with_grid(axes, grid, constants=tuple(values.reshape(-1).tolist()), parts=like.parts)

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
            raise RefusedError(BEFORE_ITS_ROWS)
        if kinds == {"held", "whole"}:
            return [self._last(value, place) if value.kind == "held" else value for value in values]
        sequences = [value for value in values if value.kind == "rows"]
        if any(value.steps != sequences[0].steps for value in sequences):
            raise OtherRowsError(f"sequences of {sequences[0].steps[0]} and other numbers of rows beside each other")
        if kinds != {"held", "rows"}:
            return list(values)
        like = sequences[0]
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
            else:
                arrays = self._each(value)
                if any(array.any() for array in arrays) or len({array.shape[dim] for array in arrays}) > 1:
                    raise RefusedError("constants other than zeros in front of, or after, a sequence")
                count = arrays[0].shape[dim]
            left, right = left + count * before, right + count * (not before)
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


def _without(axes: Sequence[Axis], dim: int) -> tuple[Axis, ...]:
    return tuple(axis for place, axis in enumerate(axes) if place != dim)


def replaced(axes: Sequence[Axis], dim: int, by: Axis) -> tuple[Axis, ...]:
    """The axes with another in the place of one."""
    return tuple(by if place == dim else axis for place, axis in enumerate(axes))
