"""What moves data, and what changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ...tracing import TIME, RefusedError, Rows
from ...tracing.moving import check_ends
from .elementwise import not_zero
from .interpreter import OPERATIONS, Args, Interpreter, ints, operation
from .loops import steps_of
from .values import Final


# What changes nothing.
@operation("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "to", "_to_copy", "type_as", "feature_dropout",
            "float")  # fmt: skip
def _same(interpreter: Interpreter, a: Args, place: str) -> Any:
    before, after = (
        getattr(node.meta.get("val"), "dtype", None) for node in (interpreter.node.args[0], interpreter.node)
    )
    x, is_truth = getattr(a, "self", getattr(a, "input", None)), after == interpreter.torch.bool
    if not isinstance(x, Rows):
        return x
    if is_truth and before != after:
        return not_zero(interpreter, x, place)
    if before is not None and after is not None and before.is_floating_point and not after.is_floating_point:
        raise RefusedError(f"a change of {before} to {after}, which rounds")
    return x


@operation("dropout", "alpha_dropout", "feature_alpha_dropout")
def _dropout(interpreter: Interpreter, a: Args, place: str) -> Any:
    if a.train and a.p > 0:
        raise RefusedError(f"dropout of {a.p} in training mode; supported: module.eval()")
    return a.input


# What moves data.
@operation("view", "reshape", "_unsafe_view", "view_as", "reshape_as")
def _view(interpreter: Interpreter, a: Args, place: str) -> Any:
    shape = getattr(a, "size", getattr(a, "shape", None))
    shape = list(shape if shape is not None else a.other.shapes[0])
    if not isinstance(a.self, Rows):
        return a.self.reshape(shape)
    x: Rows = a.self
    count = math.prod(x.shapes[0])
    free = [count // -math.prod(shape) if each == -1 else each for each in shape]
    if x.axes[-1:] == (TIME,) and free[:-2] == list(x.shapes[0][:-1]):
        x = interpreter.tracer.unsqueeze(x, -1)  # samples, as rows of one
    is_merged = x.axes[-2:-1] == (TIME,) and free[:-1] == list(x.shapes[0][:-2])
    free += [1] if is_merged else []
    if x.axes[-2:-1] == (TIME,) and free[:-2] == list(x.shapes[0][:-2]) and x.kind == "rows" and not x.reversed:
        # Rows that become one, and one that becomes several: (..., T, C) to (..., T / k, k * C) and back.
        made = _rejoined(interpreter, x, free[-2], free[-1], place)
        if made is not None:
            return interpreter.tracer.squeeze(made, [-1]) if is_merged else made
    return a.self.reshaped([shape])


def _rejoined(interpreter: Interpreter, x: Rows, count: int, width: int, place: str) -> Rows | None:
    """As so many rows of so many features each; None where that is none of what rows can become."""
    steps, size = x.shapes[0][-2:]
    if count * width != steps * size or count in (1, steps):
        return None
    if steps % count == 0:
        return interpreter.tracer.joined(x, steps // count, place)
    each = count // steps
    return interpreter.tracer.spread(x, x.indices, each, place, (*x.axes[:-1], width)) if count % steps == 0 else None


@operation("repeat", "tile")
def _repeat(interpreter: Interpreter, a: Args, place: str) -> Any:
    x: Rows = a.self
    counts = list(a.repeats if hasattr(a, "repeats") else a.dims)
    counts = [1] * (len(x.axes) - len(counts)) + counts
    while len(x.axes) < len(counts):
        x = interpreter.tracer.unsqueeze(x, 0)
    shape = [count if axis == 1 else -1 for axis, count in zip(x.axes, counts, strict=True)]
    for dim, count in enumerate(counts):
        if count != 1 and x.axes[dim] != 1:
            x = x.taken(dim, np.tile(np.arange(x.shapes[0][dim]), count))
    return interpreter.tracer.expand(x, [shape], place)


@operation("repeat_interleave")
def _repeat_interleave(interpreter: Interpreter, a: Args, place: str) -> Any:
    if not isinstance(a.repeats, int) or a.dim is None:
        raise RefusedError("repeat_interleave by a tensor, or of all axes")
    return _repeated(interpreter, a.self, a.dim, a.repeats, place)


@operation("upsample_nearest1d", "upsample_nearest2d")
def _upsampled(interpreter: Interpreter, a: Args, place: str) -> Any:
    x: Rows = a.input if hasattr(a, "input") else a.self
    count = len(x.axes) - 2
    factors = getattr(a, "scale_factors", None)
    for place_of in range(count):
        dim = len(x.axes) - count + place_of
        size = x.shapes[0][dim]
        factor = factors[place_of] if factors else a.output_size[place_of] / size
        if factor != int(factor):
            raise RefusedError(f"an upsampling by {factor}; supported: by whole numbers")
        x = _repeated(interpreter, x, dim, int(factor), place)
    return x


def _repeated(interpreter: Interpreter, x: Rows, dim: int, count: int, place: str) -> Rows:
    dim = x.dim(dim)
    if x.axes[dim] == TIME:
        return interpreter.tracer.spread(x, np.tile(x.indices, count), count, place)
    size = x.size_of(x.axes[dim])[0]
    return x.taken(dim, np.repeat(np.arange(size), count))


@operation("flatten")
def _flatten(interpreter: Interpreter, a: Args, place: str) -> Any:
    (shape,), first, last = a.self.shapes, a.self.dim(a.start_dim), a.self.dim(a.end_dim)
    size = (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
    return _view(interpreter, Args(self=a.self, size=size), place)


@operation("unflatten")
def _unflatten(interpreter: Interpreter, a: Args, place: str) -> Any:
    (shape,), dim = a.self.shapes, a.self.dim(a.dim)
    sizes = [size if size != -1 else shape[dim] // -math.prod(a.sizes) for size in a.sizes]
    return _view(interpreter, Args(self=a.self, size=(*shape[:dim], *sizes, *shape[dim + 1 :])), place)


@operation("permute", "transpose", "swapaxes", "swapdims", "t", "mT", "movedim", "moveaxis")
def _permute(interpreter: Interpreter, a: Args, place: str) -> Any:
    if hasattr(a, "dims"):
        return a.self.permuted(a.dims)
    order = list(range(len(a.self.axes)))
    if hasattr(a, "source"):
        sources, targets = ints(a.source), [a.self.dim(dim) for dim in ints(a.destination)]
        rest = iter([dim for dim in order if dim not in [a.self.dim(source) for source in sources]])
        placed = dict(zip(targets, [a.self.dim(source) for source in sources], strict=True))
        return a.self.permuted([placed[dim] if dim in placed else next(rest) for dim in order])
    first, second = (
        getattr(a, "dim0", getattr(a, "axis0", max(0, len(order) - 2))),
        getattr(a, "dim1", getattr(a, "axis1", len(order) - 1)),
    )
    first, second = a.self.dim(first), a.self.dim(second)
    order[first], order[second] = order[second], order[first]
    return a.self.permuted(order)


@operation("numpy_T")
def _reversed(interpreter: Interpreter, a: Args, place: str) -> Any:
    return a.self.permuted(range(len(a.self.axes))[::-1])


@operation("unsqueeze")
def _unsqueeze(interpreter: Interpreter, a: Args, place: str) -> Any:
    made: Rows = interpreter.tracer.unsqueeze(a.self, a.dim)
    return made


@operation("squeeze")
def _squeeze(interpreter: Interpreter, a: Args, place: str) -> Any:
    dims = ints(a.dim) if hasattr(a, "dim") else range(len(a.self.axes))
    return interpreter.tracer.squeeze(a.self, dims)


@operation("cat", "concat", "concatenate")
def _cat(interpreter: Interpreter, a: Args, place: str) -> Any:
    tensors = [interpreter.constant(value) for value in a.tensors]
    first, last = tensors[0], tensors[-1]
    if len(tensors) == 2 and interpreter.is_input(first) and isinstance(last, Rows) and last.axes[a.dim] == TIME:
        # Rows that the module is given of what came before, as caches of causal convolutions.
        carried = interpreter.carried(first)
        count = first.size_of(first.axes[a.dim])[0]
        made = interpreter.tracer.concat([replace(first, kind="state"), last], a.dim, place)
        interpreter.caches[made.parts] = (carried, count)
        return made
    return interpreter.tracer.concat(tensors, a.dim, place)


@operation("stack")
def _stack(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.stack([interpreter.constant(value) for value in a.tensors], a.dim, place)


@operation("slice")
def _slice(interpreter: Interpreter, a: Args, place: str) -> Any:
    return _sliced(interpreter, a.self, a.dim, a.start, a.end, a.step, place)


def _sliced(interpreter: Interpreter, x: Rows, dim: int, start: Any, end: Any, step: int, place: str) -> Any:
    dim = x.dim(dim)
    size = x.shapes[0][dim]
    first, last, _ = slice(start, end, step).indices(size)
    if x.axes[dim] == TIME:
        check_ends((start or 0,), (size if end is None else end,), (size,))
    if x.axes[dim] == TIME and (first, last) != (0, size):
        if last - first == 1 and (row := steps_of(interpreter, x, dim, first, 1)):
            return row
        carried, count = interpreter.caches.get(x.parts, (None, 0))
        if count and (first, last) == (size - count, size):
            return Final(_rows_of_cache, carried)
    return interpreter.tracer.slice(x, dim, first, last, step, place)


def _rows_of_cache() -> Any:
    raise RefusedError("the last rows of a sequence, otherwise than as a state that the module gives back")


@operation("narrow")
def _narrow(interpreter: Interpreter, a: Args, place: str) -> Any:
    return _sliced(interpreter, a.self, a.dim, a.start, a.start + a.length, 1, place)


@operation("unfold")
def _unfold(interpreter: Interpreter, a: Args, place: str) -> Any:
    x, dim = a.self, a.self.dim(a.dimension)
    count = x.shapes[0][dim] - a.size + 1
    windows = [_sliced(interpreter, x, dim, start, start + count, 1, place) for start in range(a.size)]
    return interpreter.tracer.slice(interpreter.tracer.stack(windows, -1, place), dim, 0, count, a.step, place)


@operation("select")
def _select(interpreter: Interpreter, a: Args, place: str) -> Any:
    dim = a.self.dim(a.dim)
    size = a.self.shapes[0][dim]
    row = steps_of(interpreter, a.self, dim, a.index % size)
    return row or interpreter.tracer.select(a.self, dim, a.index, place)


@operation("unbind")
def _unbind(interpreter: Interpreter, a: Args, place: str) -> Any:
    dim = a.self.dim(a.dim)
    count = a.self.shapes[0][dim]
    if a.self.axes[dim] == TIME:
        return [steps_of(interpreter, a.self, dim, index) for index in range(count)]
    return [interpreter.tracer.select(a.self, dim, index, place) for index in range(count)]


@operation("split", "split_with_sizes", "chunk", "tensor_split")
def _split(interpreter: Interpreter, a: Args, place: str) -> Any:
    size = a.self.shapes[0][a.self.dim(a.dim)]
    if hasattr(a, "chunks"):
        each = -(-size // a.chunks)
        sizes = [min(each, size - start) for start in range(0, size, each)]
    elif hasattr(a, "sections"):
        sizes = [size // a.sections + (part < size % a.sections) for part in range(a.sections)]
    elif hasattr(a, "indices"):
        sizes = np.diff([slice(at).indices(size)[1] for at in (0, *a.indices, size)]).tolist()
    else:
        given: Any = getattr(a, "split_size", None) or getattr(a, "split_sizes", None)
        if given is None:
            raise RefusedError("tensor_split by a tensor; supported: by numbers")
        sizes = [min(given, size - at) for at in range(0, size, given)] if isinstance(given, int) else list(given)
    starts: list[int] = np.cumsum([0, *sizes]).tolist()
    return [
        _sliced(interpreter, a.self, a.dim, start, start + length, 1, place)
        for start, length in zip(starts, sizes, strict=False)
    ]


@operation("diff")
def _diff(interpreter: Interpreter, a: Args, place: str) -> Any:
    x, tracer = a.self, interpreter.tracer
    around = [interpreter.constant(value) for value in (a.prepend, x, a.append) if value is not None]
    if len(around) > 1:
        x = tracer.concat(around, a.dim, place)
    for _ in range(a.n):
        size = x.shapes[0][x.dim(a.dim)]
        later, earlier = (_sliced(interpreter, x, a.dim, start, size - 1 + start, 1, place) for start in (1, 0))
        x = tracer.subtract(later, earlier, place)
    return x


@operation("roll")
def _roll(interpreter: Interpreter, a: Args, place: str) -> Any:
    x: Rows = a.self
    if not a.dims:
        raise RefusedError("roll over everything; supported: of axes")
    for count, dim in zip(ints(a.shifts), ints(a.dims), strict=True):
        x.feature_dim(dim, "roll")
        x = x.taken(dim, np.roll(np.arange(x.shapes[0][dim]), count))
    return x


@operation("index_select")
def _index_select(interpreter: Interpreter, a: Args, place: str) -> Any:
    return a.self.taken(a.dim, np.asarray(interpreter.constant(a.index), np.int64))


@operation("index")
def _index(interpreter: Interpreter, a: Args, place: str) -> Any:
    given = [dim for dim, index in enumerate(a.indices) if index is not None]
    if len(given) != 1 or getattr(a.indices[given[0]], "ndim", 0) != 1 or a.indices[given[0]].dtype.is_floating_point:
        raise RefusedError("an index of several axes, or one that depends on the input")
    which = interpreter.constant(a.indices[given[0]])
    return a.self.taken(given[0], which.astype(bool if a.indices[given[0]].dtype.itemsize == 1 else np.int64))


@operation("flip")
def _flip(interpreter: Interpreter, a: Args, place: str) -> Any:
    return a.self.flipped(a.dims)


@operation("expand", "expand_as", "broadcast_to")
def _expand(interpreter: Interpreter, a: Args, place: str) -> Any:
    shape = a.size if hasattr(a, "size") else a.other.shapes[0]
    if not isinstance(a.self, Rows):
        return a.self.expand(shape)
    return interpreter.tracer.expand(a.self, [shape], place)


@operation("pad", "constant_pad_nd", "reflection_pad1d", "replication_pad1d")
def _pad(interpreter: Interpreter, a: Args, place: str) -> Any:
    x, padding = a.self, list(a.pad if hasattr(a, "pad") else a.padding)
    mode = getattr(a, "mode", "constant")
    value = getattr(a, "value", 0) or 0
    for place_of, pair in enumerate(zip(padding[::2], padding[1::2], strict=True)):
        x = interpreter.tracer.pad(x, -1 - place_of, *pair, mode=mode, value=value, place=f"{place}.pad")
    return x


# What is made in the shape of another tensor, but not of what it holds.
def _made_like(name: str) -> Any:
    def make(interpreter: Interpreter, a: Args, place: str) -> Any:
        torch, size = interpreter.torch, getattr(a, "size", a.self.shapes[0])
        if "full" in name:
            return torch.full(tuple(size), a.fill_value, dtype=a.dtype)
        return getattr(torch, "ones" if "ones" in name else "zeros")(tuple(size), dtype=a.dtype)

    return make


OPERATIONS |= {
    name: _made_like(name)
    for name in ("new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like", "new_empty", "empty_like")
}
OPERATIONS |= {
    "sym_size": lambda interpreter, a, place: a.self.shapes[0][a.dim],
    "size": lambda interpreter, a, place: a.self.shapes[0][a.dim],
    "dim": lambda interpreter, a, place: len(a.self.axes),
    "_assert_tensor_metadata": lambda interpreter, a, place: None,
}
