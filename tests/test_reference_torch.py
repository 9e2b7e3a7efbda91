"""The specification agrees with PyTorch's float64 layers and cells to 1e-12."""

from typing import Any

import numpy as np
import pytest

from fusedcell import reference

torch = pytest.importorskip("torch")

STEPS, BATCH, INPUT, HIDDEN, PROJ = 7, 4, 5, 6, 3
KINDS: dict[str, Any] = {
    "rnn_tanh": (torch.nn.RNN, {}, reference.rnn, {}),
    "rnn_relu": (torch.nn.RNN, {"nonlinearity": "relu"}, reference.rnn, {"nonlinearity": "relu"}),
    "gru": (torch.nn.GRU, {}, reference.gru, {}),
    "lstm": (torch.nn.LSTM, {}, reference.lstm, {}),
    "lstm_proj": (torch.nn.LSTM, {"proj_size": PROJ}, reference.lstm, {}),
}


@pytest.fixture(params=KINDS)
def kind(request: Any) -> Any:
    return request.param


def build(kind: Any, **options: Any) -> Any:
    """Returns a float64 module, its twin in the specification, and a function that draws a state of its shapes."""
    module_class, module_options, function, function_options = KINDS[kind]
    torch.manual_seed(1)
    module = module_class(INPUT, HIDDEN, **module_options, **options).double().eval()
    mapping = module.state_dict()
    rng = np.random.default_rng(2)

    def specification(x: Any, state: Any = None, **arguments: Any) -> Any:
        return function(x, mapping, state, **function_options, **arguments)

    def draw_state(*batch: Any) -> Any:
        count = module.num_layers * (1 + module.bidirectional)
        parts = [rng.standard_normal((count, *batch, size)) for size in (module.proj_size or HIDDEN, HIDDEN)]
        return tuple(parts) if isinstance(module, torch.nn.LSTM) else parts[0]

    return module, specification, draw_state


def to_torch(state: Any) -> Any:
    return tuple(map(torch.from_numpy, state)) if isinstance(state, tuple) else torch.from_numpy(state)


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, tuple):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b)
        return
    assert ours.dtype == np.float64
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-12)


def draw(*shape: Any) -> Any:
    return np.random.default_rng(3).standard_normal(shape)


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_layers(kind: Any, num_layers: Any, bidirectional: Any, bias: Any, batch_first: Any) -> None:
    module, specification, draw_state = build(
        kind, num_layers=num_layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first
    )
    x, state = draw(*((BATCH, STEPS) if batch_first else (STEPS, BATCH)), INPUT), draw_state(BATCH)
    with torch.no_grad():
        assert_same(specification(x, state, batch_first=batch_first), module(torch.from_numpy(x), to_torch(state)))
        assert_same(specification(x, batch_first=batch_first), module(torch.from_numpy(x)))


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence(kind: Any, batch_first: Any) -> None:
    module, specification, draw_state = build(kind, num_layers=2, bidirectional=True, batch_first=batch_first)
    x, state = draw(STEPS, INPUT), draw_state()
    with torch.no_grad():
        assert_same(specification(x, state, batch_first=batch_first), module(torch.from_numpy(x), to_torch(state)))


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_lengths_are_packed_sequences(kind: Any, num_layers: Any, bidirectional: Any) -> None:
    module, specification, draw_state = build(kind, num_layers=num_layers, bidirectional=bidirectional)
    x, state, lengths = draw(STEPS, BATCH, INPUT), draw_state(BATCH), [3, STEPS, 1, 5]
    with torch.no_grad():
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            torch.from_numpy(x), torch.tensor(lengths), enforce_sorted=False
        )
        y, final = module(packed, to_torch(state))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=STEPS)
    assert_same(specification(x, state, lengths=lengths), (y, final))


def test_a_mask_removes_steps(kind: Any) -> None:
    """Each row's result is that of the sequence of its unmasked steps alone."""
    module, specification, draw_state = build(kind, num_layers=2, bidirectional=True)
    x, state, mask = draw(STEPS, BATCH, INPUT), draw_state(BATCH), np.random.default_rng(4).random((STEPS, BATCH)) < 0.6
    y, final = specification(x, state, mask=mask)
    for row in range(BATCH):
        live = mask[:, row]
        row_state = to_torch(tuple(s[:, row] for s in state) if isinstance(state, tuple) else state[:, row])
        with torch.no_grad():
            expected = module(torch.from_numpy(x[live, row]), row_state)
        row_final = tuple(s[:, row] for s in final) if isinstance(final, tuple) else final[:, row]
        assert_same((y[live, row], row_final), expected)


@pytest.mark.parametrize("shape", [(INPUT,), (BATCH, INPUT)], ids=["one row", "batch"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["RNNCell", "GRUCell", "LSTMCell"])
def test_cells(name: Any, bias: Any, shape: Any) -> None:
    torch.manual_seed(5)
    cell = getattr(torch.nn, name)(INPUT, HIDDEN, bias=bias).double()
    weights = cell.state_dict()
    x, h, c = draw(*shape), draw(*shape[:-1], HIDDEN), draw(*shape[:-1], HIDDEN)[..., ::-1].copy()
    with torch.no_grad():
        if name == "LSTMCell":
            ours = reference.lstm_step(x, h, c, **weights)
            assert_same((ours.h, ours.c), cell(torch.from_numpy(x), to_torch((h, c))))
        else:
            step: Any = {"RNNCell": reference.rnn_step, "GRUCell": reference.gru_step}[name]
            assert_same(step(x, h, **weights), cell(torch.from_numpy(x), torch.from_numpy(h)))
