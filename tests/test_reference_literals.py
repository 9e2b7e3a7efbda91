"""The specification against numbers worked out by hand.

sigmoid(ln 3) = 3/4, sigmoid(ln 2) = 2/3, tanh(ln 2) = 3/5 and tanh(ln 3) = 4/5, so gates driven by logarithms give
fractions. A ReLU cell whose weights are all 1 adds up its inputs, so that powers of two show which steps it has seen.
"""

import math
from typing import Any

import numpy as np
import pytest

from fusedcell import reference

LN2, LN3 = math.log(2), math.log(3)
LINEAR = reference.activation("Affine", alpha=1, beta=0)


def near(expected: Any) -> Any:
    return pytest.approx(np.asarray(expected, dtype=float), rel=1e-14, abs=1e-15)


def column(*values: Any) -> Any:
    return np.array(values, dtype=float)[:, None]


# Activations


@pytest.mark.parametrize(
    ("name", "parameters", "points"),
    [
        ("Relu", {}, {-2: 0, 0: 0, 3: 3, -math.inf: 0, math.inf: math.inf}),
        ("Tanh", {}, {LN2: 0.6, -LN3: -0.8, 0: 0, math.inf: 1, -math.inf: -1}),
        ("Sigmoid", {}, {0: 0.5, LN3: 0.75, -LN3: 0.25, -700: math.exp(-700), -math.inf: 0, math.inf: 1}),
        ("Affine", {"alpha": 3, "beta": -1}, {2: 5, -2: -7}),
        ("LeakyRelu", {}, {-2: -0.02, 0: 0, 3: 3}),
        ("LeakyRelu", {"alpha": 0.5}, {-2: -1, 3: 3}),
        ("ThresholdedRelu", {}, {-2: 0, 0.5: 0, 1: 1, 3: 3}),
        ("ThresholdedRelu", {"alpha": -1}, {-2: 0, -1: -1, 0.5: 0.5}),
        ("ScaledTanh", {"alpha": 10, "beta": 0.5}, {2 * LN2: 6, -2 * LN3: -8}),
        ("HardSigmoid", {}, {-3: 0, -2.5: 0, -1: 0.3, 0: 0.5, 2: 0.9, 3: 1, -math.inf: 0, math.inf: 1}),
        ("HardSigmoid", {"alpha": 1, "beta": 0}, {-1: 0, 0.25: 0.25, 2: 1}),
        ("Elu", {}, {3: 3, 0: 0, -LN2: -0.5, -1e-20: -1e-20, -math.inf: -1, math.inf: math.inf}),
        ("Elu", {"alpha": 4}, {3: 3, -LN2: -2}),
        ("Softsign", {}, {0: 0, 1: 0.5, -3: -0.75, -math.inf: -1, math.inf: 1}),
        ("Softplus", {}, {0: LN2, LN2: LN3, -50: math.exp(-50), 1000: 1000, -math.inf: 0, math.inf: math.inf}),
    ],
)
def test_activation_at_points(name: Any, parameters: Any, points: Any) -> None:
    function = reference.activation(name, **parameters)
    for x, expected in points.items():
        assert function(np.array([x], dtype=float)) == pytest.approx([expected], rel=1e-14, abs=0), x
    assert np.isnan(function(np.array([np.nan]))).all()
    assert reference.activation(name.upper(), **parameters)(np.array([0.3])) == function(np.array([0.3]))


def test_the_two_hard_sigmoids_of_keras() -> None:
    x = np.array([-2.7, 1.5])
    assert reference.activation("HardSigmoid", alpha=0.2, beta=0.5)(x) == near([0, 0.8])
    assert reference.activation("HardSigmoid", alpha=1 / 6, beta=0.5)(x) == near([0.05, 0.75])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Gelu",), "activation: .*Gelu"),
        (("Tanh", 1.0), "alpha: Tanh takes no alpha"),
        (("Elu", 1.0, 1.0), "beta: Elu takes no beta"),
        (("Affine", 1.0), "beta: Affine has no default"),
        (("ScaledTanh",), "alpha: ScaledTanh has no default"),
    ],
)
def test_activation_refuses(arguments: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        reference.activation(*arguments)


# Cells


def test_rnn_of_two_units() -> None:
    weights = [[1, 2], [3, 4]], [[0, 1], [2, 3]], [0.25, 0.5], [100, -1000]
    assert reference.rnn_step([1, 10], [5, 7], *weights, nonlinearity="relu") == near([128.25, 0])
    assert reference.rnn_step([[1, 10]], [[5, 7]], *weights, nonlinearity="relu", clip=100) == near([[100, 0]])
    assert reference.rnn_step([LN2], [9], [[1]], [[0]]) == near([0.6])


@pytest.mark.parametrize("source", ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
@pytest.mark.parametrize(
    ("driven", "h", "c"),
    [
        ((0, 0, 0, 0), 0.5 * math.tanh(1), 1),
        ((LN3, 0, LN2, 0), 0.5 * math.tanh(1.45), 1.45),
        ((0, LN3, 0, 0), 0.5 * math.tanh(1.5), 1.5),
        ((0, 0, LN2, 0), 0.5 * math.tanh(1.3), 1.3),
        ((0, 0, 0, LN3), 0.75 * math.tanh(1), 1),
    ],
)
def test_each_lstm_gate_from_each_source(source: Any, driven: Any, h: Any, c: Any) -> None:
    weights: dict[str, Any] = {"weight_ih": np.zeros((4, 1)), "weight_hh": np.zeros((4, 1))}
    weights[source] = column(*driven) if source.startswith("weight") else np.array(driven)
    step = reference.lstm_step([1], [1], [2], **weights)
    assert step.h == near([h])
    assert step.c == near([c])


def test_lstm_of_two_units_and_its_gates() -> None:
    bias = [LN3, -LN3, 0, LN3, LN2, LN3, LN3, 0]
    h, c, gates = reference.lstm_step([[0]], [[0, 0]], [[4, 8]], np.zeros((8, 1)), np.zeros((8, 2)), bias)
    assert gates.i == near([[0.75, 0.25]])
    assert gates.f == near([[0.5, 0.75]])
    assert gates.g == near([[0.6, 0.8]])
    assert gates.o == near([[0.75, 0.5]])
    assert c == near([[2.45, 6.2]])
    assert h == near([[0.75 * math.tanh(2.45), 0.5 * math.tanh(6.2)]])


def test_lstm_projection() -> None:
    bias = [100, 100, 0, 0, 0, 0, 100, 100]
    weights = np.zeros((8, 1)), column(0, 0, 0, 0, 1, 10, 0, 0)
    h, c, _ = reference.lstm_step(
        [0], [0.5], [2, 4], *weights, bias, weight_hr=[[1, 2]], activations=("Sigmoid", LINEAR, LINEAR)
    )
    assert c == near([1.5, 7])
    assert h == near([15.5])


@pytest.mark.parametrize(
    ("peephole", "c", "o"),
    [
        ((LN3, 0, 0), 0.95, 0.5),
        ((0, LN3, 0), 1.05, 0.5),
        ((0, 0, LN3 / 0.8), 0.8, 0.75),
    ],
    ids=["input sees c", "forget sees c", "output sees the new c"],
)
def test_lstm_peephole(peephole: Any, c: Any, o: Any) -> None:
    step = reference.lstm_step([1], [0], [1], column(0, 0, LN2, 0), np.zeros((4, 1)), peephole=peephole)
    assert step.c == near([c])
    assert step.h == near([o * math.tanh(c)])


def test_lstm_input_forget_couples_the_gates() -> None:
    weights = column(LN3, 100, LN2, 0), np.zeros((4, 1))
    step = reference.lstm_step([1], [0], [2], *weights, peephole=[0, 100, 0], input_forget=True)
    assert step.gates.f == near([0.25])
    assert step.c == near([0.95])


def test_lstm_clip_bounds_what_activations_see_and_not_the_state() -> None:
    arguments = [1], [0], [9], column(5, -5, 5, 5), np.zeros((4, 1))
    step = reference.lstm_step(*arguments, clip=LN2)
    assert step.c == near([3.4])
    assert step.h == near([0.4])
    step = reference.lstm_step(*arguments, clip=LN2, clip_before_h=False)
    assert step.c == near([3.4])
    assert step.h == near([2 / 3 * math.tanh(3.4)])


def test_lstm_activations_are_f_g_h() -> None:
    step = reference.lstm_step(
        [1], [0], [2], column(-1, 1, 3, 2), np.zeros((4, 1)), activations=("HardSigmoid", "Relu", LINEAR)
    )
    assert step.gates == (near([0.3]), near([0.7]), near([3]), near([0.9]))
    assert step.c == near([2.3])
    assert step.h == near([2.07])


@pytest.mark.parametrize(("reset_after", "expected"), [(True, [6.1375, 6.8]), (False, [4.825, 7.3])])
def test_gru_of_two_units_and_where_it_resets(reset_after: Any, expected: Any) -> None:
    weight_hh = np.zeros((6, 2))
    weight_hh[4:] = [[0, 1], [1, 0]]
    weights = column(LN3, 0, -LN3, LN3, 0.1, 0.2), weight_hh, None, [0, 0, 0, 0, 1, 2]
    h = reference.gru_step([1], [4, 8], *weights, reset_after=reset_after, activations=("Sigmoid", LINEAR))
    assert h == near(expected)


@pytest.mark.parametrize(("sign", "expected"), [(1, 0.25 * 0.8 + 0.75 * 0.4), (-1, 0.75 * 0.8 + 0.25 * 0.4)])
def test_gru_update_gate_keeps_h_and_negated_rows_swap_its_roles(sign: Any, expected: Any) -> None:
    assert reference.gru_step([1], [0.4], column(0, sign * LN3, LN3), np.zeros((3, 1))) == near([expected])


def test_gru_clip_bounds_whole_sums() -> None:
    weights = column(0, 5, 5), np.zeros((3, 1)), None, [0, 0, -9.8]
    h = reference.gru_step([1], [3], *weights, clip=LN2, activations=("Sigmoid", LINEAR))
    assert h == near([1 / 3 * 0.1 + 2])


# Sequences

SUM = {"weight_ih_l0": [[1]], "weight_hh_l0": [[1]]}
SUM_BOTH_WAYS = {**SUM, "weight_ih_l0_reverse": [[1]], "weight_hh_l0_reverse": [[1]]}
X = column(1, 2, 4, 8)


def add_up(x: Any, layers: Any, *state: Any, **options: Any) -> Any:
    return reference.rnn(x, layers, *state, nonlinearity="relu", **options)


def test_both_directions_are_aligned_with_the_input() -> None:
    y, h_n = add_up(X, SUM_BOTH_WAYS)
    assert y.tolist() == [[1, 15], [3, 14], [7, 12], [15, 8]]
    assert h_n.tolist() == [[15], [15]]


def test_lengths_in_any_order_with_zero() -> None:
    h_0 = [[[16], [32], [64]]] * 2
    y, h_n = add_up(np.stack([X] * 3, axis=1), SUM_BOTH_WAYS, h_0, lengths=[2, 0, 4])
    assert y[..., 0].T.tolist() == [[17, 19, 0, 0], [0, 0, 0, 0], [65, 67, 71, 79]]
    assert y[..., 1].T.tolist() == [[19, 18, 0, 0], [0, 0, 0, 0], [79, 78, 76, 72]]
    assert h_n[..., 0].tolist() == [[19, 32, 79]] * 2


@pytest.mark.parametrize(
    ("mask", "length", "forward", "backward", "last"),
    [
        ("FTFT", 4, [16, 18, 18, 26], [26, 26, 24, 24], 26),
        ("FFFF", 4, [16, 16, 16, 16], [16, 16, 16, 16], 16),
        ("FFTT", 4, [16, 16, 20, 28], [28, 28, 28, 24], 28),
        ("FTFT", 3, [16, 18, 18, 0], [18, 18, 16, 0], 18),
    ],
)
def test_a_masked_step_holds_the_state_and_repeats_it(
    mask: Any, length: Any, forward: Any, backward: Any, last: Any
) -> None:
    live = np.array([step == "T" for step in mask])
    x = np.where(live[:, None], X, np.nan)
    y, h_n = add_up(x, SUM_BOTH_WAYS, [[16], [16]], mask=live, lengths=length)
    assert y.T.tolist() == [forward, backward]
    assert h_n.tolist() == [[last], [last]]


def test_lstm_lengths_hold_c_too() -> None:
    weights = {
        "weight_ih_l0": column(0, 0, 1, 0),
        "weight_hh_l0": np.zeros((4, 1)),
        "bias_hh_l0": [9, 9, 0, 0],
    }
    activations = ("HardSigmoid", LINEAR, LINEAR)
    state = [[[3], [5], [7]]], [[[16], [32], [64]]]
    y, (h_n, c_n) = reference.lstm(
        np.stack([X] * 3, axis=1), weights, state, lengths=[3, 0, 1], activations=activations
    )
    assert y[..., 0].T.tolist() == [[8.5, 9.5, 11.5, 0], [0, 0, 0, 0], [32.5, 0, 0, 0]]
    assert h_n.ravel().tolist() == [11.5, 5, 32.5]
    assert c_n.ravel().tolist() == [23, 32, 65]


def test_layers_feed_one_another_and_order_their_states() -> None:
    above = {"weight_ih_l1": [[1, 100]], "weight_hh_l1": [[0]], "bias_ih_l1": [0.5]}
    above_reverse = {"weight_ih_l1_reverse": [[1, 1]], "weight_hh_l1_reverse": [[1]]}
    y, h_n = add_up(X, {**SUM_BOTH_WAYS, **above, **above_reverse}, [[16], [32], [0], [1]])
    assert y.tolist() == [[4717.5, 268], [4619.5, 204], [4423.5, 139], [4031.5, 72]]
    assert h_n.tolist() == [[31], [47], [4031.5], [268]]


def test_no_steps_give_no_output_and_the_initial_state() -> None:
    y, h_n = add_up(np.zeros((0, 2, 1)), SUM_BOTH_WAYS, [[[1], [2]], [[3], [4]]])
    assert y.shape == (0, 2, 2)
    assert h_n.tolist() == [[[1], [2]], [[3], [4]]]


def test_batch_first_moves_x_mask_and_y_but_not_the_state() -> None:
    x = np.stack([X, 16 * X])
    mask = [[True, True, False, True], [True] * 4]
    y, h_n = add_up(x, SUM, [[[0], [1]]], batch_first=True, mask=mask)
    assert y[..., 0].tolist() == [[1, 3, 3, 11], [17, 49, 113, 241]]
    assert h_n.tolist() == [[[11], [241]]]


def test_layers_come_from_a_prefix_or_from_a_cell_or_ready_made() -> None:
    module = {f"encoder.rnn.{key}": np.array(value, np.float32) for key, value in SUM.items()}
    ready = reference.from_state_dict({"head.weight": [1], **module}, "encoder.rnn.")
    cell = {key.removesuffix("_l0"): value for key, value in SUM.items()}
    for y, _ in (add_up(X, module, prefix="encoder.rnn."), add_up(X, ready), add_up(X, cell)):
        assert y.dtype == np.float64
        assert y.ravel().tolist() == [1, 3, 7, 15]


# The operators of ONNX


def test_onnx_lstm_blocks_are_i_o_f_c_and_of_peepholes_i_o_f() -> None:
    W = column(LN3, 0, -LN3, LN2)[None]
    Y, Y_h, Y_c = reference.onnx_lstm([[[1]]], W, np.zeros((1, 4, 1)), initial_c=[[[2]]])
    assert Y_c == near([[[0.95]]])
    assert Y_h == near([[[0.5 * math.tanh(0.95)]]])
    assert np.array_equal(Y[0], Y_h)
    P = [[0, LN3 / 0.95, 0]]
    _, Y_h, _ = reference.onnx_lstm([[[1]]], W, np.zeros((1, 4, 1)), initial_c=[[[2]]], P=P)
    assert Y_h == near([[[0.75 * math.tanh(0.95)]]])


@pytest.mark.parametrize(("lbr", "candidate"), [(0, 2 * (0.25 * 0.4) - 0.1), (1, 0.25 * (2 * 0.4 - 0.1))])
def test_onnx_gru_blocks_are_z_r_h_and_it_resets_before_by_default(lbr: Any, candidate: Any) -> None:
    W, R, B = column(LN3, -LN3, 0)[None], column(0, 0, 2)[None], [[0, 0, 0, 0, 0, -0.1]]
    attributes = {"linear_before_reset": lbr} if lbr else {}
    _, Y_h = reference.onnx_gru([[[1]]], W, R, B, initial_h=[[[0.4]]], **attributes)
    assert Y_h == near([[[0.25 * math.tanh(candidate) + 0.75 * 0.4]]])


def test_onnx_directions_lengths_and_layout() -> None:
    W = R = np.ones((2, 1, 1))
    attributes: dict[str, Any] = {"direction": "bidirectional", "activations": ["relu", "relu"]}
    initial_h = np.array([[[16], [32]], [[64], [128]]])
    x = np.stack([X, X], axis=1)
    Y, Y_h = reference.onnx_rnn(x, W, R, None, [3, 0], initial_h, **attributes)
    assert Y[:, :, 0, 0].T.tolist() == [[17, 19, 23, 0], [71, 70, 68, 0]]
    assert not Y[:, :, 1].any()
    assert Y_h[..., 0].tolist() == [[23, 32], [71, 128]]
    batch_first = reference.onnx_rnn(
        x.swapaxes(0, 1), W, R, None, [3, 0], initial_h.swapaxes(0, 1), layout=1, **attributes
    )
    assert np.array_equal(batch_first[0], Y.transpose(2, 0, 1, 3))
    assert np.array_equal(batch_first[1], Y_h.swapaxes(0, 1))
    reverse = reference.onnx_rnn(x, W[:1], R[:1], direction="reverse", activations=["relu"])
    assert reverse[0][:, 0, 0, 0].tolist() == [15, 14, 12, 8]


def test_onnx_alpha_and_beta_go_to_the_activations_that_take_them() -> None:
    W, R = np.array([column(1, 1, 1, 1)] * 2), np.zeros((2, 4, 1))
    names = ["HardSigmoid", "Tanh", "ScaledTanh", "Sigmoid", "LeakyRelu", "HardSigmoid"]
    Y, _, Y_c = reference.onnx_lstm(
        [[[-LN2]]],
        W,
        R,
        direction="bidirectional",
        activations=names,
        activation_alpha=[0, 10, 0.5],
        activation_beta=[1, 2],
    )
    assert Y_c == near([[[-0.6]], [[-LN2 / 6]]])
    assert Y[0, :, 0, 0] == near([10 * math.tanh(-1.2), (0.5 - 0.2 * LN2 / 6) / 3])


# Refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reference.lstm_step([1], [0], [0], np.zeros((6, 1)), np.zeros((6, 1))), r"weight_ih: .*4\*H rows.* 6"),
        (lambda: reference.gru_step([1], [0], np.zeros((3, 1)), np.zeros((3, 2))), r"weight_hh: .*\(3, 1\).*\(3, 2\)"),
        (lambda: reference.rnn_step([1], [0], [[1]], [[1]], bias_hh=[1, 2]), r"bias_hh: .*\(1,\).*\(2,\)"),
        (lambda: reference.rnn_step([1, 2], [0], [[1]], [[1]]), r"x: .*\(1,\) or \(B, 1\).*\(2,\)"),
        (lambda: reference.rnn_step([[1], [2]], [[0]], [[1]], [[1]]), r"h: .*\(2, 1\).*\(1, 1\)"),
        (lambda: reference.rnn_step([1j], [0], [[1]], [[1]]), "x: expected real numbers, got dtype complex128"),
        (lambda: reference.rnn_step([1], [0], [[1]], [[1]], clip=0), "clip: expected a positive number"),
        (lambda: reference.gru_step([1], [0], column(1, 1, 1), column(1, 1, 1), activations=["tanh"]), "activations: "),
        (lambda: add_up(np.zeros((4, 1, 2)), SUM), r"x: expected shape \(T, B, 1\)"),
        (lambda: add_up(X, SUM, [[1], [2]]), r"h_0: .*\(1, 1\).*\(2, 1\)"),
        (lambda: add_up(X, SUM, lengths=5), r"lengths: .*0 to 4.*5"),
        (lambda: add_up(X, SUM, lengths=-1), "lengths: "),
        (lambda: add_up(X, SUM, lengths=1.0), "lengths: expected integers"),
        (lambda: add_up(X, SUM, lengths=[1, 2]), r"lengths: .*\(1,\).*\(2,\)"),
        (lambda: add_up(X, SUM, mask=[True] * 3), r"mask: .*\(4,\).*\(3,\)"),
        (lambda: add_up(X, SUM, mask=[1] * 4), "mask: expected dtype bool"),
        (lambda: reference.lstm(X, SUM, np.zeros(2)), "state: "),  # type: ignore[arg-type] # wrong on purpose
        (lambda: add_up(X, {**SUM, "weight_hr_l0": [[1]]}), "weight_hr_l0: "),
        (lambda: add_up(X, {**SUM, "weight_ih_l2": [[1]]}), "mapping: .*weight_ih_l1"),
        (lambda: add_up(X, {**SUM, "weight_ih_l0_reverse": [[1]]}), "mapping: .*weight_hh_l0_reverse"),
        (lambda: add_up(X, {**SUM, "bias_l0": [1]}), "mapping: .*bias_l0"),
        (lambda: add_up(X, SUM, prefix="rnn."), "mapping: .*rnn.weight_ih_l0"),
        (lambda: add_up(X, {**SUM, "weight_ih_l1": [[1, 1]], "weight_hh_l1": [[1]]}), r"weight_ih_l1: .*\(1, 1\)"),
        (lambda: reference.onnx_rnn([[[1]]], [[[1]]], [[[1]]], direction="backward"), "direction: "),
        (lambda: reference.onnx_rnn([[[1]]], [[[1]]], [[[1]]], direction="bidirectional"), "R: "),
        (lambda: reference.onnx_rnn([[[1]]], [[[1]]], [[[1]]], hidden_size=2), "R: "),
        (lambda: reference.onnx_rnn([[[1]]], [[[1]]], [[[1]]], layout=2), "layout: "),
        (lambda: reference.onnx_rnn([[[1]]], [[[1]]], [[[1]]], sequence_lens=[2]), "sequence_lens: "),
        (lambda: reference.onnx_rnn([[[1]]], [[[1]]], [[[1]]], activations=["Elu"] * 2), "activations: "),
        (lambda: reference.onnx_rnn([[[1]]], [[[1]]], [[[1]]], activation_alpha=[1]), "activation_alpha: "),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        call()
