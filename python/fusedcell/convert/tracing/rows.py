"""Symbolic tensors, and the operations on them that only move data and make no nodes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, Union

import numpy as np
import numpy.typing as npt

BATCH, TIME = "batch", "time"
Axis: TypeAlias = Union[str, int, "tuple[Axis, ...]"]
Indices: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[Any]
Sizes: TypeAlias = tuple[int, ...]  # one for each probe
Shapes: TypeAlias = "Sequence[Sequence[int]]"  # likewise

_MOST_FEATURES = 2**22


class RefusedError(Exception):
    """What a model cannot do, in words; readers say where in their source it is asked for."""

    answer: int | None = None  # the place of the answer that it is about, where it is about one


# A model has all rows of a sequence before its answer.
BEFORE_ITS_ROWS = (
    "the answer of a whole sequence, such as its mean or its last row, for rows of a sequence; supported: what each "
    "row makes of those before it, or of a few after it"
)


class OtherAxisError(RefusedError):
    """What goes along another axis than time, as the axes of the inputs are taken."""


class OtherRowsError(RefusedError):
    """Sequences whose numbers of rows do not fit each other, which other numbers of the inputs' might make fit."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A tensor of the source: features of rows, and how its axes are made of batch, time and features.

    - axes: each BATCH, TIME, a number of features, or a tuple of those where the source has merged them. The features
      of a row are in C order of the numbers
    - parts: the nodes and inputs whose features it is made of
    - indices: which of the parts' features, beside each other, each of its own is; -1 - i is the constant i
    - batch, steps: sequences and rows, at each probe
    - kind: "rows" of a sequence; "held", the same at every row; "whole", one answer of a whole sequence; "state", an
      input that carries a state from call to call
    - reversed: whether the first row is the sequence's last
    """

    axes: tuple[Axis, ...]
    parts: tuple[str, ...]
    indices: Indices
    batch: Sizes
    steps: Sizes
    kind: str = "rows"
    reversed: bool = False
    constants: tuple[float, ...] = ()

    @property
    def sizes(self) -> list[Sizes]:
        """How long each axis is, at each probe."""
        return [self.size_of(axis) for axis in self.axes]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The tensor's shape at each probe."""
        return [tuple(sizes[probe] for sizes in self.sizes) for probe in range(len(self.batch))]

    @property
    def features(self) -> tuple[int, ...]:
        """The sizes of the axes of features, in order."""
        return tuple(part for part in flat(self.axes) if isinstance(part, int))

    @property
    def grid(self) -> Indices:
        """The indices in the shape of the features."""
        return self.indices.reshape(self.features)

    @property
    def has_time(self) -> bool:
        """Whether one of its axes is, or has in it, time."""
        return TIME in flat(self.axes)

    def size_of(self, axis: Axis) -> Sizes:
        """How long an axis is, at each probe."""
        if isinstance(axis, tuple):
            return tuple(math.prod(sizes) for sizes in zip(*map(self.size_of, axis), strict=True))
        if isinstance(axis, int):
            return (axis,) * len(self.batch)
        return self.batch if axis == BATCH else self.steps

    def dim(self, dim: int) -> int:
        """An axis counted from the front."""
        if not -len(self.axes) <= dim < len(self.axes):
            raise RefusedError(f"axis {dim} of a tensor of {len(self.axes)} axes")
        return dim % len(self.axes)

    def feature_dim(self, dim: int, what: str) -> int:
        """Which axis of the grid an axis is; RefusedError, saying what is asked of it, for time or batch."""
        dim = self.dim(dim)
        if not isinstance(self.axes[dim], int):
            raise RefusedError(f"{what} along {said(self.axes[dim])}; supported: along features")
        return len([part for part in flat(self.axes[:dim]) if isinstance(part, int)])

    def with_grid(self, axes: Iterable[Axis], grid: Indices, **changes: Any) -> Rows:
        """Other axes, and other features, whose grid has their shape."""
        check_features(grid.size)
        return replace(self, axes=tuple(axes), indices=np.ascontiguousarray(grid).reshape(-1), **changes)

    def permuted(self, order: Sequence[int]) -> Rows:
        """The axes in another order, as ``numpy.transpose`` has it."""
        order = [self.dim(dim) for dim in order]
        if sorted(order) != list(range(len(self.axes))):
            raise RefusedError(f"a permutation {tuple(order)} of {len(self.axes)} axes")
        axes = [self.axes[dim] for dim in order]
        starts = [sum(isinstance(part, int) for part in flat(self.axes[:dim])) for dim in order]
        counts = [sum(isinstance(part, int) for part in flat((axis,))) for axis in axes]
        moved = [start + i for start, count in zip(starts, counts, strict=True) for i in range(count)]
        return self.with_grid(axes, self.grid.transpose(moved))

    def moved(self, dim: int, to: int) -> Rows:
        """One axis elsewhere, the others in order."""
        order = list(range(len(self.axes)))
        order.insert(range(len(order))[to], order.pop(self.dim(dim)))
        return self.permuted(order)

    def reshaped(self, shapes: Shapes) -> Rows:
        """Another shape, one for each probe, as ``numpy.reshape`` has it; batch and time stay whole, or merge."""
        wanted = list(zip(*self._completed(shapes), strict=True))
        parts = flat(self.axes)
        axes: list[Axis] = []
        while wanted:
            group, taken = [wanted.pop(0)], [parts.pop(0)] if parts else []
            if self._product(taken) != group[0] and all(size == 1 for size in group[0]):
                axes.append(1)
                parts = taken + parts
                continue
            while (have := self._product(taken)) != (want := _product(group, len(self.batch))):
                smaller = all(a <= b for a, b in zip(have, want, strict=True))
                if not (parts if smaller else wanted):
                    raise self._cannot_be(shapes)
                if smaller:
                    taken.append(parts.pop(0))
                else:
                    group.append(wanted.pop(0))
            kept = [part for part in taken if part != 1]
            if all(isinstance(part, int) for part in taken) and all(len(set(sizes)) == 1 for sizes in group):
                axes += [sizes[0] for sizes in group]
            elif len(group) > 1:
                raise self._cannot_be(shapes)
            else:
                axes.append(kept[0] if len(kept) == 1 else tuple(kept))
        if any(part != 1 for part in parts):
            raise self._cannot_be(shapes)
        return self.with_grid(axes, self.indices)

    def _cannot_be(self, shapes: Shapes) -> RefusedError:
        return RefusedError(f"a reshape of {said(self.axes)} to {tuple(shapes[0])} that mixes batch, time and features")

    def _completed(self, shapes: Shapes) -> list[tuple[int, ...]]:
        found = []
        for have, shape in zip(self.shapes, shapes, strict=True):
            rest = math.prod(size for size in shape if size != -1)
            free = math.prod(have) // rest if rest else 0
            found.append(tuple(free if size == -1 else size for size in shape))
            if math.prod(found[-1]) != math.prod(have):
                raise RefusedError(f"a reshape of {have} to {tuple(shape)}, which has another size")
        if len({len(shape) for shape in found}) > 1:
            raise RefusedError("a reshape whose number of axes depends on the sizes")
        return found

    def _product(self, axes: Sequence[Axis]) -> Sizes:
        return _product([self.size_of(axis) for axis in axes], len(self.batch))

    def taken(self, dim: int, which: Any) -> Rows:
        """Of an axis of features what NumPy's indexing takes: a slice, an array of integers or one."""
        place = self.feature_dim(dim, "indexing")
        if np.ndim(which):
            check_features(len(self.indices) // self.features[place] * len(which))
        try:
            grid = self.grid[(slice(None),) * place + (which,)]
        except IndexError as error:
            raise RefusedError(f"an index out of range: {error}") from error
        axes = list(self.axes)
        axes[self.dim(dim)] = grid.shape[place] if grid.ndim == len(self.features) else 1
        if grid.ndim < len(self.features):
            del axes[self.dim(dim)]
        return self.with_grid(axes, grid)

    def expanded(self, shapes: Shapes, times: Collection[Sizes] = ()) -> Rows:
        """Broadcast to a shape, one for each probe, as ``numpy.broadcast_to`` has it; -1 keeps a size.

        What is held gets time where an axis becomes as long as one of `times`.
        """
        new = len(shapes[0]) - len(self.axes)
        if new < 0:
            raise RefusedError(f"{said(self.axes)} expanded to fewer axes")
        x = self.with_grid((1,) * new + self.axes, self.grid.reshape((1,) * new + self.features))
        axes, grid, place, changes = list(x.axes), x.grid, 0, {}
        for dim, axis in enumerate(x.axes):
            wanted = tuple(shape[dim] for shape in shapes)
            if axis == 1 and set(wanted) - {1, -1}:
                if wanted in times and self.kind == "whole":
                    raise RefusedError(BEFORE_ITS_ROWS)
                if wanted in times and self.kind == "held" and not x.has_time:
                    axes[dim], changes = TIME, {"steps": wanted}
                    grid = grid.squeeze(place)
                    continue
                if len(set(wanted)) > 1:
                    raise RefusedError(f"{said(self.axes)} expanded along batch or time to {tuple(shapes[0])}")
                axes[dim] = wanted[0]
                check_features(grid.size * wanted[0])
                grid = grid.repeat(wanted[0], place)
            elif set(wanted) != {-1} and wanted != x.size_of(axis):
                raise RefusedError(f"{said(self.axes)} expanded to {tuple(shapes[0])}")
            place += sum(isinstance(part, int) for part in flat((axis,)))
        return x.with_grid(axes, grid, **changes)

    def flipped(self, dims: Sequence[int]) -> Rows:
        """The axes backwards."""
        x = self
        for dim in dims:
            if x.axes[x.dim(dim)] == TIME:
                x = replace(x, reversed=not x.reversed)
            else:
                x = x.with_grid(x.axes, np.flip(x.grid, x.feature_dim(dim, "a flip")))
        return x


def check_features(count: int) -> None:
    """Refuses rows of too many features, before there is memory for them."""
    if not 1 <= count <= _MOST_FEATURES:
        raise RefusedError(f"rows of {count} features; supported: 1 to {_MOST_FEATURES}")


def flat(axes: Iterable[Axis]) -> list[Axis]:
    """The axes with the merged ones apart."""
    return [part for axis in axes for part in (flat(axis) if isinstance(axis, tuple) else [axis])]


def said(axis: Any) -> str:
    """Axes in words, for errors."""
    if isinstance(axis, tuple):
        return "(" + ", ".join(map(said, axis)) + ")"
    return str(axis)


def _product(sizes: Sequence[Sizes], probes: int) -> Sizes:
    return tuple(math.prod(size[probe] for size in sizes) for probe in range(probes))
