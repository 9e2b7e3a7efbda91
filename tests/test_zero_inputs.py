"""Steps whose inputs are mostly zero leave these out, and have the bits of every other step."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
import general_bit_model
from models import EVERY_KIND, KIND, KINDS, Kind, flat, uniform

pytestmark = pytest.mark.float_weights

INPUTS, HIDDEN = 410, 33  # W is large enough in every kind
DENSITIES = (0.25, 1, 0, 1 / INPUTS, 0.45, 0.55)
every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)


def with_zeros(seed: int, rows: int, size: int) -> np.ndarray:
    """Rows of the densities in turn, with zeros of both signs."""
    x = uniform(seed, rows, size)
    places = np.argsort(uniform(seed + 1, rows, size), axis=-1)
    nonzeros = np.resize([round(density * size) for density in DENSITIES], rows)
    zeros = np.copysign(np.float32(0), uniform(seed + 2, rows, size))
    return np.where(places < nonzeros[:, None], x, zeros)


@lru_cache
def modelled(name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    kind = KIND[name]
    mapping, x = kind.weights(INPUTS, HIDDEN), with_zeros(3, len(DENSITIES), INPUTS)
    return mapping, x, general_bit_model.run_kind(kind, mapping, x, "float32")[0]


@every_kind
def test_steps_have_the_bits_that_the_model_gives(kind: Kind, isa: str) -> None:
    mapping, x, expected = modelled(kind.name)
    layer = kind.make(mapping, isa=isa)
    stream = layer.stream()
    np.testing.assert_array_equal([stream.step(row) for row in x], expected)
    np.testing.assert_array_equal(layer(x)[0], expected)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves(kind: Kind, dtype: str, isa: str) -> None:
    mapping, x, _ = modelled(kind.name)
    layer = kind.make(mapping, isa=isa).astype(dtype)
    stream = layer.stream()
    np.testing.assert_array_equal([stream.step(row) for row in x], layer(x)[0])


@pytest.mark.parametrize("kind", [KIND["lstm"], KIND["lstm_projected"]], ids=lambda kind: kind.name)
def test_cells_sequences_of_one_step_masks_and_threads(kind: Kind, isa: str) -> None:
    mapping = kind.weights(200, 300)
    x = with_zeros(5, len(DENSITIES), 200)
    layer = kind.make(mapping, isa=isa)
    y, _ = layer(x)
    for call in (kind.make_cell(mapping, isa=isa), layer, layer):
        state: Any = None
        options = {"num_threads": 2} if call is layer else {}
        for row, expected in zip(x, y, strict=True):
            if call is layer:
                step, state = call(row[None], state, **options)
            else:
                state = call(row, state)
                step = state[0][None]
            np.testing.assert_array_equal(step[0], expected)
    masked, state = layer(x[:1, None], mask=np.array([[False]]))
    assert not any(values.any() for values in flat((masked, state)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_models_of_rectified_rows(dtype: str, isa: str) -> None:
    """Windows in groups, a layer and a dense node, whose inputs are what a ReLU leaves."""
    mapping = KIND["gru_reset_after"].weights(96, 64)
    nodes: list[Any] = [
        ("conv", fc.nodes.Window(uniform(1, 96, 3 * 40), taps=3, padding=(2, 0), activation="Relu"), "x"),
        ("grouped", fc.nodes.Window(uniform(2, 96, 3 * 48), taps=3, padding=(2, 0), groups=2), "conv"),
        ("relu", fc.nodes.Activation("Relu"), "grouped"),
        ("gru", fc.GRU.from_state_dict(mapping), "relu"),
        ("wide", fc.nodes.Dense(uniform(4, 200, 64), activation="Relu"), "gru"),
        ("head", fc.nodes.Dense(uniform(5, 70, 200)), "wide"),
    ]
    model = fc.Model(nodes, isa=isa)
    if dtype != "float32":
        model = model.astype(dtype)
    x = with_zeros(7, 20, 40)
    stream = model.stream()
    np.testing.assert_array_equal([stream.step(row) for row in x], model(x))
