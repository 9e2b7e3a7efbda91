"""Steps small enough to work by hand. Every number comes from the formulas and Python's own functions."""

from __future__ import annotations

from math import exp, tanh

import numpy as np
import pytest

import fusedcell as fc

pytestmark = [pytest.mark.core, pytest.mark.float_weights]


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def column(*values: float) -> np.ndarray:
    return f32(*values)[:, None]


def test_an_lstm_without_weights_halves_its_cell_state(isa: str) -> None:
    cell = fc.LSTMCell(column(0, 0, 0, 0), column(0, 0, 0, 0), isa=isa)
    h, c = cell(f32(5), (f32(3), f32(2)))
    assert c[0] == 1.0
    assert h[0] == pytest.approx(0.5 * 0.7615941559557649, abs=1e-7)


@pytest.mark.parametrize(
    ("gate", "c_next", "h_next"),
    [
        ("i", sigmoid(1) * tanh(0.5) + 0.5 * 0.25, None),
        ("f", 0.5 * tanh(0.5) + sigmoid(1) * 0.25, None),
        ("g", 0.5 * tanh(1.5) + 0.5 * 0.25, None),
        ("o", 0.5 * tanh(0.5) + 0.5 * 0.25, sigmoid(1) * tanh(0.5 * tanh(0.5) + 0.5 * 0.25)),
    ],
)
def test_lstm_gates_stand_in_the_order_i_f_g_o(isa: str, gate: str, c_next: float, h_next: float | None) -> None:
    weight_ih = np.zeros((4, 1), np.float32)
    weight_ih["ifgo".index(gate)] = 1
    bias = f32(0, 0, 0.5, 0)
    h, c = fc.LSTMCell(weight_ih, np.zeros((4, 1)), bias, isa=isa)(f32(1), (f32(0), f32(0.25)))
    assert c[0] == pytest.approx(c_next, abs=3e-7)
    assert h[0] == pytest.approx(0.5 * tanh(c_next) if h_next is None else h_next, abs=3e-7)


def test_a_projection_multiplies_the_hidden_state(isa: str) -> None:
    cell = fc.LSTMCell(np.zeros((8, 1)), np.zeros((8, 1)), weight_hr=f32(2, -3)[None], isa=isa)
    h, c = cell(f32(0), (f32(9), f32(1, 2)))
    assert h.shape == (1,)
    assert c.tolist() == [0.5, 1.0]
    assert h[0] == pytest.approx(2 * 0.5 * tanh(0.5) - 3 * 0.5 * tanh(1), abs=1e-6)


def test_a_gru_without_weights_halves_its_state(isa: str) -> None:
    for reset_after in (True, False):
        cell = fc.GRUCell(column(0, 0, 0), column(0, 0, 0), reset_after=reset_after, isa=isa)
        assert cell(f32(5), f32(3))[0] == 1.5


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("r", 0.5 * tanh(sigmoid(1) * 2 * 0.5) + 0.5 * 0.5),
        ("z", (1 - sigmoid(1)) * tanh(0.5 * 2 * 0.5) + sigmoid(1) * 0.5),
        ("n", 0.5 * tanh(1 + 0.5 * 2 * 0.5) + 0.5 * 0.5),
    ],
)
def test_gru_gates_stand_in_the_order_r_z_n_and_z_keeps_the_old_state(isa: str, gate: str, expected: float) -> None:
    weight_ih = np.zeros((3, 1), np.float32)
    weight_ih["rzn".index(gate)] = 1
    for reset_after in (True, False):  # without b_hn and with one unit the two forms agree
        cell = fc.GRUCell(weight_ih, column(0, 0, 2), reset_after=reset_after, isa=isa)
        assert cell(f32(1), f32(0.5))[0] == pytest.approx(expected, abs=3e-7)


def test_only_reset_after_resets_the_recurrent_bias(isa: str) -> None:
    weights = column(0, 0, 0), column(0, 0, 0), None, f32(0, 0, 1)
    assert fc.GRUCell(*weights, reset_after=True, isa=isa)(f32(0))[0] == pytest.approx(0.5 * tanh(0.5), abs=3e-7)
    assert fc.GRUCell(*weights, reset_after=False, isa=isa)(f32(0))[0] == pytest.approx(0.5 * tanh(1), abs=3e-7)


def test_reset_before_resets_the_other_units_too(isa: str) -> None:
    # Unit 0 sees unit 1, whose reset gate is shut (r = sigmoid(-30)) while unit 0's own is open.
    weight_hh = np.zeros((6, 2), np.float32)
    weight_hh[4] = [0, 1]
    bias = f32(30, -30, 0, 0, 0, 0)
    h = f32(0, 0.5)
    before = fc.GRUCell(np.zeros((6, 1)), weight_hh, bias, reset_after=False, isa=isa)(f32(0), h)
    after = fc.GRUCell(np.zeros((6, 1)), weight_hh, bias, reset_after=True, isa=isa)(f32(0), h)
    assert before[0] == pytest.approx(0, abs=1e-7)
    assert after[0] == pytest.approx(0.5 * tanh(0.5), abs=3e-7)


def test_rnn_nonlinearities(isa: str) -> None:
    weights = column(1, 1), np.array([[2.0, 0.0], [0.0, 2.0]]), f32(0.5, -3)
    h = f32(0.25, 0.25)
    tanh_h = fc.RNNCell(*weights, isa=isa)(f32(1), h)
    relu_h = fc.RNNCell(*weights, nonlinearity="relu", isa=isa)(f32(1), h)
    assert tanh_h == pytest.approx([tanh(2), tanh(-1.5)], abs=3e-7)
    assert relu_h.tolist() == [2.0, 0.0]


def test_a_reverse_direction_starts_at_the_last_step_and_stays_aligned(isa: str) -> None:
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    mapping = {"weight_ih_l0": one, "weight_hh_l0": one, "weight_ih_l0_reverse": one, "weight_hh_l0_reverse": zero + 2}
    rnn = fc.RNN.from_state_dict(mapping, nonlinearity="relu", isa=isa)
    y, h_n = rnn(np.array([[1.0], [2.0], [4.0]]))
    assert y.tolist() == [[1, 1 + 2 * 10], [3, 2 + 2 * 4], [7, 4]]
    assert h_n.tolist() == [[7], [21]]
