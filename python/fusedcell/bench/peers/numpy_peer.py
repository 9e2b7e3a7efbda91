"""The baseline: what one writes in NumPy with some care: few products, arithmetic in place."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..._base import FloatArray
from ..._timing import Runner
from ..cases import Case
from .base import Forms, Peer


class NumPy(Peer):
    """NumPy, with the matrix products of the BLAS that it was built with."""

    name = "numpy"

    def __init__(self) -> None:
        self.version = np.__version__

    def step_forms(self, case: Case) -> Forms:
        """The fewest products that the formulas allow."""
        if _is_gru(case):
            return {"W x, R h": partial(_gru_step, case)}
        return {"[W R] [x h]": partial(_stacked_step, case)}

    def sequence_forms(self, case: Case) -> Forms:
        """The product with x for all steps at once, then step by step."""
        return {"W X, R h": partial(_sequence, case)}


class _State:
    """Weights and state of one cell, and the formulas that take it one step on."""

    def __init__(self, case: Case) -> None:
        self.size = case.size
        self.cell = case.cell
        self.h = np.zeros(case.size, np.float32)
        self.c = np.zeros(case.size, np.float32)
        self.w_x, self.w_h = case.weights["weight_ih_l0"], case.weights["weight_hh_l0"]
        self.b_x, self.b_h = case.weights["bias_ih_l0"], case.weights["bias_hh_l0"]

    def advance(self, gates: FloatArray) -> None:
        """Takes the pre-activations of an LSTM or a plain cell, complete."""
        if self.cell == "rnn":
            np.tanh(gates, out=self.h)
            return
        n = self.size
        _sigmoid(gates[: 2 * n])
        np.tanh(gates[2 * n : 3 * n], out=gates[2 * n : 3 * n])
        _sigmoid(gates[3 * n :])
        self.c *= gates[n : 2 * n]
        self.c += gates[:n] * gates[2 * n : 3 * n]
        np.multiply(gates[3 * n :], np.tanh(self.c), out=self.h)

    def advance_gru(self, of_x: FloatArray) -> None:
        """Takes the pre-activations of x alone, as the candidate's part of h does not simply add to them."""
        n = self.size
        if self.cell == "gru":
            of_h = self.w_h @ self.h
            of_h += self.b_h
            gates = of_x[: 2 * n] + of_h[: 2 * n]
            _sigmoid(gates)
            candidate = of_h[2 * n :]
            candidate *= gates[:n]
        else:
            gates = self.w_h[: 2 * n] @ self.h
            gates += self.b_h[: 2 * n]
            gates += of_x[: 2 * n]
            _sigmoid(gates)
            candidate = self.w_h[2 * n :] @ (gates[:n] * self.h)
            candidate += self.b_h[2 * n :]
        candidate += of_x[2 * n :]
        np.tanh(candidate, out=candidate)
        self.h -= candidate
        self.h *= gates[n:]
        self.h += candidate


def _is_gru(case: Case) -> bool:
    return case.cell in ("gru", "gru_reset_before")


def _sigmoid(x: FloatArray) -> None:
    # Through tanh, which NumPy vectorises, and which cannot overflow.
    x *= 0.5
    np.tanh(x, out=x)
    x *= 0.5
    x += 0.5


def _stacked_step(case: Case) -> Runner:
    state = _State(case)
    n = case.input_size
    weights = np.concatenate([state.w_x, state.w_h], axis=1)
    bias = state.b_x + state.b_h
    x_and_h = np.zeros(n + case.size, np.float32)
    state.h = x_and_h[n:]

    def step(x: FloatArray) -> FloatArray:
        x_and_h[:n] = x
        gates = weights @ x_and_h
        gates += bias
        state.advance(gates)
        return state.h

    return Runner(step, [(row,) for row in case.rows], np.copy)


def _gru_step(case: Case) -> Runner:
    state = _State(case)

    def step(x: FloatArray) -> FloatArray:
        of_x = state.w_x @ x
        of_x += state.b_x
        state.advance_gru(of_x)
        return state.h

    return Runner(step, [(row,) for row in case.rows], np.copy)


def _sequence(case: Case) -> Runner:
    state = _State(case)
    gru = _is_gru(case)
    bias = state.b_x if gru else state.b_x + state.b_h
    w_x = state.w_x.T

    def run(x: FloatArray) -> FloatArray:
        y = np.empty((len(x), state.size), np.float32)
        of_x = x @ w_x
        of_x += bias
        for row, h in zip(of_x, y, strict=True):
            if gru:
                state.advance_gru(row)
            else:
                row += state.w_h @ state.h
                state.advance(row)
            h[:] = state.h
        return y

    return Runner(run, [(case.inputs,)], np.copy)
