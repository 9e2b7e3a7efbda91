"""Arithmetic and activations."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from ...tracing import RefusedError, Rows, Tracer
from .interpreter import OPERATIONS, Args, Interpreter, Operation, ints, operation
from .values import name_of


# Elementwise.
@operation("add", "sub", "rsub", "subtract")
def _add(interpreter: Interpreter, a: Args, place: str) -> Any:
    first, second = interpreter.constant(a.self), interpreter.constant(a.other)
    if a.alpha != 1:
        second = interpreter.tracer.multiply(second, a.alpha) if isinstance(second, Rows) else second * a.alpha
    return interpreter.tracer.add(first, second, place)


def _subtract(interpreter: Interpreter, a: Args, place: str) -> Any:
    first, second = interpreter.constant(a.self), interpreter.constant(a.other)
    if getattr(a, "alpha", 1) != 1:
        second = interpreter.tracer.multiply(second, a.alpha) if isinstance(second, Rows) else second * a.alpha
    return interpreter.tracer.subtract(first, second, place)


OPERATIONS["sub"] = OPERATIONS["subtract"] = _subtract
OPERATIONS["rsub"] = lambda interpreter, a, place: _subtract(interpreter, Args(self=a.other, other=a.self), place)


@operation("mul", "multiply")
def _mul(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.multiply(interpreter.constant(a.self), interpreter.constant(a.other), place)


@operation("div", "divide", "true_divide")
def _div(interpreter: Interpreter, a: Args, place: str) -> Any:
    if getattr(a, "rounding_mode", None):
        raise RefusedError("a division that rounds")
    if isinstance(a.other, Rows) and _is_softsign(interpreter.node):
        return interpreter.tracer.activation(a.self, "Softsign", place=place)
    if isinstance(a.other, Rows) and (found := _length_below(interpreter.node)) is not None:
        return interpreter.tracer.l2_norm(a.self, *found, place=place)
    first, second = interpreter.constant(a.self), interpreter.constant(a.other)
    tracer = interpreter.tracer
    return (tracer.quotient if isinstance(second, Rows) else tracer.divide)(first, second, place)


@operation("reciprocal", "rsqrt")
def _reciprocal(interpreter: Interpreter, a: Args, place: str) -> Any:
    below = a.self
    if name_of(interpreter.node).startswith("rsqrt"):
        below = interpreter.tracer.activation(below, "Sqrt", place=place)
    return interpreter.tracer.quotient(1.0, below, place)


# Truth values are 0 and 1.
@operation("bitwise_not", "logical_not")
def _not(interpreter: Interpreter, a: Args, place: str) -> Any:
    _check_bool(interpreter.node.args[0])
    return interpreter.tracer.subtract(1.0, a.self, place)


@operation("bitwise_and", "logical_and", "__and", "bitwise_or", "logical_or", "__or", "bitwise_xor", "logical_xor",
           "__xor")  # fmt: skip
def _and(interpreter: Interpreter, a: Args, place: str) -> Any:
    for node in interpreter.node.args:
        _check_bool(node)
    kind = next(kind for kind in ("and", "xor", "or") if kind in name_of(interpreter.node))
    return interpreter.tracer.logical(interpreter.constant(a.self), interpreter.constant(a.other), kind, place)


@operation("gt", "lt", "ge", "le", "ne", "eq")
def _compared(interpreter: Interpreter, a: Args, place: str) -> Any:
    tracer, name = interpreter.tracer, name_of(interpreter.node)
    if interpreter.node.args[0] is interpreter.node.args[1]:
        raise RefusedError(f"{name} of a value and itself, as to find NaN; supported: inputs without NaN")
    more, less = interpreter.constant(a.self), interpreter.constant(a.other)
    if isinstance(less, int | float) and (tokens := tracer.graph.tokens(more.parts[0])):
        table = getattr(operator, name)(np.arange(tokens), less).astype(np.float32)
        return tracer.squeeze(tracer.embedding(more, table[:, None], place), [-1])
    return tracer.compared(more, less, name, place)


def not_zero(interpreter: Interpreter, x: Rows, place: str) -> Rows:
    """1 where a number is not zero."""
    return interpreter.tracer.above_zero(interpreter.tracer.activation(x, "Abs", place=place), place)


@operation("masked_fill")
def _masked_fill(interpreter: Interpreter, a: Args, place: str) -> Any:
    return _chosen(interpreter, a.mask, a.value, a.self, place)


@operation("where")
def _where(interpreter: Interpreter, a: Args, place: str) -> Any:
    _check_bool(interpreter.node.args[0])
    return _chosen(interpreter, a.condition, a.self, a.other, place)


def _check_bool(node: Any) -> None:
    if str(node.meta["val"].dtype) != "torch.bool":
        raise RefusedError("a mask that is no bool tensor")


def _chosen(interpreter: Interpreter, mask: Any, chosen: Any, other: Any, place: str) -> Any:
    """`chosen` where the mask is 1, else `other`; numbers that are infinite are the largest of float32."""
    inside, shape = interpreter.constant(mask), tuple(interpreter.node.meta["val"].shape)
    for value, truth in ((chosen, 1), (other, 0)):
        is_same = not isinstance(inside, Rows) and (inside == truth).all()
        if is_same and isinstance(value, Rows) and value.shapes[0] == shape:
            return value
    if risky := _MAY_BE_INFINITE & {name_of(node) for node in _ancestors(interpreter.node)}:
        raise RefusedError(f"a choice between values that may be infinite or NaN, of {', '.join(sorted(risky))}")

    return interpreter.tracer.chosen(inside, interpreter.constant(chosen), interpreter.constant(other), place)


# A product with 0 would not leave out what these give.
_MAY_BE_INFINITE = {"div", "reciprocal", "rsqrt", "sqrt", "pow"}
_MAY_BE_INFINITE |= {"log", "log1p", "log2", "log10", "exp", "exp2", "expm1"}


def _ancestors(node: Any) -> set[Any]:
    """What a node is computed of, but for divisions by numbers."""
    found: set[Any] = set()
    todo = [node]
    while todo:
        for before in todo.pop().all_input_nodes:
            if before not in found:
                found.add(before)
                todo.append(before)
    return {before for before in found if name_of(before) != "div" or hasattr(before.args[1], "target")}


def _length_below(node: Any) -> tuple[int, float] | None:
    """Of x / max(its length along an axis, eps), as F.normalize computes it, the axis and eps."""
    x, below = node.args
    eps = 0.0
    while (name := name_of(below)) in ("expand", "expand_as", "clamp_min", "clamp"):
        if name.startswith("clamp"):
            if eps or len(below.args) != 2 or below.kwargs or not isinstance(below.args[1], float):
                return None
            eps = below.args[1]
        below = below.args[0]
    if name_of(below) not in ("linalg_vector_norm", "norm") or below.args[0] is not x or below.kwargs:
        return None
    _, order, dims, keepdim = (*below.args, None, None, None)[:4]
    return (dims[0], eps) if order == 2 and keepdim and dims is not None and len(dims) == 1 else None


@operation("linalg_vector_norm", "linalg_norm", "norm")
def _norm(interpreter: Interpreter, a: Args, place: str) -> Any:
    tracer, order = interpreter.tracer, getattr(a, "ord", getattr(a, "p", None))
    dims = ints(a.dim) if getattr(a, "dim", None) is not None else []
    order = 2 if order is None else order
    of_matrix = len(dims) > 1 and name_of(interpreter.node) == "linalg_norm"
    if order not in (1, 2, math.inf) or not dims or of_matrix:
        raise RefusedError(f"a norm of order {order}, of matrices or over everything; supported: 1, 2 and inf, of axes")
    each = tracer.activation(a.self, "Square" if order == 2 else "Abs", place=place)
    made = tracer.reduce(each, "max" if order == math.inf else "sum", dims, keepdims=a.keepdim, place=place)
    return tracer.activation(made, "Sqrt", place=place) if order == 2 else made


@operation("cosine_similarity")
def _cosine(interpreter: Interpreter, a: Args, place: str) -> Any:
    dim = a.dim if a.dim < 0 else a.dim - interpreter.node.meta["val"].ndim - 1
    shapes = [x.shapes[0] if isinstance(x, Rows) else x.shape for x in (a.x1, a.x2)]
    if any(len(shape) < -dim for shape in shapes) or len({shape[dim] for shape in shapes}) > 1:
        raise RefusedError(
            f"cosine_similarity of {' and '.join(str(tuple(shape)) for shape in shapes)}, of other lengths"
        )

    def normal(x: Any) -> Any:
        if isinstance(x, Rows):
            return interpreter.tracer.l2_norm(x, dim, a.eps, place)
        return interpreter.constant(interpreter.torch.nn.functional.normalize(x.double(), dim=dim, eps=a.eps))

    both = interpreter.tracer.multiply(normal(a.x1), normal(a.x2), place)
    return interpreter.tracer.reduce(both, "sum", [dim], place=place)


def _is_softsign(node: Any) -> bool:
    """Whether it is x / (|x| + 1), as nn.Softsign computes it."""
    x, below = node.args
    if len(getattr(below, "args", ())) != 2 or not hasattr(below.args[0], "target"):
        return False
    names = [name_of(part) for part in (below, below.args[0])]
    return bool(names == ["add", "abs"] and below.args[1] == 1 and not below.kwargs and below.args[0].args[0] is x)


@operation("maximum", "minimum")
def _maximum(interpreter: Interpreter, a: Args, place: str) -> Any:
    method = getattr(interpreter.tracer, name_of(interpreter.node)[:3] + "imum")
    return method(interpreter.constant(a.self), interpreter.constant(a.other), place)


@operation("lerp")
def _lerp(interpreter: Interpreter, a: Args, place: str) -> Any:
    tracer = interpreter.tracer
    first, last, weight = (interpreter.constant(value) for value in (a.self, a.end, a.weight))
    return tracer.add(first, tracer.multiply(tracer.subtract(last, first, place), weight, place), place)


@operation("addcmul")
def _addcmul(interpreter: Interpreter, a: Args, place: str) -> Any:
    tracer = interpreter.tracer
    first, second, third = (interpreter.constant(value) for value in (a.self, a.tensor1, a.tensor2))
    if not isinstance(second, Rows) and not isinstance(third, Rows):
        return tracer.add(first, second * third * a.value, place)
    return tracer.add(first, tracer.multiply(tracer.multiply(second, third, place), a.value, place), place)


@operation("neg")
def _neg(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.multiply(a.self, -1.0, place)


def _plain(name: str) -> Operation:
    return lambda interpreter, a, place: interpreter.tracer.activation(a.self, name, place=place)


OPERATIONS |= {
    torch_name: _plain(name)
    for torch_name, name in {
        "relu": "Relu",
        "tanh": "Tanh",
        "sigmoid": "Sigmoid",
        "silu": "Silu",
        "softsign": "Softsign",
        "abs": "Abs",
        "square": "Square",
        "sqrt": "Sqrt",
        "exp": "Exp",
        "log": "Log",
    }.items()
}


@operation("log1p", "log2", "log10", "exp2", "expm1")
def _function(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.function(a.self, name_of(interpreter.node).rstrip("_"), place)


@operation("leaky_relu")
def _leaky_relu(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.activation(a.self, "LeakyRelu", a.negative_slope, place=place)


@operation("elu")
def _elu(interpreter: Interpreter, a: Args, place: str) -> Any:
    if a.scale != 1 or a.input_scale != 1:
        raise RefusedError("elu with scales")
    return interpreter.tracer.activation(a.self, "Elu", a.alpha, place=place)


@operation("celu")
def _celu(interpreter: Interpreter, a: Args, place: str) -> Any:
    x = interpreter.tracer.multiply(a.self, 1 / a.alpha, place)
    return interpreter.tracer.multiply(interpreter.tracer.activation(x, "Elu", 1.0, place=place), a.alpha, place)


@operation("rrelu")
def _rrelu(interpreter: Interpreter, a: Args, place: str) -> Any:
    if a.training:
        raise RefusedError("rrelu in training mode; supported: module.eval()")
    return interpreter.tracer.activation(a.self, "LeakyRelu", (a.lower + a.upper) / 2, place=place)


@operation("softshrink")
def _softshrink(interpreter: Interpreter, a: Args, place: str) -> Any:
    near = interpreter.tracer.activation(a.self, "Clip", -a.lambd, a.lambd, place=place)
    return interpreter.tracer.subtract(a.self, near, place)


@operation("sign")
def _sign(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.sign(a.self, place)


@operation("selu")
def _selu(interpreter: Interpreter, a: Args, place: str) -> Any:
    elu = interpreter.tracer.activation(a.self, "Elu", 1.6732632423543772, place=place)
    return interpreter.tracer.multiply(elu, 1.0507009873554805, place)


@operation("hardshrink")
def _hardshrink(interpreter: Interpreter, a: Args, place: str) -> Any:
    tracer = interpreter.tracer
    size = tracer.activation(a.self, "Abs", place=place)
    return tracer.multiply(a.self, tracer.above_zero(tracer.add(size, -a.lambd, place), place), place)


@operation("threshold")
def _threshold(interpreter: Interpreter, a: Args, place: str) -> Any:
    above = interpreter.tracer.above_zero(interpreter.tracer.add(a.self, -a.threshold, place), place)
    return _chosen(interpreter, above, a.self, a.value, place)


@operation("relu6")
def _relu6(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.activation(a.self, "Clip", 0.0, 6.0, place=place)


@operation("hardtanh", "clamp", "clamp_min", "clamp_max")
def _clip(interpreter: Interpreter, a: Args, place: str) -> Any:
    largest = float(np.finfo(np.float32).max)
    least = next((getattr(a, name) for name in ("min_val", "min") if getattr(a, name, None) is not None), -largest)
    most = next((getattr(a, name) for name in ("max_val", "max") if getattr(a, name, None) is not None), largest)
    if not isinstance(least, int | float) or not isinstance(most, int | float):
        x = interpreter.tracer.maximum(a.self, interpreter.constant(least), place)
        return interpreter.tracer.minimum(x, interpreter.constant(most), place)
    return interpreter.tracer.activation(a.self, "Clip", least, most, place=place)


@operation("hardsigmoid")
def _hardsigmoid(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.activation(a.self, "HardSigmoid", 1 / 6, 0.5, place=place)


@operation("hardswish")
def _hardswish(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.multiply(a.self, _hardsigmoid(interpreter, a, place), place)


@operation("softplus")
def _softplus(interpreter: Interpreter, a: Args, place: str) -> Any:
    # Beyond its threshold PyTorch gives x, which float32 cannot tell from softplus at 20.
    if a.threshold * a.beta < 15:
        raise RefusedError(f"softplus with a threshold of {a.threshold}; supported: 15 or more")
    x = a.self if a.beta == 1 else interpreter.tracer.multiply(a.self, a.beta, place)
    made = interpreter.tracer.activation(x, "Softplus", place=place)
    return made if a.beta == 1 else interpreter.tracer.multiply(made, 1 / a.beta, place)


@operation("gelu")
def _gelu(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.activation(a.self, "Gelu" if a.approximate == "none" else "GeluTanh", place=place)


@operation("mish")
def _mish(interpreter: Interpreter, a: Args, place: str) -> Any:
    soft = interpreter.tracer.activation(a.self, "Softplus", place=place)
    return interpreter.tracer.multiply(a.self, interpreter.tracer.activation(soft, "Tanh", place=place), place)


@operation("log_sigmoid")
def _log_sigmoid(interpreter: Interpreter, a: Args, place: str) -> Any:
    soft = interpreter.tracer.activation(interpreter.tracer.multiply(a.self, -1.0, place), "Softplus", place=place)
    return interpreter.tracer.multiply(soft, -1.0, place)


@operation("prelu")
def _prelu(interpreter: Interpreter, a: Args, place: str) -> Any:
    return interpreter.tracer.prelu(a.self, interpreter.array(a.weight), min(1, len(a.self.axes) - 1), place)


@operation("pow")
def _pow(interpreter: Interpreter, a: Args, place: str) -> Any:
    tracer, x, power = interpreter.tracer, a.self, interpreter.constant(a.exponent)
    if isinstance(power, Rows):
        base = interpreter.constant(x)
        if isinstance(base, Rows) or np.min(base) <= 0:
            raise RefusedError("a power whose exponent depends on the input; supported: of constants above 0")
        return tracer.activation(tracer.multiply(power, np.log(base), place), "Exp", place=place)
    if isinstance(power, np.ndarray) and power.size > 1:
        if (power == np.round(power)).any():
            raise RefusedError("a power of several exponents; supported: one, or numbers that are not whole")
        return _exp_log(tracer, x, power, place)
    power = float(np.squeeze(power))
    if power < 0 and (power == int(power) or power == -0.5):
        return tracer.quotient(1.0, _raised(tracer, x, -power, place), place)
    return _raised(tracer, x, power, place)


def _raised(tracer: Tracer, x: Rows, power: float, place: str) -> Rows:
    if power == 1:
        return x
    if power in (2, 0.5):
        return tracer.activation(x, "Square" if power == 2 else "Sqrt", place=place)
    if power in (3, 4):
        square = tracer.activation(x, "Square", place=place)
        return tracer.multiply(x, square, place) if power == 3 else tracer.activation(square, "Square", place=place)
    if power == int(power):
        raise RefusedError(
            f"a power of {power:g}; supported: from 1 to 4, their negatives, and numbers that are not whole"
        )
    return _exp_log(tracer, x, power, place)


def _exp_log(tracer: Tracer, x: Rows, power: Any, place: str) -> Rows:
    logarithm = tracer.multiply(tracer.activation(x, "Log", place=place), power, place)
    return tracer.activation(logarithm, "Exp", place=place)
