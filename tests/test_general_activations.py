"""Every activation of the ONNX recurrent operators, over all floats: its error, and the same bits on every tier."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

import fusedcell as fc
import general_bit_model
from fusedcell import _core
from fusedcell.cell_options import Activation
from fusedcell.reference import ACTIVATIONS
from fusedcell.reference.activations import activation_parameters
from models import reference_function, uniform
from test_activations import all_floats

pytestmark = [pytest.mark.float_weights, pytest.mark.of_bits]


def with_parameters(name: str, alpha: float, beta: float) -> Activation:
    given = {"alpha": alpha, "beta": beta}
    return Activation(name, **{parameter: given[parameter] for parameter in activation_parameters(name)})


CASES = [
    *(with_parameters(name, 0.3125, 0.6) for name in ACTIVATIONS),
    *(with_parameters(name, -1.5, -0.25) for name in ACTIVATIONS if activation_parameters(name)),
    Activation("HardSigmoid", 1, 0),
    Activation("HardSigmoid", -1, -0.0),
    Activation("Elu", 1),
    Activation("ThresholdedRelu", 0),
]
every_activation = pytest.mark.parametrize("activation", CASES, ids=str)

LARGEST = np.finfo(np.float32).max
SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal
UNUSUAL = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-40, -1e-40, LARGEST, -LARGEST, 1.5, -1.5], np.float32)


def activate(activation: Activation, x: np.ndarray, isa: str = "") -> np.ndarray:
    return _core.activate(activation.name, x, activation.alpha, activation.beta, isa)


@pytest.mark.core
def test_every_activation_of_the_definition_is_there_with_its_parameters() -> None:
    assert _core.activations() == {name: activation_parameters(name) for name in ACTIVATIONS}


@np.errstate(all="ignore")
def exact(activation: Activation, x: np.ndarray) -> np.ndarray:
    return reference_function(activation)(x.astype(np.float64))


def relative_errors(activation: Activation, x: np.ndarray, isa: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Errors, and errors over the exact values, of which those smaller than a normal float count as that."""
    expected = exact(activation, x)
    error = np.abs(activate(activation, x, isa) - expected)
    return error, error / np.maximum(np.abs(expected), SMALLEST_NORMAL)


def check_stated_bounds(stride: int) -> None:
    """What csrc/kernels/generic/general.h says."""
    for x in all_floats(stride):
        error, relative = relative_errors(Activation("Elu", 1), x)
        assert error[x < 0].max(initial=0) <= 6.4e-8
        assert relative.max() <= 1.705e-7
        assert relative_errors(Activation("Softsign"), x)[1].max() <= 1.2e-7
        error, relative = relative_errors(Activation("Softplus"), x)
        assert relative[x >= -20].max(initial=0) <= 1.1e-6
        assert error[x < -20].max(initial=0) <= 2.0**-30


def test_stated_bounds() -> None:
    check_stated_bounds(499)


@pytest.mark.exhaustive
def test_stated_bounds_over_every_float() -> None:
    check_stated_bounds(1)


@every_activation
def test_every_activation_is_as_the_reference_has_it(activation: Activation) -> None:
    # Infinity where float32 ends, denormals as zero, a sum that cancels exact to the ulp of its parts.
    with np.errstate(over="ignore"):
        for x in all_floats(997):
            expected = exact(activation, x).astype(np.float32)
            atol = max(2e-7, abs(activation.beta) * 2e-7)
            np.testing.assert_allclose(activate(activation, x), expected, rtol=3e-7, atol=atol)


@pytest.mark.core
@every_activation
def test_unusual_values(activation: Activation, isa: str) -> None:
    with np.errstate(over="ignore"):
        expected = exact(activation, UNUSUAL).astype(np.float32)
    np.testing.assert_allclose(activate(activation, UNUSUAL, isa), expected, rtol=3e-7, atol=2e-7)


@pytest.mark.core
@every_activation
def test_the_same_bits_on_every_tier(activation: Activation) -> None:
    first, *others = fc.isas()
    for x in chain(all_floats(9973), [UNUSUAL]):
        expected = activate(activation, x, first)
        for isa in others:
            got = activate(activation, x, isa)
            np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
            numbers = ~np.isnan(expected)
            np.testing.assert_array_equal(got[numbers].view(np.uint32), expected[numbers].view(np.uint32))


@pytest.mark.core
@every_activation
def test_the_bits_that_the_model_gives(activation: Activation, isa: str) -> None:
    x = np.concatenate([uniform(5, 500) * scale for scale in (1e-6, 0.3, 2, 40, 1e30)]).astype(np.float32)
    np.testing.assert_array_equal(activate(activation, x, isa), general_bit_model.activate(activation, x))


@pytest.mark.core
@every_activation
@pytest.mark.parametrize("size", [1, 5, 17, 35])
def test_tail_elements_get_the_same_value_as_full_vectors(activation: Activation, size: int, isa: str) -> None:
    assert len(set(activate(activation, np.full(size, -0.7, np.float32), isa).tolist())) == 1


@pytest.mark.core
def test_what_saturates_does_so_exactly(isa: str) -> None:
    x = np.array([2.0**26, 1e30, np.inf], np.float32)
    assert (activate(Activation("Softsign"), x, isa) == 1).all()
    assert (activate(Activation("Softsign"), -x, isa) == -1).all()
    assert (activate(Activation("HardSigmoid", 0.25, 0.5), x, isa) == 1).all()
    assert (activate(Activation("HardSigmoid", 0.25, 0.5), -x, isa) == 0).all()
    assert (activate(Activation("Elu", 0.5), -x, isa) == -0.5).all()
    assert (activate(Activation("Softplus"), x, isa) == x).all()


@pytest.mark.core
def test_a_threshold_belongs_to_what_passes(isa: str) -> None:
    x = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(0)), -1], np.float32)
    assert activate(Activation("ThresholdedRelu", 0.5), x, isa).tolist() == [0.5, 0, 0]


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no activation 'Swish'"):
        _core.activate("Swish", np.zeros(1, np.float32))
