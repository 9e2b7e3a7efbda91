"""Operations of a source on symbolic tensors, as nodes of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ... import nodes
from ...layers import Layer
from ..spec import ModelSpec
from .moving import Mover, Operand, replaced
from .rows import BATCH, BEFORE_ITS_ROWS, TIME, Floats, Indices, RefusedError, Rows, flat, said

_LARGEST = float(np.finfo(np.float32).max)
_STEEP = 2.0**127  # by which the least normal number comes to 1 or more


class RowTracer(Mover):
    """Makes a model's nodes of what is done to symbolic tensors, row by row."""

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
        """a / b, broadcast, by a constant; of a sum over time by the number of its rows, the mean."""
        if isinstance(b, Rows):
            raise RefusedError("a division by what depends on the input; supported: by constants")
        each = self._each(b)
        if isinstance(a, Rows) and all((array == steps).all() for array, steps in zip(each, a.steps, strict=True)):
            mean = self.mean_of_sum(a, place)
            if mean is not None:
                return mean
        return self.multiply(a, [1 / array for array in each], place)

    def quotient(self, a: Operand, b: Rows, place: str = "div") -> Rows:
        """a / b, broadcast, as a * sign(b) * exp(-log |b|), in which a division by 0 is NaN."""
        logarithm = self.activation(self.activation(b, "Abs", place=f"{place}.abs"), "Log", place=f"{place}.log")
        inverse = self.activation(self.multiply(logarithm, -1.0, place), "Exp", place=f"{place}.exp")
        return self.multiply(a, self.multiply(self.sign(b, f"{place}.sign"), inverse, place), place)

    def sign(self, x: Rows, place: str = "sign") -> Rows:
        """-1, 0 or 1."""
        half = self.activation(x, "HardSigmoid", _STEEP, 0.5, place=place)
        return self.add(self.multiply(half, 2.0, place), -1.0, place)

    def above_zero(self, x: Rows, place: str = "step") -> Rows:
        """1 where x > 0, else 0; one node, whose factor no matrix before it can take over and overflow."""
        return self.activation(x, "HardSigmoid", _STEEP, 0.0, place=place)

    def maximum(self, a: Operand, b: Operand, place: str = "maximum") -> Rows:
        """The larger at each place, broadcast."""
        a, b = (a, b) if isinstance(a, Rows) else (b, a)
        if isinstance(b, int | float):
            return self.activation(a, "Clip", float(b), _LARGEST, place=place)
        if isinstance(b, Rows):
            a, b = self._aligned(a, b, place)
        else:
            arrays = self._each(b)
            shapes = [np.broadcast_shapes(shape, array.shape) for shape, array in zip(a.shapes, arrays, strict=True)]
            a, b = a.expanded(shapes), list(map(np.broadcast_to, arrays, shapes))
        return self.reduce(self.stack([a, b], -1, place), "max", [-1], place=place)

    def minimum(self, a: Operand, b: Operand, place: str = "minimum") -> Rows:
        """The smaller at each place, broadcast."""

        def turned(value: Operand) -> Operand:
            if isinstance(value, Rows):
                return self.multiply(value, -1.0, place)
            return -value if isinstance(value, int | float) else [-array for array in self._each(value)]

        return self.multiply(self.maximum(turned(a), turned(b), place), -1.0, place)

    def chosen(self, mask: Operand, a: Operand, b: Operand, place: str = "where") -> Rows:
        """a where the mask is 1, b where it is 0, broadcast; of constants that are infinite the largest of float32."""
        outside = (
            self.subtract(1.0, mask, place) if isinstance(mask, Rows) else [1 - array for array in self._each(mask)]
        )

        def kept(value: Operand, keep: Operand) -> Operand:
            value = value if isinstance(value, Rows) else [c.clip(-_LARGEST, _LARGEST) for c in self._each(value)]
            if isinstance(value, Rows) or isinstance(keep, Rows):
                return self.multiply(value, keep, place)
            return [array * by for array, by in zip(value, self._each(keep), strict=True)]

        return self.add(kept(a, mask), kept(b, outside), place)

    def compared(self, a: Operand, b: Operand, kind: str, place: str = "compare") -> Rows:
        """1 where a is "gt", "lt", "ge", "le", "eq" or "ne" b, else 0, broadcast."""
        a, b = (b, a) if kind in ("lt", "ge") else (a, b)
        difference = self.subtract(a, b, place)
        if kind in ("ne", "eq"):
            difference = self.activation(difference, "Abs", place=place)
        truth = self.above_zero(difference, place)
        return self.subtract(1.0, truth, place) if kind in ("ge", "le", "eq") else truth

    def logical(self, a: Operand, b: Operand, kind: str, place: str = "logical") -> Rows:
        """a "and", "or" or "xor" b, of zeros and ones, broadcast."""
        both = self.multiply(a, b, place)
        if kind == "and":
            return both
        both = self.multiply(both, 2.0, place) if kind == "xor" else both
        return self.subtract(self.add(a, b, place), both, place)

    def function(self, x: Rows, name: str, place: str = "") -> Rows:
        """log1p, log2, log10, exp2 or expm1."""
        if name == "log1p":
            x = self.add(x, 1.0, place or name)
        elif name == "exp2":
            x = self.multiply(x, math.log(2), place or name)
        made = self.activation(x, "Log" if name.startswith("log") else "Exp", place=place or name)
        if name == "expm1":
            return self.add(made, -1.0, place or name)
        return self.multiply(made, 1 / math.log(int(name[3:])), place or name) if name in ("log2", "log10") else made

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

    def group_norm(self, x: Rows, groups: int, weight: Any, bias: Any, eps: float, place: str = "group_norm") -> Rows:
        """Of (batch, channels, ...) the layer norm of each group of channels with all behind, by weight and bias."""
        if x.has_time and x.axes[0] != (BATCH, TIME):
            raise RefusedError("a norm over all rows of a sequence; supported: norms of each row")
        x.feature_dim(1, place)
        size = x.shapes[0][1]
        apart = x.reshaped([(shape[0], groups, size // groups, *shape[2:]) for shape in x.shapes])
        made = self.layer_norm(apart, list(range(2, len(apart.axes))), None, None, eps, place).reshaped(x.shapes)
        return self.batch_norm(made, 1, np.zeros(size), np.ones(size), weight, bias, 0.0, place)

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
        return self._made(x, name, replaced(x.axes, len(x.axes) - 1, len(weight)))

    def embedding(self, x: Rows, table: Floats, place: str = "embedding") -> Rows:
        """Rows of a table by the tokens of an input."""
        is_input = len(x.parts) == 1 and self.graph.is_input(x.parts[0])
        axes = flat(self.graph.axes(x.parts[0])) if is_input else []
        if any(isinstance(axis, int) and axis > 1 for axis in axes):
            raise RefusedError(
                f"an embedding of the input {x.parts[0]!r} of axes {said(tuple(axes))}; supported: tokens without an "
                "axis of features, each column an input of its own"
            )
        if not is_input or x.indices.tolist() != [0]:
            raise RefusedError("an embedding of what is computed; supported: of an input of tokens, as they are")
        self.graph.has_tokens(x.parts[0], len(table))
        name = self.graph.add(place, nodes.Embedding(table), x.parts, table.shape[1])
        return self._made(x, name, (*x.axes, table.shape[1]))

    def recurrent(
        self, x: Rows, layer: Callable[[bool], Layer], place: str = "rnn", positions: int | None = None
    ) -> Rows:
        """A layer over (time, batch, features) in either order of the first two, or without batch.

        `layer` makes it, running backwards if asked to. With `positions`, the axis of so many features before the last
        is the one that it goes along, in each row by itself.
        """
        rows = set(flat(x.axes[:-1])) - {BATCH, positions}
        ranks = (2, 3) if positions is None else (3,)
        if len(x.axes) not in ranks or rows != {TIME} or not isinstance(x.axes[-1], int):
            raise RefusedError(
                f"a recurrent layer over {said(x.axes)}; supported: (batch, time, features) in either order"
            )
        if x.kind == "state":
            raise RefusedError("a recurrent layer over a state")
        made = layer(x.reversed and positions is None)
        if made.input_size != x.axes[-1]:
            raise RefusedError(f"a layer of {made.input_size} inputs over {said(x.axes)}")
        node = made if positions is None else nodes.Inside(made, positions)
        name = self.graph.add(place, node, self.sources(x), made.output_size * (positions or 1))
        return self._made(x, name, (*x.axes[:-1], made.output_size))

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

    def mean_of_sum(self, x: Rows, place: str = "mean") -> Rows | None:
        """The mean of the rows whose sum a tensor is, or None if it is no sum over time."""
        found = [self.graph.in_place_of(part, nodes.Sum, nodes.Mean(), place) for part in x.parts]
        return None if None in found or (x.indices < 0).any() else replace(x, parts=tuple(map(str, found)))

    def finish(self, outputs: Sequence[tuple[str, Rows]]) -> ModelSpec:
        """The model whose answers these are, each with its name in the source, or ""."""
        answers = []
        for place, (name, x) in enumerate(outputs):
            try:
                answers.append((name, self._answer(x), x.axes))
            except RefusedError as error:
                error.answer = place
                raise
        return self.graph.finish(answers)

    def _pairwise(self, a: Operand, b: Operand, node: Any, place: str, of_constant: Any) -> Rows:
        if not isinstance(a, Rows):
            a, b = b, a
        if not isinstance(b, Rows):
            a = self._with_rank(a, max(len(a.axes), *(array.ndim for array in self._each(b))))
            shapes = [
                np.broadcast_shapes(shape, array.shape) for shape, array in zip(a.shapes, self._each(b), strict=True)
            ]
            a = a.expanded(shapes)
            weight, bias = of_constant(self._features_of(b, a.axes))
            return self.affine(a, weight, bias, place)
        a, b = self._aligned(a, b, place)
        return self._elementwise([a, b], lambda names, order: self.graph.add(place, node, names, len(order)))

    def _aligned(self, a: Rows, b: Rows, place: str) -> list[Rows]:
        """Both of the same axes, broadcast to each other."""
        rank = max(len(a.axes), len(b.axes))
        a, b = self._with_rank(a, rank), self._with_rank(b, rank)
        made = self._together([_beside(a, b), _beside(b, a)], place)
        if made[0].axes != made[1].axes:
            raise RefusedError(f"{said(made[0].axes)} beside {said(made[1].axes)}")
        return made

    def _with_rank(self, x: Rows, rank: int) -> Rows:
        return x.with_grid((1,) * (rank - len(x.axes)) + x.axes, x.indices)

    def _answer(self, x: Rows) -> str:
        """The node that answers with a tensor."""
        if x.kind == "state":
            raise RefusedError("a state as an answer")
        if x.reversed:
            raise RefusedError("an answer that runs backwards; supported: one that is turned again")
        if any(isinstance(axis, tuple) for axis in x.axes):
            raise RefusedError(
                f"an answer of axes {said(x.axes)}, in which some are merged, as by a flatten of rows of a sequence"
            )
        if x.kind == "held" and self.graph.has_time:
            x = self._last(x, "last")
        name = self._one(x, "output")
        return (
            self.graph.add("output", nodes.Take(np.arange(len(x.indices))), (name,), len(x.indices))
            if (self.graph.is_input(name))
            else name
        )


def _beside(x: Rows, other: Rows) -> Rows:
    """Broadcast along features to the other's; a batch, and a time of which x is held, it has not."""
    axes, grid, place = list(x.axes), x.grid, 0
    for dim, (own, axis) in enumerate(zip(x.axes, other.axes, strict=True)):
        if own == 1 and axis != 1:
            if isinstance(axis, int):
                axes[dim], grid = axis, grid.repeat(axis, place)
            elif axis == TIME and x.kind == "held":
                axes[dim], grid = TIME, grid.squeeze(place)
                place -= 1
            elif axis == TIME and x.kind == "whole":
                raise RefusedError(BEFORE_ITS_ROWS)
            else:
                raise RefusedError(f"{said(x.axes)} beside {said(other.axes)}")
        place += sum(isinstance(part, int) for part in flat((own,)))
    return x.with_grid(axes, grid)
