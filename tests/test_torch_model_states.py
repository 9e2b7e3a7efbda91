"""Whole models of PyTorch modules with states, lengths, and arguments of other kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedcell as fc

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
rnn = torch.nn.utils.rnn

from torch_whole_modules import (  # noqa: E402 - as torch may be absent
    agrees,
    close,
    leaves,
    lstm,
    module_of,
    seeded,
    x_of,
)


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


def frames(s: Any, x: Any, kept: Any) -> Any:
    kept = torch.cat([kept[:, 1:], x.unsqueeze(1)], 1)
    return s.d(kept.flatten(1)), kept


def moving_average(s: Any, x: Any, mean: Any) -> Any:
    mean = 0.9 * mean + 0.1 * x
    return s.e(x - mean), mean


@pytest.mark.parametrize(("forward", "shape"), [(frames, (2, 4, 5)), (moving_average, (2, 5))])
def test_a_state_of_no_recurrent_layer_is_an_input_that_streams_do_not_carry_and_the_reading_says_so(
    forward: Any, shape: Any
) -> None:
    module = seeded(lambda: module_of(forward, d=nn.Linear(20, 2), e=nn.Linear(5, 2))).eval()
    state = torch.zeros(shape)
    with pytest.warns(
        UserWarning, match=r"'given_1' is an input of the model, and no state that its streams carry.* 1, "
    ):
        model = fc.Model.from_torch(module, (x_of(2, 5), state))
    given = state.numpy()
    for x in x_of(6, 2, 5):
        with torch.no_grad():
            want, state = module(x, state)
        got, given = model(x.numpy(), given)
        close(got, want.numpy())


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
