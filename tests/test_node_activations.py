"""Activations that nodes of models have beside those of cells, over all floats: errors, the same bits on every tier."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import fusedcell as fc
import node_bit_model
from fusedcell import _core
from fusedcell.cell_options import Activation, CellOptions
from fusedcell.reference import node_activation
from models import layer_from_cells, uniform
from test_activations import all_floats
from test_general_activations import SMALLEST_NORMAL, UNUSUAL
from test_storage import tiny_file

pytestmark = [pytest.mark.float_weights, pytest.mark.of_bits]

FUNCTIONS = {
    name: node_activation(name) for name in ("Gelu", "GeluTanh", "Silu", "Abs", "Square", "Sqrt", "Exp", "Log")
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)

# From a number on the error is such a part of the value; below all such numbers it is so large.
# As csrc/kernels/generic/functions.h says.
BOUNDS: dict[str, tuple[dict[float, float], float]] = {
    "Gelu": ({-12.8: 5e-7}, 2e-37),
    "GeluTanh": ({-3.0: 8.5e-7, -5.0: 2.1e-6}, 5e-13),
    "Silu": ({-88.7: 1.8e-7}, 3e-37),
    "Abs": ({}, 0.0),
    "Square": ({}, 0.0),
    "Sqrt": ({}, 0.0),
    "Exp": ({-np.inf: 1.1e-7}, 0.0),
    "Log": ({-np.inf: 2.4e-7}, 0.0),
}


def activate(name: str, x: np.ndarray, isa: str = "") -> np.ndarray:
    return _core.activate(name, x, isa=isa)


def errors(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors of what is not the nearest float, which zero is to denormals, and these errors over the exact values."""
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name](x.astype(np.float64))
        got = activate(name, x)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
        nearest = np.where(np.abs(expected) < SMALLEST_NORMAL, 0, expected.astype(np.float32))
        error = np.where(np.isnan(expected) | (got == nearest), 0, np.abs(got - expected))
    return error, error / np.fmax(np.abs(expected), SMALLEST_NORMAL)


def check_stated_bounds(name: str, stride: int) -> None:
    relative_bounds, absolute_bound = BOUNDS[name]
    for x in all_floats(stride):
        error, relative = errors(name, x)
        for first, bound in relative_bounds.items():
            assert relative[x >= first].max(initial=0) <= bound
        assert error[x < min(relative_bounds, default=np.inf)].max(initial=0) <= absolute_bound


@every_function
def test_stated_bounds(name: str) -> None:
    check_stated_bounds(name, 4001)


@pytest.mark.exhaustive
@every_function
def test_stated_bounds_over_every_float(name: str) -> None:
    check_stated_bounds(name, 1)


@pytest.mark.core
def test_nodes_have_all_activations_of_cells_and_these() -> None:
    more = {**dict.fromkeys(FUNCTIONS, ()), "Clip": ("alpha", "beta")}
    assert _core.node_activations() == {**_core.activations(), **more}


@pytest.mark.core
@pytest.mark.parametrize("name", [*FUNCTIONS, "Clip"])
def test_cells_refuse_these_by_name(name: str, tmp_path: Path) -> None:
    arrays = [{"weight_ih": uniform(1, 2, 3), "weight_hh": uniform(2, 2, 2)}]
    refusal = f"activations_l0: '{name}' is not supported; supported: Relu, [^:]*, Softplus$"
    with pytest.raises(fc.UnsupportedError, match=refusal):
        layer_from_cells("rnn_tanh", arrays, options=(CellOptions((Activation(name),)),))
    file = tmp_path / "layer.safetensors"
    activation = {"name": name, "alpha": 0.0, "beta": 0.0}
    options = {"activations": [activation], "clip": None, "clip_before_h": True, "input_forget": False}
    file.write_bytes(tiny_file(format_version=2, options=[options]))
    with pytest.raises(fc.UnsupportedError, match=refusal):
        fc.load(file)


@pytest.mark.core
@every_function
def test_the_bits_that_the_model_gives(name: str, isa: str) -> None:
    x = np.concatenate([uniform(5, 500) * scale for scale in (1e-6, 0.3, 2, 14, 60, 130)]).astype(np.float32)
    if name in ("Sqrt", "Log"):
        x = np.abs(x) + SMALLEST_NORMAL
    with np.errstate(over="ignore"):
        expected = node_bit_model.ACTIVATIONS[name](x)
    np.testing.assert_array_equal(activate(name, x, isa), expected)


@pytest.mark.core
@every_function
def test_the_same_bits_on_every_tier(name: str) -> None:
    first, *others = fc.isas()
    for x in chain(all_floats(9973), [UNUSUAL]):
        expected = activate(name, x, first)
        for isa in others:
            got = activate(name, x, isa)
            np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
            numbers = ~np.isnan(expected)
            np.testing.assert_array_equal(got[numbers].view(np.uint32), expected[numbers].view(np.uint32))


@pytest.mark.core
@every_function
@pytest.mark.parametrize("size", [1, 5, 17, 35])
def test_tail_elements_get_the_same_value_as_full_vectors(name: str, size: int, isa: str) -> None:
    assert len(set(activate(name, np.full(size, 0.7, np.float32), isa).tolist())) == 1


@pytest.mark.core
@every_function
def test_unusual_values(name: str, isa: str) -> None:
    flushed = np.where(np.abs(UNUSUAL) < SMALLEST_NORMAL, np.copysign(np.float32(0), UNUSUAL), UNUSUAL)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name](flushed.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(activate(name, UNUSUAL, isa), expected, rtol=1e-6, atol=2e-38)


@pytest.mark.core
def test_exponentials_end_where_floats_do(isa: str) -> None:
    last, first = np.array([float.fromhex("0x1.62e42ep6"), float.fromhex("-0x1.5d589ep6")], np.float32)
    x = np.array([last, np.nextafter(last, np.float32(np.inf)), first, -87.5, 0.0, -0.0], np.float32)
    got = activate("Exp", x, isa)
    np.testing.assert_allclose(got[[0, 2]], np.exp(x[[0, 2]].astype(np.float64)), rtol=1.1e-7)
    assert got[[1, 3, 4, 5]].tolist() == [np.inf, 0, 1, 1]


@pytest.mark.core
def test_signs_of_zero(isa: str) -> None:
    zeros = np.array([0.0, -0.0], np.float32)
    signs = {"Gelu": [0, 0], "GeluTanh": [0, 1], "Silu": [0, 1], "Abs": [0, 0], "Square": [0, 0], "Sqrt": [0, 1]}
    for name, expected in signs.items():
        assert np.signbit(activate(name, zeros, isa)).tolist() == expected, name


@pytest.mark.core
def test_clip_keeps_what_is_between_and_not_a_number(isa: str) -> None:
    x = np.array([-7, -1, -0.0, 0.5, 6, 6.5, np.inf, -np.inf, np.nan], np.float32)
    got = _core.activate("Clip", x, 0.0, 6.0, isa)
    np.testing.assert_array_equal(got, [0, 0, 0, 0.5, 6, 6, 6, 0, np.nan])
    np.testing.assert_array_equal(got, node_bit_model.clip(x, np.float32(0), np.float32(6)))
    assert _core.activate("Clip", x[:3], 2.0, 1.0, isa).tolist() == [1, 1, 1]  # the upper bound wins


def test_bounds_may_be_the_largest_float() -> None:
    largest = float(np.finfo(np.float32).max)
    model = fc.Model([("y", fc.nodes.Activation("clip", 0, largest), "x")], {"x": 3})
    np.testing.assert_array_equal(model([[-1.0, 2.0, largest]]), np.array([[0.0, 2.0, largest]], np.float32))
