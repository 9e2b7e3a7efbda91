"""Half-width weights: stored in 16 bits, widened exactly, computed as float32 would with the rounded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from models import KIND, KINDS, SIZE_PAIRS, Kind, flat, random_state, uniform

pytestmark = [pytest.mark.core, pytest.mark.of_bits]

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
every_width = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest values of the type, ties to even, as float32."""
    if dtype == "float16":
        return array.astype(np.float16).astype(np.float32)
    mantissa, exponent = np.frexp(array.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 256) / 256, exponent).astype(np.float32)  # bfloat16 has 8 significant bits


def rounded_weights(mapping: dict[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    return {name: rounded(array, dtype) if name.startswith("weight") else array for name, array in mapping.items()}


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


@every_kind
@every_width
@pytest.mark.parametrize(("input_size", "hidden_size"), SIZE_PAIRS)
def test_the_same_bits_as_float32_with_rounded_weights(
    kind: Kind, dtype: str, input_size: int, hidden_size: int, isa: str
) -> None:
    mapping = kind.weights(input_size, hidden_size)
    x = uniform(1, 6, input_size)
    state = random_state(kind, mapping)
    half = kind.make(mapping, dtype=dtype, isa=isa)
    assert (half.dtype, half.isa) == (dtype, isa)
    same(half(x, state), kind.make(rounded_weights(mapping, dtype), isa=isa)(x, state))


@every_kind
@every_width
def test_stacks_batches_lengths_and_streams(kind: Kind, dtype: str, isa: str) -> None:
    mapping = kind.weights(6, 17, layers=2, directions=2)
    x, lengths = uniform(2, 7, 9, 6), [7, 0, 3, 7, 1, 2, 5, 7, 6]
    same(
        kind.make(mapping, dtype=dtype, isa=isa)(x, lengths=lengths),
        kind.make(rounded_weights(mapping, dtype), isa=isa)(x, lengths=lengths),
    )
    layer = kind.make(kind.weights(6, 17, layers=2), dtype=dtype, isa=isa)
    y, _ = layer(x)
    for batch in (1, 9):
        stream = layer.stream(batch)
        rows = x[:, 0] if batch == 1 else x
        same(np.array([stream.step(row) for row in rows]), y[:, 0] if batch == 1 else y)


@every_kind
@every_width
def test_cells(kind: Kind, dtype: str, isa: str) -> None:
    mapping = kind.weights(6, 17)
    half = kind.make_cell(mapping, dtype=dtype, isa=isa)
    expected = kind.make_cell(rounded_weights(mapping, dtype), isa=isa)
    x = uniform(3, 4, 6)
    same((half(x),), (expected(x),))


@every_kind
@every_width
def test_astype_makes_a_new_layer_from_the_stored_weights(kind: Kind, dtype: str) -> None:
    mapping = kind.weights(6, 17, layers=2, directions=2)
    layer = kind.make(mapping, batch_first=True)
    x = uniform(4, 3, 5, 6)
    before = layer(x)
    half = layer.astype(dtype)
    assert (layer.dtype, half.dtype, half.batch_first, half.isa) == ("float32", dtype, True, layer.isa)
    same(half(x), kind.make(mapping, dtype=dtype, batch_first=True)(x))
    same(half.astype("float32")(x), half(x))
    same(half.astype(dtype)(x), half(x))
    same(layer.astype("float32")(x), before)
    same(layer(x), before)
    cell = kind.make_cell(kind.weights(6, 17)).astype(dtype)
    assert cell.dtype == dtype


@every_width
def test_every_positive_value_is_widened_exactly(dtype: str, isa: str) -> None:
    finite = 0x7C00 if dtype == "float16" else 0x7F80
    codes = np.arange(finite, dtype=np.uint16)
    weight_ih: np.ndarray = np.zeros(2**15, np.float32)
    if dtype == "float16":
        weight_ih[:finite] = codes.view(np.float16)
    else:
        weight_ih[:finite] = (codes.astype(np.uint32) << 16).view(np.float32)
    weight_ih = weight_ih.reshape(64, 512)
    layer = fc.RNN.from_state_dict(
        {"weight_ih_l0": weight_ih, "weight_hh_l0": np.zeros((64, 64), np.float32)},
        nonlinearity="relu",
        dtype=dtype,
        isa=isa,
    )
    y, _ = layer(np.eye(512, dtype=np.float32)[None])
    smallest_normal = np.finfo(np.float32).smallest_normal  # smaller ones count as zero in every call
    np.testing.assert_array_equal(y[0].T, np.where(weight_ih < smallest_normal, 0, weight_ih))


@every_width
def test_rounding_is_to_nearest_ties_to_even(dtype: str) -> None:
    bits = 11 if dtype == "float16" else 8
    ulp = 2.0 ** (1 - bits)
    weights = np.array([[1 + ulp / 2, 1 + 3 * ulp / 2, 1 + ulp / 2 + 2.0**-20, 2.0**-24 * 1.5]], np.float32)
    cell = fc.RNNCell(weights, np.zeros((1, 1), np.float32), nonlinearity="relu", dtype=dtype)
    got = [float(cell(row)[0]) for row in np.eye(4, dtype=np.float32)]
    last = 2.0**-23 if dtype == "float16" else 2.0**-24 * 1.5
    assert got == [1, 1 + 2 * ulp, 1 + ulp, last]


@pytest.mark.parametrize(("dtype", "too_large"), [("float16", 65520.0), ("bfloat16", 3.4e38)])
def test_a_weight_that_does_not_fit_is_refused(dtype: str, too_large: float) -> None:
    weight_ih = np.zeros((3, 2), np.float32)
    weight_ih[2, 1] = -too_large
    arrays = weight_ih, np.zeros((3, 1), np.float32)
    message = rf"weight_ih: expected weights that {dtype} can hold, got .* at index \(2, 1\)"
    with pytest.raises(ValueError, match=message):
        fc.GRUCell(*arrays, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        fc.GRUCell(*arrays).astype(dtype)
    weight_ih[2, 1] = 65519 if dtype == "float16" else 3.38e38
    assert fc.GRUCell(*arrays, dtype=dtype).dtype == dtype


def test_an_unknown_width_is_refused() -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(2, 2))
    with pytest.raises(
        fc.UnsupportedError, match="dtype='float64' is not supported; supported: float32, bfloat16, float16, int8"
    ):
        layer.astype("float64")


@every_kind
@every_width
def test_half_the_bytes(kind: Kind, dtype: str) -> None:
    layer = kind.make(kind.weights(128, 128))
    assert layer.astype(dtype).nbytes <= 0.52 * layer.nbytes
