"""The kernels' arithmetic, operation by operation, in NumPy: which float each rounding gives.

This says what the bits are, apart from any kernel. `fusedcell.reference` says what the numbers should be; it works in
float64 and knows nothing of rounding, but for the integers and scales of int8, which this takes from there. Written
from the order of operations that csrc/kernels/kernel_api.h and the headers of csrc/kernels/generic define, for one
layer in one direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import numpy as np

from fusedcell.reference import quantise_input, quantise_weights

F32 = np.float32
Floats: TypeAlias = np.ndarray | np.float32
SMALLEST_NORMAL = F32(2.0**-126)
LOG2_E = F32(float.fromhex("0x1.715476p0"))
EXP2_COEFFICIENTS = [
    F32(float.fromhex(c))
    for c in ("0x1.429618p-13", "0x1.5ef134p-10", "0x1.3b2c3ep-7", "0x1.c6afa4p-5", "0x1.ebfbdep-3", "0x1.62e430p-1")
]


def flush(a: Floats) -> np.ndarray:
    """Denormals become zero of the same sign."""
    return np.where(np.abs(a) < SMALLEST_NORMAL, np.copysign(F32(0), a), a).astype(F32)


def fma(a: Floats, b: Floats, c: Floats) -> np.ndarray:
    """a * b + c, rounded once: the sum is rounded to odd in double first, then to float."""
    product = np.multiply(flush(a), flush(b), dtype=np.float64)
    addend = flush(c).astype(np.float64)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    bits = total.view(np.int64)
    toward = np.where((error > 0) == (total > 0), 1, -1)
    bits = np.where((error != 0) & (bits & 1 == 0), bits + toward, bits)
    return flush(bits.view(np.float64).astype(F32))


def add(a: Floats, b: Floats) -> np.ndarray:
    return flush(np.add(flush(a), flush(b), dtype=F32))


def mul(a: Floats, b: Floats) -> np.ndarray:
    return flush(np.multiply(flush(a), flush(b), dtype=F32))


def div(a: Floats, b: Floats) -> np.ndarray:
    return flush(np.divide(flush(a), flush(b), dtype=F32))


def exp2_parts(x: np.ndarray, scale: np.float32) -> tuple[np.ndarray, np.ndarray]:
    t = np.clip(mul(x, scale), F32(-30), F32(30))
    n = np.rint(t).astype(F32)
    f = add(t, -n)
    q = np.broadcast_to(EXP2_COEFFICIENTS[0], f.shape)
    for coefficient in EXP2_COEFFICIENTS[1:]:
        q = fma(q, f, np.broadcast_to(coefficient, f.shape))
    return np.ldexp(F32(1), n.astype(int)).astype(F32), mul(q, f)


def exp_negative(x: np.ndarray) -> np.ndarray:
    power, fraction = exp2_parts(x, -LOG2_E)
    return fma(power, fraction, power)


def sigmoid_denominator(x: np.ndarray) -> np.ndarray:
    return add(F32(1), exp_negative(x))


def tanh_parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    power, fraction = exp2_parts(x, F32(-2) * LOG2_E)
    numerator = add(add(F32(1), -power), -mul(power, fraction))
    return numerator, add(F32(2), -numerator)


def chain(start: np.ndarray, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """start + weights x with one fused multiply-add after the other, in the order of x."""
    total = start.astype(F32)
    for k in range(weights.shape[1]):
        total = fma(weights[:, k], np.broadcast_to(x[k], total.shape), total)
    return total


def int8_product(
    start: np.ndarray,
    weights: np.ndarray,
    x: np.ndarray,
    bounded: bool,
    static_scale: float | None = None,
    int16: bool = False,
) -> np.ndarray:
    """start + weights x in int8: one exact integer per row, one scale per row and input, one fused multiply-add."""
    rows, row_scale = quantise_weights(weights)
    values, input_scale = quantise_input(x, bounded=bounded, static_scale=static_scale, int16=int16)
    return fma((rows.astype(np.int64) @ values).astype(F32), mul(input_scale, row_scale), start)


def float_product(
    start: np.ndarray, weights: np.ndarray, x: np.ndarray, bounded: bool, static_scale: float | None = None
) -> np.ndarray:
    """start + weights x, for which bounds and scales mean nothing."""
    return chain(start, weights, x)


PRODUCTS: dict[str, Callable[..., np.ndarray]] = {
    "int8": int8_product,
    "int8_int16": partial(int8_product, int16=True),
}


def products(dtype: str | Mapping[str, str]) -> dict[str, Callable[..., np.ndarray]]:
    """What multiplies by each matrix, of one dtype for all or by its name."""
    names = ("weight_ih", "weight_hh", "weight_hr")
    dtypes = dict.fromkeys(names, dtype) if isinstance(dtype, str) else dtype
    return {name: PRODUCTS.get(dtypes.get(name, ""), float_product) for name in names}


def update_state(exp_negative_z: np.ndarray, n: np.ndarray, h: np.ndarray) -> np.ndarray:
    numerator, denominator = tanh_parts(n)
    return div(fma(h, denominator, mul(exp_negative_z, numerator)), mul(add(F32(1), exp_negative_z), denominator))


def run(
    kind: str,
    mapping: Mapping[str, np.ndarray],
    x: np.ndarray,
    dtype: str | Mapping[str, str] = "float32",
    input_scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """A whole sequence x (T, I) from state zero. Returns y (T, P) and the last c (H,) of an LSTM.

    `dtype` is that of all matrices, or one of each by its name without suffix; halves are rounded already.
    """
    product = products(dtype)
    bounded = kind != "rnn_relu" and "weight_hr_l0" not in mapping
    weight_ih, weight_hh = mapping["weight_ih_l0"], mapping["weight_hh_l0"]
    gates = {"rnn": 1, "lst": 4, "gru": 3}[kind[:3]]
    hidden = weight_ih.shape[0] // gates
    zeros = np.zeros(gates * hidden, F32)
    bias_ih, bias_hh = mapping.get("bias_ih_l0", zeros), mapping.get("bias_hh_l0", zeros)
    initial = zeros
    if kind == "gru_reset_after":
        initial = np.concatenate([zeros[: 2 * hidden], bias_hh[2 * hidden :]])
    bias = add(bias_ih, bias_hh - initial)

    h, c = np.zeros(weight_hh.shape[1], F32), np.zeros(hidden, F32)
    outputs = []
    for x_t in x:
        p = np.split(product["weight_ih"](bias, weight_ih, x_t, False, input_scale), gates)
        if kind == "gru_reset_before":
            a = np.split(product["weight_hh"](initial[: 2 * hidden], weight_hh[: 2 * hidden], h, bounded), 2)
            exp_negative_z = exp_negative(add(p[1], a[1]))
            reset_h = div(h, sigmoid_denominator(add(p[0], a[0])))
            n = add(p[2], product["weight_hh"](initial[:hidden], weight_hh[2 * hidden :], reset_h, True))
            h = update_state(exp_negative_z, n, h)
        else:
            a = np.split(product["weight_hh"](initial, weight_hh, h, bounded), gates)
            if kind == "gru_reset_after":
                n = add(p[2], div(a[2], sigmoid_denominator(add(p[0], a[0]))))
                h = update_state(exp_negative(add(p[1], a[1])), n, h)
            elif kind == "rnn_relu":
                h = np.maximum(add(p[0], a[0]), F32(0)) + F32(0)
            elif kind == "rnn_tanh":
                h = div(*tanh_parts(add(p[0], a[0])))
            else:
                i, f, g, o = (add(p_gate, a_gate) for p_gate, a_gate in zip(p, a, strict=True))
                forget = sigmoid_denominator(f)
                numerator, denominator = tanh_parts(g)
                gate = mul(sigmoid_denominator(i), denominator)
                c = div(fma(c, gate, mul(numerator, forget)), mul(forget, gate))
                numerator, denominator = tanh_parts(c)
                h = div(numerator, mul(sigmoid_denominator(o), denominator))
                if "weight_hr_l0" in mapping:
                    weight_hr = mapping["weight_hr_l0"]
                    h = product["weight_hr"](np.zeros(len(weight_hr), F32), weight_hr, h, True)
        outputs.append(h)
    return np.array(outputs), c if kind.startswith("lstm") else None
