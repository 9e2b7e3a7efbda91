"""Rounding to int8 warns where a few values dominate rows of weights, and nowhere else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from collapsing import speaker_encoder
from drawn import examples
from models import EVERY_KIND, Kind, uniform

Array = np.ndarray


def dominated(rows: int, columns: int, share: float, ratio: float, seed: int = 0) -> Array:
    """Rows of weights from 1 to 2 of either sign, of which a share has one that is `ratio` times their median."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(1, 2, (rows, columns)) * rng.choice([-1, 1], (rows, columns))
    chosen = rng.permutation(rows)[: round(share * rows)]
    places = rng.integers(columns, size=len(chosen))
    weights[chosen, places] = 1
    medians = np.median(np.abs(weights[chosen]), axis=1)
    weights[chosen, places] = ratio * medians
    return weights.astype(np.float32)


def lstm(weight_ih: Array, weight_hh: Array | None = None, dtype: str = "float32") -> fc.LSTM:
    hh = uniform(1, len(weight_ih), len(weight_ih) // 4) if weight_hh is None else weight_hh
    return fc.LSTM.from_state_dict({"weight_ih_l0": weight_ih, "weight_hh_l0": hh}, dtype=dtype)


def caught(call: Callable[[], Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    assert all(one.category is fc.QuantizationWarning for one in found)
    return found


def test_a_network_that_int8_loses_is_warned_of_by_the_matrix_that_loses_it() -> None:
    layer = speaker_encoder(units=64)
    (found,) = caught(lambda: layer.astype("int8"))
    text = str(found.message)
    assert text.startswith("weight_ih_l0: a few weights take the int8 scale of ")
    assert "Leave this matrix wider by astype({'weight_ih_l0': 'float16', ...})" in text
    assert found.filename == __file__
    assert not caught(lambda: layer.astype({"weight_ih": "int8", "weight_hh": "int8", "weight_ih_l0": "float16"}))
    assert not caught(lambda: layer.astype("float16"))


def test_the_largest_float_beside_the_least_is_said_and_overflows_nowhere() -> None:
    weights = np.full((32, 32), 2.0**-149, np.float32)
    weights[:, 3] = 2.0**127
    (found,) = caught(lambda: lstm(uniform(2, 32, 5), weights[:, :8]).astype("int8"))
    assert "(in row 0 1.214e+83 times)" in str(found.message)


@pytest.mark.parametrize("make", EVERY_KIND, ids=lambda kind: kind.name)
def test_usual_weights_warn_of_nothing(make: Kind) -> None:
    layer = make.make(make.weights(20, 24, layers=2))
    assert not caught(lambda: layer.astype("int8"))
    assert not caught(lambda: make.make(make.weights(20, 24), dtype="int8"))


@settings(max_examples=examples(40))
@given(st.integers(8, 60), st.integers(8, 40), st.booleans(), st.integers(0, 99))
def test_a_tenth_of_rows_beyond_21_times_their_median_is_where_it_begins(
    units: int, columns: int, beyond: bool, seed: int
) -> None:
    share, ratio = (0.12, 24.0) if beyond else (0.08, 1000.0) if seed % 2 else (1.0, 18.0)
    weights = dominated(4 * units, columns, share, ratio, seed)
    sizes = np.sort(np.abs(weights), axis=1)
    ratios = sizes[:, -1] / sizes[:, columns // 2]
    expected = np.count_nonzero(ratios > 21) >= 0.1 * len(ratios)
    assert bool(caught(lambda: lstm(weights).astype("int8"))) == expected
    assert bool(caught(lambda: lstm(weights * np.float32(1e-6), dtype="int8"))) == expected


def test_the_message_counts_rows_and_names_the_worst() -> None:
    weights = np.ones((20, 9), np.float32)
    weights[3, 2], weights[7, 0] = -30, 64
    (found,) = caught(lambda: lstm(weights).astype("int8"))
    assert "of 2 of 20 rows" in str(found.message)
    assert "(in row 7 64 times)" in str(found.message)


def test_of_a_large_matrix_some_rows_are_looked_at() -> None:
    weights = dominated(4 * 200, 16, 0.5, 100)
    (found,) = caught(lambda: lstm(weights, np.zeros((800, 200), np.float32)).astype("int8"))
    assert " of 400 rows that were looked at, " in str(found.message)


def test_zeros_are_no_weights_to_lose() -> None:
    weights = np.zeros((8, 30), np.float32)
    weights[:, :9] = [1, 1, 1, 1, 1, 5, 5, 5, 5]
    assert not caught(lambda: lstm(weights).astype("int8"))
    weights[:, 8] = 500
    assert caught(lambda: lstm(weights).astype("int8"))
    weights[:, 7] = 0  # and of fewer than 8 weights none are many
    weights[:, 6] = 0
    assert not caught(lambda: lstm(weights).astype("int8"))
    assert not caught(lambda: lstm(np.zeros((8, 30), np.float32)).astype("int8"))


def test_what_is_int8_already_is_not_warned_of_again(tmp_path: Path) -> None:
    weights = dominated(32, 16, 1, 100)
    (_, second) = caught(lambda: lstm(weights, dominated(32, 8, 1, 100)).astype("int8"))
    assert str(second.message).startswith("weight_hh_l0: ")
    with pytest.warns(fc.QuantizationWarning):
        small = lstm(weights).astype("int8")
    fc.save(small, tmp_path / "small.safetensors")
    assert not caught(lambda: fc.load(tmp_path / "small.safetensors").astype("int8"))
    assert not caught(lambda: small.astype({"weight_hh": "int8"}))


def test_a_model_names_the_node() -> None:
    model = fc.Model(
        [
            ("encoder", lstm(dominated(32, 9, 1, 100)), "x"),
            ("head", fc.Dense(dominated(10, 8, 1, 100)), "encoder"),
        ]
    )
    encoder, head = (str(found.message) for found in caught(lambda: model.astype("int8")))
    assert encoder.startswith("encoder.weight_ih_l0: ")
    assert "astype({'encoder': {'weight_ih_l0': 'float16', ...}, ...})" in encoder
    assert head.startswith("head.weight: ")
    assert "astype({'head': 'float16', ...})" in head
    assert not caught(lambda: model.astype("int8", keep=("encoder", "head")))


def test_columns_of_nodes_may_differ_as_a_rectifier_leaves_them() -> None:
    weights = np.random.default_rng(0).uniform(-1, 1, (16, 24)).astype(np.float32)
    weights[:, 3:] *= 1e-3  # features that are never used
    assert not caught(lambda: fc.Dense(weights).astype("int8"))
    assert caught(lambda: lstm(weights).astype("int8"))
    assert not caught(lambda: fc.Embedding(dominated(32, 9, 1, 100)).astype("int8"))
