"""What goes over the features of a row, or over windows and whole axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...tracing import TIME, RefusedError, Rows
from ...tracing.rows import flat
from .interpreter import OPERATIONS, Args, Interpreter, Operation, each, ints, operation
from .values import ATTENTION, name_of


# Over features.
@operation("softmax", "_softmax", "log_softmax", "_log_softmax")
def _softmax(interpreter: Interpreter, a: Args, place: str) -> Any:
    if TIME in flat((a.self.axes[a.self.dim(a.dim)],)):
        raise RefusedError(f"softmax along time, as in {ATTENTION}")
    is_log = name_of(interpreter.node).lstrip("_").startswith("log")
    return interpreter.tracer.softmax(a.self, a.dim, log=is_log, place=place)


@operation("layer_norm")
def _layer_norm(interpreter: Interpreter, a: Args, place: str) -> Any:
    dims = range(-len(a.normalized_shape), 0)
    weight, bias = interpreter.array(a.weight), interpreter.array(a.bias)
    return interpreter.tracer.layer_norm(a.input, list(dims), weight, bias, a.eps, place)


@operation("rms_norm")
def _rms_norm(interpreter: Interpreter, a: Args, place: str) -> Any:
    eps = float(np.finfo(np.float32).eps) if a.eps is None else a.eps
    dims = range(-len(a.normalized_shape), 0)
    return interpreter.tracer.rms_norm(a.input, list(dims), interpreter.array(a.weight), eps, place)


@operation("glu")
def _glu(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.glu(a.self, a.dim, place)


@operation("batch_norm")
def _batch_norm(interpreter: Interpreter, a: Args, place: str) -> Any:
    if a.training or a.running_mean is None:
        raise RefusedError("a batch norm by the batch's own mean; supported: module.eval(), with running statistics")
    mean, variance, weight, bias = map(interpreter.array, (a.running_mean, a.running_var, a.weight, a.bias))
    dim = min(1, len(a.input.axes) - 1)
    return interpreter.tracer.batch_norm(a.input, dim, mean, variance, weight, bias, a.eps, place)


@operation("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d")
def _pool(interpreter: Interpreter, a: Args, place: str) -> Any:
    kind = "max" if hasattr(a, "dilation") else "mean"
    spatial = len(ints(a.kernel_size)) if len(ints(a.kernel_size)) > 1 else None
    spatial = spatial or (2 if len(a.self.axes) == 4 or len(ints(a.stride or [])) > 1 else 1)
    if a.ceil_mode:
        raise RefusedError("a pool with ceil_mode")
    if getattr(a, "divisor_override", None):
        raise RefusedError("a pool with divisor_override")
    taps = each(a.kernel_size, spatial)
    if spatial == 1 and a.self.axes[-1] == TIME and taps[0] == a.self.steps[0] and not any(ints(a.padding)):
        return interpreter.tracer.reduce(a.self, kind, [-1], keepdims=True, place=place)  # of all rows
    return interpreter.tracer.pool(
        a.self,
        kind,
        taps=taps,
        stride=each(a.stride, spatial) if a.stride else taps,
        padding=[(size, size) for size in each(a.padding, spatial)],
        dilation=each(getattr(a, "dilation", 1), spatial),
        count_include_pad=getattr(a, "count_include_pad", True),
        place=place,
    )


@operation("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def _adaptive_mean(interpreter: Interpreter, a: Args, place: str) -> Any:
    return _adaptive_pool(interpreter, a, "mean", place)


@operation("adaptive_max_pool1d", "adaptive_max_pool2d")
def _adaptive_max(interpreter: Interpreter, a: Args, place: str) -> Any:
    return _adaptive_pool(interpreter, a, "max", place), None


def _adaptive_pool(interpreter: Interpreter, a: Args, kind: str, place: str) -> Any:
    sizes = ints(a.output_size)
    x = a.self
    for place_of, size in enumerate(sizes):
        dim = len(x.axes) - len(sizes) + place_of
        if size == 1:
            x = interpreter.tracer.reduce(x, kind, [dim], keepdims=True, place=place)
        elif size != x.shapes[0][dim] or x.axes[dim] == TIME:
            raise RefusedError(f"an adaptive pool to {size}; supported: to 1")
    return x


@operation("group_norm")
def _group_norm(interpreter: Interpreter, a: Args, place: str) -> Any:
    return _grouped_norm(interpreter, a.input, a.num_groups, a, place)


@operation("instance_norm")
def _instance_norm(interpreter: Interpreter, a: Args, place: str) -> Any:
    if a.running_mean is not None and not a.use_input_stats:
        mean, variance, weight, bias = map(interpreter.array, (a.running_mean, a.running_var, a.weight, a.bias))
        return interpreter.tracer.batch_norm(a.input, 1, mean, variance, weight, bias, a.eps, place)
    return _grouped_norm(interpreter, a.input, int(a.input.shapes[0][1]), a, place)


def _grouped_norm(interpreter: Interpreter, x: Rows, groups: int, a: Args, place: str) -> Any:
    weight, bias = interpreter.array(a.weight), interpreter.array(a.bias)
    return interpreter.tracer.group_norm(x, groups, weight, bias, a.eps, place)


def _reduction(kind: str) -> Operation:
    def reduce(interpreter: Interpreter, a: Args, place: str) -> Any:
        if getattr(a, "dim", None) in (None, []):
            raise RefusedError(f"a {kind} of everything, batch included")
        return interpreter.tracer.reduce(a.self, kind, ints(a.dim), keepdims=a.keepdim, place=place)

    return reduce


@operation("var", "std")
def _variance(interpreter: Interpreter, a: Args, place: str) -> Any:
    tracer, x, dims = interpreter.tracer, a.self, ints(a.dim) if getattr(a, "dim", None) is not None else []
    if not dims or any(not isinstance(x.axes[x.dim(dim)], int) for dim in dims):
        raise RefusedError("a variance over rows or sequences; supported: over features")
    count = math.prod(x.shapes[0][dim] for dim in dims)
    correction = int(a.unbiased) if hasattr(a, "unbiased") else 1 if a.correction is None else a.correction
    from_mean = tracer.subtract(x, tracer.reduce(x, "mean", dims, keepdims=True, place=place), place)
    square = tracer.activation(from_mean, "Square", place=place)
    made = tracer.reduce(square, "mean", dims, keepdims=a.keepdim, place=place)
    made = tracer.multiply(made, count / (count - correction) if count > correction else float("nan"), place)
    return tracer.activation(made, "Sqrt", place=place) if name_of(interpreter.node).startswith("std") else made


@operation("var_mean", "std_mean")
def _variance_and_mean(interpreter: Interpreter, a: Args, place: str) -> Any:
    made = _variance(interpreter, a, place)
    return made, interpreter.tracer.reduce(a.self, "mean", ints(a.dim), keepdims=a.keepdim, place=place)


@operation("logsumexp")
def _logsumexp(interpreter: Interpreter, a: Args, place: str) -> Any:
    tracer, dims = interpreter.tracer, ints(a.dim)
    if any(not isinstance(a.self.axes[a.self.dim(dim)], int) for dim in dims):
        raise RefusedError("logsumexp over rows or sequences; supported: over features")
    most = tracer.reduce(a.self, "max", dims, keepdims=True, place=place)
    parts = tracer.activation(tracer.subtract(a.self, most, place), "Exp", place=place)
    total = tracer.reduce(parts, "sum", dims, keepdims=True, place=place)
    made = tracer.add(tracer.activation(total, "Log", place=place), most, place)
    return made if a.keepdim else tracer.squeeze(made, dims)


def _largest(interpreter: Interpreter, a: Args, place: str) -> Any:
    """max and min, of two tensors or along an axis, where they answer with places, too."""
    if hasattr(a, "other"):
        return OPERATIONS["maximum"](interpreter, a, place)
    return _extreme(interpreter, a, place), None


def _extreme(interpreter: Interpreter, a: Args, place: str) -> Any:
    name = name_of(interpreter.node).removeprefix("a")
    if name == "max" or getattr(a, "dim", None) in (None, []):
        return _reduction(name)(interpreter, a, place)
    a.self = interpreter.tracer.multiply(a.self, -1.0, place)
    return interpreter.tracer.multiply(_reduction("max")(interpreter, a, place), -1.0, place)


OPERATIONS |= {"mean": _reduction("mean"), "sum": _reduction("sum"), "amax": _extreme, "amin": _extreme}
OPERATIONS |= {"max": _largest, "min": _largest}
