"""The int8 definition against integers worked out by hand, and the float64 cells that compute with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fusedcell import reference
from models import KIND, KINDS, Kind, flat, random_state, uniform

F32 = np.float32
TINY = 2.0**-100
BELOW_TINY = float(np.nextafter(F32(TINY), F32(0)))
LINEAR = reference.activation("Affine", alpha=1, beta=0)

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def hexes(*values: str) -> list[float]:
    return [float.fromhex(value) for value in values]


def units(x: float) -> float:
    """x in [-1, 1] to the nearest of 127 units."""
    return round(127 * x) / 127


def near(expected: Any) -> Any:
    return pytest.approx(np.asarray(expected, dtype=float), rel=1e-6)


# The rules


@pytest.mark.parametrize(
    ("row", "q", "scale"),
    [
        ([127, 0.5, 1.5, 2.5, -0.5, -1.5, -127], [127, 0, 2, 2, 0, -2, -127], 1),
        ([1, 3, -5, -254], [0, 2, -2, -127], 2),
        ([0.25, 1], [32, 127], F32(1) / F32(127)),
        # Quotients that round to a tie as float32: 4.50000024 and 5.49999976.
        ([1, *hexes("0x1.22448ap-5", "0x1.62c58ap-5")], [127, 4, 6], F32(1) / F32(127)),
        # Quotients by the scale, not products with its reciprocal, which are 0.5 and 3.49999976.
        ([3, *hexes("0x1.83060ep-7", "0x1.52a54ap-4")], [127, 1, 4], F32(3) / F32(127)),
        ([3e38, -3e38, 1e-40], [127, -127, 0], F32(3e38) / F32(127)),
        ([TINY, -TINY / 127, 1e-40], [127, -1, 0], F32(TINY) / F32(127)),
        ([BELOW_TINY, 0, 0], [0, 0, 0], 0),
        ([0, -0.0], [0, 0], 0),
        ([], [], 0),
    ],
)
def test_weights(row: Any, q: Any, scale: Any) -> None:
    other = np.arange(len(row)) + 1.0
    integers, scales = reference.quantise_weights([other, row])
    assert (integers.dtype, scales.dtype) == (np.int8, np.float32)
    assert integers[1].tolist() == q
    assert scales[1] == scale
    assert scales[0] == F32(len(row)) / F32(127)


@pytest.mark.parametrize(
    ("x", "bounded", "q", "scale"),
    [
        ([127, 0.5, 1.5, 2.5, -0.5, -1.5, -127], False, [127, 0, 2, 2, 0, -2, -127], 1),
        ([0.5, -0.25], False, [127, -64], F32(0.5) / F32(127)),
        ([0.5, -0.25], True, [64, -32], F32(1) / F32(127)),
        ([1, -0.5], True, [127, -64], F32(1) / F32(127)),
        # Products that round to a tie as float32: 1.49999994 and 4.50000024.
        ([1, *hexes("0x1.83060cp-7", "0x1.22448ap-5")], True, [127, 2, 4], F32(1) / F32(127)),
        ([1, *hexes("0x1.83060cp-7", "0x1.22448ap-5")], False, [127, 2, 4], F32(1) / F32(127)),
        # Products with 127 / m, not quotients by the scale: see the weights.
        ([3, *hexes("0x1.83060ep-7", "0x1.52a54ap-4")], False, [127, 0, 3], F32(3) / F32(127)),
        # 127 / m, not the reciprocal of the scale, with which these are 11.499999 and 54.5.
        ([11, *hexes("0x1.fdfbf8p-1", "0x1.2e1c3ap+2")], False, [127, 12, 55], F32(11) / F32(127)),
        # A state that begins above 1.
        ([2, -0.5, 0.25], True, [127, -32, 16], F32(2) / F32(127)),
        ([np.nextafter(F32(1), F32(2)), -0.5], True, [127, -63], np.nextafter(F32(1), F32(2)) / F32(127)),
        ([1 + 1e-12, -0.5], True, [127, -64], F32(1) / F32(127)),
        ([-3e38, 3e38, 1e-40], False, [-127, 127, 0], F32(3e38) / F32(127)),
        ([TINY, -TINY / 127, 1e-40], False, [127, -1, 0], F32(TINY) / F32(127)),
        ([BELOW_TINY, 0, 0], False, [0, 0, 0], 0),
        ([BELOW_TINY, 0, 0], True, [0, 0, 0], F32(1) / F32(127)),
        ([0, 0], False, [0, 0], 0),
        ([], False, [], 0),
    ],
)
def test_inputs(x: Any, bounded: Any, q: Any, scale: Any) -> None:
    integers, of_vector = reference.quantise_input(x, bounded=bounded)
    assert (integers.dtype, of_vector.dtype, of_vector.shape) == (np.int8, np.float32, ())
    assert integers.tolist() == q
    assert of_vector == scale


@pytest.mark.parametrize(
    ("x", "scale", "q"),
    [
        ([2, 1, 3, -5, 253, 253.5, 255, 300, -300, 3e38], 2, [1, 0, 2, -2, 126, 127, 127, 127, -127, 127]),
        ([0, BELOW_TINY], 2, [0, 0]),
        ([0.5, 2], F32(0.1), [5, 20]),
        # Products with the rounded reciprocal, not quotients, which are 3.5 and 2.5.
        ([143.5], 41, [3]),
        ([37.5], 15, [3]),
        ([3e38, -3e38], TINY, [127, -127]),
        ([TINY, 0.5 * TINY, 1e-40], TINY, [1, 0, 0]),
        ([2.0**107, -(2.0**99)], 2.0**100, [127, 0]),
    ],
)
@pytest.mark.parametrize("bounded", [False, True])
def test_inputs_of_a_static_scale(x: Any, scale: Any, q: Any, bounded: Any) -> None:
    integers, of_vector = reference.quantise_input(x, bounded=bounded, static_scale=scale)
    assert integers.tolist() == q
    assert of_vector.dtype == np.float32
    assert of_vector == F32(scale)


@pytest.mark.parametrize(
    ("x", "options", "q", "scale"),
    [
        ([16256, 0.5, 1.5, -2.5, 127, -16256], {"bounded": False}, [16256, 0, 2, -2, 127, -16256], 1),
        ([0.5, -0.25], {"bounded": True}, [8128, -4064], F32(1) / F32(16256)),
        ([2, -0.5], {"bounded": True}, [16256, -4064], F32(2) / F32(16256)),
        ([BELOW_TINY, 0], {"bounded": False}, [0, 0], 0),
        # The scale of int8 divided by 128, so that the same values saturate.
        ([1, 253.5, 254, 255], {"bounded": False, "static_scale": 2}, [64, 16224, 16256, 16256], 2 / 128),
    ],
)
def test_inputs_in_16_bits(x: Any, options: Any, q: Any, scale: Any) -> None:
    integers, of_vector = reference.quantise_input(x, int16=True, **options)
    assert (integers.dtype, of_vector.dtype) == (np.int16, np.float32)
    assert integers.tolist() == q
    assert of_vector == scale


def test_a_product_with_inputs_in_16_bits() -> None:
    """Worked by hand: 127 units of 1/127 and 16,256 of 3/16,256 a number of x."""
    q, scale = reference.quantise_weights([[1.0, -1.0], [0.5, 0.0]])
    y = reference.int8_linear([3, 1.5], q, scale, bounded=False, start=[10, 20], int16=True)
    assert y == near([10 + 3 - 1.5, 20 + 1.5])


@pytest.mark.parametrize("options", [{"bounded": False}, {"bounded": True}, {"bounded": False, "static_scale": 0.01}])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_not_finite_spoils_its_own_vector_only(options: Any, bad: Any) -> None:
    x = uniform(1, 3, 4, 9)
    q, scale = reference.quantise_input(x, **options)
    spoilt = x.astype(np.float64)
    spoilt[1, 2, 5] = bad
    spoilt_q, spoilt_scale = reference.quantise_input(spoilt, **options)
    assert np.argwhere(np.isnan(spoilt_scale)).tolist() == [[1, 2]]
    assert not spoilt_q[1, 2].any()
    others = ~np.isnan(spoilt_scale)
    assert np.array_equal(spoilt_q[others], q[others])
    assert np.array_equal(spoilt_scale[others], scale[others])

    matrix = reference.quantise_weights(uniform(2, 5, 9))
    y, spoilt_y = (reference.int8_linear(rows, *matrix, **options) for rows in (x, spoilt))
    assert np.isnan(spoilt_y[1, 2]).all()
    assert np.array_equal(spoilt_y[others], y[others])


@pytest.mark.parametrize("options", [{"bounded": False}, {"bounded": True}, {"bounded": False, "static_scale": 0.01}])
def test_vectors_do_not_look_at_one_another(options: Any) -> None:
    x = uniform(3, 6, 9) * np.logspace(-2, 2, 6, dtype=np.float32)[:, None]
    q, scale = reference.quantise_input(x, **options)
    for row, q_row, scale_row in zip(x, q, scale, strict=True):
        alone, scale_alone = reference.quantise_input(row, **options)
        assert np.array_equal(alone, q_row)
        assert scale_alone == scale_row


# The product


def test_linear_adds_the_exact_start_and_scales_the_integer() -> None:
    q, scale = np.array([[127, -3], [1, 2]], np.int8), np.array([0.5, 4], np.float32)
    start = [2.0**-40, 10]
    # x is 127 and 64 units of 1/127.
    x: list[list[float]] = [[1, 0.5], [0, 0]]
    unit = float(F32(1) / F32(127))
    y = reference.int8_linear(x, q, scale, bounded=True, start=start)
    assert y.dtype == np.float64
    first = [2.0**-40 + (127 * 127 - 3 * 64) * (unit * 0.5), 10 + (127 + 2 * 64) * (unit * 4)]
    assert y.tolist() == [first, start]
    assert reference.int8_linear(x[0], q, scale, bounded=True, start=start).tolist() == first
    assert reference.int8_linear([7, -3], q, scale, bounded=False, static_scale=2).tolist() == [
        (4 * 127 + 2 * 3) * (2 * 0.5),
        (4 * 1 - 2 * 2) * (2 * 4),
    ]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_integers_are_exact(sign: Any) -> None:
    depth = 65_535
    signs = np.where(np.arange(depth) % 2, -1, 1)
    q, scale = reference.quantise_weights([np.full(depth, 127), 127 * signs])
    for x, expected in ((np.ones(depth), (depth, 1)), (signs, (1, depth))):
        y = reference.int8_linear(127 * sign * x, q, scale, bounded=False)
        assert y.tolist() == [sign * 127**2 * total for total in expected]


# The cells


def test_which_h_of_a_plain_cell_is_bounded() -> None:
    weights = [[0]], [[1]]
    # 0.3 is 127 units of 0.3 / 127, and 38.1 of 1 / 127.
    for f, expected in (
        ("tanh", math.tanh(units(0.3))),
        ("sigmoid", 1 / (1 + math.exp(-units(0.3)))),
        ("relu", 0.3),
        (LINEAR, 0.3),
        ("Softsign", 0.3 / 1.3),
    ):
        assert reference.rnn_step([0], [0.3], *weights, nonlinearity=f, int8=True) == near([expected])
    # 0.6 is 25.4 units of 3 / 127, and 76.2 of 1 / 127.
    h = reference.rnn_step([0], [3, -0.6], [[0], [0]], np.eye(2), int8=True)
    assert h == near(np.tanh([3, -25 * 3 / 127]))


@pytest.mark.parametrize(("reset_after", "product"), [(True, 0.5 * units(0.26)), (False, units(0.13))])
def test_which_h_of_a_gru_is_bounded(reset_after: Any, product: Any) -> None:
    weights = np.zeros((3, 1)), [[0], [0], [1]]
    h = reference.gru_step([0], [0.26], *weights, reset_after=reset_after, int8=True)
    assert h == near([0.5 * math.tanh(product) + 0.13])
    for activations in (("Sigmoid", "Relu"), ("HardSigmoid", "Tanh"), ("HardSigmoid", LINEAR)):
        h = reference.gru_step([0], [0.26], *weights, reset_after=reset_after, activations=activations, int8=True)
        assert h == near([0.5 * (math.tanh(0.13) if activations[1] == "Tanh" else 0.13) + 0.13])
    # tanh as the update gate: z = 0 here, but 1 - z could be 2.
    h = reference.gru_step([0], [0.26], *weights, reset_after=False, activations=("Tanh", LINEAR), int8=True)
    assert h == near([0])


def test_which_h_of_an_lstm_is_bounded() -> None:
    weights = np.zeros((4, 1)), [[0], [0], [1], [0]]
    arguments = [0], [0.3], [0.5]
    step = reference.lstm_step(*arguments, *weights, int8=True)
    assert step.gates.g == near([math.tanh(units(0.3))])
    for activations in (("HardSigmoid", "Tanh", "Tanh"), ("Sigmoid", "Tanh", LINEAR)):
        step = reference.lstm_step(*arguments, *weights, activations=activations, int8=True)
        assert step.gates.g == near([math.tanh(0.3)])
    step = reference.lstm_step(*arguments, *weights, activations=("Sigmoid", LINEAR, "Tanh"), int8=True)
    assert step.gates.g == near([units(0.3)])


def test_a_projection_leaves_h_unbounded_and_its_input_bounded() -> None:
    weights = np.zeros((4, 1)), [[0], [0], [1], [0]]
    step = reference.lstm_step([0], [0.3], [0.5], *weights, weight_hr=[[4]], int8=True)
    assert step.gates.g == near([math.tanh(0.3)])
    assert step.c == near([0.25 + 0.5 * math.tanh(0.3)])
    assert step.h == near([4 * units(0.5 * math.tanh(step.c[0]))])
    step = reference.lstm_step(
        [0], [0.3], [0.5], *weights, weight_hr=[[4]], activations=("Sigmoid", "Tanh", LINEAR), int8=True
    )
    assert step.h == near(4 * 0.5 * step.c)


def test_x_is_never_bounded_and_takes_the_static_scale() -> None:
    weights = [[1, 0]], [[0]]
    assert reference.rnn_step([0.3, 0], [0], *weights, int8=True) == near([math.tanh(0.3)])
    fixed = reference.Int8Matrix.of(weights[0], 0.25)
    for x, expected in ((0.3, 0.25), (0.4, 0.5), (-1000, -127 / 4)):
        assert reference.rnn_step([x, 9], [0], fixed, weights[1], nonlinearity=LINEAR, int8=True) == near([expected])


def test_biases_and_peepholes_are_exact() -> None:
    weights = np.zeros((4, 1)), np.zeros((4, 1)), [0.1, 0.2, 0.3, 0.4], [0.01, 0.02, 0.03, 0.04]
    exact, int8 = (
        reference.lstm_step([0.7], [0.7], [0.7], *weights, peephole=[0.11, 0.12, 0.13], int8=int8)
        for int8 in (False, True)
    )
    assert flat(int8) == flat(exact)


@every_kind
def test_layers_do_what_steps_do(kind: Kind) -> None:
    mapping = kind.weights(9, 17)
    x, state = uniform(4, 5, 3, 9), random_state(kind, mapping, 3)
    weights: dict[str, Any] = {name.removesuffix("_l0"): array for name, array in mapping.items()}
    weights["weight_ih"] = reference.Int8Matrix.of(weights["weight_ih"], 0.01)
    step: Any = {"rnn": reference.rnn_step, "lst": reference.lstm_step, "gru": reference.gru_step}[kind.name[:3]]
    parts = [part[0] for part in (state if isinstance(state, tuple) else (state,))]
    outputs = []
    for x_t in x:
        result = step(x_t, *parts, **weights, **kind.options, int8=True)
        parts = list(result[:2]) if kind.gates == 4 else [result]
        outputs.append(parts[0])
    y, _ = kind.expected(x, mapping, state, int8=True, input_scales=[0.01])
    assert np.array_equal(y, outputs)
    dynamic, _ = kind.expected(x, mapping, state, int8=True)
    assert 1e-5 < np.abs(dynamic - y).max() < 0.05


@every_kind
def test_rows_directions_and_layers_are_each_quantised_by_themselves(kind: Kind) -> None:
    mapping = kind.weights(9, 17, layers=2, directions=2)
    x = uniform(5, 5, 3, 9) * np.array([1, 1000, 1e-3], np.float32)[:, None]
    options = {"int8": True, "input_scales": [0.02, 0.008]}
    for chosen in ({"int8": True}, options):
        y, _ = kind.expected(x, mapping, **chosen)
        for row in range(3):
            np.testing.assert_allclose(kind.expected(x[:, row], mapping, **chosen)[0], y[:, row], rtol=0, atol=1e-12)
    below = {name: array for name, array in mapping.items() if "_l0" in name}
    above = {name.replace("_l1", "_l0"): array for name, array in mapping.items() if "_l1" in name}
    y, _ = kind.expected(x, below, int8=True, input_scales=[0.02])
    y, _ = kind.expected(y, above, int8=True, input_scales=[0.008])
    np.testing.assert_allclose(kind.expected(x, mapping, **options)[0], y, rtol=0, atol=1e-12)


@every_kind
def test_contractive_networks_stay_near_float64(kind: Kind) -> None:
    mapping = kind.weights(40, 32)
    x = uniform(24, 200, 4, 40)
    y, _ = kind.expected(x, mapping)
    for input_scales in (None, [1 / 127]):
        error = kind.expected(x, mapping, int8=True, input_scales=input_scales)[0] - y
        assert 1e-4 < np.sqrt((error**2).mean()) <= 5e-3
        wide = kind.expected(x, mapping, int8="int16", input_scales=input_scales)[0] - y
        assert (wide**2).mean() < (error**2).mean()


# Refusals

TWO = KIND["gru_reset_after"].weights(2, 3, layers=2)
X = np.zeros((1, 2))


def gru(x: Any, mapping: Any, **options: Any) -> Any:
    return reference.gru(x, mapping, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reference.quantise_weights([1, 2]), r"weights: expected shape \(rows, depth\)"),
        (lambda: reference.quantise_weights([[1, math.nan]]), "weights: expected weights that int8 can hold"),
        (lambda: reference.quantise_weights([[1e300]]), "weights: expected weights that int8 can hold"),
        (lambda: reference.quantise_input(1.0, bounded=True), r"x: expected shape \(\.\.\., size\)"),
        (lambda: reference.quantise_input([1j], bounded=True), "x: expected real numbers"),
        *(
            (lambda s=s: reference.quantise_input([1], bounded=False, static_scale=s), "static_scale: .* 2.100, got ")
            for s in (0, -1, math.nan, math.inf, 1e300, BELOW_TINY, 1.01 / TINY)
        ),
        (lambda: reference.Int8Matrix.of([[1]], 0), "input_scale: expected a number from"),
        (
            lambda: reference.int8_linear([1, 2, 3], *reference.quantise_weights([[1, 2]]), bounded=False),
            r"x: expected shape \(2,\), got \(3,\)",
        ),
        (lambda: gru(X, TWO, int8=True, input_scales=[1]), "input_scales: expected 2, one for each layer, got 1"),
        (lambda: gru(X, TWO, int8=True, input_scales=[1, -1]), "input_scales: expected a number from"),
        (lambda: gru(X, TWO, input_scales=[1, 1]), "input_scales: expected None without int8"),
        (
            lambda: gru(X, {**TWO, "weight_hh_l1": np.full((9, 3), math.inf)}, int8=True),
            "weight_hh_l1: expected weights that int8 can hold",
        ),
        (lambda: reference.rnn_step([1], [0], [[1]], [[math.nan]], int8=True), "weight_hh: expected weights that"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        call()
