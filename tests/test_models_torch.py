"""Whole networks of PyTorch, rebuilt node by node, have its answers, and the same bits as streams."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import nodes

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

pytestmark = pytest.mark.usefixtures("inference_mode")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def conv(module: Any, activation: Any = None, **options: Any) -> Any:
    options = {"stride": module.stride[0], "dilation": module.dilation[0], "groups": module.groups} | options
    return nodes.Window.from_conv1d(module.weight, module.bias, activation=activation, **options)


def dense(module: Any, activation: Any = None) -> Any:
    return nodes.Dense(module.weight, module.bias, activation=activation)


def rows_of(channels: Any) -> np.ndarray:
    """(B, C, T) as (T, B, C)."""
    return channels.permute(2, 0, 1).numpy()


def assert_close(actual: Any, expected: Any) -> None:
    expected = expected.numpy() if isinstance(expected, torch.Tensor) else expected
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def in_pieces(model: Any, *inputs: Any, cuts: tuple[int, ...]) -> list[Any]:
    """Each output's rows of a stream that has its rows in pieces."""
    stream = model.stream(inputs[0].shape[1])
    edges = [0, *cuts, len(inputs[0])]
    parts = [stream.process(*(x[a:b] for x in inputs)) for a, b in itertools.pairwise(edges)] + [stream.flush()]
    listed = [part if isinstance(part, tuple) else (part,) for part in parts]
    return [np.concatenate(pieces) for pieces in zip(*listed, strict=True)]


def test_a_noise_suppressor_of_convolutions_and_grus() -> None:
    class Suppressor(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv1d(13, 16, 3), nn.Conv1d(16, 24, 3)
            self.grus = nn.ModuleList([nn.GRU(24, 24) for _ in range(3)])
            self.gains, self.voice = nn.Linear(4 * 24, 10), nn.Linear(4 * 24, 1)

        def forward(self, x: Any) -> Any:
            every = [torch.tanh(self.conv2(torch.tanh(self.conv1(x.permute(1, 2, 0))))).permute(2, 0, 1)]
            for gru in self.grus:
                every.append(gru(every[-1])[0])
            joined = torch.cat(every, -1)
            return torch.sigmoid(self.gains(joined)), torch.sigmoid(self.voice(joined))

    module, x = Suppressor().eval(), torch.randn(50, 2, 13)
    heads = ("conv2", "gru0", "gru1", "gru2")
    model = fc.Model(
        [
            ("conv1", conv(module.conv1, "tanh"), "x"),
            ("conv2", conv(module.conv2, "tanh"), "conv1"),
            ("gru0", fc.from_torch(module.grus[0]), "conv2"),
            ("gru1", fc.from_torch(module.grus[1]), "gru0"),
            ("gru2", fc.from_torch(module.grus[2]), "gru1"),
            ("gains", dense(module.gains, "sigmoid"), heads),
            ("voice", dense(module.voice, "sigmoid"), heads),
        ],
        outputs=("gains", "voice"),
    )
    y = model(x.numpy())
    for actual, expected, streamed in zip(y, module(x), in_pieces(model, x.numpy(), cuts=(1, 2, 20)), strict=True):
        assert_close(actual, expected)
        np.testing.assert_array_equal(streamed, actual)
    assert (model.hop, model.delay, model.rows(50)) == (1, 4, (46, 46))


def test_a_text_model_of_embedding_lstm_and_softmax() -> None:
    embedding, lstm, head = nn.Embedding(30, 12), nn.LSTM(12, 40), nn.Linear(40, 30)
    tokens = torch.randint(0, 30, (25, 3))
    model = fc.Model(
        [
            ("embedding", nodes.Embedding(embedding.weight), "tokens"),
            ("lstm", fc.from_torch(lstm), "embedding"),
            ("next", dense(head, "softmax"), "lstm"),
        ]
    )
    y = model(tokens.numpy())
    assert_close(y, torch.softmax(head(lstm(embedding(tokens))[0]), -1))
    stream = model.stream()
    rows = [stream.step(token) for token in tokens[:, 0].tolist()]
    np.testing.assert_array_equal(np.stack(rows), y[:, 0])
    assert (model.hop, model.delay) == (1, 0)


def test_a_wave_to_wave_net_with_skips() -> None:
    class Denoiser(nn.Module):  # type: ignore[name-defined]
        sizes = (8, 12)

        def __init__(self) -> None:
            super().__init__()
            pairs = list(itertools.pairwise((1, *self.sizes)))
            self.down = nn.ModuleList([nn.Conv1d(i, o, 8, 4) for i, o in pairs])
            self.gates = nn.ModuleList([nn.Conv1d(o, 2 * o, 1) for _, o in pairs])
            self.lstm = nn.LSTM(12, 12, 2)
            self.up_gates = nn.ModuleList([nn.Conv1d(o, 2 * o, 1) for _, o in pairs[::-1]])
            self.up = nn.ModuleList([nn.ConvTranspose1d(o, i, 8, 4) for i, o in pairs[::-1]])

        def forward(self, x: Any) -> Any:
            skips = []
            for down, gate in zip(self.down, self.gates, strict=True):
                x = F.glu(gate(F.relu(down(x))), 1)
                skips.append(x)
            x = self.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)
            for gate, up in zip(self.up_gates, self.up, strict=True):
                x = up(F.glu(gate(x + skips.pop()), 1))
                x = x if not skips else F.relu(x)
            return x

    def transposed(module: Any) -> Any:
        return nodes.Window.transposed(module.weight, module.bias, stride=module.stride[0])

    module = Denoiser().eval()
    listed: list[Any] = []

    def then(name: str, node: Any, *sources: str) -> None:
        """The next node, of these or of the one before."""
        read = sources or ((listed[-1][0],) if listed else ("wave",))
        listed.append((name, node, read))

    for i, (down, gate) in enumerate(zip(module.down, module.gates, strict=True)):
        then(f"down{i}", conv(down, "relu"))
        then(f"gate{i}", conv(gate))
        then(f"skip{i}", nodes.GLU())
    then("lstm", fc.from_torch(module.lstm))
    for i, (gate, up) in enumerate(zip(module.up_gates, module.up, strict=True)):
        then(f"sum{i}", nodes.Add(), listed[-1][0], f"skip{1 - i}")
        then(f"up_gate{i}", conv(gate))
        then(f"glu{i}", nodes.GLU())
        then(f"up{i}", transposed(up))
        if i == 0:
            then("up_relu", nodes.Activation("relu"))
    model = fc.Model(listed)
    # Of which every convolution has whole windows alone, as the net asks.
    steps = 4 * (4 * 9 + 4) + 4
    wave = torch.randn(2, 1, steps)
    y = model(rows_of(wave))
    assert_close(y, rows_of(module(wave)))
    np.testing.assert_array_equal(in_pieces(model, rows_of(wave), cuts=(3, 9, 10, 100))[0], y)
    # Every 16 samples in give 16 out, and the first come when the first window of all is full.
    assert (model.hop, model.delay) == ((16, 16), 8 + 4 * 7 - 16)


def test_the_text_books_two_lstms_and_a_head_on_the_last_step() -> None:
    lstm, head = nn.LSTM(6, 64, 2), nn.Linear(64, 1)
    x = torch.randn(30, 4, 6)
    model = fc.Model(
        [("lstm", fc.from_torch(lstm), "x"), ("last", nodes.Last(), "lstm"), ("head", dense(head), "last")]
    )
    y = model(x.numpy())
    assert_close(y, head(lstm(x)[0][-1]))
    assert_close(model(x.numpy()[:, 0]), head(lstm(x)[0][-1])[0])
    rows = in_pieces(model, x.numpy(), cuts=(4, 5))[0]
    np.testing.assert_array_equal(rows[-1], y)
    for end in (1, 7):
        np.testing.assert_array_equal(rows[end - 1], model(x.numpy()[:end]))


def test_a_recogniser_that_sees_nine_rows_ahead() -> None:
    layers = nn.ModuleList([nn.Linear(19 * 5, 16), nn.Linear(16, 16)])
    lstm, head = nn.LSTM(16, 16), nn.Linear(16, 7)
    x = torch.randn(40, 2, 5)
    clipped = ("clip", 0.0, 20.0)
    model = fc.Model(
        [
            ("context", nodes.Window(layers[0].weight, layers[0].bias, taps=19, padding=9, activation=clipped), "x"),
            ("dense", dense(layers[1], clipped), "context"),
            ("lstm", fc.from_torch(lstm), "dense"),
            ("letters", dense(head, "log_softmax"), "lstm"),
        ]
    )
    padded = torch.cat([torch.zeros(9, 2, 5), x, torch.zeros(9, 2, 5)])
    hidden = padded.unfold(0, 19, 1).permute(0, 1, 3, 2).flatten(2)
    for layer in layers:
        hidden = layer(hidden).clamp(0, 20)
    y = model(x.numpy())
    assert_close(y, torch.log_softmax(head(lstm(hidden)[0]), -1))
    assert (model.hop, model.delay) == (1, 9)
    stream = model.stream(2)
    assert len(stream.process(x.numpy())) == 31
    assert len(stream.flush()) == 9
    np.testing.assert_array_equal(in_pieces(model, x.numpy(), cuts=(8, 10))[0], y)


def test_a_classifier_of_both_directions() -> None:
    embedding, gru, head = nn.Embedding(50, 8), nn.GRU(8, 10, bidirectional=True), nn.Linear(20, 3)
    tokens = torch.randint(0, 50, (12, 5))
    model = fc.Model(
        [
            ("embedding", nodes.Embedding(embedding.weight), "tokens"),
            ("gru", fc.from_torch(gru), "embedding"),
            ("last", nodes.Last(num_directions=2), "gru"),
            ("head", dense(head), "last"),
        ]
    )
    lengths = [12, 1, 7, 3, 12]
    packed = nn.utils.rnn.pack_padded_sequence(embedding(tokens), lengths, enforce_sorted=False)
    h_n = gru(packed)[1]
    assert_close(model(tokens.numpy(), lengths=lengths), head(torch.cat([h_n[0], h_n[1]], -1)))
    assert not model.streamable
    with pytest.raises(fc.errors.UnsupportedError, match="gru"):
        model.stream()


def test_the_batch_may_come_first() -> None:
    lstm, head = nn.LSTM(6, 9, batch_first=True), nn.Linear(9, 2)
    x = torch.randn(4, 15, 6)
    listed = [("lstm", fc.from_torch(lstm), "x"), ("head", dense(head), "lstm")]
    model = fc.Model(listed, batch_first=True)
    assert model.batch_first
    y = model(x.numpy())
    assert_close(y, head(lstm(x)[0]))
    np.testing.assert_array_equal(fc.Model(listed)(x.numpy().swapaxes(0, 1)).swapaxes(0, 1), y)


@pytest.mark.parametrize("positions", [9, 16])
def test_convolutions_inside_a_frame(positions: int) -> None:
    down, up = nn.Conv1d(3, 6, 3, 2, 1, groups=3), nn.ConvTranspose1d(6, 4, 5, 3, 2, 1, groups=2)
    frames = torch.randn(7, positions, 3)
    inner = down(frames.transpose(1, 2))
    middle = inner.shape[-1]
    model = fc.Model(
        [
            ("down", conv(down, "silu", positions=positions, padding=1), "x"),
            (
                "up",
                nodes.Window.transposed(
                    up.weight, up.bias, stride=3, padding=2, output_padding=1, groups=2, positions=middle
                ),
                "down",
            ),
        ]
    )
    expected = up(F.silu(inner)).transpose(1, 2).flatten(1)
    y = model(frames.flatten(1).numpy())
    assert_close(y, expected)
    np.testing.assert_array_equal(np.stack([model.stream().step(row) for row in frames.flatten(1).numpy()]), y)
