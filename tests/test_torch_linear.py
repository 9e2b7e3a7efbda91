"""fusedcell.torch.Linear, and whole networks whose trained weights have the same bits on every tier."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
import training_bit_model
from torch_models import assert_same_bits, ft, nn, torch

TOLERANCE = 2e-5  # of the largest derivative


@pytest.fixture
def tier(isa: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FUSEDCELL_ISA", isa)
    return isa


def run(module: Any, x: Any) -> list[Any]:
    """y, and the derivatives by x and the parameters of a loss whose derivative by y is a cosine."""
    x = x.detach().to(module.weight.dtype, copy=True).requires_grad_()
    y = module(x)
    by_y = torch.arange(y.numel(), dtype=torch.float32).cos().reshape(y.shape).to(y.dtype)
    return [y, *torch.autograd.grad(y, [x, *module.parameters()], by_y)]


@given(
    shape=st.lists(st.integers(0, 9), max_size=3),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    bias=st.booleans(),
    num_threads=st.integers(1, 3),
)
def test_results_and_derivatives_are_those_of_pytorch(
    shape: list[int], inputs: int, outputs: int, bias: bool, num_threads: int
) -> None:
    torch.manual_seed(1)
    ours, theirs = ft.Linear(inputs, outputs, bias, num_threads=num_threads), nn.Linear(inputs, outputs, bias).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(*shape, inputs)
    for actual, expected in zip(run(ours, x), run(theirs, x), strict=True):
        assert actual.shape == expected.shape
        difference, largest = (actual.double() - expected).abs(), expected.abs()
        assert difference.numel() == 0 or difference.max() <= TOLERANCE * largest.max()


def test_rows_of_any_strides() -> None:
    module = ft.Linear(6, 3)
    x = torch.randn(4, 5, 12)[..., ::2].transpose(0, 1)
    assert_same_bits(run(module, x), run(module, x.contiguous()))


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_bits_are_those_that_the_model_gives(num_threads: int, tier: str) -> None:
    rng = np.random.default_rng(3)
    rows, inputs, outputs = 300, 19, 37  # two segments, and no whole vectors
    x, weight, bias, dy = (
        rng.uniform(-1, 1, shape).astype(np.float32)
        for shape in ((rows, inputs), (outputs, inputs), (outputs,), (rows, outputs))
    )
    module = ft.Linear(inputs, outputs, num_threads=num_threads)
    module.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    given_x = torch.from_numpy(x).requires_grad_()
    y = module(given_x)
    y.backward(torch.from_numpy(dy))
    found = y.detach(), given_x.grad, module.weight.grad, module.bias.grad
    for actual, expected in zip(found, training_bit_model.linear(x, weight, bias, dy), strict=True):
        np.testing.assert_array_equal(actual.numpy(), expected)


def test_the_module_is_pytorchs_to_whoever_asks() -> None:
    torch.manual_seed(3)
    ours = ft.Linear(5, 4)
    torch.manual_seed(3)
    theirs = nn.Linear(5, 4)
    assert isinstance(ours, nn.Linear)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_same_bits(list(ours.state_dict().values()), list(theirs.state_dict().values()))
    x = torch.randn(2, 3, 5)
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert_same_bits(copied(x), ours(x))
    with torch.no_grad():
        model = fc.Model.from_torch(nn.Sequential(ours).eval(), x)
        assert_same_bits(model(x.numpy()), ours(x))


def test_frozen_parameters_and_inputs_have_no_derivatives() -> None:
    ours = ft.Linear(5, 4)
    x = torch.randn(3, 5)
    expected = run(ours, x)
    ours.weight.requires_grad_(False)
    ours(x).backward(torch.arange(12.0).cos().reshape(3, 4))
    assert ours.weight.grad is None
    assert_same_bits(ours.bias.grad, expected[3])


def test_what_is_not_supported_is_refused_by_name() -> None:
    module = ft.Linear(3, 4)
    x = torch.randn(5, 3)
    with pytest.raises(TypeError, match="input: expected a float32 tensor on the CPU, got float64"):
        module(x.double())
    with pytest.raises(TypeError, match="weight: expected a float32 tensor on the CPU, got float64"):
        ft.Linear(3, 4, dtype=torch.float64)(x)
    with pytest.raises(TypeError, match="input: expected a tensor, got list"):
        module([1.0])
    for wrong in (torch.randn(5, 4), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="input: expected a last dimension of 3, got shape"):
            module(wrong)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(module(x).sum(), list(module.parameters()), create_graph=True)
    with pytest.raises(RuntimeError, match=r"torch\.func"):
        torch.func.grad(lambda value: module(value).sum())(x)
    with pytest.raises(TypeError, match="num_threads"):
        ft.Linear(3, 4, num_threads="two")
    with torch.autocast("cpu"), pytest.warns(UserWarning, match="computes in float32"):
        y = module(x.bfloat16())
    assert_same_bits(y, module(x.bfloat16().float()))


class Forecaster(nn.Module):
    def __init__(self, name: str, num_threads: int) -> None:
        super().__init__()
        self.layer = getattr(ft, name)(5, 18, 2, batch_first=True, num_threads=num_threads)
        self.head = ft.Linear(18, 3, num_threads=num_threads)

    def forward(self, x: Any) -> Any:
        return self.head(self.layer(x)[0])


def trained(name: str, optimizer: str, num_threads: int) -> bytes:
    torch.manual_seed(5)
    model = Forecaster(name, num_threads)
    steps = getattr(torch.optim, optimizer)(model.parameters(), lr=0.01)
    for _ in range(3):
        x, target = torch.randn(4, 70, 5), torch.randn(4, 70, 3)  # 280 rows, more than a segment
        steps.zero_grad()
        nn.functional.mse_loss(model(x), target).backward()
        steps.step()
    return b"".join(parameter.detach().numpy().tobytes() for parameter in model.parameters())


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_networks_end_with_the_same_weights_on_every_tier(name: str, optimizer: str, monkeypatch: Any) -> None:
    found = set()
    for isa in fc.isas():
        monkeypatch.setenv("FUSEDCELL_ISA", isa)
        found |= {trained(name, optimizer, num_threads) for num_threads in (1, 2)}
    assert len(found) == 1
