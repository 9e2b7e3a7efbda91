"""Derivatives of layers over whole sequences, with PyTorch's conventions, in float64: backpropagation through time.

A loss depends on a layer's y and final state. Given its derivatives by those, dy and dstate, `gradients` returns those
by x, the initial state and every weight: the chain rule through the formulas of `cells.py`, step by step from the last
to the first. With a the sums that enter the gates, * elementwise, sigma' = s (1 - s) and tanh' = 1 - t^2:

    every cell    dW_ih += d_a x^T    dW_hh += d_a h'^T    db += d_a    dx = W_ih^T d_a    dh' = W_hh^T d_a + ...
    RNN           d_a = dh * f'(a)
    LSTM          d_o = dh * tanh(c)              dc  = dc + dh * o * tanh'(c)
                  d_i = dc * g    d_f = dc * c'    d_g = dc * i    dc' = dc * f, each d times its gate's derivative
    GRU           d_n = dh * (1 - z)    d_z = dh * (h' - n)    dh' = ... + dh * z
                  a_n = x_n + r * h_n, so d_r = d_an * h_n and W_hn has to do with d_an * r

where h' and c' are the states before the step.

Sources
- the method: Werbos 1990, "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE 78.
- LSTM: Hochreiter and Schmidhuber 1997, Neural Computation 9, with the forget gate of Gers, Schmidhuber and Cummins
  2000, Neural Computation 12; the full derivative is in the appendix of Greff et al. 2017 (arXiv:1503.04069).
- GRU: Cho et al. 2014 (arXiv:1406.1078), in the form of torch.nn.GRU, whose derivative is worked out here.

`resets`, bool of the shape of `mask`, is true at each step before which the state is zero whatever it was, as where an
episode begins; in the reverse direction the steps are parted at the same places. lengths and mask are as in
`layers.py`: where a state is held, so is its derivative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .activations import sigmoid
from .arrays import Array, as_float64, check_shape
from .sequences import Lengths, Mask, State, as_lengths, as_mask
from .weights import Weights, from_state_dict, key_suffix

_GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}


class Gradients(NamedTuple):
    """What the layers return, y and the final state, and the loss's derivatives.

    `x`, `initial` (h_0, and c_0 of an LSTM) and `weights` by their keys.
    """

    y: Array
    state: State
    x: Array
    initial: State
    weights: dict[str, Array]


def gradients(
    kind: str,
    x: ArrayLike,
    mapping: Mapping[str, ArrayLike],
    state: tuple[ArrayLike, ...] | None = None,
    *,
    dy: ArrayLike | None = None,
    dstate: tuple[ArrayLike, ...] | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
) -> Gradients:
    """Returns the derivatives of a loss whose derivatives by y and the final state are `dy` and `dstate`.

    `kind` is rnn_tanh, rnn_relu, gru (reset_after) or lstm, x (T, B, I), and the states are tuples of (L*D, B, H), one
    or, of an LSTM, two. What is None is zero. The layers have no projection.
    """
    if kind not in _GATES:
        raise ValueError(f"kind: expected one of {', '.join(_GATES)}, got {kind!r}")
    layers = from_state_dict(mapping)
    rows = as_float64("x", x)
    check_shape("x", rows, ("T", "B", layers[0][0].input_size))
    steps, batch, _ = rows.shape
    ends = as_lengths("lengths", lengths, steps, batch)
    live = as_mask("mask", mask, (steps, batch)) & (np.arange(steps)[:, None] < ends)
    anew = np.zeros((steps, batch), np.bool_) if resets is None else as_mask("resets", resets, (steps, batch))
    directions, hidden = len(layers[0]), layers[0][0].hidden_size
    count = directions * len(layers)
    parts = 2 if kind == "lstm" else 1

    def states(name: str, given: tuple[ArrayLike, ...] | None) -> list[Array]:
        arrays = [np.zeros((count, batch, hidden))] * parts if given is None else [as_float64(name, g) for g in given]
        for array in arrays:
            check_shape(name, array, (count, batch, hidden))
        return arrays

    initial, last = states("state", state), states("dstate", dstate)
    outputs = rows
    runs: list[_Run] = []
    inputs: list[Array] = []
    for layer in layers:
        inputs.append(outputs)
        own: list[_Run] = []
        for direction, w in enumerate(layer):
            start = tuple(part[len(runs) + len(own)] for part in initial)
            own.append(_Run(kind, w, outputs, start, ends, live, anew, reverse=bool(direction)))
        outputs = np.concatenate([run.y for run in own], axis=-1)
        runs += own
    final = tuple(np.stack(part) for part in zip(*(run.state for run in runs), strict=True))

    by_y = np.zeros(outputs.shape) if dy is None else as_float64("dy", dy)
    check_shape("dy", by_y, outputs.shape)
    by_initial: list[State] = [()] * count
    by_weights: dict[str, Array] = {}
    for number in reversed(range(len(layers))):
        by_x = np.zeros(inputs[number].shape)
        for direction in range(directions):
            at = number * directions + direction
            share = by_y[..., direction * hidden : (direction + 1) * hidden]
            dx, by_initial[at], arrays = runs[at].back(share, tuple(part[at] for part in last))
            by_x += dx
            by_weights |= {name + key_suffix(number, bool(direction)): array for name, array in arrays.items()}
        by_y = by_x
    by_state = tuple(np.stack(part) for part in zip(*by_initial, strict=True))
    return Gradients(outputs, final, by_y, by_state, {key: by_weights[key] for key in mapping})


class _Run:
    """One layer in one direction: y and the last state, and what its steps leave for the way back."""

    def __init__(
        self, kind: str, w: Weights, x: Array, state: State, ends: Lengths, live: Mask, anew: Mask, *, reverse: bool
    ) -> None:
        self.kind, self.w, self.x, self.live = kind, w, x, live
        steps = range(len(x))
        self.inside = np.arange(len(x))[:, None] < ends
        self.steps = list(reversed(steps) if reverse else steps)
        if reverse:  # before the step at t comes the one at t + 1, unless it is past the end
            anew = np.concatenate([anew[1:], np.zeros_like(anew[:1])]) & np.concatenate(
                [self.inside[1:], np.zeros_like(anew[:1])]
            )
        self.anew = anew & self.inside
        self.before: dict[int, State] = {}
        self.gates: dict[int, tuple[Array, ...]] = {}
        self.after: dict[int, State] = {}
        self.y = np.zeros((*x.shape[:2], w.hidden_size))
        for t in self.steps:
            state = tuple(np.where(self.anew[t][:, None], 0.0, part) for part in state)
            self.before[t] = state
            self.after[t], self.gates[t] = self._step(x[t], state)
            state = tuple(np.where(live[t][:, None], new, old) for new, old in zip(self.after[t], state, strict=True))
            self.y[t] = np.where(self.inside[t][:, None], state[0], 0.0)
        self.state = state

    def _step(self, x: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        w, h = self.w, state[0]
        a_x = x @ np.asarray(w.weight_ih).T + (0.0 if w.bias_ih is None else w.bias_ih)
        a_h = h @ np.asarray(w.weight_hh).T + (0.0 if w.bias_hh is None else w.bias_hh)
        if self.kind == "rnn_tanh":
            return (np.tanh(a_x + a_h),), ()
        if self.kind == "rnn_relu":
            return (np.maximum(a_x + a_h, 0.0),), ()
        if self.kind == "gru":
            (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(a_x, 3, axis=-1), np.split(a_h, 3, axis=-1)
            r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
            n = np.tanh(x_n + r * h_n)
            return ((1.0 - z) * n + z * h,), (r, z, n, h_n)
        a_i, a_f, a_g, a_o = np.split(a_x + a_h, 4, axis=-1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        c = f * state[1] + i * g
        return (o * np.tanh(c), c), (i, f, g, o)

    def _back_step(self, t: int, dstate: State) -> tuple[Array, Array, State]:
        """Derivatives by what W_ih and W_hh give to the gates, and by the state before, but for what comes by W_hh."""
        dh = dstate[0]
        if self.kind.startswith("rnn"):
            (h,) = self.after[t]
            d = dh * (1.0 - h * h) if self.kind == "rnn_tanh" else dh * (h > 0.0)
            return d, d, (np.zeros_like(dh),)
        if self.kind == "gru":
            r, z, n, h_n = self.gates[t]
            d_n = dh * (1.0 - z) * (1.0 - n * n)
            d_r = d_n * h_n * r * (1.0 - r)
            d_z = dh * (self.before[t][0] - n) * z * (1.0 - z)
            by_x, by_h = (np.concatenate([d_r, d_z, last], axis=-1) for last in (d_n, d_n * r))
            return by_x, by_h, (dh * z,)
        i, f, g, o = self.gates[t]
        tanh_c = np.tanh(self.after[t][1])
        dc = dstate[1] + dh * o * (1.0 - tanh_c * tanh_c)
        by_gates = (
            dc * g * i * (1.0 - i),
            dc * self.before[t][1] * f * (1.0 - f),
            dc * i * (1.0 - g * g),
            dh * tanh_c * o * (1.0 - o),
        )
        d = np.concatenate(by_gates, axis=-1)
        return d, d, (np.zeros_like(dh), dc * f)

    def back(self, dy: Array, dstate: State) -> tuple[Array, State, dict[str, Array]]:
        """Derivatives by x, the initial state, and the weights by name."""
        weight_ih, weight_hh = np.asarray(self.w.weight_ih), np.asarray(self.w.weight_hh)
        dx = np.zeros(self.x.shape)
        sums = {name: np.zeros(array.shape) for name, array in vars(self.w).items() if array is not None}
        for t in reversed(self.steps):
            counts = self.live[t][:, None]
            dstate = (dstate[0] + np.where(self.inside[t][:, None], dy[t], 0.0), *dstate[1:])
            by_x, by_h, before = self._back_step(t, dstate)
            by_x, by_h = np.where(counts, by_x, 0.0), np.where(counts, by_h, 0.0)
            dx[t] = by_x @ weight_ih
            sums["weight_ih"] += by_x.T @ self.x[t]
            sums["weight_hh"] += by_h.T @ self.before[t][0]
            for name, by_gates in (("bias_ih", by_x), ("bias_hh", by_h)):
                if name in sums:
                    sums[name] += by_gates.sum(axis=0)
            before = (before[0] + by_h @ weight_hh, *before[1:])
            held = tuple(np.where(counts, new, old) for new, old in zip(before, dstate, strict=True))
            dstate = tuple(np.where(self.anew[t][:, None], 0.0, part) for part in held)
        return dx, dstate, sums
