"""As bit_model.py, for nodes of models: csrc/kernels/generic/functions.h and rows.h, operation by operation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bit_model import EXP2_COEFFICIENTS, F32, LOG2_E, add, div, flush, fma, mul
from general_bit_model import LOG1P_COEFFICIENTS, relu

INFINITY = F32(np.inf)
LOG2_E_REST = F32(float.fromhex("0x1.4ae0c0p-26"))
LOG_2 = F32(float.fromhex("0x1.62e430p-1"))
GELU_TANH = [F32(float.fromhex(c)) for c in ("0x1.2444f2p-4", "0x1.988454p+0")]
TAIL_COEFFICIENTS = [
    F32(float.fromhex(c))
    for c in (
        *("-0x1.04e3bcp-13", "0x1.acba98p-13", "0x1.9feb60p-10", "-0x1.ce1f3ap-9", "-0x1.edfd7ap-8"),
        *("0x1.eed94cp-5", "-0x1.7dfebep-3", "0x1.8c6d8ap-2", "-0x1.373e3cp-1", "0x1.82b4bcp-1"),
    )
]
ROOT_HALF = np.int32(0x3F3504F3)
SUMS = 16

Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]


def select_less(a: np.ndarray, b: np.ndarray | np.float32, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(flush(a) < flush(b), x, y).astype(F32)


def horner(coefficients: list[np.float32], x: np.ndarray) -> np.ndarray:
    value = np.full(x.shape, coefficients[0])
    for coefficient in coefficients[1:]:
        value = fma(value, x, np.full(x.shape, coefficient))
    return value


def exp(x: np.ndarray) -> np.ndarray:
    finite = np.clip(x, F32(-87.6), F32(89))
    n = np.rint(mul(finite, LOG2_E)).astype(F32)
    f = fma(finite, LOG2_E_REST, fma(finite, LOG2_E, add(F32(0), -n)))
    q = horner(EXP2_COEFFICIENTS, f)
    halvings = (n > 127).astype(F32)
    power = np.ldexp(F32(1), (n - halvings).astype(int)).astype(F32)
    return mul(fma(power, mul(q, f), power), add(halvings, F32(1)))


def log(x: np.ndarray) -> np.ndarray:
    """Of positive numbers."""
    above = x.view(np.int32) - ROOT_HALF
    exponent = (above >> 23).astype(F32)
    mantissa = ((above & 0x7FFFFF) + ROOT_HALF).view(F32)
    s = div(add(mantissa, F32(-1)), add(mantissa, F32(1)))
    return fma(exponent, LOG_2, mul(s, horner(LOG1P_COEFFICIENTS, mul(s, s))))


def gated(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    return div(x, add(F32(1), exp(-v)))


def silu(x: np.ndarray) -> np.ndarray:
    finite = np.maximum(x, F32(-128))
    return gated(finite, finite)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    finite = np.maximum(x, F32(-16))
    return gated(finite, mul(finite, horner(GELU_TANH, mul(finite, finite))))


def gelu(x: np.ndarray) -> np.ndarray:
    z = np.minimum(np.abs(x), F32(14.5))
    high = mul(z, z)
    low = fma(z, z, -high)
    e = exp(mul(high, F32(-0.5)))
    e = fma(e, mul(low, F32(-0.5)), e)
    d = div(F32(1), add(z, F32(4)))
    r = horner(TAIL_COEFFICIENTS, fma(d, F32(-8), np.ones_like(d)))
    return fma(-z, mul(e, mul(d, r)), relu(x))


def clip(x: np.ndarray, alpha: np.float32, beta: np.float32) -> np.ndarray:
    raised = select_less(x, alpha, np.full(x.shape, alpha), x)
    return select_less(np.full(x.shape, beta), raised, np.full(x.shape, beta), raised)


def sqrt(x: np.ndarray) -> np.ndarray:
    return np.sqrt(flush(x)).astype(F32)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Gelu": gelu,
    "GeluTanh": gelu_tanh,
    "Silu": silu,
    "Abs": lambda x: np.abs(flush(x)),
    "Square": lambda x: mul(x, x),
    "Sqrt": sqrt,
    "Exp": exp,
    "Log": log,
}


def larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return select_less(a, b, b, select_less(b, INFINITY, a, add(a, b)))


def over_part(x: np.ndarray, start: np.float32, step: Combine, combine: Combine) -> np.ndarray:
    """What (1,) comes of x by 16 accumulators and a tree, as if x went on with `start` up to a whole block."""
    blocks = np.full(-(-len(x) // SUMS) * SUMS, start, F32)
    blocks[: len(x)] = x
    accumulators = np.full(SUMS, start, F32)
    for block in blocks.reshape(-1, SUMS):
        accumulators = step(accumulators, block)
    while len(accumulators) > 1:
        accumulators = combine(*np.split(accumulators, 2))
    return accumulators


def total(x: np.ndarray) -> np.ndarray:
    return over_part(x, F32(0), add, add)


def total_of_squares(x: np.ndarray) -> np.ndarray:
    return over_part(x, F32(0), lambda sums, block: fma(block, block, sums), add)


def largest(x: np.ndarray) -> np.ndarray:
    return add(over_part(x, -INFINITY, larger, larger), F32(0))


def chain(combine: Combine, x: np.ndarray) -> np.ndarray:
    y = x[0]
    for part in x[1:]:
        y = combine(y, part)
    return y


def softmax(x: np.ndarray) -> np.ndarray:
    e = exp(add(x, -largest(x)))
    return mul(e, div(F32(1), total(e)))


def log_softmax(x: np.ndarray) -> np.ndarray:
    d = add(x, -largest(x))
    return add(d, -log(total(exp(d))))


def normalised(x: np.ndarray, epsilon: np.float32, divisor: str) -> np.ndarray:
    """Before weight and bias."""
    if divisor == "layer_norm":
        x = add(x, -div(total(x), F32(len(x))))
    squares = total_of_squares(x)
    if divisor == "l2_norm":
        root = larger(np.full(1, epsilon), sqrt(squares))
    else:
        root = sqrt(add(div(squares, F32(len(x))), epsilon))
    return mul(x, div(F32(1), root))


def row(kernel: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: np.float32) -> np.ndarray:
    """What a row kernel makes of x (parts, size): (size,) where it adds up the parts, else (parts, size)."""
    match kernel:
        case "add" | "sum_pool":
            return chain(add, x)
        case "multiply":
            return chain(mul, x)
        case "max_pool":
            return chain(larger, x)
        case "mean_pool":
            return div(chain(add, x), F32(len(x)))
        case "depthwise":
            y = bias
            for w, part in zip(weight, x, strict=True):
                y = fma(w, part, y)
            return y
        case "scale":
            return fma(weight, x, bias)
        case "prelu":
            return select_less(x, F32(0), mul(weight, x), x)
        case "glu":
            return gated(x[0], x[1])
        case "softmax":
            return np.array([softmax(part) for part in x])
        case "log_softmax":
            return np.array([log_softmax(part) for part in x])
        case _:
            return fma(np.array([normalised(part, epsilon, kernel) for part in x]), weight, bias)
