"""Modules as people write them become models that answer as PyTorch does."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import fusedcell as fc

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
prune = pytest.importorskip("torch.nn.utils.prune")

from torch_whole_modules import (  # noqa: E402 - as torch may be absent
    agrees,
    close,
    leaves,
    lstm,
    module_of,
    seeded,
    x_of,
)


class TakeFirst(nn.Module):  # type: ignore[name-defined]
    def forward(self, x: Any) -> Any:
        return x[0]


class OnTime(nn.Module):  # type: ignore[name-defined]
    """What Keras calls TimeDistributed."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Any) -> Any:
        b, t = x.size(0), x.size(1)
        return self.part(x.contiguous().view(b * t, *x.shape[2:])).view(b, t, -1)


class Residual(nn.Module):  # type: ignore[name-defined]
    def __init__(self, size: int) -> None:
        super().__init__()
        self.gru, self.norm = nn.GRU(size, size, batch_first=True), nn.LayerNorm(size)

    def forward(self, x: Any) -> Any:
        return self.norm(x + self.gru(x)[0])


def cell_loop(s: Any, x: Any) -> Any:
    h, c = x.new_zeros(x.size(0), 6), x.new_zeros(x.size(0), 6)
    outs = []
    for t in range(x.size(1)):
        h, c = s.cell(x[:, t], (h, c))
        outs.append(h)
    return torch.stack(outs, 1)


def cell_loop_with_head(s: Any, x: Any) -> Any:
    h = torch.zeros(x.size(0), 6)
    outs = []
    for x_t in x.unbind(1):
        h = s.cell(torch.relu(s.pre(x_t)), h)
        outs.append(torch.sigmoid(s.head(torch.cat([h, x_t], -1))).unsqueeze(1))
    return torch.cat(outs, dim=1)


def cell_loop_last(s: Any, x: Any) -> Any:
    hx = None
    for i in range(x.shape[0]):
        hx = s.cell(x[i], hx)
    return s.head(hx)


def stacked_cells(s: Any, x: Any) -> Any:
    h1 = c1 = h2 = c2 = torch.zeros(x.size(0), 6)
    outs = []
    for chunk in x.chunk(x.size(1), dim=1):
        h1, c1 = s.one(chunk.squeeze(1), (h1, c1))
        h2, c2 = s.two(s.drop(h1), (h2, c2))
        outs += [s.head(h2)]
    return torch.stack(outs, dim=1), h2


def cell_loop_backwards(s: Any, x: Any) -> Any:
    h, c = torch.zeros(x.size(0), 6), torch.zeros(x.size(0), 6)
    outs: list[Any] = []
    for t in range(x.size(1) - 1, -1, -1):
        h, c = s.cell(x[:, t], (h, c))
        outs.insert(0, h)
    return torch.stack(outs, 1)


def both_ways(s: Any, x: Any) -> Any:
    h = g = torch.zeros(x.size(0), 6)
    for t in range(x.size(1)):
        h = s.forwards(x[:, t, :], h)
    for t in reversed(range(x.size(1))):
        g = s.backwards(x[:, t, :], g)
    return s.head(torch.cat([h, g], 1))


def layer_in_loop(s: Any, x: Any) -> Any:
    state = None
    outs = []
    for t in range(x.size(1)):
        y, state = s.rnn(x[:, t : t + 1], state)
        outs.append(s.head(y))
    return torch.cat(outs, 1)


def learned_start(s: Any, x: Any) -> Any:
    b = x.size(0)
    return s.rnn(x, (s.h0.expand(-1, b, -1).contiguous(), s.c0.repeat(1, b, 1)))[0]


def learned_start_in_loop(s: Any, x: Any) -> Any:
    h = s.h0.expand(x.size(0), -1)
    outs = []
    for t in range(x.size(1)):
        h = s.cell(x[:, t], h)
        outs.append(h)
    return torch.stack(outs).transpose(0, 1)


def tied(s: Any, x: Any) -> Any:
    return F.linear(s.rnn(s.table(x))[0], s.table.weight)


def shared_twice(s: Any, x: Any) -> Any:
    return s.d(torch.tanh(s.d(s.rnn(x)[0])))


def last_of_each(s: Any, x: Any) -> Any:
    y, (h_n, _) = s.rnn(x)
    return torch.cat([y[:, -1, :], h_n[-1], h_n.squeeze(0)], dim=-1)


def pyramid(s: Any, x: Any) -> Any:
    y, _ = s.one(x)
    b, t, c = y.shape
    return s.two(y[:, : t // 2 * 2].reshape(b, t // 2, 2 * c))[0]


def even_pyramid(s: Any, x: Any) -> Any:
    y, _ = s.one(x)
    b, t, c = y.shape
    if t % 2:
        y = F.pad(y, (0, 0, 0, 1))
    return s.two(y.reshape(b, (t + 1) // 2, 2 * c))[0]


Answer = namedtuple("Answer", ["logits", "scores"])


def several(s: Any, x: Any) -> Any:
    y, _ = s.rnn(x)
    return Answer(s.a(y), torch.sigmoid(s.b(y)))


def in_a_dict(s: Any, x: Any) -> Any:
    y, _ = s.rnn(x)
    return {"a": s.a(y), "b": (s.b(y), y.mean(1))}


def with_speaker(s: Any, x: Any, speaker: Any) -> Any:
    e = s.e(speaker).unsqueeze(1).expand(-1, x.size(1), -1)
    return s.d(s.rnn(torch.cat([x, e], -1))[0])


def one_hot(s: Any, x: Any) -> Any:
    return s.rnn(F.one_hot(x.long(), 7).float())[0]


def pooled(s: Any, x: Any) -> Any:
    y, _ = s.rnn(x)
    return s.d(torch.cat([y.mean(dim=1), y.max(dim=1)[0], y.max(dim=1).values, y.amax(1), y.sum(1), y[:, -1]], -1))


def pools_of_all(s: Any, x: Any) -> Any:
    y = s.rnn(x[..., [4, 0, 2, 1, 3]])[0].transpose(1, 2)
    return torch.cat([F.max_pool1d(y, y.size(2)), F.avg_pool1d(y, y.size(2))], 1).squeeze(-1)


def cells_in_lists(s: Any, x: Any) -> Any:
    hs = [torch.zeros(x.size(0), 6) for _ in s.cells]
    outs = []
    for t in range(x.size(1)):
        given = x[:, t, :]
        for i, cell in enumerate(s.cells):
            hs[i] = given = cell(given, hs[i])
        outs.append(given)
    return torch.stack(outs, 1), torch.stack(hs)


def crnn(s: Any, x: Any) -> Any:
    y = torch.relu(s.conv(x))
    b, c, f, t = y.shape
    return s.rnn(y.permute(0, 3, 1, 2).reshape(b, t, c * f))[0]


def adaptive(s: Any, x: Any) -> Any:
    y = s.conv(x.transpose(1, 2))
    return s.d(torch.cat([F.adaptive_avg_pool1d(y, 1).squeeze(-1), F.adaptive_max_pool1d(y, 1).flatten(1)], 1))


def einsum(s: Any, x: Any) -> Any:
    return torch.einsum("btf,fo->bto", s.rnn(x)[0], s.w)


def einsum_in_groups(s: Any, x: Any) -> Any:
    y = torch.einsum("btgi,gih->btgh", s.rnn(x)[0].unflatten(-1, (2, 3)), s.w)
    return torch.einsum("hk,btgh->bgkt", s.v, y), y.flatten(2)


def unfolded(s: Any, x: Any) -> Any:
    b, c, t, _ = x.shape
    return s.conv(s.unfold(x).reshape(b, c * 3, t, -1))


def gated(s: Any, x: Any) -> Any:
    y = s.conv(F.pad(x, (4, 0)))
    a, b = y.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b) + x


def in_place(s: Any, x: Any) -> Any:
    y, _ = s.rnn(x)
    y = s.d(y)
    y += x
    y.clamp_(-1, 1).mul_(0.5)
    return F.relu_(y)


def amplifier(s: Any, x: Any) -> Any:
    y, _ = s.rnn(x)
    return s.d(y) + x[..., :1]


def scalar(s: Any, x: Any) -> Any:
    return s.d(s.rnn(x.unsqueeze(-1))[0]).squeeze(-1)


def pointwise(s: Any, x: Any) -> Any:
    return s.b(F.elu(s.a(x))) * 2 - x / 3 + 1


def upsampled(s: Any, x: Any) -> Any:
    return F.interpolate(s.rnn(x)[0].transpose(1, 2), scale_factor=3, mode="nearest")


def repeated(s: Any, x: Any) -> Any:
    return s.rnn(x)[0].repeat_interleave(2, dim=1)


def rows_as_batch(s: Any, x: Any) -> Any:
    b, t, f = x.shape
    y = s.norm(s.d(x.reshape(b * t, f))).reshape(b, t, -1)
    return s.rnn(y)[0]


def dual_path(s: Any, x: Any) -> Any:
    """Over the bands of each frame, and over time for each band."""
    b, t, bands, _ = x.shape
    y = s.intra(x.reshape(b * t, bands, -1))[0].reshape(b, t, bands, -1).transpose(1, 2)
    return s.inter(y.reshape(b * bands, t, -1))[0].reshape(b, bands, t, -1).transpose(1, 2)


def ends_of_bands(s: Any, x: Any) -> Any:
    b, t, bands, _ = x.shape
    y, (h, _) = s.intra(x.flip(2).flatten(0, 1).transpose(0, 1))
    return y.transpose(0, 1).reshape(b, t, bands, -1), h.reshape(-1, b, t, 6)


def masked_lm(s: Any, x: Any) -> Any:
    return s.head(s.ln(s.rnn(s.emb(x) * 2.0)[0])).softmax(-1)


def weighted(part: Any, name: str = "weight") -> Any:
    return nn.utils.parametrizations.weight_norm(part, name)


def pruned(part: Any) -> Any:
    prune.l1_unstructured(part, "weight", 0.5)
    return part


def powers(s: Any, x: Any) -> Any:
    a, y = x.abs() + 1e-3, s.rnn(x)[0]
    logs = torch.log1p(a) + torch.log2(a) - torch.log10(a) + torch.expm1(y) + torch.exp2(y) + 10 ** (y / 20)
    return logs + a**0.3 + F.relu(x) ** 1.5 + (2 + y) ** -1 + a**-0.5 + y**4, s.k**y + a**s.k


def extremes(s: Any, x: Any) -> Any:
    y = s.rnn(x)[0]
    both = torch.maximum(y, x) + torch.min(y, s.k) + torch.clamp(x, -s.k, s.k) + torch.lerp(x, y, 0.3)
    return torch.addcmul(both, x, y, value=0.5), y.amin(-1), y.min(1).values


def thresholds(s: Any, x: Any) -> Any:
    """Also beyond 1, behind matrices that are not small, and of numbers that are the threshold."""
    y = 50 * s.d(s.rnn(x)[0])
    high, low = x > 1.5, x < -1000.0
    return (y > 0) ^ (y > 20), torch.sign(y), (high | low) & (x == 2), s.rnn((x >= 2) * x)[0]


def windows(s: Any, x: Any) -> Any:
    return s.rnn(F.pad(x, (0, 0, 2, 0)).unfold(1, 3, 1).flatten(2))[0].narrow(-1, 1, 4).unfold(2, 2, 2).mean(-1)


def rarer_activations(s: Any, x: Any) -> Any:
    y = s.rnn(x)[0]
    both = F.celu(y, 0.5) + F.softshrink(y, 0.1) + F.tanhshrink(y) + F.rrelu(y) + s.k.expand_as(x)
    return both, F.hardshrink(y, 0.1), F.threshold(x, 0.2, -0.3), F.relu6(9 * x)


def lengths_and_angles(s: Any, x: Any) -> Any:
    y = s.rnn(x)[0]
    unit = F.normalize(y, p=1, dim=-1) + F.normalize(y, p=math.inf, dim=-1)
    alike = F.cosine_similarity(y.unsqueeze(2), s.k, -1), F.cosine_similarity(x, s.d(y), -1)
    return unit, torch.linalg.norm(x, dim=-1), x.norm(p=1, dim=-1, keepdim=True), *alike


def moments(s: Any, x: Any) -> Any:
    y = s.rnn(x)[0]
    several = *torch.var_mean(y, -1), *torch.std_mean(y, dim=-1, keepdim=True), *torch.var_mean(x, -1, correction=0)
    return *several, torch.logsumexp(50 * y, -1), torch.logsumexp(y.unflatten(2, (3, 2)), (2, 3))


def differences(s: Any, x: Any) -> Any:
    y = s.rnn(torch.diff(x, dim=1, prepend=torch.zeros_like(x[:, :1])))[0]
    turned = torch.roll(y.unflatten(2, (3, 2)), (1, -1), (2, 3)).flatten(2)
    return torch.diff(x, n=2), torch.diff(y, append=y[..., :1]), turned, *torch.tensor_split(y, 4, -1)


def cut_at(s: Any, x: Any) -> Any:
    y = s.rnn(torch.cat(torch.tensor_split(x, (1, -2), 2)[::-1], -1))[0]
    return y, torch.arange(6.0) @ y.mT


def kept_aside(s: Any, x: Any) -> Any:
    """A loss that nobody asks for, and answers that are None."""
    y = s.rnn(x)[0]
    s.loss = y.square().mean()
    return {"loss": None, "y": y}


@dataclass
class Answers:
    y: Any
    more: Any = None


def in_dataclasses(s: Any, x: Any) -> Any:
    y, (h, _) = s.rnn(x)
    return {"answers": Answers(s.a(y), [Answers(h[-1]), y])}


def framed(s: Any, x: Any) -> Any:
    return s.rnn(x.reshape(len(x), -1, 20))[0].flatten(1)


def framed_alone(s: Any, x: Any) -> Any:
    return s.rnn(x.view(-1, 20))[0].view(-1)


def overlapping(s: Any, x: Any) -> Any:
    return s.rnn(x.unfold(1, 20, 8))[0]


def sampled(s: Any, x: Any) -> Any:
    return s.rnn(s.conv(x.unsqueeze(1)).transpose(1, 2))[0]


def sample_by_sample(s: Any, x: Any) -> Any:
    return s.rnn(x.unsqueeze(-1))[0][..., 0]


CASES: dict[str, tuple[Callable[[], Any], Any, bool]] = {
    "cells in a loop": (lambda: module_of(cell_loop, cell=nn.LSTMCell(5, 6)), x_of(2, 9, 5), True),
    "a head in the loop": (
        lambda: module_of(cell_loop_with_head, pre=nn.Linear(5, 4), cell=nn.GRUCell(4, 6), head=nn.Linear(11, 2)),
        x_of(2, 9, 5),
        True,
    ),
    "the last of a loop": (
        lambda: module_of(cell_loop_last, cell=nn.RNNCell(5, 6), head=nn.Linear(6, 2)),
        x_of(9, 2, 5),
        True,
    ),
    "a relu cell": (
        lambda: module_of(cell_loop_last, cell=nn.RNNCell(5, 6, nonlinearity="relu", bias=False), head=nn.Identity()),
        x_of(9, 2, 5),
        True,
    ),
    "stacked cells": (
        lambda: module_of(
            stacked_cells, one=nn.LSTMCell(5, 6), two=nn.LSTMCell(6, 6), head=nn.Linear(6, 2), drop=nn.Dropout(0.5)
        ),
        x_of(2, 9, 5),
        True,
    ),
    "a loop backwards": (lambda: module_of(cell_loop_backwards, cell=nn.LSTMCell(5, 6)), x_of(2, 9, 5), False),
    "loops both ways": (
        lambda: module_of(both_ways, forwards=nn.GRUCell(5, 6), backwards=nn.GRUCell(5, 6), head=nn.Linear(12, 2)),
        x_of(2, 9, 5),
        False,
    ),
    "a layer in a loop": (
        lambda: module_of(layer_in_loop, rnn=lstm(5, 6, 2), head=nn.Linear(6, 2)),
        x_of(2, 9, 5),
        True,
    ),
    "a learned initial state": (
        lambda: module_of(
            learned_start,
            rnn=lstm(5, 6, 2),
            h0=nn.Parameter(torch.randn(2, 1, 6)),
            c0=nn.Parameter(torch.randn(2, 1, 6)),
        ),
        x_of(2, 9, 5),
        True,
    ),
    "a learned initial state in a loop": (
        lambda: module_of(learned_start_in_loop, cell=nn.GRUCell(5, 6), h0=nn.Parameter(torch.randn(1, 6))),
        x_of(2, 9, 5),
        True,
    ),
    "tied weights": (
        lambda: module_of(tied, table=nn.Embedding(11, 6), rnn=lstm(6, 6)),
        torch.arange(18).reshape(2, 9) % 11,
        True,
    ),
    "a module called twice": (
        lambda: module_of(shared_twice, rnn=lstm(5, 6), d=nn.Linear(6, 6)),
        x_of(2, 9, 5),
        True,
    ),
    "last outputs and states": (lambda: module_of(last_of_each, rnn=lstm(5, 6)), x_of(2, 9, 5), True),
    "rows in pairs": (lambda: module_of(even_pyramid, one=lstm(5, 6), two=lstm(12, 4)), x_of(2, 10, 5), True),
    "a named tuple": (
        lambda: module_of(several, rnn=lstm(5, 6), a=nn.Linear(6, 3), b=nn.Linear(6, 1)),
        x_of(2, 9, 5),
        True,
    ),
    "a dictionary": (
        lambda: module_of(in_a_dict, rnn=lstm(5, 6), a=nn.Linear(6, 3), b=nn.Linear(6, 1)),
        x_of(2, 9, 5),
        False,
    ),
    "a speaker": (
        lambda: module_of(with_speaker, e=nn.Embedding(4, 3), rnn=lstm(8, 6), d=nn.Linear(6, 2)),
        (x_of(2, 9, 5), torch.tensor([1, 3])),
        True,
    ),
    "one-hot inputs": (
        lambda: module_of(one_hot, rnn=lstm(7, 6)),
        torch.arange(18, dtype=torch.int32).reshape(2, 9) % 7,
        True,
    ),
    "pools over time": (lambda: module_of(pooled, rnn=lstm(5, 6), d=nn.Linear(36, 2)), x_of(2, 9, 5), False),
    "pools of all rows": (lambda: module_of(pools_of_all, rnn=lstm(5, 6)), x_of(2, 9, 5), False),
    "cells in lists": (
        lambda: module_of(cells_in_lists, cells=nn.ModuleList([nn.GRUCell(5, 6), nn.GRUCell(6, 6)])),
        x_of(2, 9, 5),
        True,
    ),
    "a bare layer": (lambda: nn.GRU(5, 6, 2, batch_first=True, bidirectional=True), x_of(2, 9, 5), False),
    "images on their side": (
        lambda: module_of(crnn, conv=nn.Conv2d(1, 4, (3, 3), padding=1), rnn=nn.GRU(20, 6, batch_first=True)),
        x_of(2, 1, 5, 20),
        True,
    ),
    "adaptive pools": (
        lambda: module_of(adaptive, conv=nn.Conv1d(5, 6, 3), d=nn.Linear(12, 2)),
        x_of(2, 9, 5),
        False,
    ),
    "einsum": (
        lambda: module_of(einsum, rnn=lstm(5, 6), w=nn.Parameter(torch.randn(6, 3))),
        x_of(2, 9, 5),
        True,
    ),
    "a gated causal convolution": (
        lambda: module_of(gated, conv=nn.Conv1d(5, 10, 3, dilation=2)),
        x_of(2, 5, 30),
        True,
    ),
    "changes in place": (lambda: module_of(in_place, rnn=lstm(5, 6), d=nn.Linear(6, 5)), x_of(2, 9, 5), True),
    "an amplifier": (lambda: module_of(amplifier, rnn=lstm(2, 8), d=nn.Linear(8, 1)), x_of(1, 40, 2), True),
    "numbers in, numbers out": (lambda: module_of(scalar, rnn=lstm(1, 8), d=nn.Linear(8, 1)), x_of(2, 30), True),
    "one sequence": (
        lambda: module_of(lambda s, x: s.d(s.rnn(x)[0]), rnn=nn.GRU(5, 6), d=nn.Linear(6, 2)),
        x_of(9, 5),
        True,
    ),
    "no time": (lambda: module_of(pointwise, a=nn.Linear(5, 6), b=nn.Linear(6, 5)), x_of(3, 5), True),
    "rows repeated": (lambda: module_of(upsampled, rnn=lstm(5, 6)), x_of(2, 9, 5), True),
    "rows interleaved": (lambda: module_of(repeated, rnn=lstm(5, 6)), x_of(2, 9, 5), True),
    "rows as a batch": (
        lambda: module_of(rows_as_batch, d=nn.Linear(5, 6), norm=moved(nn.BatchNorm1d(6)), rnn=lstm(6, 4)),
        x_of(2, 9, 5),
        True,
    ),
    "a language model": (
        lambda: module_of(masked_lm, emb=nn.Embedding(9, 5), rnn=lstm(5, 6), ln=nn.LayerNorm(6), head=nn.Linear(6, 9)),
        torch.arange(18).reshape(2, 9) % 9,
        True,
    ),
    "einsum in groups": (
        lambda: module_of(
            einsum_in_groups, rnn=lstm(5, 6), w=nn.Parameter(torch.randn(2, 3, 4)), v=nn.Parameter(torch.randn(4, 3))
        ),
        x_of(2, 9, 5),
        True,
    ),
    "neighbours of features": (
        lambda: module_of(unfolded, unfold=nn.Unfold((1, 3), stride=(1, 2), padding=(0, 1)), conv=nn.Conv2d(6, 2, 1)),
        x_of(2, 2, 9, 5),
        True,
    ),
    "a sequential with its first output": (
        lambda: nn.Sequential(lstm(5, 6), TakeFirst(), nn.Dropout(), nn.Linear(6, 4), nn.ReLU(), Residual(4)),
        x_of(2, 9, 5),
        True,
    ),
    "parts at every row": (
        lambda: nn.Sequential(OnTime(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.GELU())), Residual(6)),
        x_of(2, 9, 5),
        True,
    ),
    "weight norms": (
        lambda: nn.Sequential(
            nn.utils.weight_norm(nn.Linear(5, 6)),
            weighted(nn.Linear(6, 6)),
            nn.utils.parametrizations.spectral_norm(nn.Linear(6, 5)),
            nn.utils.spectral_norm(nn.Linear(5, 4)),
            pruned(nn.Linear(4, 4)),
            lstm(4, 6),
            TakeFirst(),
        ),
        x_of(2, 9, 5),
        True,
    ),
    "a normed layer": (
        lambda: module_of(lambda s, x: s.rnn(x)[0], rnn=weighted(lstm(5, 6), "weight_hh_l0")),
        x_of(2, 9, 5),
        True,
    ),
    "group norms without time": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.GroupNorm(2, 8), nn.Linear(8, 2)),
        x_of(3, 5),
        True,
    ),
    "float64": (lambda: nn.Sequential(lstm(5, 6), TakeFirst(), nn.Linear(6, 2)).double(), x_of(2, 9, 5).double(), True),
    "a mean of what a slice leaves": (
        lambda: module_of(lambda s, x: s.d(x[:, 1 : x.shape[1] - 2]).tanh().mean(1), d=nn.Linear(3, 5)),
        x_of(2, 24, 3),
        False,
    ),
    **{
        function.__name__: (
            lambda function=function, size=size: module_of(  # type: ignore[misc] # bound now
                function, rnn=lstm(size, 5), d=nn.Linear(5, 5), k=nn.Parameter(torch.rand(5) + 0.3)
            ),
            x_of(2, 9, 5).mul(4).round() if function is thresholds else x_of(2, 9, 5),
            function is not extremes,
        )
        for function, size in [
            (powers, 5),
            (extremes, 5),
            (thresholds, 5),
            (windows, 15),
            (rarer_activations, 5),
            (kept_aside, 5),
        ]
    },
    "over bands and over time": (
        lambda: module_of(
            dual_path,
            intra=nn.GRU(3, 4, bidirectional=True, batch_first=True),
            inter=nn.LSTM(8, 6, 2, proj_size=5, batch_first=True),
        ),
        x_of(2, 9, 7, 3),
        True,
    ),
    "both ways over time for each band": (
        lambda: module_of(
            dual_path,
            intra=nn.RNN(3, 4, 2, batch_first=True),
            inter=nn.GRU(4, 5, 2, bidirectional=True, batch_first=True, bias=False),
        ),
        x_of(2, 9, 3, 3),
        False,
    ),
    "the ends of layers over bands": (lambda: module_of(ends_of_bands, intra=nn.LSTM(3, 6, 2)), x_of(2, 9, 7, 3), True),
    "lengths and angles": (
        lambda: module_of(lengths_and_angles, rnn=lstm(5, 6), d=nn.Linear(6, 5), k=nn.Parameter(torch.randn(4, 6))),
        x_of(2, 9, 5),
        True,
    ),
    "moments": (lambda: module_of(moments, rnn=lstm(5, 6)), x_of(2, 9, 5), True),
    "differences": (lambda: module_of(differences, rnn=lstm(5, 6)), x_of(2, 9, 5), True),
    "parts by places": (lambda: module_of(cut_at, rnn=lstm(5, 6)), x_of(2, 9, 5), True),
    "a projected layer": (lambda: nn.Sequential(lstm(5, 6, 2, proj_size=4), TakeFirst()), x_of(2, 9, 5), True),
}


def moved(norm: Any) -> Any:
    """A batch norm as training leaves it."""
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_module_answers_as_in_pytorch(name: str) -> None:
    make, example, streams = CASES[name]
    agrees(seeded(make), example, streams)


@pytest.mark.parametrize(
    ("forward", "shapes"),
    [
        (framed, [(2, 400), (3, 640)]),
        (framed_alone, [(400,), (640,)]),
        (overlapping, [(2, 100), (3, 244)]),
        (sampled, [(2, 100), (1, 57)]),
        (sample_by_sample, [(2, 30), (3, 11)]),
    ],
)
def test_samples_are_rows_and_no_features(forward: Any, shapes: Any) -> None:
    size = {sampled: 4, sample_by_sample: 1}.get(forward, 20)
    conv = nn.Conv1d(1, 4, 8, stride=4)
    module = seeded(lambda: module_of(forward, conv=conv, rnn=nn.GRU(size, 20, batch_first=True))).eval()
    model = fc.Model.from_torch(module, x_of(*shapes[0]))
    for shape in shapes:
        close(model(x_of(*shape).numpy()), leaves(module(x_of(*shape)))[0])


def test_dataclasses_are_answers_in_the_order_of_their_fields() -> None:
    module, x = seeded(lambda: module_of(in_dataclasses, rnn=lstm(5, 6), a=nn.Linear(6, 3))).eval(), x_of(2, 9, 5)
    y, (h, _) = module.rnn(x)
    for got, want in zip(fc.Model.from_torch(module, x)(x.numpy()), leaves([module.a(y), h[-1], y]), strict=True):
        close(got, want)
    assert not module._forward_hooks


def test_time_is_the_second_axis_even_if_a_slice_may_leave_no_rows() -> None:
    """PyTorch's mean of no rows is NaN, and a model's is zero; that is no reason to look for time elsewhere."""
    model = fc.Model.from_torch(module_of(lambda s, x: x[:, 1:].mean(1), d=nn.Linear(1, 1)), x_of(2, 24, 3))
    assert list(model.axes.values()) == [("batch", "time", 3), ("batch", 3)]


# State in and out.
