"""An LSTM's cell state as a value: used, returned, of layers, of cells in loops, and of modules of one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedcell as fc

torch = pytest.importorskip("torch")
nn = torch.nn

from torch_whole_modules import agrees, close, lstm, module_of, seeded, x_of  # noqa: E402 - as torch may be absent


def of_last_layer(s: Any, x: Any) -> Any:
    return s.d(s.rnn(x)[1][1][-1])


def everything(s: Any, x: Any) -> Any:
    return s.rnn(x)


def beside_h(s: Any, x: Any) -> Any:
    _, (h, c) = s.rnn(x)
    return s.d(torch.cat([h[-1], c[-1]], 1))


def from_constants(s: Any, x: Any) -> Any:
    h, c = torch.zeros(1, x.size(0), 6), s.begin.expand(1, x.size(0), 6).contiguous()
    return s.rnn(x, (h, c))


def backwards(s: Any, x: Any) -> Any:
    state: Any = None
    for t in reversed(range(x.size(1))):
        state = s.cell(x[:, t], state)
    return torch.cat(state, -1)


def at_every_row(s: Any, x: Any) -> Any:
    state: Any = None
    outs = []
    for t in range(x.size(1)):
        state = s.cell(x[:, t], state)
        outs.append(s.d(torch.tanh(state[1])) + state[0][:, :2])
    return torch.stack(outs, 1), state[1]


CASES: dict[str, tuple[Callable[[], Any], bool]] = {
    "of the last layer": (lambda: module_of(of_last_layer, rnn=lstm(5, 6, 2), d=nn.Linear(6, 2)), True),
    "beside h": (lambda: module_of(beside_h, rnn=lstm(5, 6, bias=False), d=nn.Linear(12, 2)), True),
    "all that two layers of two directions give": (
        lambda: module_of(everything, rnn=lstm(5, 6, 2, bidirectional=True)),
        False,
    ),
    "with a projection": (lambda: module_of(everything, rnn=lstm(5, 6, proj_size=3)), True),
    "from constants": (
        lambda: module_of(from_constants, rnn=lstm(5, 6), begin=nn.Parameter(torch.ones(1, 1, 6))),
        True,
    ),
    "of a cell in a loop backwards": (lambda: module_of(backwards, cell=nn.LSTMCell(5, 6)), False),
    "of a cell at every row": (lambda: module_of(at_every_row, cell=nn.LSTMCell(5, 6), d=nn.Linear(6, 2)), True),
}


@pytest.mark.parametrize("name", CASES)
def test_a_cell_state_is_a_value(name: str) -> None:
    make, streams = CASES[name]
    agrees(seeded(make), x_of(2, 9, 5), streams)


def test_a_cell_state_may_be_an_answer_and_the_streams_state() -> None:
    def forward(s: Any, x: Any, state: Any) -> Any:
        h, c = s.cell(x, state)
        return s.d(torch.cat([h, c], 1)), (h, c)

    module = seeded(lambda: module_of(forward, cell=nn.LSTMCell(5, 6), d=nn.Linear(12, 2))).eval()
    state = (torch.zeros(2, 6), torch.zeros(2, 6))
    stream = fc.Model.from_torch(module, (x_of(2, 5), state)).stream(2)
    for x in x_of(6, 2, 5):
        with torch.no_grad():
            want, state = module(x, state)
        close(stream.step(x.numpy()), want.numpy())


def test_of_packed_sequences_it_is_that_at_their_ends() -> None:
    def forward(s: Any, x: Any, lengths: Any) -> Any:
        p = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return s.d(s.rnn(p)[1][1].transpose(0, 1).flatten(1))

    module = seeded(lambda: module_of(forward, rnn=lstm(5, 6, bidirectional=True), d=nn.Linear(12, 2))).eval()
    x, lengths = x_of(3, 9, 5), torch.tensor([3, 9, 7])
    model = fc.Model.from_torch(module, (x, lengths))
    with torch.no_grad():
        close(model(x.numpy(), lengths=lengths.numpy()), module(x, lengths).numpy())


def test_it_stays_within_1e_5_where_c_grows_over_many_rows() -> None:
    module = seeded(lambda: module_of(lambda s, x: s.rnn(x)[1][1], rnn=lstm(5, 6))).eval()
    with torch.no_grad():
        module.rnn.bias_ih_l0[6:12] = 8.0  # a forget gate that hardly forgets
        x = x_of(1, 3000, 5)
        want = module.double()(x.double()).numpy()
    model = fc.Model.from_torch(module.float(), x_of(1, 9, 5))
    assert np.abs(want).max() > 10
    close(model(x.numpy()), want)


@pytest.mark.parametrize("is_same_length", [True, False])
def test_an_encoders_state_for_a_decoder_is_refused_with_what_to_do(is_same_length: bool) -> None:
    def forward(s: Any, x: Any, y: Any) -> Any:
        return s.d(s.decoder(y, s.encoder(x)[1])[0])

    module = seeded(lambda: module_of(forward, encoder=lstm(5, 6), decoder=lstm(3, 6), d=nn.Linear(6, 2))).eval()
    with pytest.raises(
        fc.UnsupportedError, match=r"an encoder as the initial state of a decoder.*fusedcell\.from_torch"
    ):
        fc.Model.from_torch(module, (x_of(2, 9, 5), x_of(2, 9 if is_same_length else 4, 3)))


@pytest.mark.parametrize("encodes_by_cells", [True, False])
def test_a_state_for_a_decoder_of_cells_is_refused_likewise(encodes_by_cells: bool) -> None:
    def forward(s: Any, x: Any) -> Any:
        h = x.new_zeros(x.size(0), 6)
        for t in range(x.size(1) if encodes_by_cells else 0):
            h = s.encoder(x[:, t], h)
        h = h if encodes_by_cells else s.layer(x)[1][-1]
        return s.d(s.decoder(x[:, -1], h))

    parts = {"encoder": nn.GRUCell(5, 6), "layer": nn.GRU(5, 6, batch_first=True), "decoder": nn.GRUCell(5, 6)}
    module = seeded(lambda: module_of(forward, **parts, d=nn.Linear(6, 2))).eval()
    with pytest.raises(fc.UnsupportedError, match="an encoder as the initial state of a decoder"):
        fc.Model.from_torch(module, x_of(2, 9, 5))


def test_an_encoders_answer_for_all_rows_of_a_decoder_is_refused_as_such() -> None:
    def forward(s: Any, x: Any) -> Any:
        return s.decoder(s.encoder(x)[0][:, -1:].repeat(1, x.size(1), 1))[0]

    module = seeded(lambda: module_of(forward, encoder=lstm(5, 6), decoder=lstm(6, 5))).eval()
    with pytest.raises(fc.UnsupportedError, match=r"the answer of a whole sequence, .* for rows of a sequence"):
        fc.Model.from_torch(module, x_of(2, 9, 5))
