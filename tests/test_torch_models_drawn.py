"""Drawn modules become models that answer as PyTorch does, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

Step = tuple[str, Callable[[Any, Any], Any], int]  # what it is called, what it does, and features after it
ACTIVATIONS = ["relu", "tanh", "sigmoid", "elu", "gelu", "silu", "leaky_relu", "hardtanh", "softsign"]


class Drawn(nn.Module):  # type: ignore[name-defined]
    """Steps over (batch, time, features), each with the parts that it needs."""

    def __init__(self, draw: Any, features: int, count: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        self.names: list[str] = []
        self.steps: list[Any] = []
        for _ in range(count):
            name = draw(st.sampled_from(sorted(STEPS)))
            step, features = STEPS[name](draw, features, self.add)
            self.names.append(name)
            self.steps.append(step)
        name = draw(st.sampled_from(sorted(ENDS)))
        self.names.append(name)
        self.steps.append(ENDS[name](draw, features, self.add))

    def add(self, part: Any) -> Any:
        self.parts.append(part)
        return part

    def forward(self, x: Any) -> Any:
        for step in self.steps:
            x = step(x)
        return x

    def extra_repr(self) -> str:
        return ", ".join(self.names)


def sizes(draw: Any, most: int = 6) -> int:
    return int(draw(st.integers(1, most)))


def linear(draw: Any, size: int, add: Any) -> Any:
    out = sizes(draw)
    return add(nn.Linear(size, out, bias=draw(st.booleans()))), out


def activation(draw: Any, size: int, add: Any) -> Any:
    return getattr(F, draw(st.sampled_from(ACTIVATIONS))), size


def recurrent(draw: Any, size: int, add: Any) -> Any:
    cls, hidden = draw(st.sampled_from([nn.RNN, nn.LSTM, nn.GRU])), sizes(draw)
    both, layers = draw(st.booleans()), draw(st.integers(1, 2))
    layer = add(cls(size, hidden, layers, bidirectional=both, batch_first=True))
    return (lambda x: layer(x)[0]), hidden * (1 + both)


def backwards(draw: Any, size: int, add: Any) -> Any:
    hidden = sizes(draw)
    layer = add(nn.GRU(size, hidden, batch_first=True))
    return (lambda x: layer(x.flip(1))[0].flip(1)), hidden


def time_first(draw: Any, size: int, add: Any) -> Any:
    hidden = sizes(draw)
    layer = add(nn.LSTM(size, hidden))
    return (lambda x: layer(x.transpose(0, 1))[0].permute(1, 0, 2)), hidden


def cell(draw: Any, size: int, add: Any) -> Any:
    hidden = sizes(draw)
    part = add(draw(st.sampled_from([nn.GRUCell, nn.RNNCell]))(size, hidden))

    def run(x: Any) -> Any:
        h, outs = None, []
        for row in x.unbind(1):
            h = part(row, h)
            outs.append(h)
        return torch.stack(outs, 1)

    return run, hidden


def convolution(draw: Any, size: int, add: Any) -> Any:
    out, taps, dilation = sizes(draw), sizes(draw, 4), sizes(draw, 2)
    groups = draw(st.sampled_from([g for g in range(1, 7) if size % g == 0 and out % g == 0]))
    padding, stride = draw(st.integers(0, 3)), sizes(draw, 2)
    if stride == dilation == 2:  # with odd padding PyTorch 2.13 crashes at one row, on CPUs with AVX-512
        padding = padding // 2 * 2
    options = {"stride": stride, "dilation": dilation, "groups": groups, "padding": padding}
    part = add(nn.Conv1d(size, out, taps, **options))
    return (lambda x: part(x.transpose(1, 2)).transpose(1, 2)), out


def causal(draw: Any, size: int, add: Any) -> Any:
    out, taps = sizes(draw), sizes(draw, 4)
    part = add(nn.Conv1d(size, out, taps))
    return (lambda x: part(F.pad(x.mT, (taps - 1, 0))).mT), out


def transposed(draw: Any, size: int, add: Any) -> Any:
    out, taps, stride = sizes(draw), sizes(draw, 4), sizes(draw, 2)
    part = add(nn.ConvTranspose1d(size, out, taps, stride))
    return (lambda x: part(x.transpose(1, 2)).transpose(1, 2)), out


def pool(draw: Any, size: int, add: Any) -> Any:
    taps, stride = sizes(draw, 3), sizes(draw, 2)
    part = add(draw(st.sampled_from([nn.MaxPool1d, nn.AvgPool1d]))(taps, stride))
    return (lambda x: part(x.transpose(1, 2)).transpose(1, 2)), size


def norm(draw: Any, size: int, add: Any) -> Any:
    part = add(nn.BatchNorm1d(size))
    with torch.no_grad():
        part.running_mean.normal_(), part.running_var.uniform_(0.5, 2), part.weight.normal_(), part.bias.normal_()
    if draw(st.booleans()):
        return (lambda x: part(x.transpose(1, 2)).transpose(1, 2)), size
    return (lambda x: part(x.reshape(-1, size)).view(x.shape[0], -1, size)), size


def layer_norm(draw: Any, size: int, add: Any) -> Any:
    return add(nn.LayerNorm(size)), size


def sliced(draw: Any, size: int, add: Any) -> Any:
    first, last = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    return (lambda x: x[:, first : x.shape[1] - last]), size


def some_features(draw: Any, size: int, add: Any) -> Any:
    chosen = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=6))
    if draw(st.booleans()):
        return (lambda x: x[..., : len(chosen)]), min(size, len(chosen))
    index = torch.tensor(chosen)
    return (lambda x: x.index_select(-1, index)), len(chosen)


def padded(draw: Any, size: int, add: Any) -> Any:
    along, left, right = draw(st.booleans()), draw(st.integers(-1, 2)), draw(st.integers(0, 2))
    if along:
        return (lambda x: F.pad(x, (0, 0, left, right))), size
    return (lambda x: F.pad(x, (max(left, 0), right), value=0.5)), size + max(left, 0) + right


def residual(draw: Any, size: int, add: Any) -> Any:
    part = add(nn.Linear(size, size))
    return draw(
        st.sampled_from([lambda x: x + part(x), lambda x: x * torch.sigmoid(part(x)), lambda x: 2 - part(x) / 3 + x])
    ), size


def branches(draw: Any, size: int, add: Any) -> Any:
    made = [
        STEPS[draw(st.sampled_from(["linear", "recurrent", "cell", "causal", "activation"]))](draw, size, add)
        for _ in range(2)
    ]
    return (lambda x: torch.cat([step(x) for step, _ in made], -1)), sum(out for _, out in made)


def gate(draw: Any, size: int, add: Any) -> Any:
    part = add(nn.Linear(size, 6))
    if draw(st.booleans()):
        return (lambda x: F.glu(part(x), -1)), 3

    def run(x: Any) -> Any:
        a, b = part(x).chunk(2, -1)
        return a.tanh() * b.sigmoid()

    return run, 3


def softmax(draw: Any, size: int, add: Any) -> Any:
    return (lambda x: x.softmax(-1)), size


def split_features(draw: Any, size: int, add: Any) -> Any:
    part = add(nn.Linear(size, 6))
    return (lambda x: part(x).reshape(x.shape[0], x.shape[1], 2, 3).transpose(2, 3).flatten(2)), 6


def repeated(draw: Any, size: int, add: Any) -> Any:
    return (lambda x: x.repeat_interleave(2, 1)), size


STEPS: dict[str, Any] = {
    function.__name__: function
    for function in (
        linear, activation, recurrent, backwards, time_first, cell, convolution, causal, transposed, pool, norm,
        layer_norm, sliced, some_features, padded, residual, branches, gate, softmax, split_features, repeated,
    )
}  # fmt: skip


def with_final_state(draw: Any, size: int, add: Any) -> Any:
    layer = add(nn.GRU(size, sizes(draw), 2, bidirectional=draw(st.booleans()), batch_first=True))
    which = draw(st.sampled_from([-1, 0, 1, -2]))
    return lambda x: layer(x)[1][which]


def state_and_rows(draw: Any, size: int, add: Any) -> Any:
    layer = add(nn.LSTM(size, sizes(draw), batch_first=True))

    def run(x: Any) -> Any:
        y, (h, _) = layer(x)
        return y, h[0], h.squeeze(0) * 2

    return run


ENDS: dict[str, Any] = {
    "rows": lambda draw, size, add: lambda x: x,
    "last": lambda draw, size, add: lambda x: x[:, -1],
    "first": lambda draw, size, add: lambda x: x[:, 0],
    "mean": lambda draw, size, add: lambda x: x.mean(1),
    "sum": lambda draw, size, add: lambda x: x.sum(dim=1, keepdim=True),
    "max": lambda draw, size, add: lambda x: x.max(1)[0],
    "turned": lambda draw, size, add: lambda x: x.transpose(1, 2),
    "state": with_final_state,
    "several": state_and_rows,
}


@st.composite
def modules(draw: Any) -> Any:
    torch.manual_seed(draw(st.integers(0, 2**16)))
    features = sizes(draw)
    return Drawn(draw, features, draw(st.integers(1, 5))).eval(), features


def answers(module: Any, x: Any) -> Any:
    with torch.no_grad():
        return [answer.numpy() for answer in torch.utils._pytree.tree_leaves(module(x))]


@given(modules())
@settings(max_examples=examples(25), suppress_health_check=list(HealthCheck))
def test_a_drawn_module_agrees_or_is_refused(drawn: Any) -> None:
    module, features = drawn
    rng = np.random.default_rng(0)
    example = torch.from_numpy(rng.standard_normal((2, 24, features), np.float32))
    try:
        answers(module, example)
    except RuntimeError:  # of modules whose parts do not fit each other
        reject()
    try:
        model = fc.Model.from_torch(module, example)
    except fc.UnsupportedError:
        return
    for shape in ((1, 17, features), (3, 30, features)):
        x = torch.from_numpy(rng.standard_normal(shape, np.float32))
        try:
            want = answers(module, x)
        except RuntimeError:
            continue
        got = model(x.numpy())
        for mine, theirs in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
            assert mine.shape == theirs.shape
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * max(1, float(np.abs(theirs).max(initial=0))))
