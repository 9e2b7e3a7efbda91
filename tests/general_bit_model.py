"""As bit_model.py, for cells with options: csrc/kernels/generic/general.h, operation by operation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import bit_model
from bit_model import (
    F32,
    LOG2_E,
    add,
    div,
    exp2_parts,
    exp_negative,
    fma,
    mul,
    products,
    sigmoid_denominator,
    tanh_parts,
)
from fusedcell.cell_options import Activation, CellOptions
from models import GeneralKind, Kind

LOG1P_COEFFICIENTS = [
    F32(float.fromhex(c)) for c in ("0x1.1eca06p-2", "0x1.1ec042p-2", "0x1.99d1ccp-2", "0x1.555502p-1", "0x1p+1")
]
USUAL = {"rnn": ("Tanh",), "gru": ("Sigmoid", "Tanh"), "lst": ("Sigmoid", "Tanh", "Tanh")}


def clamp(a: np.ndarray, bound: np.float32) -> np.ndarray:
    return np.clip(a, -bound, bound)


def relu(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0, F32(0), x)


def expm1(x: np.ndarray) -> np.ndarray:
    power, fraction = exp2_parts(x, LOG2_E)
    return add(mul(power, fraction), add(power, F32(-1)))


def softplus(x: np.ndarray) -> np.ndarray:
    e = exp_negative(np.where(x < 0, -x, x))
    s = div(e, add(F32(2), e))
    square = mul(s, s)
    p = np.broadcast_to(LOG1P_COEFFICIENTS[0], x.shape)
    for coefficient in LOG1P_COEFFICIENTS[1:]:
        p = fma(p, square, np.broadcast_to(coefficient, x.shape))
    return fma(s, p, relu(x))


def softsign(x: np.ndarray) -> np.ndarray:
    finite = clamp(x, F32(2.0**30))
    return div(finite, add(F32(1), np.where(finite < 0, -finite, finite)))


def activate(activation: Activation, x: np.ndarray) -> np.ndarray:
    alpha, beta = (np.full(x.shape, value, F32) for value in (activation.alpha, activation.beta))
    return {
        "Relu": lambda: relu(x),
        "Tanh": lambda: div(*tanh_parts(x)),
        "Sigmoid": lambda: div(F32(1), sigmoid_denominator(x)),
        "Affine": lambda: fma(alpha, x, beta),
        "LeakyRelu": lambda: np.where(x < 0, mul(alpha, x), x),
        "ThresholdedRelu": lambda: np.where(x < alpha, F32(0), x),
        "ScaledTanh": lambda: mul(alpha, div(*tanh_parts(mul(beta, x)))),
        "HardSigmoid": lambda: np.minimum(relu(fma(alpha, x, beta)), F32(1)),
        "Elu": lambda: np.where(x < 0, mul(alpha, expm1(x)), x),
        "Softsign": lambda: softsign(x),
        "Softplus": lambda: softplus(x),
    }[activation.name]()


def run_kind(
    kind: Kind,
    mapping: Mapping[str, np.ndarray],
    x: np.ndarray,
    dtype: str | Mapping[str, str] = "float32",
    input_scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """`run`, or that of bit_model.py for a kind as usual."""
    if isinstance(kind, GeneralKind):
        return run(kind.kernel_kind, kind.cell_options, mapping, x, dtype, input_scale)
    return bit_model.run(kind.name, mapping, x, dtype, input_scale)


def run(
    kind: str,
    options: CellOptions,
    mapping: Mapping[str, np.ndarray],
    x: np.ndarray,
    dtype: str | Mapping[str, str] = "float32",
    input_scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """A whole sequence x (T, I) from state zero. Returns y (T, P) and the last c (H,) of an LSTM."""
    """A whole sequence x (T, I) from state zero. Returns y (T, P) and the last c (H,) of an LSTM."""
    product = products(dtype)
    activations = options.activations or tuple(Activation(name) for name in USUAL[kind[:3]])
    clip = F32(np.inf if options.clip is None else options.clip)

    def f(index: int, u: np.ndarray) -> np.ndarray:
        return activate(activations[index], clamp(u, clip))

    squash = [item.name in ("Tanh", "Sigmoid") for item in activations]
    bounded = squash[0] and squash[-1] and not (kind.startswith("gru") and activations[0].name != "Sigmoid")
    weight_ih, weight_hh = mapping["weight_ih_l0"], mapping["weight_hh_l0"]
    gates = {"rnn": 1, "lst": 4, "gru": 3}[kind[:3]]
    hidden = weight_ih.shape[0] // gates
    zeros = np.zeros(gates * hidden, F32)
    bias_ih, bias_hh = mapping.get("bias_ih_l0", zeros), mapping.get("bias_hh_l0", zeros)
    initial = zeros
    if kind == "gru_reset_after":
        initial = np.concatenate([zeros[: 2 * hidden], bias_hh[2 * hidden :]])
    bias = add(bias_ih, bias_hh - initial)
    peephole = np.split(mapping["weight_peephole_l0"], 3) if "weight_peephole_l0" in mapping else None

    h, c = np.zeros(weight_hh.shape[1], F32), np.zeros(hidden, F32)
    outputs = []
    for x_t in x:
        p = np.split(product["weight_ih"](bias, weight_ih, x_t, False, input_scale), gates)
        if kind == "gru_reset_before":
            a = np.split(product["weight_hh"](initial[: 2 * hidden], weight_hh[: 2 * hidden], h, bounded), 2)
            reset_h = mul(f(0, add(p[0], a[0])), h)
            u_n = add(p[2], product["weight_hh"](initial[:hidden], weight_hh[2 * hidden :], reset_h, bounded))
        else:
            a = np.split(product["weight_hh"](initial, weight_hh, h, bounded and "weight_hr_l0" not in mapping), gates)
        if kind == "gru_reset_after":
            u_n = fma(f(0, add(p[0], a[0])), a[2], p[2])
        if kind.startswith("gru"):
            z = f(0, add(p[1], a[1]))
            h = fma(z, h, mul(add(F32(1), -z), f(1, u_n)))
        elif kind.startswith("rnn"):
            h = f(0, add(p[0], a[0]))
        else:
            u_i, u_f, u_g, u_o = (add(p_gate, a_gate) for p_gate, a_gate in zip(p, a, strict=True))
            if peephole is not None:
                u_i, u_f = fma(peephole[0], c, u_i), fma(peephole[1], c, u_f)
            i = f(0, u_i)
            forget = add(F32(1), -i) if options.input_forget else f(0, u_f)
            c = fma(forget, c, mul(i, f(1, u_g)))
            if peephole is not None:
                u_o = fma(peephole[2], c, u_o)
            h = mul(f(0, u_o), activate(activations[2], clamp(c, clip) if options.clip_before_h else c))
            if "weight_hr_l0" in mapping:
                weight_hr = mapping["weight_hr_l0"]
                h = product["weight_hr"](np.zeros(len(weight_hr), F32), weight_hr, h, bounded)
        outputs.append(h)
    return np.array(outputs), c if kind.startswith("lstm") else None
