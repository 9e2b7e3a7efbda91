"""Models of PyTorch for the tests, and comparisons with what PyTorch computes."""

from __future__ import annotations

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
ft: Any = pytest.importorskip("fusedcell.torch")
nn, modules = torch.nn, ft.modules
pack_sequence = nn.utils.rnn.pack_sequence

# On a busy machine PyTorch's threads wait for each other for longer than they work.
torch.set_num_threads(1)

CELLS = ("RNNCell", "LSTMCell", "GRUCell")
LAYERS = ("RNN", "LSTM", "GRU")
every_class = pytest.mark.parametrize("name", LAYERS + CELLS)

# PyTorch says so when such a layer first runs; it is about speed.
NO_ONEDNN = "ignore:LSTM with projections is not supported with oneDNN"


def flat(result: Any) -> list[Any]:
    """The tensors and arrays of a result, PackedSequences as their data."""
    if isinstance(result, torch.nn.utils.rnn.PackedSequence):
        return [result.data]
    return [item for part in result for item in flat(part)] if isinstance(result, (tuple, list)) else [result]


def assert_close(actual: Any, expected: Any, atol: float = 1e-5) -> None:
    actual, expected = flat(actual), flat(expected)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(e), rtol=0, atol=atol)


def assert_same_bits(actual: Any, expected: Any) -> None:
    assert_close(actual, expected, atol=0)


def make(name: str, *sizes: int, seed: int = 1, **options: Any) -> Any:
    """A module in evaluation mode with weights drawn from the seed."""
    torch.manual_seed(seed)
    return getattr(torch.nn, name)(*sizes, **options).eval()


def states(module: Any, *batch: int) -> Any:
    """A random state that the module takes: h, or (h, c)."""
    if hasattr(module, "num_layers"):
        count = (module.num_layers * (1 + module.bidirectional), *batch)
        sizes = [(*count, module.proj_size or module.hidden_size), (*count, module.hidden_size)]
    else:
        sizes = [(*batch, module.hidden_size)] * 2
    h, c = (torch.randn(size).clamp(-1, 1) for size in sizes)
    return (h, c) if "LSTM" in type(module).__name__ else h


class Tagger(torch.nn.Module):
    """Embeds, runs two recurrent layers and a shared cell, and scores, as sequence labellers do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = torch.nn.Embedding(20, 8)
        self.encoder = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Tanh())
        self.layers = torch.nn.ModuleList(
            [torch.nn.LSTM(6, 10, bidirectional=True, batch_first=True), torch.nn.GRU(20, 7, 2, batch_first=True)]
        )
        self.cells = torch.nn.ModuleDict({"refine": torch.nn.GRUCell(7, 7)})
        self.again = self.cells["refine"]
        self.score = torch.nn.Linear(7, 4)

    def forward(self, tokens: Any) -> Any:
        x = self.encoder(self.embed(tokens))
        for layer in self.layers:
            x, _ = layer(x)
        last = self.cells["refine"](x[:, -1], torch.zeros_like(x[:, 0]))
        return self.score(x + self.again(x[:, 0], last)[:, None])


def trained_tagger() -> Any:
    """A tagger after some steps of training, so that its weights are no longer those of an initialiser."""
    model = Tagger()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    tokens = torch.randint(0, 20, (16, 9))
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(model(tokens).transpose(1, 2), tokens % 4)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def tokens() -> Any:
    """Three sentences of nine tokens."""
    return torch.arange(27).reshape(3, 9) % 20


def module_of(name: str, *sizes: int, **options: Any) -> Any:
    """As `make`, with ordinary tensors as parameters in inference mode too."""
    with torch.inference_mode(False):
        return make(name, *sizes, **options)


class Graphs:
    """A backend of torch.compile that runs graphs as they are and keeps them."""

    def __init__(self) -> None:
        self.graphs: list[Any] = []

    def __call__(self, module: Any, inputs: Any) -> Any:
        self.graphs.append(module.graph)
        return module.forward
