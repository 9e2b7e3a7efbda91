"""int8 weights: the same bits on every tier and however called, and no row that touches another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bit_model
import fusedcell as fc
import general_bit_model
from models import EVERY_KIND, KIND, SIZE_PAIRS, Kind, flat, random_state, uniform

pytestmark = pytest.mark.core

MATRICES = ("weight_ih", "weight_hh", "weight_hr")

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


def loud_and_quiet(steps: int, batch: int, size: int) -> np.ndarray:
    """Loudness varies by 60 dB from step to step, and row 1 is 1000 times louder than the others."""
    loudness = np.logspace(-1.5, 1.5, 7, dtype=np.float32)[np.arange(steps) * 3 % 7]
    x = uniform(21, steps, batch, size) * loudness[:, None, None]
    x[:, 1] *= 1000
    return x


@pytest.mark.any_cpu
@every_kind
@pytest.mark.parametrize(("input_size", "hidden_size"), SIZE_PAIRS)
def test_every_tier_gives_the_same_bits(kind: Kind, input_size: int, hidden_size: int) -> None:
    mapping = kind.weights(input_size, hidden_size, layers=2)
    x = loud_and_quiet(5, 8, input_size)
    state = random_state(kind, mapping, 8)
    first, *others = (kind.make(mapping, dtype="int8", isa=tier)(x, state) for tier in fc.isas())
    for other in others:
        same(other, first)


@pytest.mark.parametrize("input_size", [1023, 1024, 1025, 1040, 1041, 2049, 3100])
@pytest.mark.parametrize("batch", [1, 4])
def test_sums_in_16_bits_that_no_int32_or_float_holds_are_rounded_once(input_size: int, batch: int, isa: str) -> None:
    """Weights and inputs as large as they can be beside such that have no pattern, to past every limit of a tier."""
    rng = np.random.default_rng(input_size)
    rows = np.stack([np.ones(input_size), rng.uniform(-1, 1, input_size), rng.choice([-1, 1], input_size)])
    x = np.stack([np.ones(input_size), *rng.uniform(-1, 1, (3, input_size))])[:batch]
    weights = {"weight_ih": rows.astype(np.float32), "weight_hh": np.zeros((3, 3), np.float32)}
    cell = fc.RNNCell(**weights, nonlinearity="relu", dtype="int8_int16", isa=isa)
    product = bit_model.PRODUCTS["int8_int16"]
    expected = [product(np.zeros(3, np.float32), weights["weight_ih"], row, False) for row in x.astype(np.float32)]
    np.testing.assert_array_equal(cell(x.astype(np.float32)), np.maximum(expected, 0))


@every_kind
def test_steps_blocks_and_batches_give_the_same_bits(kind: Kind, isa: str) -> None:
    mapping = kind.weights(9, 33, layers=2)
    layer = kind.make(mapping, dtype="int8", isa=isa)
    x = loud_and_quiet(30, 7, 9)
    y, _ = layer(x)
    stream = layer.stream(7)
    same(np.concatenate([stream.process(x[:11]), stream.process(x[11:13]), stream.process(x[13:])]), y)
    for row in range(7):
        stream = layer.stream()
        same(np.array([stream.step(step) for step in x[:, row]]), y[:, row])


@every_kind
def test_a_state_beyond_one_gives_the_same_bits_however_cut(kind: Kind, isa: str) -> None:
    mapping = kind.weights(9, 17)
    layer = kind.make(mapping, dtype="int8", isa=isa)
    x = uniform(22, 12, 9)
    state = random_state(kind, mapping)
    far = tuple(5 * part for part in state) if isinstance(state, tuple) else 5 * state
    y, _ = layer(x, far)
    stream = layer.stream()
    stream.state = far
    same(np.array([stream.step(step) for step in x]), y)


@every_kind
def test_lengths_and_directions(kind: Kind, isa: str) -> None:
    mapping = kind.weights(9, 17, layers=2, directions=2)
    layer = kind.make(mapping, dtype="int8", isa=isa)
    x, lengths = loud_and_quiet(6, 5, 9), [6, 0, 3, 1, 6]
    y, _ = layer(x, lengths=lengths)
    for row, length in enumerate(lengths):
        same(y[:length, row], layer(x[:length, row])[0])
        assert not y[length:, row].any()


@every_kind
def test_nan_and_infinity_spoil_their_own_row_only(kind: Kind, isa: str) -> None:
    layer = kind.make(kind.weights(9, 33), dtype="int8", isa=isa)
    x = uniform(23, 4, 8, 9)
    spoilt = x.copy()
    spoilt[1:, 3, 2], spoilt[2:, 5, 0] = np.nan, np.inf
    y, _ = layer(x)
    spoilt_y, _ = layer(spoilt)
    others = [row for row in range(8) if row not in (3, 5)]
    same(spoilt_y[:, others], y[:, others])
    same(spoilt_y[:1], y[:1])
    assert np.isnan(spoilt_y[1:, 3]).all()
    assert np.isnan(spoilt_y[2:, 5]).all()


@every_kind
def test_zero_and_tiny_inputs_and_weights_are_safe(kind: Kind, isa: str) -> None:
    mapping = kind.weights(9, 17)
    zero_rows = {name: array.copy() for name, array in mapping.items()}
    for array in zero_rows.values():
        array[::2] *= np.float32(1e-35)
    for weights in (mapping, zero_rows):
        layer = kind.make(weights, dtype="int8", isa=isa)
        zero, _ = layer(np.zeros((3, 9), np.float32))
        assert np.isfinite(zero).all()
        same(layer(np.full((3, 9), 1e-35, np.float32))[0], zero)
        assert np.isfinite(layer(np.full((3, 9), 1e30, np.float32))[0]).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_products_do_not_saturate(sign: int, isa: str) -> None:
    # Every weight is 127 of its row's units and every input 127 or -127 of its own, over as many inputs as are allowed.
    inputs = 65_535
    weight_ih, weight_hh = np.full((1, inputs), sign, np.float32), np.zeros((1, 1), np.float32)
    cell = fc.RNNCell(weight_ih, weight_hh, nonlinearity="relu", dtype="int8", isa=isa)
    assert cell(np.full(inputs, sign, np.float32))[0] == pytest.approx(inputs, rel=1e-6)
    assert cell(np.full(inputs, -sign, np.float32))[0] == 0
    alternating = np.where(np.arange(inputs) % 2, -sign, sign).astype(np.float32)
    assert cell(alternating)[0] == pytest.approx(1, rel=1e-6)


def test_sums_that_could_overflow_are_refused() -> None:
    wide, recurrent = np.zeros((1, 65_536), np.float32), np.zeros((1, 1), np.float32)
    with pytest.raises(ValueError, match="int8: expected inputs and hidden units that add up to at most 65536"):
        fc.RNNCell(wide, recurrent, dtype="int8")
    with pytest.raises(ValueError, match="got 65537"):
        fc.RNNCell(wide, recurrent).astype("int8")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    weight_hh = np.zeros((3, 1), np.float32)
    weight_hh[1] = bad
    with pytest.raises(
        ValueError, match=f"weight_hh: expected finite values, got 1 {'NaN' if np.isnan(bad) else 'infinite'} of 3"
    ):
        fc.GRUCell(np.zeros((3, 2), np.float32), weight_hh, dtype="int8")


@pytest.mark.any_cpu
@every_kind
def test_fixed_input_scales_give_the_same_bits_on_every_tier_and_however_cut(kind: Kind) -> None:
    mapping = kind.weights(9, 33, layers=2)
    x = loud_and_quiet(12, 3, 9)
    x[5, 0, 4], x[7, 2, 8] = np.nan, -np.inf
    scales = [0.02, 1 / 127]
    expected = kind.make(mapping).astype("int8", input_scales=scales)(x)[0]
    assert np.isnan(expected[5:, 0]).all()
    assert np.isnan(expected[7:, 2]).all()
    assert np.isfinite(expected[:, 1]).all()
    for isa in fc.isas():
        layer = kind.make(mapping, isa=isa).astype("int8", input_scales=scales)
        assert layer.input_scales == tuple(np.array(scales, np.float32).tolist())
        same((layer(x)[0],), (expected,))
        for row in range(3):
            stream = layer.stream()
            same((np.array([stream.step(step) for step in x[:, row]]),), (expected[:, row],))


@every_kind
def test_fixed_input_scales_give_the_bits_of_the_definition(kind: Kind, isa: str) -> None:
    mapping = kind.weights(19, 17)
    x = loud_and_quiet(6, 2, 19)[:, 0]
    layer = kind.make(mapping, isa=isa).astype("int8", input_scales=[0.011])
    same((layer(x)[0],), (general_bit_model.run_kind(kind, mapping, x, "int8", 0.011)[0],))


def test_inputs_saturate_at_127_fixed_scales(isa: str) -> None:
    cell = fc.RNNCell(np.ones((1, 3), np.float32), np.zeros((1, 1), np.float32), nonlinearity="relu", isa=isa)
    quantised = cell.astype("int8", input_scales=[0.5])

    def sum_of(*x: float) -> float:
        return float(quantised(np.array(x, np.float32))[0])

    # The row's weights are 127 of 1/127 each, which comes to 1 again but for a rounding.
    assert sum_of(0.5, 0, 0) == pytest.approx(0.5)
    assert sum_of(0.25, 0.75, 1.25) == pytest.approx(0 + 1 + 1)  # halves of a scale go to the even side
    assert sum_of(63.5, 1000, 3e38) == pytest.approx(3 * 63.5)
    assert sum_of(-3e38, 1000, 63.6) == pytest.approx(63.5)


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf, 1e-31, 1e31])
def test_input_scales_that_cannot_be_used_are_refused(scale: float) -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(3, 4))
    with pytest.raises(ValueError, match=r"input_scales: expected scales from 2\^-100 to 2\^100"):
        layer.astype("int8", input_scales=[scale])
    with pytest.raises(ValueError, match="input_scales: expected one a layer, got none"):
        layer.astype("int8", input_scales=[])
    with pytest.raises(ValueError, match="input_scales: expected one a layer, 1, got 2"):
        layer.astype("int8", input_scales=[1, 1])
    with pytest.raises(ValueError, match="input_scales: only int8 has them, not float16"):
        layer.astype("float16", input_scales=[1])


@every_kind
def test_astype_is_the_same_as_dtype(kind: Kind) -> None:
    mapping = kind.weights(6, 17, layers=2)
    x = uniform(25, 5, 6)
    made, converted = kind.make(mapping, dtype="int8"), kind.make(mapping).astype("int8")
    assert (made.dtype, converted.dtype) == ("int8", "int8")
    same(converted(x), made(x))


@every_kind
def test_matrices_take_exactly_a_quarter_of_float32s_bytes(kind: Kind, isa: str) -> None:
    """Where nothing pads them: 64 units, and the 32 of a projection, are whole vectors on every tier."""
    mapping = kind.weights(40, 64, layers=2)
    weights = sum(array.size for name, array in mapping.items() if name.startswith(MATRICES))
    layer = kind.make(mapping, isa=isa)
    bytes_of = {dtype: layer.astype(dtype).matrix_nbytes for dtype in ("float32", "bfloat16", "float16", "int8")}
    assert bytes_of == {"float32": 4 * weights, "bfloat16": 2 * weights, "float16": 2 * weights, "int8": weights}


def test_what_pads_matrices_counts_with_them(isa: str) -> None:
    """int8 takes inputs in groups of 4, or of 8 on i8mm: the 3 of W make one group."""
    mapping = KIND["gru_reset_after"].weights(3, 64)
    layer = KIND["gru_reset_after"].make(mapping, dtype="int8", isa=isa)
    assert layer.matrix_nbytes == 3 * 64 * ((8 if isa == "i8mm" else 4) + 64)


@pytest.mark.parametrize("name", ["lstm", "gru_reset_after", "gru_reset_before", "rnn_tanh"])
def test_about_a_quarter_of_the_bytes(name: str) -> None:
    """Scales, biases and sums come on top of the matrices."""
    layer = KIND[name].make(KIND[name].weights(128, 128))
    small = layer.astype("int8")
    # A scalar tier's blocks are of few rows, each filled up to a cache line: at most 576 bytes for 2112 of float32.
    share = 0.28 if layer.isa in ("vfpv4", "scalar") else 0.27
    assert small.matrix_nbytes < small.nbytes <= share * layer.nbytes
