"""fusedcell.torch.prune: what is pruned when, what stays zero, and that the result runs sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fusedcell as fc  # noqa: E402
import fusedcell.torch as ft  # noqa: E402


def blocks(matrix: Any, gates: int, group: int = 1) -> np.ndarray:
    """Sums of squares of blocks, (gates, strips, groups), of sizes that fit."""
    parts = matrix.detach().numpy().reshape(gates, -1, 16, matrix.shape[1] // group, group)
    return np.square(parts).sum(axis=(2, 4))


def model_of(cls: Any = torch.nn.LSTM, inputs: int = 64, hidden: int = 96, **options: Any) -> Any:
    torch.manual_seed(0)
    return cls(inputs, hidden, **options)


@pytest.mark.parametrize(("dtype", "group"), [("float32", 1), ("int8", 4)])
def test_the_largest_blocks_of_each_gate_stay(dtype: str, group: int) -> None:
    lstm = model_of()
    before = blocks(lstm.weight_ih_l0, 4, group)
    pruning = ft.prune(lstm, 0.25, steps=0, dtype=dtype)
    after = blocks(lstm.weight_ih_l0, 4, group)
    for gate in range(4):
        assert np.count_nonzero(after[gate]) == after[gate].size // 4
        assert before[gate][after[gate] == 0].max() <= after[gate][after[gate] > 0].min()
    np.testing.assert_array_equal(after[after > 0], before[after > 0])
    assert pruning.densities == {"weight_ih_l0": 0.25, "weight_hh_l0": 0.25}
    assert pruning.finished


def test_the_diagonal_stays_unless_told_otherwise() -> None:
    for diagonal in (True, False):
        gru = model_of(torch.nn.GRU)
        with torch.no_grad():
            gru.weight_hh_l0.view(3, 96, 96).diagonal(dim1=1, dim2=2).fill_(1e-6)
        ft.prune(gru, 0.2, steps=0, diagonal=diagonal)
        kept = gru.weight_hh_l0.view(3, 96, 96).diagonal(dim1=1, dim2=2) != 0
        assert bool(kept.all()) == diagonal


def test_a_density_for_each_gate() -> None:
    gru = model_of(torch.nn.GRU)
    ft.prune(gru, (0.25, 0.25, 0.5), steps=0)
    shares = (blocks(gru.weight_hh_l0, 3) > 0).mean(axis=(1, 2))
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=1e-3)


def test_the_schedule_and_zeros_that_an_optimiser_would_fill() -> None:
    lstm = model_of()
    pruning = ft.prune(lstm, 0.2, steps=10)
    optimiser = torch.optim.AdamW(lstm.parameters(), 1e-2)
    x = torch.randn(5, 3, 64)
    seen = []
    assert pruning.densities["weight_hh_l0"] == 1
    for step in range(14):
        optimiser.zero_grad()
        lstm(x)[0].square().sum().backward()
        optimiser.step()
        pruning.step()
        seen.append(pruning.densities["weight_hh_l0"])
        share = np.count_nonzero(blocks(lstm.weight_hh_l0, 4)) / blocks(lstm.weight_hh_l0, 4).size
        assert share == pytest.approx(seen[-1])
        assert pruning.finished == (step >= 9)
    expected = [0.2 + 0.8 * (1 - min(t, 10) / 10) ** 3 for t in range(1, 15)]
    np.testing.assert_allclose(seen, expected, atol=1e-3)


@pytest.mark.parametrize("cls", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_what_was_pruned_runs_sparse_and_answers_alike(cls: Any) -> None:
    hidden = 200 if cls is torch.nn.RNN else 112
    module = model_of(cls, 180, hidden)
    ft.prune(module, 0.2, steps=0, dtype="int8")
    layer = fc.from_torch(module)
    assert all(density < 0.25 for density in layer.densities.values())
    x = torch.randn(7, 2, 180)
    with torch.no_grad():
        expected = module(x)[0].numpy()
    np.testing.assert_allclose(layer(x.numpy())[0], expected, atol=2e-6)
    assert all(density < 0.25 for density in layer.astype("int8").densities.values())


def test_a_schedule_goes_on_from_its_state() -> None:
    first, second = model_of(), model_of()
    one, other = ft.prune(first, steps=6), ft.prune(second, steps=6)
    for _ in range(3):
        one.step()
    other.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(second.weight_hh_l0.detach(), first.weight_hh_l0.detach())
    for _ in range(3):
        one.step()
        other.step()
    assert other.finished
    np.testing.assert_array_equal(second.weight_hh_l0.detach(), first.weight_hh_l0.detach())
    with pytest.raises(ValueError, match="'weight_hh_l0', which is not pruned here"):
        ft.prune(model_of(torch.nn.LSTMCell), steps=1).load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match="expected a mask of shape"):
        ft.prune(model_of(torch.nn.GRU), steps=1).load_state_dict(one.state_dict())


def test_what_stays_dense() -> None:
    model = torch.nn.ModuleDict({"small": model_of(hidden=32), "large": model_of(), "cell": model_of(torch.nn.GRUCell)})
    pruning = ft.prune(model, steps=0, keep="cell")
    assert set(pruning.densities) == {"large.weight_ih_l0", "large.weight_hh_l0"}


def test_what_is_refused() -> None:
    lstm = model_of()
    before = lstm.weight_hh_l0.detach().clone()
    for arguments, error, message in (
        (((), {"dtype": "float16", "steps": 1}), fc.UnsupportedError, "dtype='float16'"),
        (((), {"steps": -1}), ValueError, "steps: expected 0 or more"),
        (((0,), {"steps": 1}), ValueError, "density: expected more than 0"),
        ((([0.2, 0.3],), {"steps": 1}), ValueError, "expected one, or 4"),
        (((), {"steps": 1, "keep": "head"}), ValueError, "keep: 'head'"),
    ):
        with pytest.raises(error, match=message):
            ft.prune(lstm, *arguments[0], **arguments[1])
    with pytest.raises(TypeError, match="model: expected"):
        ft.prune(None, steps=1)
    with pytest.raises(ValueError, match="no recurrent matrix"):
        ft.prune(torch.nn.Linear(300, 300), steps=1)
    normed = torch.nn.utils.parametrizations.weight_norm(model_of(), "weight_hh_l0")
    with pytest.raises(fc.UnsupportedError, match="computed from others"):
        ft.prune(normed, steps=1)
    np.testing.assert_array_equal(lstm.weight_hh_l0.detach(), before)
