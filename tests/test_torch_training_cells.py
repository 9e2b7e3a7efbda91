"""fusedcell.torch's cells: PyTorch's parameters and derivatives, and the bits of a layer's step."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
from torch_models import CELLS, assert_close, assert_same_bits, ft, nn, torch

TOLERANCE = 2e-5  # of the largest derivative
every_cell = pytest.mark.parametrize("name", CELLS)


def run(module: Any, x: Any, states: list[Any]) -> list[Any]:
    """The state after two steps, and derivatives by x, the first state and the parameters."""
    dtype = module.weight_hh.dtype
    x, *states = (tensor.detach().to(dtype).requires_grad_() for tensor in (x, *states))
    is_lstm = len(states) == 2
    last: Any = tuple(states) if is_lstm else states[0] if states else None
    for _ in range(2):
        last = module(x, last)
    outputs = list(last) if isinstance(last, tuple) else [last]
    by_outputs = [torch.arange(o.numel(), dtype=torch.float32).cos().reshape(o.shape).to(dtype) for o in outputs]
    return [*outputs, *torch.autograd.grad(outputs, [x, *states, *module.parameters()], by_outputs)]


@given(
    name=st.sampled_from(CELLS),
    batch=st.none() | st.integers(0, 9),
    inputs=st.integers(1, 40),
    units=st.integers(1, 40),
    bias=st.booleans(),
    has_state=st.booleans(),
    relu=st.booleans(),
)
def test_derivatives_are_those_of_pytorch(
    name: str, batch: int | None, inputs: int, units: int, bias: bool, has_state: bool, relu: bool
) -> None:
    torch.manual_seed(1)
    options: dict[str, Any] = {"nonlinearity": "relu"} if name == "RNNCell" and relu else {}
    ours = getattr(ft, name)(inputs, units, bias, **options)
    theirs = getattr(nn, name)(inputs, units, bias, **options).double()
    theirs.load_state_dict(ours.state_dict())
    rows = [] if batch is None else [batch]
    states = [torch.randn(*rows, units) for _ in range((1 + (name == "LSTMCell")) * has_state)]
    x = torch.randn(*rows, inputs)
    for actual, expected in zip(run(ours, x, states), run(theirs, x, states), strict=True):
        assert actual.shape == expected.shape
        difference, largest = (actual.double() - expected).abs(), expected.abs()
        assert difference.numel() == 0 or difference.max() <= TOLERANCE * max(largest.max(), 1e-6)


@every_cell
def test_a_step_has_the_bits_of_a_layers_and_of_inference(name: str, isa: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("FUSEDCELL_ISA", isa)
    torch.manual_seed(1)
    cell, layer = getattr(ft, name)(5, 19, num_threads=2), getattr(ft, name.removesuffix("Cell"))(5, 19)
    layer.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    x = torch.randn(3, 5)
    last = cell(x)
    h = last[0] if name == "LSTMCell" else last
    y = layer(x[None])[0]
    assert_same_bits(h, y[0])
    found = torch.autograd.grad(h.sum(), list(cell.parameters()))
    assert_same_bits(found, torch.autograd.grad(y.sum(), list(layer.parameters())))
    with torch.no_grad():
        assert_same_bits(cell(x), last)
    assert_same_bits(fc.from_torch(cell)(x.numpy()), last)


@every_cell
def test_the_modules_are_pytorchs_to_whoever_asks(name: str) -> None:
    torch.manual_seed(3)
    ours = getattr(ft, name)(3, 4)
    torch.manual_seed(3)
    theirs = getattr(nn, name)(3, 4)
    assert isinstance(ours, getattr(nn, name))
    assert repr(ours) == repr(theirs)
    assert_same_bits(list(ours.state_dict().values()), list(theirs.state_dict().values()))
    x = torch.randn(2, 3)
    assert_close(ours(x), theirs(x))
    assert_same_bits(copy.deepcopy(ours)(x), ours(x))
    assert next(iter(ft.accelerate(ours, training=True))).reason == "is accelerated already"


@every_cell
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    module = getattr(ft, name)(3, 4)
    x = torch.randn(5, 3)
    h = torch.zeros(2, 4)
    with pytest.raises(ValueError, match="hx: expected the batch of input, 5, got 2"):
        module(x, (h, h) if name == "LSTMCell" else h)
    with pytest.raises(ValueError, match="input: expected 1 or 2 dimensions, the last 3"):
        module(torch.randn(5, 4))
    with pytest.raises(TypeError, match="input: expected a float32 tensor on the CPU, got float64"):
        module(x.double())
    if name == "LSTMCell":
        with pytest.raises(TypeError, match="hx: expected a pair"):
            module(x, h)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(sum(map(torch.sum, module(x))), list(module.parameters()), create_graph=True)
    with pytest.raises(RuntimeError, match=r"torch\.func"):
        torch.func.grad(lambda value: module(value)[0].sum())(x)
    with torch.autocast("cpu"), pytest.warns(UserWarning, match="computes in float32"):
        y = module(x.bfloat16())
    assert_same_bits(y, module(x.bfloat16().float()))


def test_that_autocast_changes_nothing_is_said_once() -> None:
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu"), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for module in (ft.LSTM(3, 3), ft.Linear(3, 3), ft.GRU(3, 3), ft.GRU(3, 3)):
            module(x)
        ft.RNNCell(3, 3)(x[0])
    assert len(said) == 1
