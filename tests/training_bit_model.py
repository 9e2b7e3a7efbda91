"""The arithmetic of training, operation by operation, in NumPy: see bit_model.py.

Written from the order of operations that csrc/kernels/generic/training.h defines, for one layer in one direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bit_model import F32, add, div, exp_negative, fma, mul, sigmoid_denominator, tanh_parts

ONE = F32(1)
SEGMENT_ROWS = 256


class Derivatives(NamedTuple):
    y: np.ndarray
    x: np.ndarray
    state: list[np.ndarray]
    weights: dict[str, np.ndarray]


def chains(start: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """start + rows weights^T, of each output one fused multiply-add after the other."""
    total = np.broadcast_to(start, (len(rows), len(weights))).astype(F32)
    for k in range(weights.shape[1]):
        total = fma(*np.broadcast_arrays(weights[:, k], rows[:, k, None], total))
    return total


def slope_of_sigmoid(v: np.ndarray) -> np.ndarray:
    return fma(-v, v, v)


def slope_of_tanh(v: np.ndarray) -> np.ndarray:
    return fma(-v, v, np.full_like(v, ONE))


def lstm_step(u: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    d_i, d_f, d_o = (sigmoid_denominator(np.split(u, 4, axis=1)[gate]) for gate in (0, 1, 3))
    n_g, m_g = tanh_parts(np.split(u, 4, axis=1)[2])
    gate = mul(d_i, m_g)
    denominator = mul(d_f, gate)
    c_next = div(fma(c, gate, mul(n_g, d_f)), denominator)
    n_c, m_c = tanh_parts(c_next)
    reciprocal = div(ONE, denominator)
    gates = [
        mul(mul(d_f, m_g), reciprocal),
        mul(gate, reciprocal),
        mul(n_g, mul(mul(d_f, d_i), reciprocal)),
        div(ONE, d_o),
    ]
    return div(n_c, mul(d_o, m_c)), c_next, gates


def gru_step(p: np.ndarray, a: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    (p_r, p_z, p_n), (a_r, a_z, a_n) = np.split(p, 3, axis=1), np.split(a, 3, axis=1)
    d_r, e = sigmoid_denominator(add(p_r, a_r)), exp_negative(add(p_z, a_z))
    n_n, m_n = tanh_parts(add(p_n, div(a_n, d_r)))
    update = add(ONE, e)
    denominator = mul(update, m_n)
    reciprocal = div(ONE, denominator)
    gates = [mul(n_n, mul(update, reciprocal)), div(ONE, d_r), mul(m_n, reciprocal), a_n]
    return div(fma(h, m_n, mul(e, n_n)), denominator), gates


def run(
    kind: str,
    mapping: Mapping[str, np.ndarray],
    x: np.ndarray,
    state: list[np.ndarray],
    dy: np.ndarray,
    lengths: np.ndarray,
    resets: np.ndarray,
    reverse: bool = False,
) -> Derivatives:
    """Of x (T, B, I) and a loss whose derivative by y is dy; `mapping` has the four arrays without suffix."""
    w, r, b, b_h = (mapping[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    steps, batch, units = *x.shape[:2], r.shape[1]
    joined = b_h.copy()
    if kind == "gru":
        joined[2 * units :] = 0
    start = add(b, joined)
    rows = np.arange(batch)
    states, saved, live, times = [], [], [], []
    now = [part.copy() for part in state]
    y = np.zeros((steps, batch, units), F32)
    for step in range(steps):
        alive = step < lengths
        time = np.where(alive, lengths - 1 - step if reverse else step, 0)
        at = np.minimum(time + reverse, steps - 1)
        anew = alive & resets[at, rows] & (step > 0 or not reverse)
        now = [np.where(anew[:, None], F32(0), part) for part in now]
        p, a = chains(start, w, x[time, rows]), chains(b_h - joined, r, now[0])
        if kind == "lstm":
            h, c, gates = lstm_step(add(p, a), now[1])
            after = [h, c]
        elif kind == "gru":
            h, gates = gru_step(p, a, now[0])
            after = [h]
        else:
            after, gates = [div(*tanh_parts(add(p, a)))], []
        states.append((now, after, anew))
        saved.append(gates)
        live.append(alive)
        times.append(time)
        now = [np.where(alive[:, None], new, old) for new, old in zip(after, now, strict=True)]
        y[time[alive], rows[alive]] = after[0][alive]

    zero = np.zeros((batch, units), F32)
    dh, dc = zero, zero  # of the GRU dc is what comes past R
    d_of_step: list[tuple[np.ndarray, np.ndarray]] = [(zero, zero)] * steps
    dx = np.zeros(x.shape, F32)
    for step in reversed(range(steps)):
        before, after, anew = states[step]
        by_h = add(dy[times[step], rows], add(dh, dc) if kind == "gru" else dh)
        if kind == "lstm":
            i, f, g, o = saved[step]
            tanh_c = div(*tanh_parts(after[1]))
            by_c = fma(mul(by_h, o), slope_of_tanh(tanh_c), dc)
            by_gates = [
                mul(mul(by_c, g), slope_of_sigmoid(i)),
                mul(mul(by_c, before[1]), slope_of_sigmoid(f)),
                mul(mul(by_c, i), slope_of_tanh(g)),
                mul(mul(by_h, tanh_c), slope_of_sigmoid(o)),
            ]
            on_x = on_h = np.concatenate(by_gates, axis=1)
            past, order = mul(by_c, f), np.arange(4 * units)
        elif kind == "gru":
            n, reset, z, a_n = saved[step]
            d_n = mul(mul(by_h, add(ONE, -z)), slope_of_tanh(n))
            d_r = mul(mul(d_n, a_n), slope_of_sigmoid(reset))
            d_z = mul(mul(by_h, add(before[0], -n)), slope_of_sigmoid(z))
            on_x, on_h = (np.concatenate([d_r, d_z, last], axis=1) for last in (d_n, mul(d_n, reset)))
            past, order = mul(by_h, z), np.roll(np.arange(3 * units), units)
        else:
            on_x = on_h = mul(by_h, slope_of_tanh(after[0]))
            past, order = zero, np.arange(units)
        alive = live[step][:, None]
        through = chains(zero[0], r.T, on_h)
        dh = np.where(alive, np.where(anew[:, None], F32(0), through), dh)
        dc = np.where(alive, np.where(anew[:, None], F32(0), past), dc)
        d_of_step[step] = on_x, on_h
        by_x = chains(np.zeros(x.shape[2], F32), w.T[:, order], on_x[:, order])
        dx[times[step][live[step]], rows[live[step]]] = by_x[live[step]]

    sums = {name: np.zeros(array.shape, F32) for name, array in mapping.items()}
    segment = -(-SEGMENT_ROWS // batch)
    for end in range(steps, 0, -segment):
        parts = {name: np.zeros(array.shape, F32) for name, array in mapping.items()}
        for step in reversed(range(max(end - segment, 0), end)):
            for row in rows[live[step]]:
                on_x, on_h = (part[row] for part in d_of_step[step])
                for name, d, v in (
                    ("weight_ih", on_x, x[times[step][row], row]),
                    ("weight_hh", on_h, states[step][0][0][row]),
                ):
                    parts[name] = fma(*np.broadcast_arrays(d[:, None], v, parts[name]))
                parts["bias_ih"] = add(parts["bias_ih"], on_x)
                parts["bias_hh"] = add(parts["bias_hh"], on_h)
        sums = {name: add(total, parts[name]) for name, total in sums.items()}
    return Derivatives(y, dx, [add(dh, dc)] if kind == "gru" else [dh, dc][: len(state)], sums)


def linear(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y of rows x, and the derivatives by x, weight and bias of a loss whose derivative by y is dy."""
    by_weight, by_bias = np.zeros_like(weight), np.zeros_like(bias)
    for end in range(len(x), 0, -SEGMENT_ROWS):
        product, added = np.zeros_like(weight), np.zeros_like(bias)
        for row in reversed(range(max(end - SEGMENT_ROWS, 0), end)):
            product = fma(*np.broadcast_arrays(dy[row, :, None], x[row], product))
            added = add(added, dy[row])
        by_weight, by_bias = add(by_weight, product), add(by_bias, added)
    return chains(bias, weight, x), chains(np.zeros(x.shape[1], F32), weight.T, dy), by_weight, by_bias
