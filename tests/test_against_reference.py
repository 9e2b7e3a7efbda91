"""Every cell, size and tier agrees with the float64 reference to 2e-6 over 100 steps."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from models import EVERY_KIND, KIND, KINDS, SIZE_PAIRS, SIZES, Kind, flat, random_state, uniform

pytestmark = pytest.mark.float_weights

STEPS = 100
TOLERANCE = 2e-6

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)


def case(kind: Kind, input_size: int, hidden_size: int, bias: bool) -> tuple[dict[str, np.ndarray], np.ndarray, Any]:
    mapping = kind.weights(input_size, hidden_size, bias=bias)
    return mapping, uniform(7, STEPS, input_size), random_state(kind, mapping)


@functools.cache  # every tier is held against the same
def expected_of(name: str, input_size: int, hidden_size: int, bias: bool) -> list[np.ndarray]:
    mapping, x, state = case(KIND[name], input_size, hidden_size, bias)
    return flat(KIND[name].expected(x, mapping, state))


def largest_error(kind: Kind, input_size: int, hidden_size: int, isa: str, *, bias: bool = True) -> float:
    mapping, x, state = case(kind, input_size, hidden_size, bias)
    layer = kind.make(mapping, isa=isa)
    assert layer.isa == isa
    actual, expected = flat(layer(x, state)), expected_of(kind.name, input_size, hidden_size, bias)
    return max(float(np.abs(a - e).max()) for a, e in zip(actual, expected, strict=True))


@pytest.mark.core
@pytest.mark.any_cpu
@every_kind
@pytest.mark.parametrize(("input_size", "hidden_size"), SIZE_PAIRS)
def test_every_size(kind: Kind, input_size: int, hidden_size: int, isa: str) -> None:
    assert largest_error(kind, input_size, hidden_size, isa) <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("hidden_size", SIZES)
def test_every_pair_of_sizes(kind: Kind, hidden_size: int, isa: str) -> None:
    errors = {input_size: largest_error(kind, input_size, hidden_size, isa) for input_size in SIZES}
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.core
@every_kind
def test_without_biases(kind: Kind, isa: str) -> None:
    assert largest_error(kind, 9, 17, isa, bias=False) <= TOLERANCE


@pytest.mark.core
@every_kind
def test_an_initial_state_far_outside_the_unit_range(kind: Kind, isa: str) -> None:
    mapping = kind.weights(5, 17)
    x = uniform(7, 20, 5)
    state = random_state(kind, mapping)
    # Where peepholes see c, gates near their middle have pre-activations of c's size, and errors to match.
    far = (state[0], (5 if kind.peephole else 1e6) * state[1]) if isinstance(state, tuple) else 30 * state
    actual, expected = kind.make(mapping, isa=isa)(x, far), kind.expected(x, mapping, far)
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)
