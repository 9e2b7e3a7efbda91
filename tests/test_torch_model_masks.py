"""PyTorch modules with masks: made of lengths, or given; and quotients, as of masked means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedcell as fc

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
rnn = torch.nn.utils.rnn

from torch_whole_modules import agrees, close, lstm, module_of, seeded, x_of  # noqa: E402 - as torch may be absent


def of_lengths(x: Any, lengths: Any) -> Any:
    return torch.arange(x.size(1))[None, :] < lengths[:, None]


def mean_by_lengths(s: Any, x: Any, lengths: Any) -> Any:
    return s.d((s.rnn(x)[0] * of_lengths(x, lengths).float().unsqueeze(-1)).sum(1) / lengths.unsqueeze(1))


def pools(s: Any, x: Any, lengths: Any) -> Any:
    y, padding = s.rnn(x)[0], torch.arange(x.size(1)).expand(x.size(0), -1) >= lengths.unsqueeze(1)
    inside = (~padding)[..., None]
    largest = y.masked_fill(padding.unsqueeze(-1), float("-inf")).max(1)[0]
    mean = (y * inside).sum(1) / (~padding).sum(1, keepdim=True).clamp(min=1)
    return largest, mean, torch.where(inside, y, torch.zeros_like(y)).sum(1), s.d(y) * inside


def packed_then_masked(s: Any, x: Any, lengths: Any) -> Any:
    p = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, _ = rnn.pad_packed_sequence(s.rnn(p)[0], batch_first=True, total_length=x.size(1))
    mask = of_lengths(x, lengths).to(y.dtype)
    return s.d((y * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))


@pytest.mark.parametrize("forward", [mean_by_lengths, pools, packed_then_masked])
def test_a_mask_of_lengths_is_the_models_lengths(forward: Any) -> None:
    module = seeded(lambda: module_of(forward, rnn=lstm(5, 6), d=nn.Linear(6, 2))).eval()
    x, lengths = x_of(3, 9, 5), torch.tensor([3, 9, 7])
    model = fc.Model.from_torch(module, (x, lengths))
    assert len(model.inputs) == 1
    with torch.no_grad():
        want = module(x, lengths)
    got = model(x.numpy(), lengths=lengths.numpy())
    for mine, theirs in zip(
        got if isinstance(got, tuple) else (got,), torch.utils._pytree.tree_leaves(want), strict=True
    ):
        close(mine, theirs.numpy())


def masked(s: Any, x: Any, mask: Any) -> Any:
    y, m = s.rnn(x)[0], mask.unsqueeze(-1)
    mean = (y * m).sum(1) / m.sum(1)
    return mean, y.masked_fill(~m, float("-inf")).max(1).values, torch.where(m, y, 0.5 * y), y.masked_fill(~m, -1.0)


def weighted(s: Any, x: Any, mask: Any) -> Any:
    return s.d((s.rnn(x)[0] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


def turned(s: Any, x: Any, mask: Any) -> Any:
    return s.rnn(x.transpose(0, 1) * mask.t()[..., None].float())[0].transpose(0, 1)


MASKS = {
    "bool": (masked, torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 1, 1, 0, 1, 1, 1, 1]], dtype=torch.bool)),
    "integers": (weighted, torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0]])),
    "integers as truth values": (
        lambda s, x, mask: s.d(s.rnn(x)[0].masked_fill(~mask.bool().unsqueeze(-1), 0.0)),
        torch.tensor([[2, 0, 1, 0, 0, 0, 0, 0, 0], [1, 0, 1, 3, 0, 1, 1, 1, 1]]),
    ),
    "floats": (weighted, torch.linspace(0.0, 1.0, 18).reshape(2, 9)),
    "bool of (time, batch)": (turned, torch.ones(2, 9, dtype=torch.bool)),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_that_is_given_is_an_input_of_zeros_and_ones(name: str) -> None:
    forward, mask = MASKS[name]
    module = seeded(lambda: module_of(forward, rnn=lstm(5, 6, bidirectional=True), d=nn.Linear(12, 2))).eval()
    x = x_of(2, 9, 5)
    model = fc.Model.from_torch(module, (x, mask))
    with torch.no_grad():
        want = torch.utils._pytree.tree_leaves(module(x, mask))
    got = model(x.numpy(), mask.float().numpy())
    for mine, theirs in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
        close(mine, theirs.numpy())


def of_text(s: Any, tokens: Any) -> Any:
    mask = (tokens != 0).float().unsqueeze(-1)
    return s.d((s.rnn(s.table(tokens))[0] * mask).sum(1) / mask.sum(1).clamp(min=1))


def test_tokens_that_are_compared_are_a_mask() -> None:
    module = seeded(lambda: module_of(of_text, table=nn.Embedding(7, 5), rnn=lstm(5, 6), d=nn.Linear(6, 2)))
    model = agrees(module, torch.tensor([[3, 6, 1, 0, 2, 0, 0, 0], [0, 5, 1, 1, 0, 0, 1, 3]]))
    assert model.tokens == {"given_0": 7}


def test_a_sum_by_the_number_of_rows_is_the_mean() -> None:
    model = agrees(
        seeded(lambda: module_of(lambda s, x: s.rnn(x)[0].sum(1) / x.size(1), rnn=lstm(5, 6))), x_of(2, 9, 5)
    )
    assert [type(node) for _, node, _ in model.nodes][1:] == [fc.nodes.Mean]


def normalised(s: Any, x: Any) -> Any:
    x = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)
    x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) / (x.var(-1, keepdim=True, unbiased=False) + 1.0)
    return s.rnn(x)[0] / (2.0 + x.abs().sum(-1, keepdim=True))


def test_a_module_may_divide_by_what_it_computes() -> None:
    agrees(seeded(lambda: module_of(normalised, rnn=lstm(5, 6))), x_of(2, 9, 5), True)


def compared(s: Any, x: Any) -> Any:
    x = torch.where(x > 0, x, 0.1 * x) * (x[..., :1] <= 0.3).float()
    x = x * ((x != 0) & ~(x == x[..., 2:3])).float() + x.bool() * 0.5
    return torch.where((x[..., :2] >= x[..., 2:4]) & ~(x[..., :2] < 0), s.rnn(x)[0][..., :2], -1.0)


def test_a_module_may_choose_by_what_it_compares() -> None:
    agrees(seeded(lambda: module_of(compared, rnn=lstm(5, 6))), x_of(2, 9, 5), True)


def test_a_quotient_is_right_at_every_magnitude_and_sign() -> None:
    module = module_of(lambda s, x, y: x / y).eval()
    size = np.logspace(-37, 37, 4000).astype(np.float32)
    below = np.concatenate([size, -size])[None, :, None]
    model = fc.Model.from_torch(module, (x_of(1, 9, 1), x_of(1, 9, 1)))
    got = model(np.ones_like(below), below).astype(np.float64)
    np.testing.assert_allclose(got * below, np.ones(below.shape), rtol=0, atol=1e-5)
    assert np.isnan(model(np.ones((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32))).all()


@pytest.mark.parametrize(
    ("forward", "text"),
    [
        (lambda s, x, n: s.rnn(x)[0][:, 2:].sum(1) / n[:, None], "div of the sequences' lengths"),
        (lambda s, x, n: s.rnn(x)[0] * (n > 3)[:, None, None], "compared with what is no torch.arange of rows"),
        (lambda s, x, n: s.d(s.rnn(x)[0]).sum(1) / n[:, None] + n[:, None], "add of the sequences' lengths"),
        (lambda s, x, n: s.rnn(x)[0] * (torch.arange(x.size(1)) < n[:, None] - 1)[..., None], "varies along time"),
    ],
)
def test_what_lengths_do_otherwise_is_refused(forward: Any, text: str) -> None:
    def packs(s: Any, x: Any, n: Any) -> Any:
        p = rnn.pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
        return s.rnn(p)[1][0], forward(s, x, n)

    module = seeded(lambda: module_of(packs, rnn=lstm(5, 6), d=nn.Linear(6, 2))).eval()
    with pytest.raises(fc.UnsupportedError, match=text):
        fc.Model.from_torch(module, (x_of(3, 9, 5), torch.tensor([9, 7, 3])))
