"""sigmoid and tanh over all floats: within 4 ULP or 2e-7, and what they give for values that are not ordinary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import _core

pytestmark = [pytest.mark.float_weights, pytest.mark.of_bits]

SMALLEST_NORMAL = np.float32(2.0**-126)


def exact(name: str, x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.tanh(x) if name == "tanh" else 1 / (1 + np.exp(-x))


def all_floats(stride: int, chunk: int = 1 << 22) -> Any:
    """Every `stride`-th normal float of both signs."""
    for first in range(0x00800000, 0x7F800000, chunk * stride):
        last = min(first + chunk * stride, 0x7F800000)
        positive = np.arange(first, last, stride, dtype=np.uint32).view(np.float32)
        yield positive
        yield -positive


def errors(name: str, stride: int, isa: str) -> tuple[float, float, float]:
    """Largest error in ULP, absolute, and as a share of what is allowed."""
    worst = np.zeros(3)
    for x in all_floats(stride):
        expected = exact(name, x)
        difference = np.abs(_core.map(name, x, isa) - expected)
        ulp = np.spacing(np.maximum(np.abs(expected), SMALLEST_NORMAL).astype(np.float32)).astype(np.float64)
        allowed = np.maximum(4 * ulp, 2e-7)
        worst = np.maximum(worst, [(difference / ulp).max(), difference.max(), (difference / allowed).max()])
    return tuple(worst.tolist())


def check_bounds(stride: int, isa: str) -> None:
    """The bounds stated in csrc/kernels/generic/activations.h."""
    ulp, absolute, share = errors("tanh", stride, isa)
    assert share <= 1
    assert ulp <= 3.8
    assert absolute <= 1.52e-7
    _, absolute, share = errors("sigmoid", stride, isa)
    assert share <= 1
    assert absolute <= 9.5e-8


def test_error_bounds(isa: str) -> None:
    check_bounds(499 * (7 if isa == "scalar" else 1), isa)


@pytest.mark.exhaustive
def test_error_bounds_over_every_float() -> None:
    check_bounds(1, fc.isas()[0])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_every_tier_agrees_on_every_float(name: str) -> None:
    best, *others = fc.isas()
    for x in all_floats(1):
        expected = _core.map(name, x, best)
        for tier in others:
            np.testing.assert_array_equal(_core.map(name, x, tier), expected)


@pytest.mark.core
@pytest.mark.parametrize("size", range(1, 40))
def test_tail_elements_get_the_same_value_as_full_vectors(size: int, isa: str) -> None:
    x = np.full(size, 0.7, np.float32)
    for name in ("sigmoid", "tanh"):
        assert len(set(_core.map(name, x, isa).tolist())) == 1


@pytest.mark.core
def test_tanh_saturates_to_exactly_one(isa: str) -> None:
    x = np.array([9.1, 20, 1e10, 3e38, np.inf], np.float32)
    assert (_core.map("tanh", x, isa) == 1).all()
    assert (_core.map("tanh", -x, isa) == -1).all()


@pytest.mark.core
def test_sigmoid_saturates_to_one_and_to_almost_zero(isa: str) -> None:
    x = np.array([25, 1e10, 3e38, np.inf], np.float32)
    assert (_core.map("sigmoid", x, isa) == 1).all()
    assert (_core.map("sigmoid", -x, isa) == 2.0**-30).all()


@pytest.mark.core
def test_zero_and_small_values(isa: str) -> None:
    small = np.array([0.0, 1e-30, 1e-10, 1e-6], np.float32)
    np.testing.assert_allclose(_core.map("tanh", small, isa), small, rtol=3e-7)
    np.testing.assert_allclose(_core.map("tanh", -small, isa), -small, rtol=3e-7)
    assert _core.map("sigmoid", small[:1], isa).tolist() == [0.5]


@pytest.mark.core
def test_nan_gives_nan_and_touches_nothing_else(isa: str) -> None:
    x = np.array([1.0, np.nan, -np.nan, 2.0] * 9, np.float32)
    for name in ("sigmoid", "tanh"):
        y = _core.map(name, x, isa)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(x))


@pytest.mark.core
def test_values_never_leave_their_range(isa: str) -> None:
    for x in all_floats(99_991):
        assert (np.abs(_core.map("tanh", x, isa)) <= 1).all()
        y = _core.map("sigmoid", x, isa)
        assert ((y > 0) & (y <= 1)).all()
