"""Modules as people write them become models that answer as PyTorch does."""

from __future__ import annotations

import inspect
import warnings
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedcell as fc

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
prune = pytest.importorskip("torch.nn.utils.prune")
rnn = torch.nn.utils.rnn


def leaves(answers: Any) -> list[Any]:
    found: list[Any] = torch.utils._pytree.tree_leaves(answers)
    return [answer.detach().float().numpy() for answer in found]


def close(got: Any, want: Any) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1.0, float(np.abs(want).max(initial=0))))


def as_inputs(example: Any) -> tuple[Any, ...]:
    given = example if isinstance(example, tuple) else (example,)
    return tuple(tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy() for tensor in given)


def agrees(module: Any, example: Any, streams: bool = False) -> Any:
    """The module's model, after its answers, whole and step by step, were compared with the module's."""
    model = fc.Model.from_torch(module.eval(), example)
    with torch.no_grad():
        want = leaves(module(*example) if isinstance(example, tuple) else module(example))
    got = model(*as_inputs(example))
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        close(mine, theirs)
    assert model.streamable == streams
    if streams:
        steps_as_whole(model, example)
    return model


def steps_as_whole(model: Any, example: Any) -> None:
    """A stream of blocks of the input answers with the same bits as the whole call."""
    arrays = as_inputs(example)
    axes = [model.axes[name] for name in model.inputs]
    if not any("time" in axis for axis in axes):
        return
    batch = next((a.shape[axis.index("batch")] for a, axis in zip(arrays, axes, strict=True) if "batch" in axis), 1)
    timed = [axis.index("time") if "time" in axis else None for axis in axes]
    steps = next(a.shape[t] for a, t in zip(arrays, timed, strict=True) if t is not None)
    stream = model.stream(batch)
    hop = model.hop if isinstance(model.hop, int) else model.hop[0]
    blocks = []
    for start in range(0, steps, hop):
        part = [
            a if t is None else a.take(range(start, min(start + hop, steps)), t)
            for a, t in zip(arrays, timed, strict=True)
        ]
        part = [a[0] if batch == 1 and "batch" in axis else a for a, axis in zip(part, axes, strict=True)]
        blocks.append(stream.process(*part))
    blocks.append(stream.flush())
    whole = model(*arrays)
    several = isinstance(whole, tuple)
    for place, name in enumerate(model.outputs):
        answers = [block[place] if several else block for block in blocks]
        answers = [answer for answer in answers if answer is not None]
        want = whole[place] if several else whole
        if "time" not in model.axes[name]:
            continue
        time = model.axes[name].index("time")
        if batch == 1 and "batch" in model.axes[name]:
            want = want.squeeze(model.axes[name].index("batch"))
            time -= model.axes[name].index("batch") < time
        got = np.concatenate(answers, time)
        np.testing.assert_array_equal(got, want)


def module_of(forward: Callable[..., Any], **parts: Any) -> Any:
    """A module with these parts and this forward."""

    class Module(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, *given: Any) -> Any:
            return forward(self, *given)

    return Module()


def seeded(function: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    return function()


def x_of(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(7).standard_normal(shape).astype(np.float32))


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


def lstm(*sizes: int, **options: Any) -> Any:
    return nn.LSTM(*sizes, batch_first=True, **options)


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


def masked_lm(s: Any, x: Any) -> Any:
    return s.head(s.ln(s.rnn(s.emb(x) * 2.0)[0])).softmax(-1)


def weighted(part: Any, name: str = "weight") -> Any:
    return nn.utils.parametrizations.weight_norm(part, name)


def pruned(part: Any) -> Any:
    prune.l1_unstructured(part, "weight", 0.5)
    return part


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


# State in and out.


def carries(module: Any, x: Any, states: Any, time: int, batch: int | None = 0, atol: float = 1e-5) -> Any:
    """The model's stream answers, block after block, as the module does that is given its own states again."""
    model = fc.Model.from_torch(module.eval(), (x, states))
    assert len(model.inputs) == 1
    stream = model.stream(1 if batch is None else x.shape[batch])
    with torch.no_grad():
        close_all(model(x.numpy()), module(x, zeros(states))[0])
        states = zeros(states)
        for block in x.split([2, 1, 3, x.shape[time] - 6], time):
            want, states = module(block, states)
            given = block.numpy()
            close(
                stream.process(given.squeeze(batch) if batch is not None and x.shape[batch] == 1 else given),
                want.numpy().squeeze(batch) if batch is not None and x.shape[batch] == 1 else want.numpy(),
            )
    return model


def close_all(got: Any, want: Any) -> None:
    for mine, theirs in zip(got if isinstance(got, tuple) else (got,), leaves(want), strict=True):
        close(mine, theirs)


def zeros(states: Any) -> Any:
    return torch.utils._pytree.tree_map(torch.zeros_like, states)


def layer_with_state(s: Any, x: Any, state: Any) -> Any:
    y, state = s.rnn(x, state)
    return s.d(y), state


def layers_with_states(s: Any, x: Any, states: Any) -> Any:
    y, first = s.one(x, states[0])
    y, second = s.two(y, states[1])
    return s.d(y), [first, second]


def states_by_name(s: Any, x: Any, states: Any) -> Any:
    y, first = s.one(x, states["one"])
    y, second = s.two(y, states["two"])
    return s.d(y), {"one": first, "two": second}


def one_state_for_layers(s: Any, x: Any, h: Any) -> Any:
    y, first = s.one(x, h[0:1])
    y, second = s.two(y, h[1:2])
    return s.d(y), torch.cat([first, second], 0)


def stacked_states(s: Any, x: Any, h: Any) -> Any:
    y, first = s.one(x, h[0].unsqueeze(0))
    y, second = s.two(y, h[1].unsqueeze(0))
    return s.d(y), torch.stack([first.squeeze(0), second.squeeze(0)])


def loop_with_state(s: Any, x: Any, state: Any) -> Any:
    h, c = state
    outs = []
    for t in range(x.size(1)):
        h, c = s.cell(x[:, t], (h, c))
        outs.append(s.d(h))
    return torch.stack(outs, 1), (h, c)


def caches(s: Any, x: Any, cache: Any) -> Any:
    xx = torch.cat([cache, x], dim=2)
    return torch.tanh(s.conv(xx)) + x, xx[:, :, -4:]


STATES: dict[str, tuple[Callable[[], Any], Any, Any, int, int | None]] = {
    "an LSTM's": (
        lambda: module_of(layer_with_state, rnn=lstm(5, 6, 2), d=nn.Linear(6, 2)),
        x_of(2, 9, 5),
        (torch.zeros(2, 2, 6), torch.zeros(2, 2, 6)),
        1,
        0,
    ),
    "a GRU's": (
        lambda: module_of(layer_with_state, rnn=nn.GRU(5, 6), d=nn.Linear(6, 2)),
        x_of(9, 1, 5),
        x_of(1, 1, 6),
        0,
        1,
    ),
    "without a batch": (
        lambda: module_of(layer_with_state, rnn=nn.GRU(5, 6), d=nn.Linear(6, 2)),
        x_of(9, 5),
        x_of(1, 6),
        0,
        None,
    ),
    "several layers'": (
        lambda: module_of(layers_with_states, one=lstm(5, 6), two=nn.GRU(6, 4, batch_first=True), d=nn.Linear(4, 2)),
        x_of(2, 9, 5),
        [(torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)), torch.zeros(1, 2, 4)],
        1,
        0,
    ),
    "by name": (
        lambda: module_of(states_by_name, one=lstm(5, 6), two=nn.GRU(6, 4, batch_first=True), d=nn.Linear(4, 2)),
        x_of(2, 9, 5),
        {"one": (torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)), "two": torch.zeros(1, 2, 4)},
        1,
        0,
    ),
    "sliced": (
        lambda: module_of(
            one_state_for_layers,
            one=nn.GRU(5, 6, batch_first=True),
            two=nn.GRU(6, 6, batch_first=True),
            d=nn.Linear(6, 2),
        ),
        x_of(2, 9, 5),
        torch.zeros(2, 2, 6),
        1,
        0,
    ),
    "stacked": (
        lambda: module_of(
            stacked_states, one=nn.GRU(5, 6, batch_first=True), two=nn.GRU(6, 6, batch_first=True), d=nn.Linear(6, 2)
        ),
        x_of(2, 9, 5),
        torch.zeros(2, 2, 6),
        1,
        0,
    ),
    "a loop's": (
        lambda: module_of(loop_with_state, cell=nn.LSTMCell(5, 6), d=nn.Linear(6, 2)),
        x_of(2, 9, 5),
        (torch.zeros(2, 6), torch.zeros(2, 6)),
        1,
        0,
    ),
    "a convolution's": (
        lambda: module_of(caches, conv=nn.Conv1d(5, 5, 3, dilation=2)),
        x_of(2, 5, 30),
        torch.zeros(2, 5, 4),
        2,
        0,
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_is_taken_and_given_back_is_the_streams(name: str) -> None:
    make, x, states, time, batch = STATES[name]
    carries(seeded(make), x, states, time, batch)


def step(s: Any, x: Any, state: Any) -> Any:
    h, c = s.cell(s.pre(x), state)
    return s.d(h), (h, c)


def steps_of_two(s: Any, x: Any, h1: Any, h2: Any) -> Any:
    h1 = s.one(x, h1)
    h2 = s.two(h1, h2)
    return torch.tanh(s.d(torch.cat([h2, x], 1))), h1, h2


def layer_for_a_step(s: Any, x: Any, state: Any) -> Any:
    y, state = s.rnn(x.unsqueeze(1), state)
    return s.d(y.squeeze(1)), state


@pytest.mark.parametrize(
    ("make", "states"),
    [
        (lambda: module_of(step, pre=nn.Linear(5, 4), cell=nn.LSTMCell(4, 6), d=nn.Linear(6, 2)), [((2, 6), (2, 6))]),
        (
            lambda: module_of(steps_of_two, one=nn.GRUCell(5, 6), two=nn.RNNCell(6, 4), d=nn.Linear(9, 2)),
            [(2, 6), (2, 4)],
        ),
        (lambda: module_of(layer_for_a_step, rnn=lstm(5, 6, 2), d=nn.Linear(6, 2)), [((2, 2, 6), (2, 2, 6))]),
    ],
    ids=["a cell", "two cells", "a layer"],
)
def test_a_module_of_one_step_takes_one_step_a_call_and_its_streams_carry_the_state(make: Any, states: Any) -> None:
    module = seeded(make).eval()
    begin = [tuple(map(torch.zeros, state)) if isinstance(state[0], tuple) else torch.zeros(state) for state in states]
    model = fc.Model.from_torch(module, (x_of(2, 5), *begin))
    stream = model.stream(2)
    for x in x_of(6, 2, 5):
        with torch.no_grad():
            close(model(x.numpy()), module(x, *map(zeros, begin))[0].numpy())
    given = [zeros(state) for state in begin]
    for x in x_of(6, 2, 5):
        with torch.no_grad():
            want, *given = module(x, *given)
        close(stream.step(x.numpy()), want.numpy())


def test_a_bare_cell_answers_with_its_h() -> None:
    cell = seeded(lambda: nn.LSTMCell(5, 6))
    model = fc.Model.from_torch(cell, (x_of(2, 5), (torch.zeros(2, 6), torch.zeros(2, 6))))
    stream, state = model.stream(2), None
    for x in x_of(4, 2, 5):
        with torch.no_grad():
            state = cell(x, state)
        close(stream.step(x.numpy()), state[0].numpy())


# Lengths.


def packed(s: Any, x: Any, lengths: Any) -> Any:
    p = rnn.pack_padded_sequence(s.pre(x), lengths.cpu(), batch_first=True, enforce_sorted=s.is_sorted)
    y, (h_n, _) = s.rnn(p)
    y, _ = rnn.pad_packed_sequence(y, batch_first=True, total_length=x.size(1))
    return s.d(y), s.e(torch.cat([h_n[-2], h_n[-1]], 1))


def packed_gru(s: Any, x: Any, lengths: Any) -> Any:
    x = s.e(x)
    _, h_n = s.rnn(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
    return s.d(h_n.transpose(0, 1).flatten(1))


def last_valid(s: Any, x: Any, lengths: Any) -> Any:
    y, _ = s.rnn(x)
    return s.d(y[torch.arange(x.size(0)), lengths - 1])


def gathered(s: Any, x: Any, lengths: Any) -> Any:
    y, _ = s.rnn(x)
    index = (lengths - 1).view(-1, 1, 1).expand(-1, 1, y.size(2))
    return s.d(y.gather(1, index).squeeze(1))


@pytest.mark.parametrize("is_sorted", [True, False])
def test_packed_sequences_are_the_models_lengths(is_sorted: bool) -> None:
    def make() -> Any:
        parts = {"pre": nn.Linear(5, 4), "rnn": lstm(4, 6, 2, bidirectional=True), "d": nn.Linear(12, 2)}
        return module_of(packed, **parts, e=nn.Linear(12, 3), is_sorted=is_sorted)

    module = seeded(make).eval()
    lengths = torch.tensor([9, 7, 3] if is_sorted else [3, 9, 7])
    x = x_of(3, 9, 5)
    model = fc.Model.from_torch(module, (x, lengths))
    assert len(model.inputs) == 1
    got = model(x.numpy(), lengths=lengths.numpy())
    with torch.no_grad():
        want = module(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        close(got[0][row, :length], want[0][row, :length].numpy())
        assert not got[0][row, length:].any()
    close(got[1], want[1].numpy())


@pytest.mark.parametrize("forward", [last_valid, gathered])
def test_the_row_at_a_length_is_the_last(forward: Any) -> None:
    module = seeded(lambda: module_of(forward, rnn=lstm(5, 6), d=nn.Linear(6, 2))).eval()
    x, lengths = x_of(3, 9, 5), torch.tensor([3, 9, 7])
    model = fc.Model.from_torch(module, (x, lengths))
    with torch.no_grad():
        close(model(x.numpy(), lengths=lengths.numpy()), module(x, lengths).numpy())


def test_packed_tokens_in_time_first_order() -> None:
    module = seeded(lambda: module_of(packed_gru, e=nn.Embedding(7, 5), rnn=nn.GRU(5, 6, 2), d=nn.Linear(12, 2))).eval()
    x, lengths = torch.arange(27).reshape(9, 3) % 7, torch.tensor([3, 9, 7])
    model = fc.Model.from_torch(module, (x, lengths))
    with torch.no_grad():
        close(model(x.numpy(), lengths=lengths.numpy()), module(x, lengths).numpy())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_is_read_as_what_it_was_made_of() -> None:
    module = seeded(lambda: nn.Sequential(nn.Conv1d(5, 6, 3, padding=1), nn.BatchNorm1d(6), nn.ReLU())).eval()
    agrees(torch.jit.trace(module, x_of(2, 5, 20)), x_of(2, 5, 20), True)
    agrees(torch.jit.script(module), x_of(2, 5, 20), True)


class Particular(nn.Module):  # type: ignore[name-defined]
    """Takes frames of one size alone, as voice detectors do."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        if x.shape[1] != 512:
            raise ValueError("frames of 512 samples")
        return torch.relu(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_that_raises_at_other_sizes_is_read_at_its_own() -> None:
    agrees(torch.jit.script(Particular()), torch.randn(2, 512, 1), True)


# Arguments.


class Arguments(nn.Module):  # type: ignore[name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.d = nn.GRU(5, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Any, mask: Any = None, scale: float = 1.0, unused: Any = None, *, log: bool = False) -> Any:
        y = self.d(self.rnn(x)[0]) * scale
        return F.log_softmax(y, -1) if log else y, mask


def test_arguments_that_are_no_tensors_stay_as_they_are() -> None:
    module = seeded(Arguments).eval()
    x = x_of(2, 9, 5)
    model = fc.Model.from_torch(module, (x, None, 3.0))
    assert len(model.inputs) == 1
    with torch.no_grad():
        close(model(x.numpy()), module(x, None, 3.0)[0].numpy())


def test_an_input_that_nothing_reads_is_taken_all_the_same() -> None:
    module = seeded(Arguments).eval()
    x = x_of(2, 9, 5)
    model = fc.Model.from_torch(module, (x, None, 1.0, x_of(2, 4)))
    with torch.no_grad():
        close(model(x.numpy(), np.zeros((2, 4), np.float32)), module(x)[0].numpy())


def test_a_module_is_not_changed_and_its_dtype_may_be_any() -> None:
    module = seeded(lambda: nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6))).eval().bfloat16()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = fc.Model.from_torch(module, x_of(3, 5).bfloat16())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad():
        close(model(x_of(3, 5).numpy()), module.float()(x_of(3, 5)).numpy())


@pytest.mark.parametrize("example", ["x", [], ({},), object()])
def test_an_example_without_tensors_is_a_type_error(example: Any) -> None:
    with pytest.raises(TypeError, match="example: expected a tensor"):
        fc.Model.from_torch(nn.Linear(5, 6), example)


def test_what_the_module_says_of_an_example_is_passed_on() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fc.Model.from_torch(nn.Linear(5, 6), x_of(3, 4))


def test_torchscript_inside_a_module_is_refused_by_its_name() -> None:
    module = nn.Sequential()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.add_module("part", torch.jit.script(nn.Linear(5, 6)))
    with pytest.raises(fc.UnsupportedError, match="'part' of it is TorchScript; bring the module"):
        fc.Model.from_torch(module, x_of(3, 5))


# What is refused, each with the line that does it.


class Refused(nn.Module):  # type: ignore[name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.conv, self.lstm = nn.GRU(5, 6, batch_first=True), nn.Conv1d(5, 6, 3), lstm(5, 6)
        self.drop, self.norm, self.cell, self.d = nn.Dropout(), nn.BatchNorm1d(5), nn.GRUCell(5, 6), nn.Linear(6, 1)
        self.both = nn.GRU(5, 6, bidirectional=True, batch_first=True)


class Dropped(Refused):
    def forward(self, x: Any) -> Any:
        return self.drop(self.rnn(x)[0])  # here


class Branch(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        return y if y.mean() > 0 else -y  # here


class Attention(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        return y @ y.transpose(1, 2)  # here


class AttentionPool(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        w = torch.softmax(self.d(y), dim=1)  # here
        return (w * y).sum(1)


class NormOverTime(Refused):
    def forward(self, x: Any) -> Any:
        return F.instance_norm(self.conv(x.transpose(1, 2)))  # here


class Reflected(Refused):
    def forward(self, x: Any) -> Any:
        x = F.pad(x.transpose(1, 2), (2, 0), mode="reflect")  # here
        return self.conv(x)


class FirstRows(Refused):
    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0][:, :4]


class MiddleRow(Refused):
    def forward(self, x: Any) -> Any:
        return self.d(self.rnn(x)[0][:, 4])


class OwnCell(Refused):
    def forward(self, x: Any) -> Any:
        h = x.new_zeros(x.size(0), 6)
        for t in range(x.size(1)):
            h = torch.tanh(h + self.cell.bias_ih[:6] + F.pad(x[:, t], (0, 1)))  # here
        return h


class NormedState(Refused):
    def forward(self, x: Any) -> Any:
        h = x.new_zeros(x.size(0), 6)
        for t in range(x.size(1)):
            h = torch.tanh(self.cell(x[:, t], h))  # here
        return h


class EveryOtherRow(Refused):
    def forward(self, x: Any) -> Any:
        h = x.new_zeros(x.size(0), 6)
        for t in range(0, x.size(1), 2):
            h = self.cell(x[:, t], h)  # here
        return h


class PartInPlace(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        y[:, :, :2].mul_(2)  # here
        return y


class Chosen(Refused):
    def forward(self, x: Any) -> Any:
        return torch.where(x > 0, x, 0.1 * x)  # here


class Rounded(Refused):
    def forward(self, x: Any) -> Any:
        return self.rnn(x.long().float())[0]  # here


class Handed(Refused):
    def forward(self, x: Any) -> Any:
        _, h = self.rnn(x)
        return self.rnn(x, h)[0]  # here


class CellState(Refused):
    def forward(self, x: Any) -> Any:
        _, (_, c) = self.lstm(x)
        return self.d(c[-1])  # here


REFUSED = [
    Dropped, Branch, Attention, AttentionPool, NormOverTime, Reflected, FirstRows, MiddleRow, OwnCell, NormedState,
    EveryOtherRow, PartInPlace, Chosen, Rounded, Handed, CellState,
]  # fmt: skip


@pytest.mark.parametrize("cls", REFUSED)
def test_what_a_model_cannot_do_is_refused_with_its_line(cls: Any, capfd: Any) -> None:
    module = seeded(cls)
    module.train(cls is Dropped)
    lines, first = inspect.getsourcelines(cls)
    with pytest.raises(fc.UnsupportedError) as caught:
        fc.Model.from_torch(module, x_of(2, 9, 5))
    for place, line in enumerate(lines):
        if line.endswith("# here\n"):
            assert f"{__file__}:{first + place} in forward, {line.strip()!r}" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_batch_norm_in_training_is_refused() -> None:
    with pytest.raises(fc.UnsupportedError, match=r"the batch's own mean; supported: module\.eval"):
        fc.Model.from_torch(nn.BatchNorm1d(5), x_of(2, 5, 9))


class Swapped(Refused):
    def forward(self, x: Any, states: Any) -> Any:
        y, (h, c) = self.lstm(x, states)
        return y, (c, h)


class Kept(Refused):
    def forward(self, x: Any, states: Any) -> Any:
        return self.lstm(x, states)[0]


class Changed(Refused):
    def forward(self, x: Any, states: Any) -> Any:
        y, (h, c) = self.lstm(x, states)
        return y, (0.5 * h, c)


class Other(Refused):
    def forward(self, x: Any, states: Any) -> Any:
        y, _ = self.lstm(x, states)
        return y, states


@pytest.mark.parametrize("cls", [Swapped, Kept, Changed, Other])
def test_a_state_that_is_not_the_layers_is_refused(cls: Any) -> None:
    states = (torch.zeros(1, 2, 6), torch.zeros(1, 2, 6))
    with pytest.raises(fc.UnsupportedError, match="given back"):
        fc.Model.from_torch(seeded(cls).eval(), (x_of(2, 9, 5), states))


def masked_mean(s: Any, x: Any, lengths: Any) -> Any:
    mask = (torch.arange(x.size(1))[None, :] < lengths[:, None]).float()
    return (s.rnn(x)[0] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def padded_mean(s: Any, x: Any, lengths: Any) -> Any:
    p = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return rnn.pad_packed_sequence(s.rnn(p)[0], batch_first=True)[0].mean(1)


def padded_last(s: Any, x: Any, lengths: Any) -> Any:
    p = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return rnn.pad_packed_sequence(s.rnn(p)[0], batch_first=True)[0][:, -1]


@pytest.mark.parametrize("forward", [masked_mean, padded_mean, padded_last])
def test_what_lengths_make_otherwise_than_a_model_is_refused(forward: Any) -> None:
    module = seeded(lambda: module_of(forward, rnn=lstm(5, 6))).eval()
    with pytest.raises(fc.UnsupportedError, match=r"lengths|not the module's"):
        fc.Model.from_torch(module, (x_of(3, 9, 5), torch.tensor([3, 9, 7])))


def test_a_model_that_does_not_answer_as_the_module_is_refused() -> None:
    class Odd(nn.Module):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            return x * (2 if max(x.shape) > 20 else 3)

    with pytest.raises(fc.UnsupportedError, match="is not the module's"):
        fc.Model.from_torch(Odd(), x_of(2, 8, 3))


def refused(forward: Any, x: Any, text: str, **parts: Any) -> None:
    with pytest.raises(fc.UnsupportedError, match=text):
        fc.Model.from_torch(seeded(lambda: module_of(forward, **parts)).eval(), x)


def test_what_modules_do_beyond_some_length_is_refused() -> None:
    parts = {"g": nn.GRU(5, 6, batch_first=True)}
    x = x_of(2, 20, 5)
    refused(lambda self, x: self.g(x[:, :500])[0], x, "is not the module's", **parts)
    refused(lambda self, x: self.g(x[:, -200:])[0], x, "a slice along time from -200", **parts)
    refused(lambda self, x: self.g(x[:, -200:] if x.size(1) > 200 else x)[0], x, "is not the module's", **parts)


def test_rows_that_a_stride_would_leave_out_anyhow_may_be_left_out_before() -> None:
    def forward(self: Any, x: Any) -> Any:
        x = x[:, : x.size(1) // 2 * 2].transpose(1, 2)
        return self.g(self.d(F.relu(self.c(x))).transpose(1, 2))[0]

    parts = {"c": nn.Conv1d(5, 6, 2, 2), "d": nn.Conv1d(6, 6, 2, 2), "g": nn.GRU(6, 6, batch_first=True)}
    module = seeded(lambda: module_of(forward, **parts)).eval()
    model = fc.Model.from_torch(module, x_of(2, 22, 5))
    for steps in range(4, 25):
        with torch.no_grad():
            np.testing.assert_allclose(model(x := x_of(2, steps, 5)), module(x), rtol=0, atol=1e-5)


def test_shapes_that_depend_on_there_being_one_sequence_or_row_are_refused() -> None:
    refused(
        lambda self, x: self.o(self.g(x)[0]).squeeze(),
        x_of(2, 20, 5),
        r"of shape \(1, 23\), and not \(23,\), as by squeeze\(\) without a dimension",
        g=nn.GRU(5, 6, batch_first=True),
        o=nn.Linear(6, 1),
    )


def test_a_state_that_two_layers_begin_with_is_refused() -> None:
    def forward(self: Any, x: Any, h: Any) -> Any:
        x, _ = self.a(x, h)
        return self.b(x, h)

    parts = {"a": nn.GRU(6, 6, batch_first=True), "b": nn.GRU(6, 6, batch_first=True)}
    refused(forward, (x_of(2, 9, 6), torch.zeros(1, 2, 6)), "the state '.*' as the beginning of two layers", **parts)


def test_what_a_model_cannot_take_is_a_refusal() -> None:
    parts = {"g": nn.GRU(5, 6, batch_first=True)}
    mask = torch.ones(2, 9, dtype=torch.bool)
    refused(lambda self, x, m: self.g(x)[0] * m.unsqueeze(-1), (x_of(2, 9, 5), mask), "does not take", **parts)
    model = fc.Model.from_torch(module_of(lambda self, x, k: self.g(x)[0] * 2.0, **parts).eval(), (x_of(2, 9, 5), 3))
    assert len(model.inputs) == 1


def test_all_layers_final_states_are_an_answer() -> None:
    module = seeded(lambda: module_of(lambda self, x: self.g(x)[1], g=nn.GRU(5, 6, 2, batch_first=True))).eval()
    x = x_of(2, 9, 5)
    with torch.no_grad():
        np.testing.assert_allclose(fc.Model.from_torch(module, x)(x), module(x), rtol=0, atol=1e-5)


def test_a_copied_state_is_the_state() -> None:
    def forward(self: Any, x: Any, h: Any) -> Any:
        h = self.cell(x, h)
        return self.o(h), h.detach().clone().to(x.dtype)

    module = seeded(lambda: module_of(forward, cell=nn.GRUCell(5, 6), o=nn.Linear(6, 2))).eval()
    model = fc.Model.from_torch(module, (x_of(1, 5), torch.zeros(1, 6)))
    assert len(model.inputs) == 1


def test_the_module_is_as_it_was() -> None:
    module = nn.Sequential(nn.Conv1d(5, 4, 3), nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(fc.UnsupportedError, match="the batch's own mean"):
        fc.Model.from_torch(module.train(), x_of(2, 5, 9))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
