"""What exporters write as several operators and a model has as one: norms, and GELU by Erf."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .calls import Call
from .values import Value

_SOFTPLUS_IS_X = 15.0  # from here on but for 3e-7


def normalised(call: Call) -> Any:
    """LayerNorm, RMSNorm or L2 norm, if that is what a Div, or a Mul by a reciprocal, makes; None if not."""
    for first, second in ((0, 1), (1, 0))[: 2 if call.op_type == "Mul" else 1]:
        numerator = call.value(first)
        root = call.value(second) if call.op_type == "Div" else _reciprocal(call.value(second))
        if numerator.numbers or root is None or root.numbers:
            continue
        made = _by_variance(call, numerator, root) or _by_length(call, numerator, root)
        if made is not None:
            return made
    return None


def _by_variance(call: Call, numerator: Value, root: Value) -> Any:
    added = _with_constant(_made(root, "Sqrt") or _power(root, 0.5), "Add")
    if added is None:
        return None
    mean, eps = added
    found = _reduction(mean, "ReduceMean")
    squared = found and _squared(found[0])
    if found is None or squared is None:
        return None
    axes = found[1]
    if squared is numerator and numerator.rows is not None:
        centered = _made(numerator, "Sub")
        source = centered and _centered(centered, axes)
        if source is None:
            return call.tracer.rms_norm(numerator.rows, axes, None, eps, place=call.place)
    source = _centered(_made(numerator, "Sub"), axes)
    if source is None or _centered(_made(squared, "Sub"), axes) is not source:
        return None
    return call.tracer.layer_norm(source.rows, axes, None, None, eps, place=call.place)


def _by_length(call: Call, numerator: Value, root: Value) -> Any:
    eps = 0.0
    expand = _made(root, "Expand")
    clip = _made(expand.value(0) if expand else root, "Clip", "Max")
    if clip is not None:
        eps = clip.scalar(1, 0.0) if clip.opset >= 11 or clip.op_type == "Max" else clip.attributes.number("min") or 0.0
        if clip.op_type == "Clip" and (clip.has(2) or eps < 0):
            return None
        root = clip.value(0)
    found = _reduction(root, "ReduceL2")
    if found is None:
        call_of = _made(root, "Sqrt")
        found = _reduction(call_of.value(0), "ReduceSum") if call_of else None
        squared = found and _squared(found[0])
        found = (squared, found[1]) if found and squared else None
    if found is None or found[0] is not numerator or numerator.rows is None or len(found[1]) != 1:
        return None
    return call.tracer.l2_norm(numerator.rows, found[1][0], eps, place=call.place)


def gelu(call: Call) -> Any:
    """x * 0.5 * (1 + erf(x / sqrt(2))) in any order, if that, or a multiple of it, is what a Mul makes; None if not."""
    factor, tensors = _factors(call, 4)
    for place, value in enumerate(tensors):
        added = _with_constant(_made(value, "Add"), "Add") if _made(value, "Add") else None
        erf = _made(added[0], "Erf") if added and added[1] == 1 else None
        if erf is None or len(tensors) != 2:
            continue
        x = tensors[1 - place]
        inner, sources = _scaled(erf.value(0))
        if sources is x and x.rows is not None and math.isclose(inner, math.sqrt(0.5), rel_tol=1e-6):
            made = call.tracer.activation(x.rows, "Gelu", place=call.place)
            return made if factor == 0.5 else call.tracer.multiply(made, 2 * factor, place=call.place)
    return None


def softplus(call: Call) -> Value | None:
    """Softplus of which a Where takes x itself from a threshold on, where they are the same; None if it is not that."""
    greater, x = _made(call.value(0), "Greater"), call.value(1)
    factor, value = _scaled(call.value(2))
    soft = _made(value, "Softplus")
    if greater is None or soft is None or (_number(greater.value(1)) or 0.0) < _SOFTPLUS_IS_X:
        return None
    beta, inside = _scaled(soft.value(0))
    asked = _scaled(greater.value(0))
    is_same = inside is x and asked[1] is x and asked[0] == beta and math.isclose(factor * beta, 1, rel_tol=1e-6)
    return call.value(2) if is_same else None


def thresholded(call: Call) -> Any:
    """x from a threshold on, and else 0, as Where(x < threshold, 0, x); None if it is not that."""
    less, x = _made(call.value(0), "Less"), call.value(2)
    threshold = None if less is None or less.value(0) is not x else _number(less.value(1))
    if threshold is None or _number(call.value(1)) != 0 or x.rows is None:
        return None
    return call.tracer.activation(x.rows, "ThresholdedRelu", threshold, place=call.place)


def ancestors(call: Call) -> set[str]:
    """The operators that what a node reads is computed by, but for divisions by constants."""
    found: dict[int, Call] = {}
    todo = [call]
    while todo:
        for value in todo.pop().inputs:
            made = value.made_by if value is not None and value.rows is not None else None
            if made is not None and id(made) not in found:
                found[id(made)] = made
                todo.append(made)
    return {made.op_type for made in found.values() if made.op_type != "Div" or not made.value(1).numbers}


def _factors(call: Call, depth: int) -> tuple[float, list[Value]]:
    """What a Mul multiplies: one number, and tensors."""
    number = 1.0
    tensors: list[Value] = []
    for index in range(len(call.inputs)):
        value = call.value(index)
        constant = _number(value)
        inner = _made(value, "Mul")
        if constant is not None:
            number *= constant
        elif inner is not None and depth:
            more, found = _factors(inner, depth - 1)
            number, tensors = number * more, tensors + found
        else:
            tensors.append(value)
    return number, tensors


def _scaled(value: Value) -> tuple[float, Value]:
    """A tensor as a number by another one."""
    call = _made(value, "Mul", "Div")
    if call is not None:
        numbers = [_number(call.value(index)) for index in (0, 1)]
        if numbers[1]:
            return (numbers[1] if call.op_type == "Mul" else 1 / numbers[1]), call.value(0)
        if numbers[0] and call.op_type == "Mul":
            return numbers[0], call.value(1)
    return 1.0, value


def _made(value: Value | None, *op_types: str) -> Call | None:
    call: Call | None = None if value is None else value.made_by
    return call if call is not None and call.op_type in op_types else None


def _number(value: Value) -> float | None:
    if not value.is_fixed or value.numbers[0].size != 1 or value.numbers[0].dtype.kind not in "iuf":
        return None
    return float(value.numbers[0].reshape(()))


def _operands(call: Call) -> Iterator[tuple[Value, Value]]:
    yield call.value(0), call.value(1)
    yield call.value(1), call.value(0)


def _with_constant(call: Call | None, op_type: str) -> tuple[Value, float] | None:
    """The tensor and the number that an operator, or the one before it, has for operands."""
    inner = call if call is None or call.op_type == op_type else _made(call.value(0), op_type)
    for value, other in _operands(inner) if inner is not None else ():
        number = _number(other)
        if number is not None and not value.numbers:
            return value, number
    return None


def _power(value: Value, power: float) -> Call | None:
    call = _made(value, "Pow")
    return call if call is not None and _number(call.value(1)) == power else None


def _squared(value: Value) -> Value | None:
    """Of what a tensor is the square."""
    call = _made(value, "Mul")
    if call is not None and call.value(0) is call.value(1):
        return call.value(0)
    power = _power(value, 2.0)
    return power.value(0) if power is not None else None


def _reciprocal(value: Value) -> Value | None:
    """Of what a tensor is the reciprocal."""
    call = _made(value, "Reciprocal")
    if call is not None:
        return call.value(0)
    call = _made(value, "Div")
    return call.value(1) if call is not None and _number(call.value(0)) == 1 else None


def _reduction(value: Value, op_type: str) -> tuple[Value, list[int]] | None:
    """Of what, and over which axes, a tensor is a mean or sum that keeps them."""
    call = _made(value, op_type)
    if call is None or call.attributes.integer("keepdims") == 0 or call.value(0).rows is None:
        return None
    axes = call.axes(1, len(call.rows(0).axes))
    return (call.value(0), axes) if axes else None


def _centered(call: Call | None, axes: list[int]) -> Value | None:
    """Of what a Sub takes the mean over these axes."""
    found = call and _reduction(call.value(1), "ReduceMean")
    return call.value(0) if call and found and found[0] is call.value(0) and found[1] == axes else None
