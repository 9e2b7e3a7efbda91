"""What a recurrent state is made of, and what an answer hangs on, from the gates and cells that a layer returns.

A GRU's h' = z h + (1 - z) n and an LSTM's c' = f c + i g are sums over what was written at each step, of which the
gates since then have kept a share. So the last state is exactly the sum of what is left of each step:

    GRU    h_T = sum over t of (1 - z_t) n_t  z_{t+1} ... z_T            (h_0 = 0)
    LSTM   c_T = sum over t of     i_t g_t    f_{t+1} ... f_T,  and c_0 f_1 ... f_T

A head that is linear in the state splits likewise. It is bookkeeping of one layer, not cause: n_t, g_t and the gates
depend on h, and so on what was read before, and what a layer reads depends on what those below have kept.

The gates also are all that a derivative takes (a sigmoid's is s (1 - s), a tanh's 1 - t^2), so gradients of an answer
come from one run forwards and the sums below. Occlusion asks what an input really changes, a run for each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def kept_since(keep: Array) -> Array:
    """The product over the later steps of what is kept at each, (T, ...) as `keep` is; 1 at the last step."""
    later = np.ones_like(keep)
    later[:-1] = np.cumprod(keep[:0:-1], axis=0)[::-1]
    return later


def left_of_each_gru_step(gates: Array) -> Array:
    """Gates r z n (T, 3, H) of one direction in the order of its run, to (T, H), which sum to h_T."""
    z, n = gates[:, 1], gates[:, 2]
    return (1.0 - z) * n * kept_since(z)


def left_of_each_lstm_step(gates: Array) -> Array:
    """Gates i f g o (T, 4, H), to (T, H), which sum to c_T but for what is left of c_0."""
    i, f, g = gates[:, 0], gates[:, 1], gates[:, 2]
    return i * g * kept_since(f)


def lstm_gradient(gates: Array, cells: Array, c_0: Array, weight_ih: Array, weight_hh: Array, from_h: Array) -> Array:
    """The gradients of K answers with respect to a layer's x, (T, K, I), from those with respect to its h at each step.

    gates (T, 4, H), cells (T, H), c_0 (H,), weight_ih (4 H, I), weight_hh (4 H, H), from_h (T, K, H).
    """
    before = np.concatenate([c_0[None], cells[:-1]])
    by_h = np.zeros_like(from_h[0])  # of the h and c that a step passes on
    by_c = np.zeros_like(from_h[0])
    found = np.empty((*from_h.shape[:2], weight_ih.shape[1]), np.float32)
    for t in range(len(gates) - 1, -1, -1):
        i, f, g, o = gates[t]
        tanh_c = np.tanh(cells[t])
        by_h = by_h + from_h[t]
        by_c = by_c + by_h * o * (1.0 - tanh_c**2)
        by_sums = np.concatenate(
            [
                by_c * g * i * (1.0 - i),
                by_c * before[t] * f * (1.0 - f),
                by_c * i * (1.0 - g**2),
                by_h * tanh_c * o * (1.0 - o),
            ],
            axis=1,
        )
        found[t] = by_sums @ weight_ih
        by_h, by_c = by_sums @ weight_hh, by_c * f
    return found


def gru_gradient(gates: Array, h: Array, weight_ih: Array, weight_hh: Array, bias_hn: Array, from_h: Array) -> Array:
    """As :func:`lstm_gradient`, of a GRU with reset_after that begins at zero.

    gates (T, 3, H), h (T, H), weight_ih (3 H, I), weight_hh (3 H, H), bias_hn (H,), from_h (T, K, H).
    """
    before = np.concatenate([np.zeros_like(h[:1]), h[:-1]])
    recurrent_n = before @ weight_hh[2 * h.shape[1] :].T + bias_hn  # what r multiplies
    by_h = np.zeros_like(from_h[0])
    found = np.empty((*from_h.shape[:2], weight_ih.shape[1]), np.float32)
    for t in range(len(gates) - 1, -1, -1):
        r, z, n = gates[t]
        by_h = by_h + from_h[t]
        by_n = by_h * (1.0 - z) * (1.0 - n**2)
        by_r = by_n * recurrent_n[t] * r * (1.0 - r)
        by_z = by_h * (before[t] - n) * z * (1.0 - z)
        found[t] = np.concatenate([by_r, by_z, by_n], axis=1) @ weight_ih
        by_h = by_h * z + np.concatenate([by_r, by_z, by_n * r], axis=1) @ weight_hh
    return found


def ranks(values: Array) -> NDArray[np.float64]:
    """From 1 up; ties have the mean of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[index]


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's: 1 where both order the steps alike, 0 where one says nothing of the other."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])
