"""What PyTorch's two exporters write becomes a model that answers as the module does."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

import onnx
import torch
from torch import nn

import fusedcell as fc
from fusedcell.errors import UnsupportedError

F = nn.functional


class Module(nn.Module):
    """Layers by name, and what is done with them."""

    def __init__(self, run: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: Any) -> Any:
        return self.run(self, *inputs)


def crn(m: Any, x: Any) -> Any:
    y = F.elu(m.norm(m.conv(F.pad(x.unsqueeze(1), (0, 0, 1, 0)))))
    batch, channels, steps, features = y.shape
    z, _ = m.rnn(y.permute(0, 2, 1, 3).reshape(batch, steps, channels * features))
    z = z.reshape(batch, steps, channels, features).permute(0, 2, 1, 3)
    return torch.sigmoid(m.up(z)).squeeze(1)


def residual(m: Any, x: Any) -> Any:
    a = torch.tanh(m.inner(x))
    b, _ = m.first(a)
    c = m.norm(a + b)
    d, _ = m.second(c)
    return m.out(torch.cat([c + d, a], -1)) * x


def knobs(m: Any, x: Any, k: Any) -> Any:
    joined = torch.cat([x, k.unsqueeze(1).expand(-1, x.shape[1], -1)], -1)
    return m.out(m.rnn(joined)[0]) + x[..., :1]


def rows_of_features(m: Any, x: Any) -> Any:
    y, _ = m.rnn(x)
    batch, steps, _ = y.shape
    return m.out(y.reshape(batch * steps, 2, 3)).reshape(batch, steps, -1)


def two_means(m: Any, x: Any) -> Any:
    y, _ = m.rnn(x)
    return m.out(torch.cat([y.mean(1), y.max(1).values], -1))


def state(m: Any, x: Any, h: Any, c: Any) -> Any:
    y, (h, c) = m.rnn(x, (h, c))
    return m.out(y), h, c


AXES = {0: "batch", 1: "time"}
OF_STATE = {1: "batch"}
# The module, the shapes of its inputs (None: tokens), and their axes.
MODULES: dict[str, tuple[Callable[[], Any], list[Any], list[dict[int, str]]]] = {
    "tokens": (
        lambda: Module(
            lambda m, x: m.out(m.rnn(m.table(x))[1][-1]),
            table=nn.Embedding(30, 8), rnn=nn.GRU(8, 6, batch_first=True), out=nn.Linear(6, 4),
        ), [None], [AXES],
    ),
    "last row": (
        lambda: Module(
            lambda m, x: torch.sigmoid(m.out(m.rnn(x)[0][:, -1])),
            rnn=nn.LSTM(4, 6, 2, batch_first=True), out=nn.Linear(6, 4),
        ), [(4,)], [AXES],
    ),
    "convolutions": (
        lambda: Module(
            lambda m, x: F.log_softmax(m.out(m.rnn(F.leaky_relu(m.norm(m.second(
                F.relu(m.first(x.transpose(1, 2)))
            )), 0.1).permute(0, 2, 1))[0]), -1),
            first=nn.Conv1d(4, 8, 5, padding=2), second=nn.Conv1d(8, 8, 3, stride=2, padding=1, groups=2),
            norm=nn.BatchNorm1d(8), rnn=nn.LSTM(8, 6, batch_first=True, bidirectional=True), out=nn.Linear(12, 3),
        ), [(4,)], [AXES],
    ),
    "residual": (
        lambda: Module(
            residual, inner=nn.Linear(4, 8), first=nn.LSTM(8, 8, batch_first=True),
            second=nn.LSTM(8, 8, batch_first=True), norm=nn.LayerNorm(8), out=nn.Linear(16, 4),
        ), [(4,)], [AXES],
    ),
    "two axes": (
        lambda: Module(
            crn, conv=nn.Conv2d(1, 3, (2, 3), stride=(1, 2), padding=(0, 1)), norm=nn.BatchNorm2d(3),
            rnn=nn.GRU(9, 9, batch_first=True), up=nn.ConvTranspose2d(3, 1, (1, 3), stride=(1, 2), padding=(0, 1)),
        ), [(5,)], [AXES],
    ),
    "pooled": (
        lambda: Module(two_means, rnn=nn.GRU(4, 6, batch_first=True, bidirectional=True), out=nn.Linear(24, 2)),
        [(4,)], [AXES],
    ),
    "knobs": (
        lambda: Module(knobs, rnn=nn.GRU(7, 6, batch_first=True), out=nn.Linear(6, 1)),
        [(4,), "knobs"], [AXES, {0: "batch"}],
    ),
    "glu": (
        lambda: Module(
            lambda m, x: F.normalize(m.rnn(m.slope(F.glu(m.conv(x.transpose(1, 2)), 1)).transpose(1, 2))[0], dim=-1),
            conv=nn.Conv1d(4, 8, 1), slope=nn.PReLU(4), rnn=nn.GRU(4, 5, batch_first=True),
        ), [(4,)], [AXES],
    ),
    "head": (
        lambda: Module(
            lambda m, x: m.head(m.rnn(x)[0]), rnn=nn.GRU(4, 6, 2, batch_first=True),
            head=nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Dropout(0.1), nn.Linear(6, 2), nn.Softplus()),
        ), [(4,)], [AXES],
    ),
    "state": (
        lambda: Module(state, rnn=nn.LSTM(4, 6, 2, batch_first=True), out=nn.Linear(6, 2)),
        [(4,), "state", "state"], [AXES, OF_STATE, OF_STATE],
    ),
    "rows of features": (
        lambda: Module(rows_of_features, rnn=nn.GRU(4, 6, batch_first=True), out=nn.Linear(3, 3)), [(4,)], [AXES],
    ),
    "pools": (
        lambda: Module(
            lambda m, x: m.rnn(F.max_pool1d(F.avg_pool1d(
                torch.tanh(m.conv(x.transpose(1, 2))), 2), 2).transpose(1, 2)
            )[0],
            conv=nn.Conv1d(4, 6, 3, padding=1), rnn=nn.LSTM(6, 5, batch_first=True),
        ), [(4,)], [AXES],
    ),
}  # fmt: skip


def tensor(kind: Any, batch: int, steps: int) -> Any:
    random = torch.Generator().manual_seed(batch)
    if kind is None:
        return torch.randint(0, 30, (batch, steps), generator=random)
    shapes = {"knobs": (batch, 3), "state": (2, batch, 6)}
    shape = shapes[kind] if isinstance(kind, str) else (batch, steps, *kind)
    return torch.zeros(shape) if kind == "state" else torch.randn(shape, generator=random)


def exported(module: Any, inputs: Any, axes: list[dict[int, str]], *, dynamo: bool) -> bytes:
    names = ["x", "h", "c"][: len(inputs)]
    options: dict[str, Any] = {"dynamic_axes": dict(zip(names, axes, strict=True))}
    if dynamo:
        free = [dict.fromkeys(of_input, torch.export.Dim.AUTO) for of_input in axes]
        options = {"dynamic_shapes": {"inputs": tuple(free)}}
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(module, inputs, input_names=names, dynamo=True, verbose=False, **options)
            data: bytes = program.model_proto.SerializeToString()
            return data
        file = io.BytesIO()
        torch.onnx.export(module, inputs, file, input_names=names, dynamo=False, **options)
        return file.getvalue()


# The newer exporter takes seconds for each.
BY_DYNAMO = ("two axes", "head", "state")


@pytest.mark.parametrize(
    ("name", "dynamo"), [*((name, False) for name in MODULES), *((name, True) for name in BY_DYNAMO)]
)
def test_an_exported_module_answers_as_the_module(name: str, dynamo: bool) -> None:
    torch.manual_seed(0)
    make, kinds, axes = MODULES[name]
    module = make().eval()
    inputs = tuple(tensor(kind, 3, 16) for kind in kinds)
    data = exported(module, inputs, axes, dynamo=dynamo)
    states = {}
    if name == "state":
        graph = onnx.load_from_string(data).graph
        states = {given.name: made.name for given, made in zip(graph.input[1:], graph.output[1:], strict=True)}
    model = fc.Model.from_onnx(data, states)
    for batch, steps in ((3, 16), (1, 24)):
        given = [tensor(kind, batch, steps) for kind in kinds]
        with torch.no_grad():
            expected = module(*given)
        expected = expected[0] if isinstance(expected, tuple) else expected
        answer = model(*(x.numpy() for x in given[: len(model.inputs)]))
        np.testing.assert_allclose(answer, expected.numpy(), rtol=1e-5, atol=1e-5)


CELLS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: nn.LSTMCell(4, 6),
    "GRU": lambda: nn.GRUCell(4, 6),
    "GRU without biases": lambda: nn.GRUCell(4, 6, bias=False),
    "RNN": lambda: nn.RNNCell(4, 6),
    "RNN of ReLUs": lambda: nn.RNNCell(4, 6, nonlinearity="relu"),
}


@pytest.mark.parametrize(("name", "dynamo"), [*((name, False) for name in CELLS), ("LSTM", True)])
def test_a_cell_that_the_exporter_took_apart_is_a_layer(name: str, dynamo: bool) -> None:
    def step(m: Any, x: Any, *states: Any) -> Any:
        made = m.cell(x, states) if len(states) > 1 else (m.cell(x, *states),)
        return m.out(made[0]), *made

    torch.manual_seed(0)
    module = Module(step, cell=CELLS[name](), out=nn.Linear(6, 3)).eval()
    states = [torch.zeros(2, 6) for _ in range(1 + (name == "LSTM"))]  # of one twice dynamo makes one input
    data = exported(module, (torch.zeros(2, 4), *states), [{0: "batch"}] * (1 + len(states)), dynamo=dynamo)
    graph = onnx.load_from_string(data).graph
    names = zip(graph.input[1:], graph.output[1:], strict=True)
    model = fc.Model.from_onnx(data, {given.name: made.name for given, made in names})
    stream = model.stream(2)
    for seed in range(5):
        x = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            expected, *states = module(x, *states)
        np.testing.assert_allclose(stream.step(x.numpy()), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_the_final_states_of_stacked_layers_are_answers() -> None:
    torch.manual_seed(0)
    module = Module(lambda m, x: m.rnn(x), rnn=nn.GRU(4, 6, 2, batch_first=True, bidirectional=True)).eval()
    x = torch.randn(3, 16, 4)
    model = fc.Model.from_onnx(exported(module, (x,), [AXES], dynamo=False))
    with torch.no_grad():
        for answer, expected in zip(model(x.numpy()), module(x), strict=True):
            np.testing.assert_allclose(answer, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_a_decoder_that_starts_from_an_encoders_final_state_is_refused_by_its_node() -> None:
    module = Module(
        lambda m, x: m.second(x, m.first(x)[1])[0],
        first=nn.GRU(4, 6, batch_first=True), second=nn.GRU(4, 6, batch_first=True),
    ).eval()  # fmt: skip
    data = exported(module, (torch.randn(3, 16, 4),), [AXES], dynamo=False)
    with pytest.raises(UnsupportedError, match="GRU node '/second/GRU': an initial state that is computed"):
        fc.Model.from_onnx(data)
