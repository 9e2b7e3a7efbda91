"""Keras's layers over the features of each row, and those that move or merge tensors, on symbolic tensors.

Sources: keras/src/layers/{core,activations,normalization,reshaping,merging,preprocessing} of Keras 3.15, and
keras/layers of Keras 2.15.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from ..tracing import BATCH, TIME, RefusedError, Rows
from .call import Call, activated, spread

_EPSILON = 1e-7  # keras.config.epsilon()
_LONGEST = 512  # rows that a Flatten or Reshape layer puts beside each other


def dense(call: Call, x: Rows) -> Rows:
    """Dense."""
    units = call.options.units()
    bias = (units,) if call.options.boolean("use_bias", required=True) else None
    arrays = call.weights(kernel=(call.size(x, len(x.axes) - 1), units), bias=bias)
    return call.activated(call.tracer.linear(x, arrays["kernel"].T, arrays.get("bias"), call.place))


def embedding(call: Call, x: Rows) -> Rows:
    """Embedding."""
    rows, columns = (call.options.integers(name, 1)[0] for name in ("input_dim", "output_dim"))
    return call.tracer.embedding(x, call.weights(embeddings=(rows, columns))["embeddings"], call.place)


def same(call: Call, x: Rows) -> Rows:
    """What computes nothing in inference."""
    return x


# Activations.


def activation(call: Call, x: Rows) -> Rows:
    """Activation."""
    return call.activated(x)


def relu(call: Call, x: Rows) -> Rows:
    """ReLU, with a most, a slope or a threshold; not all of them at once."""
    most, slope = call.options.get("max_value"), call.options.number("negative_slope", 0.0)
    threshold = call.options.number("threshold", 0.0)
    if sum((most is not None, slope != 0, threshold != 0)) > 1:
        raise RefusedError(
            f"max_value={most}, negative_slope={slope} and threshold={threshold} together are not supported; "
            "supported: one of them"
        )
    if most is not None:
        return call.tracer.activation(x, "Clip", 0.0, call.options.number("max_value", 0.0), place=call.place)
    if threshold:
        return call.tracer.activation(x, "ThresholdedRelu", threshold, place=call.place)
    return leaky(call, x, slope) if slope else activated(call, x, "relu")


def leaky_relu(call: Call, x: Rows) -> Rows:
    """LeakyReLU, whose slope Keras 2 calls alpha."""
    return leaky(
        call, x, call.options.number("alpha" if call.options.get("alpha") is not None else "negative_slope", 0.3)
    )


def leaky(call: Call, x: Rows, slope: float) -> Rows:
    """x, or slope x where it is negative."""
    return call.tracer.activation(x, "LeakyRelu", slope, place=call.place)


def elu(call: Call, x: Rows) -> Rows:
    """ELU."""
    return call.tracer.activation(x, "Elu", call.options.number("alpha", 1.0), place=call.place)


def thresholded_relu(call: Call, x: Rows) -> Rows:
    """ThresholdedReLU of Keras 2."""
    return call.tracer.activation(x, "ThresholdedRelu", call.options.number("theta", 1.0), place=call.place)


def prelu(call: Call, x: Rows) -> Rows:
    """PReLU, with slopes for the features of a row."""
    shared = call.options.get("shared_axes")
    shared = [shared] if isinstance(shared, int) else shared or []
    shape = tuple(1 if dim in shared else size for dim, size in enumerate(x.shapes[0]) if dim)
    slopes = call.weights(alpha=shape)["alpha"]
    for dim, axis in enumerate(x.axes[1:], 1):
        if axis == TIME and dim not in shared:
            raise RefusedError("slopes that differ from step to step; supported: shared_axes=[1]")
    return call.tracer.prelu(x, slopes[None], None, call.place)


def softmax(call: Call, x: Rows) -> Rows:
    """Softmax."""
    return call.tracer.softmax(x, _axis(call, x), place=call.place)


# Norms.


def batch_norm(call: Call, x: Rows) -> Rows:
    """BatchNormalization, with the means and variances of training."""
    dim = _axis(call, x)
    size = (call.size(x, dim),)
    arrays = call.weights(
        gamma=size if call.options.boolean("scale", required=True) else None,
        beta=size if call.options.boolean("center", required=True) else None,
        moving_mean=size,
        moving_variance=size,
    )
    moments = (arrays["moving_mean"], arrays["moving_variance"])
    weights = (arrays.get("gamma"), arrays.get("beta"))
    return call.tracer.batch_norm(x, dim, *moments, *weights, call.options.number("epsilon", 1e-3), call.place)


def layer_norm(call: Call, x: Rows) -> Rows:
    """LayerNormalization."""
    call.options.choice("rms_scaling", (False,), False)
    dims = _axes(call, x)
    shape = tuple(call.size(x, dim) for dim in dims)
    arrays = call.weights(
        gamma=shape if call.options.boolean("scale", required=True) else None,
        beta=shape if call.options.boolean("center", required=True) else None,
    )
    eps = call.options.number("epsilon", 1e-3)
    return call.tracer.layer_norm(x, dims, arrays.get("gamma"), arrays.get("beta"), eps, call.place)


def group_norm(call: Call, x: Rows) -> Rows:
    """GroupNormalization of each row."""
    dim, groups = _axis(call, x), call.options.get("groups")
    size = call.size(x, dim)
    groups = size if groups == -1 else groups
    if type(groups) is not int or groups < 1 or size % groups:
        raise RefusedError(f"groups={groups!r:.100} of {size} features; supported: a divisor of them, or -1")
    arrays = call.weights(
        gamma=(size,) if call.options.boolean("scale", required=True) else None,
        beta=(size,) if call.options.boolean("center", required=True) else None,
    )
    weights = (arrays.get("gamma"), arrays.get("beta"))
    moved, eps = x.moved(dim, 1), call.options.number("epsilon", 1e-3)
    return call.tracer.group_norm(moved, groups, *weights, eps, call.place).moved(1, dim)


def rms_norm(call: Call, x: Rows) -> Rows:
    """RMSNormalization."""
    dims = _axes(call, x)
    scale = call.weights(scale=tuple(call.size(x, dim) for dim in dims))["scale"]
    return call.tracer.rms_norm(x, dims, scale, call.options.number("epsilon", 1e-6), call.place)


def unit_norm(call: Call, x: Rows) -> Rows:
    """UnitNormalization. Keras 2 has the least of the square."""
    return call.tracer.l2_norm(x, _axis(call, x), 1e-12 if call.version == 3 else 1e-6, call.place)


def normalization(call: Call, x: Rows) -> Rows:
    """Normalization by the mean and variance of data, in the file's weights or its options."""
    dims = [] if call.options.get("axis") is None else _axes(call, x)
    shape = tuple(call.size(x, dim) for dim in dims)
    if call.options.get("mean") is None:
        arrays = call.arrays({"mean": shape, "variance": shape}, ("count",))
        mean, variance = (spread(x, arrays[name], dims) for name in ("mean", "variance"))
    else:
        given = [call.options.numbers(name, 0.0) for name in ("mean", "variance")]
        if any(array.shape not in ((), shape) for array in given):
            raise RefusedError(f"mean and variance of shapes {[array.shape for array in given]}; supported: {shape}")
        mean, variance = (spread(x, np.broadcast_to(array, shape), dims) for array in given)
    deviation = np.maximum(np.sqrt(np.maximum(np.asarray(variance, np.float64), 0)), _EPSILON)
    if call.options.boolean("invert"):
        return call.tracer.add(call.tracer.multiply(x, deviation, call.place), mean, call.place)
    return call.tracer.divide(call.tracer.subtract(x, mean, call.place), deviation, call.place)


def rescaling(call: Call, x: Rows) -> Rows:
    """Rescaling."""
    scale, offset = call.options.numbers("scale", 1.0), call.options.numbers("offset", 0.0)
    return call.tracer.add(call.tracer.multiply(x, scale, call.place), offset, call.place)


# What moves features.


def flatten(call: Call, x: Rows) -> Rows:
    """Flatten; of a sequence of fixed length as a window of so many rows, the last of which answers."""
    if len(x.axes) > 2:
        call.options.choice("data_format", ("channels_last",), "channels_last")
    if call.gathers and x.kind == "rows" and x.axes[1] == TIME and 1 < x.steps[0] <= _LONGEST:
        early = range(x.steps[0])
        taps = [call.tracer.pad(x, 1, -tap, tap - early[-1], place=f"{call.place}.rows") for tap in early]
        window = call.tracer.stack(taps, 2, call.place)
        x = call.tracer.select(window, 1, tuple(steps - 1 for steps in window.steps), call.place)
    return x.reshaped([(shape[0], math.prod(shape[1:])) for shape in x.shapes])


def reshape(call: Call, x: Rows) -> Rows:
    """Reshape. Where the length is fixed a shape has it as a number."""
    target = call.options.get("target_shape")
    if not isinstance(target, list) or not all(
        type(size) is int and (size == -1 or 0 < size < 1 << 31) for size in target
    ):
        raise RefusedError(f"target_shape={target!r:.100}")
    refusals = []
    choices = [(target, -1)]  # which of the numbers is the length, -1 where none of them is
    if x.has_time and (call.is_fixed or -1 not in target):
        each = math.prod(x.shapes[0][1:]) // -math.prod(target) if -1 in target else 1
        full = [each if size == -1 else size for size in target]
        lasting = [(full, dim) for dim, size in enumerate(full) if size == x.steps[0]]
        if lasting:
            choices = [*choices, *lasting] if -1 in target else lasting
    for sizes, dim in choices:
        shapes = [[steps if place == dim else size for place, size in enumerate(sizes)] for steps in x.steps]
        try:
            return x.reshaped([(batch, *shape) for batch, shape in zip(x.batch, shapes, strict=True)])
        except RefusedError as refusal:
            refusals.append(refusal)
    made = _regrouped(call, x, target)
    if made is None:
        raise refusals[0]
    return made


def _regrouped(call: Call, x: Rows, target: list[int]) -> Rows | None:
    """(batch, time, ...) as fewer rows of more features each, or more of fewer; None where that is not asked for."""
    first, *rest = target
    size, width = len(x.indices), math.prod(rest)
    if x.kind != "rows" or x.axes[:2] != (BATCH, TIME) or width < 1 or max(size, width) % min(size, width):
        return None
    count = max(size, width) // min(size, width)
    steps = tuple(steps * size // width for steps in x.steps)
    fits = all(rows * width == old * size for rows, old in zip(steps, x.steps, strict=True))
    if not fits or first not in (-1, steps[0]) or count > _LONGEST:
        return None
    flat = x.reshaped([(*shape[:2], size) for shape in x.shapes])
    if width > size:
        made = call.tracer.joined(flat, count, call.place)
    else:
        made = call.tracer.spread(flat, flat.indices, count, call.place, (BATCH, TIME, width))
    return made.reshaped([(*shape[:2], *rest) for shape in made.shapes])


def permute(call: Call, x: Rows) -> Rows:
    """Permute."""
    dims = call.options.integers("dims", len(x.axes) - 1)
    return x.permuted((0, *dims))


def repeat(call: Call, x: Rows) -> Rows:
    """RepeatVector: of an input without time for as many steps as there are, or of features."""
    count = call.options.integers("n", 1)[0]
    is_length = call.is_fixed and count == call.tracer.steps[0] and x.kind != "whole"
    counts = call.tracer.steps if is_length else (count,) * len(x.batch)
    wide = call.tracer.unsqueeze(x, 1)
    return call.tracer.expand(wide, [(-1, steps, -1) for steps in counts], call.place)


# Several tensors in one.


def merged(call: Call, values: Sequence[Rows], kind: str) -> Rows:
    """Add, Subtract, Multiply, Average, Maximum, Minimum; tensors of fewer axes are the same at every step."""
    tracer, place = call.tracer, call.place
    rank = max(len(value.axes) for value in values)
    aligned = [
        value.with_grid((value.axes[0], *[1] * (rank - len(value.axes)), *value.axes[1:]), value.indices)
        for value in values
    ]
    if kind == "subtract" and len(values) != 2:
        raise RefusedError(f"{len(values)} inputs; expected 2")
    made: Rows = reduce(lambda a, b: getattr(tracer, "add" if kind == "mean" else kind)(a, b, place), aligned)
    return tracer.multiply(made, 1 / len(values), place) if kind == "mean" else made


def concatenated(call: Call, values: Sequence[Rows]) -> Rows:
    """Concatenate."""
    return call.tracer.concat(values, _whole(call, "axis"), call.place)


def stacked(call: Call, values: Sequence[Rows]) -> Rows:
    """keras.ops.stack."""
    return call.tracer.stack(list(values), _whole(call, "axis"), call.place)


def dot(call: Call, values: Sequence[Rows]) -> Rows:
    """Dot, of the features of two tensors without time."""
    axes = call.options.get("axes")
    if len(values) != 2 or any(len(x.axes) != 2 for x in values) or axes not in (1, -1, [1, 1], [-1, -1]):
        raise RefusedError(f"axes={axes!r:.100}; supported: 1, of two tensors (batch, features)")
    if call.options.boolean("normalize"):
        values = [call.tracer.l2_norm(x, 1, place=call.place) for x in values]
    product = call.tracer.multiply(values[0], values[1], call.place)
    return call.tracer.reduce(product, "sum", [1], keepdims=True, place=call.place)


def clipped(call: Call, x: Rows) -> Rows:
    """keras.ops.clip."""
    least, most = (call.options.number(name, math.nan) for name in ("x_min", "x_max"))
    return call.tracer.activation(x, "Clip", least, most, place=call.place)


def expanded(call: Call, x: Rows) -> Rows:
    """keras.ops.expand_dims."""
    made: Rows = call.tracer.unsqueeze(x, _whole(call, "axis"))
    return made


def squeezed(call: Call, x: Rows) -> Rows:
    """keras.ops.squeeze."""
    return call.tracer.squeeze(x, [_whole(call, "axis")])


def divided(call: Call, x: Rows) -> list[Rows]:
    """keras.ops.split."""
    dim, given = x.dim(_whole(call, "axis")), call.options.get("indices_or_sections")
    x.feature_dim(dim, "split")
    size = x.sizes[dim][0]
    if type(given) is int and given > 0 and size % given == 0:
        given = list(range(size // given, size, size // given))
    if not isinstance(given, list) or any(type(each) is not int for each in given):
        raise RefusedError(f"indices_or_sections={given!r:.100} of {size}; supported: a divisor, or integers")
    ends = [slice(end).indices(size)[1] for end in (0, *given, size)]
    return [x.taken(dim, slice(*pair)) for pair in pairwise(ends)]


def reduced(call: Call, x: Rows, kind: str) -> Rows:
    """keras.ops.mean, max and sum."""
    axis = call.options.get("axis")
    axes = [axis] if type(axis) is int else axis
    if not isinstance(axes, list) or not axes or any(type(each) is not int for each in axes):
        raise RefusedError(f"axis={axis!r:.100}; supported: an integer, or a list of them")
    if call.options.get("initial") is not None:
        raise RefusedError("an initial value is not supported; supported: None")
    return call.tracer.reduce(x, kind, axes, keepdims=call.options.boolean("keepdims"), place=call.place)


def item(call: Call, x: Rows, keys: Any) -> Rows:
    """x[keys], of slices, integers and an ellipsis."""
    tracer, dim = call.tracer, 0
    keys = list(keys) if isinstance(keys, list) else [keys]
    if sum(key is Ellipsis for key in keys) == 1:
        place = next(place for place, key in enumerate(keys) if key is Ellipsis)
        keys[place : place + 1] = [slice(None)] * (len(x.axes) - len(keys) + 1)
    if len(keys) > len(x.axes):
        raise RefusedError(f"{len(keys)} indices of {len(x.axes)} axes")
    for key in keys:
        if isinstance(key, slice):
            if key.step not in (None, 1):
                raise RefusedError(f"a slice with step {key.step}")
            ends = [slice(key.start, key.stop).indices(size) for size in x.sizes[dim]]
            x = tracer.slice(x, dim, tuple(e[0] for e in ends), tuple(e[1] for e in ends), place=call.place)
            dim += 1
        elif type(key) is int:
            sizes = x.sizes[dim]
            if any(not -size <= key < size for size in sizes):
                raise RefusedError(f"index {key} of {min(sizes)}")
            x = tracer.select(x, dim, tuple(key % size for size in sizes), call.place)
        else:
            raise RefusedError(f"an index {key!r:.100}; supported: slices and integers")
    return x


def _whole(call: Call, name: str) -> int:
    value = call.options.get(name)
    if type(value) is not int:
        raise RefusedError(f"{name}={value!r:.100}; supported: an integer")
    return value


def _axes(call: Call, x: Rows) -> list[int]:
    """The option axis, an integer or a list of them in order, counted from the front."""
    given = call.options.get("axis")
    given = -1 if given is None else given
    axes = [x.dim(axis) for axis in (given if isinstance(given, list) else [given]) if type(axis) is int]
    if not axes or axes != sorted(set(axes)) or len(axes) != len(given if isinstance(given, list) else [given]):
        raise RefusedError(f"axis={given!r:.100}; supported: an integer, or integers in order")
    return axes


def _axis(call: Call, x: Rows) -> int:
    axes = _axes(call, x)
    if len(axes) > 1:
        raise RefusedError(f"axis={axes}; supported: one axis")
    return axes[0]
