"""ONNX operators that move data, as calls of the tracing core."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..tracing import TIME
from .calls import Call, Shapes
from .values import Value

_MOST_FEATURES = 2**22
_ALL = 2**31 - 1  # ends from here on stand for all there is


def _moved(call: Call, rows: Any) -> Value:
    """Rows that are still tokens of an input if they were."""
    return Value(rows=rows, tokens=call.value(0).tokens)


def _reshaped(call: Call, shapes: Shapes) -> Value:
    return _moved(call, call.rows().reshaped(shapes))


def _reshape(call: Call) -> Value:
    shapes = []
    for have, given in zip(call.shape(), call.integers(1), strict=True):
        if call.opset < 14 or not call.whole("allowzero", 0):
            if any(size == 0 and axis >= len(have) for axis, size in enumerate(given)):
                raise ValueError(f"{call.where}: shape: 0 at an axis that the input of {have} has not")
            given = [have[axis] if size == 0 else size for axis, size in enumerate(given)]
        if given.count(-1) > 1 or any(size < -1 or size == 0 for size in given):
            raise ValueError(f"{call.where}: shape: expected sizes from 1 on and at most one -1, got {given}")
        if -1 in given:
            given = [math.prod(have) // max(1, -math.prod(given)) if size == -1 else size for size in given]
        shapes.append(tuple(given))
    return _rows_of_rows(call, shapes) or _reshaped(call, shapes)


def _rows_of_rows(call: Call, shapes: Shapes) -> Value | None:
    """A reshape of (..., time, features) by which a row becomes several, or several become one; None if it is not."""
    x = call.rows()
    if len(shapes[0]) != len(x.axes) or x.axes[-2:-1] != (TIME,) or x.features != x.axes[-1:]:
        return None
    size, new = x.axes[-1], shapes[0][-1]
    grown = [(*have[:-2], have[-2] * size // new, new) for have in x.shapes]
    if new == size or max(size, new) % min(size, new) or shapes != grown:
        return None
    if new < size:
        axes = (*x.axes[:-1], new)
        return Value(rows=call.tracer.spread(x, x.indices, size // new, call.place, axes))
    return Value(rows=call.tracer.joined(x, new // size, call.place))


def _flatten(call: Call) -> Value:
    axis, rank = call.whole("axis", 1), len(call.shape()[0])
    if not -rank <= axis <= rank:
        raise ValueError(f"{call.where}: axis: expected an axis of an array of {rank}, got {axis}")
    axis += rank * (axis < 0)
    return _reshaped(call, [(math.prod(shape[:axis]), math.prod(shape[axis:])) for shape in call.shape()])


def _squeeze(call: Call) -> Value:
    shapes = call.shape()
    axes = call.axes(1, len(shapes[0]))
    if axes is None:
        if any(len({shape[axis] for shape in shapes}) > 1 for axis in range(len(shapes[0]))):
            raise call.refused("without axes of a tensor of batch or time")
        axes = [axis for axis, size in enumerate(shapes[0]) if size == 1]
    if any(shape[axis] != 1 for shape in shapes for axis in axes):
        raise call.refused(f"axes {axes} of {call.rows().axes}")
    return _reshaped(call, [tuple(s for axis, s in enumerate(shape) if axis not in axes) for shape in shapes])


def _unsqueeze(call: Call) -> Value:
    shapes = call.shape()
    given = call.given("axes", 1) or [[]]
    axes = call.axes(1, len(shapes[0]) + len(given[0]))
    made = []
    for shape in shapes:
        sizes = list(shape)
        for axis in axes or ():
            sizes.insert(axis, 1)
        made.append(tuple(sizes))
    return _reshaped(call, made)


def _transpose(call: Call) -> Value:
    x = call.rows()
    order = call.attributes.integers("perm") or list(range(len(x.axes)))[::-1]
    return _moved(call, x.permuted(order))


def _expand(call: Call) -> Value:
    shapes = []
    for have, wanted in zip(call.shape(), call.integers(1), strict=True):
        if any(size < 1 for size in wanted):
            raise ValueError(f"{call.where}: shape: expected sizes from 1 on, got {wanted}")
        shapes.append(tuple(np.broadcast_shapes(have, tuple(wanted))))
    return _moved(call, call.tracer.expand(call.rows(), shapes, place=call.place))


def _tile(call: Call) -> Any:
    x = call.rows()
    repeats = call.integers(1)
    if any(len(given) != len(x.axes) or min(given, default=1) < 1 for given in repeats):
        raise ValueError(f"{call.where}: repeats: expected {len(x.axes)} from 1 on, got {repeats[0]}")
    wide = []
    for axis in range(len(x.axes)):
        counts = {given[axis] for given in repeats}
        if counts != {1} and x.axes[axis] != 1:
            if len(counts) > 1 or next(iter(counts)) > 2**12:
                raise call.refused(
                    f"{sorted(counts)} times along {x.axes[axis]}; supported: features, up to 4096 times"
                )
            x = call.tracer.concat([x] * counts.pop(), axis, place=call.place)
        wide.append(x.axes[axis] == 1)
    shapes = [
        tuple(given[axis] if wide[axis] else size for axis, size in enumerate(shape))
        for given, shape in zip(repeats, x.shapes, strict=True)
    ]
    return call.tracer.expand(x, shapes, place=call.place)


def _concat(call: Call) -> Any:
    values = [call.value(index) for index in range(len(call.inputs))]
    rank = len(call.shape()[0])
    axis = call.axis(call.whole("axis", 0), rank)
    if any(value.is_known and len(value.shape(0)) != rank for value in values):
        raise ValueError(f"{call.where}: expected inputs of {rank} axes")
    first = values[0]
    if first.places and first.rows is None and len(values) == 2 and values[1].rows is not None:
        x, count = values[1].rows, {array.shape[axis] for array in first.places}
        if x.axes[axis] == TIME and len(count) == 1 and not x.reversed:
            return _carried(call, first, x, axis, count.pop())
    operands = [list(value.numbers) if value.numbers else call.rows(index) for index, value in enumerate(values)]
    operands = [value for value in operands if not (isinstance(value, list) and all(a.size == 0 for a in value))]
    return call.tracer.concat(operands, axis, place=call.place) if len(operands) > 1 else operands[0]


def _carried(call: Call, state: Value, x: Any, axis: int, count: int) -> Value:
    """A state in front of the rows that follow it: rows of zeros at first, and what a later call is given again."""
    shapes = [tuple(s for dim, s in enumerate(shape) if dim != axis) for shape in x.shapes]
    given = [tuple(s for dim, s in enumerate(a.shape) if dim != axis) for a in state.places]
    if shapes != given:
        raise call.refused(f"a state of shape {state.shape(0)} in front of {x.shapes[0]}")
    made = call.tracer.pad(x, axis, count, 0, place=call.place)
    onward = call.walk.elements.number([array.shape for array in state.places])
    call.walk.elements.carry(state.places, onward)
    return Value(rows=made, carried=(axis, count, onward))


def _slice(call: Call) -> Any:
    shapes, rank = call.shape(), len(call.shape()[0])
    starts, ends = (call.given(name, index) for name, index in (("starts", 1), ("ends", 2)))
    if starts is None or ends is None:
        raise ValueError(f"{call.where}: starts and ends are missing")
    axes = call.given("axes", 3) or [list(range(len(starts[0])))] * len(starts)
    steps = call.integers(4) if call.has(4) else [[1] * len(starts[0])] * len(starts)
    if any(axis != axes[0] for axis in axes) or any(step != steps[0] for step in steps):
        raise call.refused("axes or steps that depend on the sizes of the model's inputs")
    lengths = {len(each) for each in (*starts, *ends, *axes, *steps)}
    if len(lengths) > 1 or 0 in steps[0]:
        raise ValueError(f"{call.where}: expected as many starts, ends, axes and steps, other than 0")
    carried = call.value(0).carried
    x = call.value(0).rows
    for place, given in enumerate(axes[0]):
        axis, step = call.axis(given, rank), steps[0][place]
        first = tuple(start[place] for start in starts)
        last = tuple(end[place] for end in ends)
        if carried and carried[0] == axis and step == 1 and len(axes[0]) == 1:
            spans = [slice(a, b).indices(shape[axis])[:2] for a, b, shape in zip(first, last, shapes, strict=True)]
            if all(
                a in (shape[axis] - carried[1], call.walk.declared_steps) and b == shape[axis]
                for (a, b), shape in zip(spans, shapes, strict=True)
            ):
                return Value(places=carried[2], reason=call.refused("the rows that a state goes on with as an answer"))
        x = call.rows() if x is None else x
        x = _sliced(call, x, axis, first, last, step)
    return _moved(call, call.rows() if x is None else x)


def _sliced(call: Call, x: Any, axis: int, first: tuple[int, ...], last: tuple[int, ...], step: int) -> Any:
    sizes = x.sizes[axis]
    if step < 0:
        spans = [slice(a, b if b >= -size else None, step).indices(size)
                 for a, b, size in zip(first, last, sizes, strict=True)]  # fmt: skip
        if (
            step != -1
            or any(_is_cut(ends, sizes) for ends in (first, last))
            or any((a, b) != (size - 1, -1) for (a, b, _), size in zip(spans, sizes, strict=True))
        ):
            raise call.refused("backwards, of a part; supported: of all with a step of -1")
        return x.flipped([axis])
    if any(_is_cut(ends, sizes) for ends in (first, last)):
        raise call.refused(f"to {first[0]}:{last[0]} of any number of {x.axes[axis]}; supported: rows left out at ends")
    spans = [slice(a, b).indices(size) for a, b, size in zip(first, last, sizes, strict=True)]
    if any(a >= b for a, b, _ in spans):
        raise call.refused("that leaves nothing")
    return call.tracer.slice(
        x, axis, tuple(a for a, *_ in spans), tuple(b for _, b, _ in spans), step, place=call.place
    )


def _is_cut(ends: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    """Whether an end lies outside of an axis at the probes, and may lie inside at other sizes."""
    outside = any(abs(end) > size for end, size in zip(ends, sizes, strict=True))
    always = min(map(abs, ends)) >= _ALL or len({end - size for end, size in zip(ends, sizes, strict=True)}) == 1
    return outside and len(set(sizes)) > 1 and not always


def _split(call: Call) -> list[Value]:
    shapes, count = call.shape(), len(call.node.output)
    axis = call.axis(call.whole("axis", 0), len(shapes[0]))
    sizes = call.given("split", 1)
    if sizes is None:
        each = [-(-shape[axis] // count) for shape in shapes]
        if call.opset < 18 and any(size * count != shape[axis] for size, shape in zip(each, shapes, strict=True)):
            raise ValueError(f"{call.where}: {shapes[0][axis]} are not {count} equal parts")
        sizes = [
            [*[size] * (count - 1), shape[axis] - size * (count - 1)] for size, shape in zip(each, shapes, strict=True)
        ]
    if any(
        len(parts) != count or sum(parts) != shape[axis] or min(parts) < 1
        for parts, shape in zip(sizes, shapes, strict=True)
    ):
        raise call.refused(f"into {sizes[0]} of {shapes[0][axis]}")
    made, x = [], call.rows()
    for index in range(count):
        starts = tuple(sum(parts[:index]) for parts in sizes)
        stops = tuple(sum(parts[: index + 1]) for parts in sizes)
        made.append(_moved(call, _sliced(call, x, axis, starts, stops, 1)))
    return made


def _gather(call: Call) -> Any:
    if call.value(0).numbers:
        table = call.floats(0)
        x = call.rows(1)
        if call.attributes.integer("axis") or table.ndim != 2 or not call.value(1).tokens:
            raise call.refused(
                f"from a constant of shape {table.shape}; supported: rows of a table by the tokens of an input"
            )
        return call.tracer.embedding(x, table, place=call.place)
    x = call.rows()
    axis = call.axis(call.whole("axis", 0), len(x.axes))
    if not call.value(1).numbers:
        raise call.refused("by an index that is computed from the model's inputs")
    indices = call.value(1).numbers
    sizes = x.sizes[axis]
    if any(np.any((i < -size) | (i >= size)) for i, size in zip(indices, sizes, strict=True)):
        raise ValueError(f"{call.where}: indices: expected them from 0 to {sizes[0] - 1}")
    if all(array.ndim == 0 for array in indices):
        return _moved(call, call.tracer.select(x, axis, tuple(int(array) for array in indices), place=call.place))
    if isinstance(x.axes[axis], int):
        return _moved(call, _taken(call, x, axis, call.constant(1)))
    if all(array.size == 1 and array.ndim == 1 for array in indices):
        chosen = call.tracer.select(x, axis, tuple(int(array[0]) for array in indices), place=call.place)
        return _moved(call, call.tracer.unsqueeze(chosen, axis))
    raise call.refused(f"by several indices along {x.axes[axis]}")


def _taken(call: Call, x: Any, axis: int, indices: Any) -> Any:
    if not 0 < indices.size <= 2**20:
        raise call.refused(f"by {indices.size} indices")
    made = x.taken(axis, indices.reshape(-1))
    shapes = [(*shape[:axis], *indices.shape, *shape[axis + 1 :]) for shape in made.shapes]
    return made.reshaped(shapes) if indices.ndim > 1 else made


def _pad(call: Call) -> Any:
    x = call.rows()
    rank = len(x.axes)
    mode = call.attributes.string("mode", "constant")
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        raise call.attributes.refusal("mode", mode, ", ".join(names))
    pads = call.given("pads", 1)
    if pads is None:
        raise ValueError(f"{call.where}: pads are missing")
    value = call.scalar(2, 0.0) if call.opset >= 11 else call.number("value", 0.0)
    given = call.integers(3)[0] if call.has(3) else range(rank)
    axes = [call.axis(axis, rank, "axes") for axis in given]
    if any(len(each) != 2 * len(axes) for each in pads):
        raise ValueError(f"{call.where}: pads: expected {2 * len(axes)}, got {pads[0]}")
    if any(each != pads[0] for each in pads):
        raise call.refused("pads that depend on the sizes of the model's inputs")
    for place, axis in enumerate(axes):
        left, right = pads[0][place], pads[0][place + len(axes)]
        if max(abs(left), abs(right)) > _MOST_FEATURES:
            raise call.refused(f"pads of {left} and {right}; supported: up to {_MOST_FEATURES}")
        x = call.tracer.pad(x, axis, left, right, names[mode], value, place=call.place)
    return x


MOVES: dict[str, Callable[[Call], Any]] = {
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
