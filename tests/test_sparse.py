"""Pruned matrices run sparse: the bits of the dense chain without its zeros, on every tier and however called."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
import general_bit_model
from golden import assert_published, digest, published
from models import EVERY_KIND, KIND, Kind, flat, random_state, uniform

pytestmark = [pytest.mark.core, pytest.mark.float_weights]

DTYPES = ("float32", "int8")
every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
PLAIN_KINDS = [KIND["lstm"], KIND["gru_reset_after"], KIND["gru_reset_before"]]
plain_kind = pytest.mark.parametrize("kind", PLAIN_KINDS, ids=lambda kind: kind.name)
UNITS = (111, 112, 113, 119, 121, 128)


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


def pruned(matrix: np.ndarray, gates: int, density: float, group: int = 4, seed: int = 1) -> np.ndarray:
    """The matrix with about so many of its blocks of 16 rows of a gate x `group` columns."""
    units, depth = len(matrix) // gates, matrix.shape[1]
    strips, groups = -(-units // 16), -(-depth // group)
    kept = (uniform(seed, gates, strips, groups) + 1) / 2 < density
    rows = kept.repeat(16, axis=1)[:, :units].repeat(group, axis=2)[:, :, :depth]
    return np.where(rows.reshape(matrix.shape), matrix, np.float32(0))


def mapping_of(kind: Kind, inputs: int, hidden: int, density: float, group: int = 4, **more: Any) -> dict[str, Any]:
    """Pruned matrices under PyTorch's names."""
    return {
        name: pruned(value, 1 if "weight_hr" in name else kind.gates, density, group, seed)
        if value.ndim == 2 and "peephole" not in name
        else value
        for seed, (name, value) in enumerate(kind.weights(inputs, hidden, **more).items())
    }


def stored(layer: Any) -> set[str]:
    return {name for name, density in layer.densities.items() if density < 1}


def case(kind: Kind) -> tuple[dict[str, Any], np.ndarray]:
    return mapping_of(kind, 300, 136, 0.2), uniform(2, 4, 300) * np.array([0.1, 1, 3, 0], np.float32)[:, None]


def case_of_units(kind: Kind, dtype: str, hidden: int) -> tuple[dict[str, Any], np.ndarray]:
    return mapping_of(kind, 101, hidden, 0.25, group=1 if dtype == "float32" else 4), uniform(3, 3, 101)


Modelled = Callable[[], tuple[np.ndarray, Any]]


def every_case() -> dict[str, Modelled]:
    """The cases that golden.json has, by their names, each with what the model of the arithmetic gives."""
    run = general_bit_model.run_kind
    cases: dict[str, Modelled] = {}
    for dtype in DTYPES:
        for kind in EVERY_KIND:
            cases[f"sparse {kind.name} {dtype}"] = partial(run, kind, *case(kind), dtype)
        for kind, hidden in product(PLAIN_KINDS, UNITS):
            mapping, x = case_of_units(kind, dtype, hidden)
            cases[f"sparse {kind.name} {dtype} {hidden}"] = partial(run, kind, mapping, x, dtype)
    return cases


def every_digest() -> dict[str, str]:
    """What golden.json holds of sparse matrices; test_bits.py writes it."""
    return {name: digest(modelled()) for name, modelled in every_case().items()}


@pytest.mark.any_cpu
def test_the_model_agrees_with_golden_hashes() -> None:
    for name, modelled in list(every_case().items())[::7]:
        assert digest(modelled()) == published(name)


@pytest.mark.of_bits
@every_kind
@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_have_the_bits_of_dense_matrices_with_zeros(kind: Kind, dtype: str, isa: str) -> None:
    mapping, x = case(kind)
    layer = kind.make(mapping, dtype=dtype, isa=isa)
    y, state = layer(x)
    c = state[1][0] if isinstance(state, tuple) else None
    name = f"sparse {kind.name} {dtype}"
    assert_published(name, [y, c], lambda: every_case()[name]())
    assert "weight_ih_l0" in stored(layer)
    assert "weight_hh_l0" in stored(layer) or (kind.gates == 1 and dtype == "int8")


@pytest.mark.of_bits
@plain_kind
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", UNITS)
def test_any_number_of_units(kind: Kind, dtype: str, hidden: int, isa: str) -> None:
    mapping, x = case_of_units(kind, dtype, hidden)
    layer = kind.make(mapping, dtype=dtype, isa=isa)
    assert {"weight_ih_l0", "weight_hh_l0"} == stored(layer)
    y, state = layer(x)
    c = state[1][0] if isinstance(state, tuple) else None
    name = f"sparse {kind.name} {dtype} {hidden}"
    assert_published(name, [y, c], lambda: every_case()[name]())
    stream = layer.stream()
    same(np.array([stream.step(row) for row in x]), y)
    rows = np.repeat(x[:, None], 9, axis=1)
    for batch in (2, 9):
        same(layer(rows[:, :batch])[0], np.repeat(y[:, None], batch, axis=1))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8_int16"])
def test_other_types_have_the_bits_of_dense_matrices_with_zeros(dtype: str, isa: str) -> None:
    kind = KIND["lstm"]
    layer = kind.make(mapping_of(kind, 100, 80, 0.2), isa=isa).astype(dtype)
    x = uniform(2, 4, 100)
    if dtype == "int8_int16":
        expected, _ = general_bit_model.run_kind(kind, mapping_of(kind, 100, 80, 0.2), x, dtype)
    else:
        mapping = dict(zip(mapping_of(kind, 100, 80, 0.2), _arrays(layer), strict=True))
        expected, _ = general_bit_model.run_kind(kind, mapping, x, "float32")
    np.testing.assert_array_equal(layer(x)[0], expected)


def _arrays(layer: Any) -> list[np.ndarray]:
    arrays = layer.stack.arrays()[0]
    return [arrays[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


@pytest.mark.any_cpu
@every_kind
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_blocks_batches_and_threads(kind: Kind, dtype: str, isa: str) -> None:
    layer = kind.make(mapping_of(kind, 130, 129, 0.25, layers=2), dtype=dtype, isa=isa)
    assert stored(layer) or (kind.gates == 1 and dtype == "int8")
    x = uniform(3, 9, 11, 130)
    y, end = layer(x)
    for row in (0, 5, 10):
        stream = layer.stream()
        same(np.array([stream.step(step) for step in x[:, row]]), y[:, row])
        stream.reset()
        same(np.concatenate([stream.process(x[:4, row]), stream.process(x[4:, row])]), y[:, row])
    for batch in (1, 2, 3, 7, 8, 9):
        same(layer(x[:, :batch])[0], y[:, :batch])
    same(layer(x, num_threads=2), (y, end))
    lengths = np.arange(11) % 10
    with_lengths, _ = layer(x, lengths=lengths)
    for row, length in enumerate(lengths):
        same(with_lengths[:length, row], y[:length, row])
    streams = [layer.stream() for _ in range(11)]
    same(np.array([layer.step_many(streams, step) for step in x]), y)


@pytest.mark.parametrize("kind", [KIND["lstm"], KIND["gru_reset_before"]], ids=lambda kind: kind.name)
def test_both_directions_and_states(kind: Kind, isa: str) -> None:
    mapping = mapping_of(kind, 70, 96, 0.2, directions=2)
    layer = kind.make(mapping, isa=isa)
    x = uniform(5, 6, 3, 70)
    state = random_state(kind, mapping, 3)
    expected = kind.expected(x, mapping, state)
    y, end = layer(x, state)
    for a, e in zip(flat((y, end)), flat(expected), strict=True):
        np.testing.assert_allclose(a, e, atol=3e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_empty_gate_and_a_single_block(dtype: str, isa: str) -> None:
    kind = KIND["lstm"]
    for kept in ((), (70,)):
        mapping = kind.weights(100, 97)
        for name in ("weight_ih_l0", "weight_hh_l0"):
            matrix = np.zeros_like(mapping[name])
            for row in kept:
                matrix[row, 7] = 1
            mapping[name] = matrix
        x = uniform(1, 3, 100)
        expected, _ = general_bit_model.run_kind(kind, mapping, x, dtype)
        layer = kind.make(mapping, dtype=dtype, isa=isa)
        np.testing.assert_array_equal(layer(x)[0], expected)
        assert stored(layer) == {"weight_ih_l0", "weight_hh_l0"}


def test_what_runs_sparse() -> None:
    kind = KIND["lstm"]
    full = kind.make(kind.weights(128, 128))
    assert full.densities == {"weight_ih_l0": 1.0, "weight_hh_l0": 1.0}
    half = mapping_of(kind, 128, 128, 2) | {"weight_ih_l0": np.zeros((512, 128), np.float32)}
    half["weight_ih_l0"][:, :64] = 1  # exactly half of the blocks
    assert kind.make(half).densities == {"weight_ih_l0": 0.5, "weight_hh_l0": 1.0}
    half["weight_ih_l0"][0, 64] = 1
    assert kind.make(half).densities["weight_ih_l0"] == 1
    # 16,384 weights or more, and in int8 twice as many, of which at most 0.4 of the blocks are stored.
    small = kind.make(mapping_of(kind, 64, 64, 0.1))
    assert small.densities["weight_hh_l0"] < 0.2
    assert not stored(small.astype("int8"))
    assert not stored(kind.make(mapping_of(kind, 63, 63, 0.1)))
    assert not stored(kind.make(half).astype("int8"))


def test_bytes_are_those_of_stored_blocks_and_their_numbers() -> None:
    weights = KIND["rnn_tanh"].weights(1, 512)
    matrix = np.zeros((512, 512), np.float32)
    matrix[:, :128] = 1
    layer = KIND["rnn_tanh"].make(weights | {"weight_hh_l0": matrix}, isa="scalar")
    dense = KIND["rnn_tanh"].make(weights, isa="scalar")
    assert dense.matrix_nbytes - layer.matrix_nbytes == 4 * 512 * 512 - 32 * 128 * (16 * 4 + 2)
    assert layer.nbytes < 0.3 * dense.nbytes


def test_nan_and_infinity_reach_what_is_connected_alone(isa: str) -> None:
    kind = KIND["lstm"]
    mapping = kind.weights(64, 96, bias=False)
    mapping["weight_hh_l0"] = np.zeros_like(mapping["weight_hh_l0"])
    connected = np.zeros((4, 96), bool)
    connected[:, 16:32] = True  # to input 5
    mapping["weight_ih_l0"][:, 5] = np.where(connected.ravel(), 1, 0)
    mapping["weight_ih_l0"][:, 20:] = 0
    layer = kind.make(mapping, isa=isa)
    for value in (np.nan, np.inf):
        x = uniform(1, 5, 64)
        x[:, 5] = value
        x[:, 40] = np.nan  # connected to nothing
        y, _ = layer(x)
        if np.isnan(value):
            np.testing.assert_array_equal(np.isnan(y[0]), connected[0])
        assert not np.isnan(y[:, ~connected[0]]).any()
        stream = layer.stream()
        same(np.array([stream.step(row) for row in x]), y)
        same(layer(np.repeat(x[:, None], 9, axis=1))[0], np.repeat(y[:, None], 9, axis=1))
        same(kind.make(mapping, isa="scalar")(x)[0], y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_files_pickles_and_other_types(dtype: str, tmp_path: Path, isa: str) -> None:
    kind = KIND["gru_reset_before"]
    layer = kind.make(mapping_of(kind, 110, 111, 0.15), dtype=dtype, isa=isa)
    x = uniform(1, 5, 110)
    path = tmp_path / "layer.safetensors"
    fc.save(layer, path)
    for other in (
        fc.load(path, isa=isa),
        pickle.loads(pickle.dumps(layer)),
        layer.astype(dtype),
        layer.astype({"weight_hh": dtype}),
    ):
        same(other(x)[0], layer(x)[0])
        if other.isa == layer.isa:
            assert other.densities == layer.densities
    for other_dtype in ("int8", "float16", "float32", "int8_int16"):
        other = layer.astype(other_dtype)
        fc.save(other, path)
        same(fc.load(path, isa=isa)(x)[0], other(x)[0])
    if dtype == "float32":
        fresh = kind.make(mapping_of(kind, 110, 111, 0.15), dtype="int8", isa=isa)
        same(layer.astype("int8")(x)[0], fresh(x)[0])
        assert layer.astype("int8").densities == fresh.densities


def test_weights_come_out_as_they_went_in(isa: str) -> None:
    kind = KIND["lstm_projected"]
    mapping = mapping_of(kind, 90, 260, 0.1)
    layer = kind.make(mapping, isa=isa)
    assert stored(layer) == {"weight_ih_l0", "weight_hh_l0", "weight_hr_l0"}
    arrays = layer.stack.arrays()[0]
    for name in ("weight_ih", "weight_hh", "weight_hr"):
        np.testing.assert_array_equal(arrays[name], mapping[f"{name}_l0"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("outputs", [150, 160, 161])
def test_a_dense_node_of_a_model(dtype: str, outputs: int, isa: str) -> None:
    matrix = pruned(uniform(1, outputs, 257), 1, 0.2)
    bias = uniform(2, outputs)
    x = uniform(3, 9, 2, 257)
    model = fc.Model([("dense", fc.Dense(matrix, bias, activation="Relu"), "x")]).astype(dtype)
    y = model(x)
    assert y.shape == (9, 2, outputs)
    tolerance = 1e-5 if dtype == "float32" else 0.05
    np.testing.assert_allclose(y, np.maximum(x @ matrix.T + bias, 0), atol=tolerance)
    full = fc.Model([("dense", fc.Dense(uniform(1, outputs, 257), bias), "x")]).astype(dtype)
    assert model.nbytes < 0.45 * full.nbytes
    same(np.concatenate([model(x[t : t + 1]) for t in range(9)]), y)


def test_a_folded_embedding_reads_a_sparse_projection(isa: str) -> None:
    kind = KIND["lstm"]
    mapping = mapping_of(kind, 80, 72, 0.2)
    table = uniform(4, 10, 80)
    tokens = np.array([3, 0, 9, 3, 1])
    layer = kind.make(mapping, isa=isa)
    model = fc.Model([("table", fc.Embedding(table), "x"), ("lstm", layer, "table")])
    same(model(tokens), layer(table[tokens])[0])


def test_calibration_keeps_zeros() -> None:
    kind = KIND["gru_reset_after"]
    mapping = mapping_of(kind, 120, 112, 0.2)
    layer = kind.make(mapping)
    made = fc.quantization.calibrate(layer, uniform(1, 300, 120), snr_db=20).layer
    assert made is not None
    assert made.dtype == "int8"
    for name in ("weight_ih", "weight_hh"):
        assert not made.stack.arrays()[0][name][mapping[f"{name}_l0"] == 0].any()
    assert stored(made) == stored(layer)
