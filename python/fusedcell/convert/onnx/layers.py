"""ONNX operators of data, as calls of the tracing core. What is not here is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import numpy as np

from ...weights.floats import to_float32
from ..tracing import BATCH, TIME
from . import patterns
from .calls import Call, Shapes
from .cells import recurrent
from .file import element_name
from .moves import MOVES
from .values import Value

_LARGEST = float(np.nextafter(np.finfo(np.float32).max, np.float32(0)))  # the largest has no short decimal
_SMALLEST = float(np.finfo(np.float32).tiny)
# Activations by our names, and the attributes that are alpha and beta with the operator's defaults.
_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "Abs": ("Abs", {}),
    "Elu": ("Elu", {"alpha": 1.0}),
    "Exp": ("Exp", {}),
    "HardSigmoid": ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}),
    "LeakyRelu": ("LeakyRelu", {"alpha": 0.01}),
    "Log": ("Log", {}),
    "Relu": ("Relu", {}),
    "Sigmoid": ("Sigmoid", {}),
    "Softplus": ("Softplus", {}),
    "Softsign": ("Softsign", {}),
    "Sqrt": ("Sqrt", {}),
    "Tanh": ("Tanh", {}),
    "com.microsoft.Gelu": ("Gelu", {}),
}


def _activation(call: Call) -> Any:
    name, options = _ACTIVATIONS[call.op_type]
    values = [call.number(key, default) for key, default in options.items()]
    return call.tracer.activation(call.rows(), name, *values, place=call.place)


def _gelu(call: Call) -> Any:
    kinds = {"none": "Gelu", "tanh": "GeluTanh"}
    approximate = call.attributes.string("approximate", "none")
    if approximate not in kinds:
        raise call.attributes.refusal("approximate", approximate, ", ".join(kinds))
    return call.tracer.activation(call.rows(), kinds[approximate], place=call.place)


def _selu(call: Call) -> Any:
    made = call.tracer.activation(call.rows(), "Elu", call.number("alpha", 1.6732632), place=call.place)
    return call.tracer.multiply(made, call.number("gamma", 1.0507010), place=call.place)


def _celu(call: Call) -> Any:
    alpha = call.number("alpha", 1.0)
    inner = call.tracer.divide(call.rows(), alpha, place=call.place)
    return call.tracer.multiply(call.tracer.activation(inner, "Elu", place=call.place), alpha, place=call.place)


def _gated(name: str, *numbers: float) -> Callable[[Call], Any]:
    """x by an activation of x."""

    def operator(call: Call) -> Any:
        x = call.rows()
        gate = call.tracer.activation(x, name, *numbers, place=call.place)
        return call.tracer.multiply(x, gate, place=call.place)

    return operator


def _mish(call: Call) -> Any:
    x = call.rows()
    soft = call.tracer.activation(x, "Softplus", place=call.place)
    return call.tracer.multiply(x, call.tracer.activation(soft, "Tanh", place=call.place), place=call.place)


def _clip(call: Call) -> Any:
    if call.opset < 11:
        return _clipped(call, call.rows(), call.number("min", -_LARGEST), call.number("max", _LARGEST))
    return _clipped(call, call.rows(), call.scalar(1, -_LARGEST), call.scalar(2, _LARGEST))


def _clipped(call: Call, x: Any, least: float, most: float) -> Any:
    if not least <= most:
        raise call.refused(f"bounds {least:g} and {most:g}; supported: the lower one first")
    if (least, most) == (0, _LARGEST):
        return call.tracer.activation(x, "Relu", place=call.place)
    least, most = max(least, -_LARGEST), min(most, _LARGEST)
    return call.tracer.activation(x, "Clip", least, most, place=call.place)


def _bounded(call: Call) -> Any:
    """Min and Max; of one tensor and constants of one element as Clip."""
    numbers = [value for value in call.inputs if value is not None and value.numbers]
    if len(call.inputs) - len(numbers) > 1 or any(value.numbers[0].size != 1 for value in numbers):
        method = call.tracer.maximum if call.op_type == "Max" else call.tracer.minimum
        order = sorted(range(len(call.inputs)), key=lambda index: bool(call.value(index).numbers))
        return reduce(partial(method, place=call.place), (_operand(call, index) for index in order))
    place = next(index for index, value in enumerate(call.inputs) if value not in numbers)
    bounds = [call.scalar(index, 0.0) for index in range(len(call.inputs)) if index != place]
    x = _spread(call, place)
    return (
        _clipped(call, x, max(bounds, default=-_LARGEST), _LARGEST)
        if call.op_type == "Max"
        else _clipped(call, x, -_LARGEST, min(bounds, default=_LARGEST))
    )


def _spread(call: Call, place: int) -> Any:
    """An input in the shape that all inputs broadcast to."""
    x = call.rows(place)
    shapes = [np.broadcast_shapes(*shapes) for shapes in zip(*map(call.shape, range(len(call.inputs))), strict=True)]
    return call.tracer.expand(x, shapes, place=call.place)


def _operand(call: Call, index: int) -> Any:
    value = call.value(index)
    return list(value.numbers) if value.numbers else call.rows(index)


def _pairwise(call: Call) -> Any:
    made = patterns.normalised(call) if call.op_type in ("Div", "Mul") else None
    made = patterns.gelu(call) if made is None and call.op_type == "Mul" else made
    if made is not None:
        return made
    methods = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Sum": "add"}
    made = _operand(call, 0)
    for index in range(1, len(call.inputs)):
        made = getattr(call.tracer, methods[call.op_type])(made, _operand(call, index), place=call.place)
    return made


# A product with 0 would not leave out what these give.
_MAY_BE_INFINITE = frozenset(("Div", "Exp", "Log", "Pow", "Reciprocal", "Sqrt"))
_COMPARISONS = {"Equal": "eq", "Greater": "gt", "GreaterOrEqual": "ge", "Less": "lt", "LessOrEqual": "le"}


def _where(call: Call) -> Any:
    made = patterns.softplus(call) or patterns.thresholded(call)
    if made is not None:
        return made
    if risky := sorted(_MAY_BE_INFINITE & set(patterns.ancestors(call))):
        raise call.refused(f"between values that may be infinite or NaN, of {', '.join(risky)}")
    operands = [_operand(call, index) for index in range(3)]
    if any(not np.isfinite(array).all() for each in operands if isinstance(each, list) for array in each):
        raise call.refused("between data and constants that are not finite; supported: finite ones")
    return call.tracer.chosen(*operands, place=call.place)


def _compared(call: Call) -> Any:
    if call.value(0) is call.value(1):
        raise call.refused("of a value and itself, as to find NaN; supported: inputs without NaN")
    return call.tracer.compared(_operand(call, 0), _operand(call, 1), _COMPARISONS[call.op_type], place=call.place)


def _logical(call: Call) -> Any:
    return call.tracer.logical(_operand(call, 0), _operand(call, 1), call.op_type.lower(), place=call.place)


def _not(call: Call) -> Any:
    return call.tracer.subtract(1.0, call.rows(), place=call.place)


def _negative(call: Call) -> Any:
    return call.tracer.multiply(call.rows(), -1.0, place=call.place)


def _power(call: Call) -> Any:
    x, power = call.rows(), call.scalar(1, 1.0)
    x = _spread(call, 0)
    if power in (2.0, 0.5):
        return call.tracer.activation(x, "Square" if power == 2 else "Sqrt", place=call.place)
    if power not in (1.0, 3.0, 4.0):
        raise call.refused(f"to the power of {power:g}; supported: 0.5, 1, 2, 3, 4")
    square = x if power == 1 else call.tracer.activation(x, "Square", place=call.place)
    by = {1.0: None, 3.0: x, 4.0: square}[power]
    return square if by is None else call.tracer.multiply(square, by, place=call.place)


def _prelu(call: Call) -> Any:
    return call.tracer.prelu(call.rows(), call.floats(1), None, place=call.place)


def _cast(call: Call) -> Any:
    to = call.attributes.integer("to")
    name = element_name(to or 0)
    value = call.value(0)
    x = call.rows()
    if name in ("INT32", "INT64") and value.tokens:
        return value
    if name in ("FLOAT", "DOUBLE"):
        return replace(value, tokens="")
    raise call.refused(f"to {name} of what is computed, of axes {x.axes}; supported: FLOAT, DOUBLE")


def _dropout(call: Call) -> Any:
    if call.has(2) and call.constant(2).any():
        raise call.refused("in training mode")
    return call.value(0)


def _matmul(call: Call) -> Any:
    if call.value(0).numbers:
        weight, x = call.floats(0), call.rows(1)
        if weight.ndim != 2 or len(x.axes) < 2:
            raise call.refused(f"a matrix of shape {weight.shape} before {x.axes}; supported: two axes")
        order = (*range(len(x.axes) - 2), len(x.axes) - 1, len(x.axes) - 2)
        return call.tracer.linear(x.permuted(order), weight, place=call.place).permuted(order)
    x = call.rows(0)
    if not call.value(1).numbers:
        raise call.refused(f"of two tensors, {x.axes} and {call.rows(1).axes}; supported: of one and a constant matrix")
    weight = call.floats(1)
    while weight.ndim > 2 and weight.shape[0] == 1 and len(x.axes) >= weight.ndim:
        weight = weight[0]
    if weight.ndim == 1:
        made = call.tracer.linear(x, weight[None], place=call.place)
        return call.tracer.squeeze(made, [-1])
    if weight.ndim != 2:
        raise call.refused(f"by a constant of shape {weight.shape}; supported: two axes")
    return call.tracer.linear(x, weight.T, place=call.place)


def _gemm(call: Call) -> Any:
    read = call.attributes
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    x, weight = call.rows(0), call.floats(1)
    if len(x.axes) != 2 or weight.ndim != 2:
        raise call.refused(f"of {x.axes} and {weight.shape}; supported: two axes each")
    x = x.permuted((1, 0)) if read.integer("transA") else x
    weight = np.asarray(weight if read.integer("transB") else weight.T, np.float64) * alpha
    made = call.tracer.linear(x, weight, place=call.place)
    if not call.has(2):
        return made
    bias: Any = call.value(2)
    if bias.numbers:
        return call.tracer.add(made, np.asarray(call.floats(2), np.float64) * beta, place=call.place)
    return call.tracer.add(made, call.tracer.multiply(call.rows(2), beta, place=call.place), place=call.place)


def _softmax(call: Call) -> Any:
    x = call.rows()
    rank = len(x.axes)
    axis = call.axis(call.whole("axis", 1 if call.opset < 13 else -1), rank)
    if call.opset < 13 and any(size != (1,) * len(size) for size in x.sizes[axis + 1 :]):
        raise call.refused(f"over axes {axis} to {rank - 1} in operator set {call.opset}; supported: over one axis")
    return call.tracer.softmax(x, axis, log=call.op_type == "LogSoftmax", place=call.place)


def _layer_norm(call: Call) -> Any:
    x = call.rows()
    axis = call.axis(call.whole("axis", -1), len(x.axes))
    shape = [x.sizes[dim][0] for dim in range(axis, len(x.axes))]
    weight, bias = (np.broadcast_to(call.floats(i), shape) if call.has(i) else None for i in (1, 2))
    dims, eps = range(axis, len(x.axes)), call.number("epsilon", 1e-5)
    if call.op_type == "RMSNormalization":
        return call.tracer.rms_norm(x, dims, weight, eps, place=call.place)
    return call.tracer.layer_norm(x, dims, weight, bias, eps, place=call.place)


def _batch_norm(call: Call) -> Any:
    read = call.attributes
    if call.opset >= 14 and read.integer("training_mode"):
        raise read.refusal("training_mode", 1, "0")
    if call.opset < 9 and read.integer("spatial") == 0:
        raise read.refusal("spatial", 0, "1")
    weight, bias, mean, variance = (call.floats(index) for index in range(1, 5))
    eps = call.number("epsilon", 1e-5)
    return call.tracer.batch_norm(call.rows(), 1, mean, variance, weight, bias, eps, place=call.place)


def _group_norm(call: Call) -> Any:
    x, (weight, bias) = call.rows(), (call.floats(index) for index in (1, 2))
    size = len(weight) if call.op_type == "InstanceNormalization" else call.whole("num_groups", 1)
    if call.op_type == "GroupNormalization" and call.opset < 21:
        raise call.refused(f"in operator set {call.opset}, with weights for groups; supported: from 21 on")
    return call.tracer.group_norm(x, size, weight, bias, call.number("epsilon", 1e-5), place=call.place)


def _lp_norm(call: Call) -> Any:
    if call.whole("p", 2) != 2:
        raise call.attributes.refusal("p", call.whole("p", 2), "2")
    return call.tracer.l2_norm(call.rows(), call.whole("axis", -1), _SMALLEST, place=call.place)


def _reduce(call: Call) -> Any:
    x, tracer, place = call.rows(), call.tracer, call.place
    axes = call.axes(1, len(x.axes))
    if not axes:
        if call.has(1) and call.attributes.integer("noop_with_empty_axes"):
            return x
        axes = list(range(len(x.axes)))
    keep = call.attributes.integer("keepdims") != 0
    kind = call.op_type.removeprefix("Reduce")
    if kind == "Min":
        most = tracer.reduce(tracer.multiply(x, -1.0, place=place), "max", axes, keepdims=keep, place=place)
        return tracer.multiply(most, -1.0, place=place)
    if kind in ("L1", "L2", "SumSquare"):
        x = tracer.activation(x, "Abs" if kind == "L1" else "Square", place=place)
    method = kind.lower() if kind in ("Mean", "Max") else "sum"
    made = tracer.reduce(x, method, axes, keepdims=keep, place=place)
    return tracer.activation(made, "Sqrt", place=place) if kind == "L2" else made


def _global_pool(call: Call) -> Any:
    x = call.rows()
    kind = "mean" if "Average" in call.op_type else "max"
    return call.tracer.reduce(x, kind, list(range(2, len(x.axes))), keepdims=True, place=call.place)


def _windows(call: Call, kernel: Sequence[int], shapes: Shapes) -> dict[str, Any]:
    """Stride, dilation and padding of a window over the axes from the third on."""
    read, rank = call.attributes, len(kernel)
    if rank not in (1, 2):
        raise call.refused(f"over {rank} axes; supported: one or two")
    # AveragePool has dilations from operator set 19 on, MaxPool from 10.
    has_dilations = "Pool" not in call.op_type or call.opset >= (19 if "Average" in call.op_type else 10)
    dilation = (read.integers("dilations") if has_dilations else None) or [1] * rank
    stride = read.integers("strides") or [1] * rank
    pads = read.integers("pads") or [0] * 2 * rank
    if len(dilation) != rank or len(stride) != rank or len(pads) != 2 * rank or min(*stride, *dilation, *kernel) < 1:
        raise ValueError(f"{call.where}: expected strides, dilations and pads for {rank} axes, from 1 on")
    auto = read.string("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise read.refusal("auto_pad", auto, "NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    padding = [(left, right) for left, right in zip(pads[:rank], pads[rank:], strict=True)]
    if auto.startswith("SAME"):
        padding = []
        for axis, (taps, step, spread) in enumerate(zip(kernel, stride, dilation, strict=True), 2):
            totals = {max(0, (-(-s[axis] // step) - 1) * step + (taps - 1) * spread + 1 - s[axis]) for s in shapes}
            if len(totals) > 1 or (step > 1 and len({shape[axis] for shape in shapes}) > 1):
                raise call.refused(f"auto_pad={auto} with a stride along an axis of any size")
            total = totals.pop()
            padding.append(
                (total // 2, total - total // 2) if auto == "SAME_UPPER" else (total - total // 2, total // 2)
            )
    if auto == "VALID":
        padding = [(0, 0)] * rank
    return {"stride": stride, "dilation": dilation, "padding": padding}


def _conv(call: Call) -> Any:
    weight = call.floats(1)
    bias = call.floats(2) if call.has(2) else None
    options = _windows(call, weight.shape[2:], call.shape())
    options["groups"] = call.whole("group", 1)
    _check_kernel(call, weight)
    x = call.rows()
    if x.axes[2:] == (1, TIME) and weight.shape[2:3] == (1,) and options["padding"][0] == (0, 0):  # as TensorFlow's are
        options |= {name: options[name][1:] for name in ("stride", "dilation", "padding")}
        made = call.tracer.conv(call.tracer.squeeze(x, [2]), weight[:, :, 0], bias, place=call.place, **options)
        return call.tracer.unsqueeze(made, 2)
    if (
        x.axes[::2] == (TIME, BATCH)
        and weight.shape[2] == options["stride"][0] == 1
        and options["padding"][0] == (0, 0)
    ):
        made = call.tracer.conv(x.permuted((2, 1, 0, 3)), weight, bias, place=call.place, **options)
        return made.permuted((2, 1, 0, 3))
    return call.tracer.conv(x, weight, bias, place=call.place, **options)


def _check_kernel(call: Call, weight: Any) -> None:
    kernel = call.attributes.integers("kernel_shape")
    if kernel is not None and tuple(kernel) != weight.shape[2:]:
        raise ValueError(f"{call.where}: kernel_shape={kernel}, but the weight is of shape {weight.shape}")


def _conv_transposed(call: Call) -> Any:
    read, weight = call.attributes, call.floats(1)
    bias = call.floats(2) if call.has(2) else None
    _check_kernel(call, weight)
    if read.integers("output_shape"):
        raise read.refusal("output_shape", read.integers("output_shape"), "none")
    if read.string("auto_pad", "NOTSET").startswith("SAME"):
        raise read.refusal("auto_pad", read.string("auto_pad", ""), "NOTSET, VALID")
    options = _windows(call, weight.shape[2:], call.shape())
    pads = options.pop("padding")
    extra = read.integers("output_padding") or [0] * len(pads)
    # What differs between the two ends of an axis is cut off afterwards.
    options |= {"padding": [min(pair) for pair in pads], "output_padding": extra, "groups": call.whole("group", 1)}
    made = call.tracer.conv_transposed(call.rows(), weight, bias, place=call.place, **options)
    for axis, (left, right) in enumerate(pads, 2):
        cut = min(left, right)
        if left != right:
            sizes = made.sizes[axis]
            stops = tuple(size - (right - cut) for size in sizes)
            made = call.tracer.slice(made, axis, left - cut, stops, place=call.place)
    return made


def _pool(call: Call) -> Any:
    read = call.attributes
    kernel = read.integers("kernel_shape") or []
    shapes = call.shape()
    options = _windows(call, kernel, shapes)
    kind = "mean" if call.op_type == "AveragePool" else "max"
    if call.opset >= 10 and read.integer("ceil_mode"):
        for axis, (taps, step, spread, pads) in enumerate(
            zip(kernel, *(options[k] for k in ("stride", "dilation", "padding")), strict=True), 2
        ):
            rest = {(shape[axis] + sum(pads) - (taps - 1) * spread - 1) % step for shape in shapes}
            if step > 1 and (rest != {0} or len({shape[axis] for shape in shapes}) > 1):
                raise read.refusal("ceil_mode", 1, "0")
    if len(kernel) > 1 and (kernel[0], options["stride"][0], options["padding"][0]) == (1, 1, (0, 0)):
        kernel, options = kernel[1:], {name: each[1:] for name, each in options.items()}
    counted = kind == "max" or bool(read.integer("count_include_pad"))
    return call.tracer.pool(call.rows(), kind, taps=kernel, count_include_pad=counted, place=call.place, **options)


def _dequantize_table(call: Call) -> Any:
    """DequantizeLinear of what QuantizeLinear gave: data that stays float, in the range of its integers."""
    made_by = call.value(0).made_by
    if made_by is None or made_by.op_type != "QuantizeLinear":
        raise call.refused("of what is not QuantizeLinear's")
    for index in (1, 2):
        if call.has(index) != made_by.has(index) or (
            call.has(index) and not np.array_equal(call.constant(index), made_by.constant(index))
        ):
            raise call.refused("with another scale or zero point than QuantizeLinear's")
    return call.rows()


def _quantize(call: Call) -> Any:
    scale = call.scalar(1, 1.0)
    zero = call.constant(2) if call.has(2) else np.zeros((), np.uint8)
    if zero.dtype not in (np.int8, np.uint8, np.int16, np.uint16) or zero.size != 1 or not scale > 0:
        raise call.refused("with scales for each channel, or other types; supported: one scale, 8 or 16 bits")
    info = np.iinfo(zero.dtype)
    least, most = ((bound - int(zero.reshape(()))) * scale for bound in (info.min, info.max))
    return _clipped(call, call.rows(), least, most)


def _dynamic_quantize(call: Call) -> list[Value]:
    """What stays float: its scale is 1, and its zero point 0."""
    probes = call.probes
    one, zero = np.ones((), np.float32), np.zeros((), np.uint8)
    return [Value(rows=call.rows()), Value(numbers=(one,) * probes), Value(numbers=(zero,) * probes)]


def _matmul_integer(call: Call) -> Any:
    made_by = call.value(0).made_by
    if made_by is None or made_by.op_type != "DynamicQuantizeLinear":
        raise call.refused("of what is not DynamicQuantizeLinear's")
    weight = call.constant(1).astype(np.float64)
    if call.has(3):
        weight = weight - call.constant(3).astype(np.float64)
    if weight.ndim != 2:
        raise call.refused(f"by a constant of shape {weight.shape}; supported: two axes")
    return call.tracer.linear(call.rows(), to_float32(weight.T, call.where), place=call.place)


def _one_hot(call: Call) -> Any:
    depth, values, axis = int(call.scalar(1, 0)), call.floats(2), call.whole("axis", -1)
    x = call.rows()
    if values.shape != (2,) or axis not in (-1, len(x.axes)) or not 0 < depth <= 2**12:
        raise call.refused(f"of {depth} along axis {axis}; supported: up to 4096 along the last axis")
    table = np.where(np.eye(depth, dtype=bool), values[1], values[0])
    return call.tracer.embedding(x, table, place=call.place)


OPERATORS: dict[str, Callable[[Call], Any]] = {
    **MOVES,
    **dict.fromkeys(_ACTIVATIONS, _activation),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), _pairwise),
    **dict.fromkeys(("Max", "Min"), _bounded),
    **dict.fromkeys(_COMPARISONS, _compared),
    **dict.fromkeys(("And", "Or", "Xor"), _logical),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), _group_norm),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_norm),
    **dict.fromkeys((f"Reduce{kind}" for kind in ("L1", "L2", "Max", "Mean", "Min", "Sum", "SumSquare")), _reduce),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "com.microsoft.DynamicQuantizeLSTM"), recurrent),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Celu": _celu,
    "Clip": _clip,
    "Conv": _conv,
    "ConvTranspose": _conv_transposed,
    "DequantizeLinear": _dequantize_table,
    "Dropout": _dropout,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "HardSwish": _gated("HardSigmoid", 1 / 6, 0.5),
    "Identity": lambda call: call.value(0),
    "LpNormalization": _lp_norm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "Mish": _mish,
    "Neg": _negative,
    "Not": _not,
    "OneHot": _one_hot,
    "PRelu": _prelu,
    "Pow": _power,
    "QuantizeLinear": _quantize,
    "Selu": _selu,
    "Swish": _gated("Sigmoid"),
    "Where": _where,
}
