"""fusedcell.torch.LSTM, GRU and RNN: PyTorch's parameters and derivatives, and the same bits on every tier."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
import training_bit_model
from fusedcell import reference
from torch_models import LAYERS, NO_ONEDNN, assert_close, assert_same_bits, ft, nn, torch

GOLDEN = Path(__file__).with_name("golden_training.json")
TOLERANCE = 2e-5  # of the largest derivative
KINDS = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}
every_layer = pytest.mark.parametrize("name", LAYERS)


def pair(name: str, *sizes: int, seed: int = 1, **options: Any) -> tuple[Any, Any]:
    """Ours and PyTorch's in float64, with the same weights."""
    torch.manual_seed(seed)
    ours = getattr(ft, name)(*sizes, **options)
    theirs = getattr(nn, name)(*sizes, **options)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs.double()


def run(module: Any, x: Any, states: list[Any], seed: int = 2, **keywords: Any) -> tuple[list[Any], list[Any]]:
    """What the module returns, and the derivatives of a loss by x, the states and the parameters."""
    dtype = next(module.parameters()).dtype
    x, *states = (tensor.detach().to(dtype).requires_grad_() for tensor in (x, *states))
    hx = None if not states else tuple(states) if len(states) == 2 else states[0]
    y, last = module(x, hx, **keywords)
    outputs = [y, *(last if isinstance(last, tuple) else (last,))]
    torch.manual_seed(seed)
    by_outputs = [torch.randn(output.shape, dtype=torch.float64).to(dtype) for output in outputs]
    parameters = [p for p in module.parameters() if p.requires_grad]
    return outputs, list(torch.autograd.grad(outputs, [x, *states, *parameters], by_outputs))


def assert_derivatives(actual: list[Any], expected: list[Any]) -> None:
    for a, e in zip(actual, expected, strict=True):
        a, e = np.asarray(a, np.float64), np.asarray(e)
        assert a.shape == e.shape
        assert np.abs(a - e).max(initial=0) <= TOLERANCE * np.abs(e).max(initial=0)


def given_states(module: Any, name: str, *batch: int) -> list[Any]:
    count = module.num_layers * (1 + module.bidirectional)
    return [torch.randn(count, *batch, module.hidden_size) * 0.5 for _ in range(2 if name == "LSTM" else 1)]


@given(
    name=st.sampled_from(LAYERS),
    steps=st.integers(1, 12),
    batch=st.integers(1, 20),
    inputs=st.integers(1, 60),
    units=st.integers(1, 60),
    layers=st.integers(1, 3),
    options=st.fixed_dictionaries(
        {"bidirectional": st.booleans(), "batch_first": st.booleans(), "bias": st.booleans()}
    ),
    has_states=st.booleans(),
    relu=st.booleans(),
)
def test_derivatives_are_those_of_pytorch(
    name: str, steps: int, batch: int, inputs: int, units: int, layers: int, options: Any, has_states: bool, relu: bool
) -> None:
    if name == "RNN" and relu:
        options = options | {"nonlinearity": "relu"}
    ours, theirs = pair(name, inputs, units, layers, **options)
    x = torch.randn(batch, steps, inputs) if options["batch_first"] else torch.randn(steps, batch, inputs)
    states = given_states(ours, name, batch) if has_states else []
    outputs, derivatives = run(ours, x, states)
    expected, expected_derivatives = run(theirs, x, states)
    assert_close(outputs, [output.float() for output in expected])
    assert_derivatives(derivatives, expected_derivatives)


@every_layer
def test_many_steps_and_rows(name: str) -> None:
    for steps, batch in ((700, 2), (3, 300)):  # more than a segment of the sums
        ours, theirs = pair(name, 5, 21)
        x = torch.randn(steps, batch, 5)
        _, derivatives = run(ours, x, [])
        assert_derivatives(derivatives, run(theirs, x, [])[1])


@every_layer
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_and_resets(name: str, bidirectional: bool, batch_first: bool) -> None:
    steps, batch = 9, 5
    ours, _ = pair(name, 4, 6, bidirectional=bidirectional, batch_first=batch_first)
    x, states = torch.randn(steps, batch, 4), given_states(ours, name, batch)
    lengths, resets = torch.tensor([9, 3, 0, 7, 1]), torch.rand(steps, batch) < 0.3
    given_x, given_resets = (x.transpose(0, 1), resets.T) if batch_first else (x, resets)
    outputs, derivatives = run(ours, given_x, states, lengths=lengths, resets=given_resets)
    if batch_first:
        outputs[0], derivatives[0] = outputs[0].transpose(0, 1), derivatives[0].transpose(0, 1)
    torch.manual_seed(2)
    by_y, *by_states = (
        torch.randn(shape, dtype=torch.float64).float()
        for shape in (
            outputs[0].transpose(0, 1).shape if batch_first else outputs[0].shape,
            *(o.shape for o in outputs[1:]),
        )
    )
    by_y = by_y.transpose(0, 1) if batch_first else by_y
    expected = reference.gradients(
        KINDS[name],
        x.numpy(),
        {key: value.numpy() for key, value in ours.state_dict().items()},
        tuple(state.numpy() for state in states),
        dy=by_y.numpy(),
        dstate=tuple(part.numpy() for part in by_states),
        lengths=lengths.numpy(),
        resets=resets.numpy(),
    )
    assert_close([o.detach() for o in outputs], [torch.as_tensor(e).float() for e in (expected.y, *expected.state)])
    keys = [key for key, _ in ours.named_parameters()]
    assert_derivatives(derivatives, [expected.x, *expected.initial, *(expected.weights[key] for key in keys)])


@every_layer
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences(name: str, enforce_sorted: bool) -> None:
    ours, theirs = pair(name, 4, 6, 2, bidirectional=True)
    sequences = [torch.randn(length, 4) for length in ((7, 5, 5, 1) if enforce_sorted else (5, 1, 7, 5))]
    states = given_states(ours, name, 4)
    results = []
    for module, dtype in ((ours, torch.float32), (theirs, torch.float64)):
        given_rows = [sequence.to(dtype, copy=True).requires_grad_() for sequence in sequences]
        own = [state.to(dtype, copy=True).requires_grad_() for state in states]
        packed = nn.utils.rnn.pack_sequence(given_rows, enforce_sorted=enforce_sorted)
        y, last = module(packed, tuple(own) if name == "LSTM" else own[0])
        outputs = [y.data, *(last if name == "LSTM" else (last,))]
        torch.manual_seed(2)
        by_outputs = [torch.randn(output.shape, dtype=torch.float64).to(dtype) for output in outputs]
        found = torch.autograd.grad(outputs, [*given_rows, *own, *module.parameters()], by_outputs)
        results.append((y, outputs, found))
    (y, outputs, found), (expected_y, expected_outputs, expected) = results
    assert torch.equal(y.batch_sizes, expected_y.batch_sizes)
    assert_close([o.detach() for o in outputs], [o.detach().float() for o in expected_outputs])
    assert_derivatives(list(found), list(expected))
    with torch.no_grad():
        packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=enforce_sorted)
        assert_same_bits(ours(packed, tuple(states) if name == "LSTM" else states[0])[0].data, y.data)


@every_layer
def test_one_sequence_without_a_batch(name: str) -> None:
    ours, theirs = pair(name, 4, 6, 2, batch_first=True)
    x, states = torch.randn(7, 4), [state.squeeze(1) for state in given_states(ours, name, 1)]
    outputs, derivatives = run(ours, x, states)
    expected, expected_derivatives = run(theirs, x, states)
    assert_close(outputs, [output.float() for output in expected])
    assert_derivatives(derivatives, expected_derivatives)


@every_layer
def test_frozen_parameters_and_inputs_have_no_derivatives(name: str) -> None:
    ours, theirs = pair(name, 4, 6, 2)
    for module in (ours, theirs):
        module.weight_hh_l0.requires_grad_(False)
        module.bias_ih_l1.requires_grad_(False)
    x = torch.randn(5, 3, 4)
    assert_derivatives(run(ours, x, [])[1], run(theirs, x, [])[1])
    ours(x)[0].sum().backward()
    theirs(x.double())[0].sum().backward()
    assert ours.weight_hh_l0.grad is None
    assert ours.bias_ih_l1.grad is None
    assert_derivatives([ours.weight_ih_l0.grad], [theirs.weight_ih_l0.grad])


@every_layer
def test_training_has_the_bits_of_inference(name: str) -> None:
    ours, _ = pair(name, 5, 19, 2, bidirectional=True)
    x = torch.randn(6, 4, 5)
    y, last = ours(x)
    assert y.grad_fn is not None
    with torch.no_grad():
        assert_same_bits((y, last), ours(x))
    assert_same_bits(y, fc.from_torch(ours)(x.numpy())[0])


class Problem(NamedTuple):
    module: Any
    x: Any
    states: list[Any]
    by_y: Any
    lengths: Any
    resets: Any


def problem(name: str) -> Problem:
    """Sums of two segments, rows that end, episodes, and both directions."""
    rng = np.random.default_rng(4)
    steps, batch, inputs, units = 100, 3, 5, 21

    def uniform(*shape: int) -> Any:
        return torch.from_numpy(rng.uniform(-1, 1, shape).astype(np.float32))

    module = getattr(ft, name)(inputs, units, bidirectional=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(uniform(*parameter.shape) / 2)
    states = [uniform(2, batch, units) for _ in range(2 if name == "LSTM" else 1)]
    resets = torch.from_numpy(rng.random((steps, batch)) < 0.02)
    x, by_y = uniform(steps, batch, inputs), uniform(steps, batch, 2 * units)
    return Problem(module, x, states, by_y, torch.tensor([100, 17, 90]), resets)


def digest(arrays: Iterable[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def modelled(name: str) -> list[np.ndarray]:
    """y, and the derivatives by x, the states and the parameters, as the model of the arithmetic has them."""
    it = problem(name)
    units = it.module.hidden_size
    found = []
    for direction, end in enumerate(("_l0", "_l0_reverse")):
        mapping = {
            key.removesuffix(end): value.detach().numpy()
            for key, value in it.module.named_parameters()
            if key.partition("_l0")[1:] == ("_l0", end[3:])
        }
        share = it.by_y[..., direction * units : (direction + 1) * units].numpy()
        states = [state[direction].numpy() for state in it.states]
        given = (share, it.lengths.numpy(), it.resets.numpy())
        found.append(training_bit_model.run(KINDS[name], mapping, it.x.numpy(), states, *given, bool(direction)))
    forward, back = found
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [
        np.concatenate([forward.y, back.y], axis=-1),
        forward.x + back.x,
        *map(np.stack, zip(forward.state, back.state, strict=True)),
        *(part.weights[key] for part in found for key in names),
    ]


def computed(name: str, num_threads: int = 1) -> list[np.ndarray]:
    it = problem(name)
    it.module.num_threads = num_threads
    x, *states = (tensor.requires_grad_() for tensor in (it.x, *it.states))
    y, _ = it.module(x, tuple(states) if name == "LSTM" else states[0], lengths=it.lengths, resets=it.resets)
    y.backward(it.by_y)
    return [y.detach().numpy(), *(tensor.grad.numpy() for tensor in (x, *states, *it.module.parameters()))]


@pytest.fixture
def tier(isa: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FUSEDCELL_ISA", isa)
    return isa


@every_layer
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_derivatives_have_the_bits_that_the_model_gives(name: str, num_threads: int, tier: str) -> None:
    arrays = computed(name, num_threads)
    if digest(arrays) != json.loads(GOLDEN.read_text())[name]:
        for actual, expected in zip(arrays, modelled(name), strict=True):
            np.testing.assert_array_equal(actual, expected)
        pytest.fail("the model and golden_training.json differ")


def trained(name: str) -> bytes:
    it = problem(name)
    optimizer = torch.optim.SGD(it.module.parameters(), lr=0.01, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        y, _ = it.module(it.x[:40], lengths=torch.tensor([40, 17, 9]), resets=it.resets[:40])
        y.square().mean().backward()
        optimizer.step()
    return b"".join(parameter.detach().numpy().tobytes() for parameter in it.module.parameters())


@every_layer
def test_trained_weights_have_the_same_bits_on_every_tier(name: str, tier: str, monkeypatch: Any) -> None:
    weights = trained(name)
    monkeypatch.setenv("FUSEDCELL_ISA", "scalar")
    assert weights == trained(name)


# Inputs and units of which both matrices have 512 KB or more, which four rows and more read by narrower blocks, and
# eight and more by still narrower ones. They fill no whole vectors or blocks.
LARGE = {"RNN": (373, 367), "LSTM": (173, 199), "GRU": (211, 217)}


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("name", LARGE)
def test_rows_have_the_bits_of_each_alone_where_matrices_are_large(name: str) -> None:
    inputs, units = LARGE[name]
    torch.manual_seed(5)
    module = getattr(ft, name)(inputs, units)
    x, by_y = torch.randn(2, 17, inputs), torch.randn(2, 17, units)

    def answer(rows: slice) -> list[np.ndarray]:
        own = x[:, rows].clone().requires_grad_()
        y, _ = module(own)
        y.backward(by_y[:, rows])
        assert own.grad is not None
        return [y.detach().numpy(), own.grad.numpy()]

    alone = [np.concatenate(parts, axis=1) for parts in zip(*(answer(slice(b, b + 1)) for b in range(17)), strict=True)]
    for rows in (4, 5, 8, 17):
        assert digest(answer(slice(rows))) == digest([part[:, :rows] for part in alone]), f"{rows} rows"


@every_layer
def test_the_modules_are_pytorchs_to_whoever_asks(name: str) -> None:
    ours, theirs = (
        getattr(ft, name)(3, 4, num_layers=2, dropout=0.5),
        getattr(nn, name)(3, 4, num_layers=2, dropout=0.5),
    )
    assert isinstance(ours, nn.RNNBase)
    assert repr(ours) == repr(theirs)
    assert [(k, v.shape) for k, v in ours.named_parameters()] == [(k, v.shape) for k, v in theirs.named_parameters()]
    torch.manual_seed(3)
    ours.reset_parameters()
    torch.manual_seed(3)
    theirs.reset_parameters()
    assert_same_bits(list(ours.state_dict().values()), list(theirs.state_dict().values()))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(5, 2, 3)
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert_same_bits(copied.eval()(x)[0], ours.eval()(x)[0])


@every_layer
def test_dropout_is_pytorchs(name: str) -> None:
    ours, theirs = pair(name, 4, 6, 3, dropout=0.4)
    theirs = theirs.float()
    x = torch.randn(5, 3, 4)
    torch.manual_seed(1)
    y, _ = ours(x)
    assert not torch.equal(y, ours(x)[0])
    ours.eval()
    theirs.eval()
    assert_close(ours(x)[0], theirs(x)[0])


@every_layer
def test_what_is_not_supported_is_refused_by_name(name: str) -> None:
    module = getattr(ft, name)(3, 4)
    x = torch.randn(5, 2, 3)
    if name == "LSTM":
        with pytest.raises(TypeError, match="hx: expected a pair"):
            module(x, torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match="lengths, mask, resets: expected None with a PackedSequence"):
        module(nn.utils.rnn.pack_sequence([x[:, 0], x[:3, 1]]), lengths=[5, 3])
    with pytest.raises(ValueError, match=r"hx(\[0\])?: expected shape \(1, 2, 4\), got \(1, 3, 4\)"):
        module(x, (torch.zeros(1, 3, 4), torch.zeros(1, 3, 4)) if name == "LSTM" else torch.zeros(1, 3, 4))
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(module(x)[0].sum(), list(module.parameters()), create_graph=True)
    with pytest.raises(RuntimeError, match=r"torch\.func"):
        torch.func.grad(lambda value: module(value)[0].sum())(x)
    with pytest.raises(TypeError, match="input: expected a float32 tensor on the CPU, got float64"):
        module(x.double())
    with pytest.raises(ValueError, match="input: expected 2 or 3 dimensions, the last 3"):
        module(torch.randn(5, 2, 4))
    with pytest.raises(ValueError, match="resets: expected shape"):
        module(x, resets=torch.zeros(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="lengths: expected values from 0 to the number of steps, 5, got 6"):
        module(x, lengths=[6, 1])
    with pytest.raises(TypeError, match="num_threads"):
        getattr(ft, name)(3, 4, num_threads="two")


@every_layer
def test_autocast_runs_in_float32_and_says_so(name: str) -> None:
    module = getattr(ft, name)(3, 4)
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu"), pytest.warns(UserWarning, match="computes in float32"):
        y, _ = module(x.bfloat16())
    assert_same_bits(y, module(x.bfloat16().float())[0])


@every_layer
def test_a_change_of_what_is_saved_is_noticed(name: str) -> None:
    module = getattr(ft, name)(3, 4)
    y, _ = module(torch.randn(5, 2, 3))
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@every_layer
def test_nothing_to_do(name: str) -> None:
    module = getattr(ft, name)(3, 4)
    y, _ = module(torch.randn(5, 2, 3), lengths=[0, 0])
    y.sum().backward()
    assert not y.any()
    assert not module.weight_ih_l0.grad.any()


class Tagger(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 8, 2, batch_first=True, bidirectional=True)
        self.projected = nn.LSTM(16, 8, proj_size=4, batch_first=True)
        self.cell = nn.GRUCell(4, 5)

    def forward(self, x: Any) -> Any:
        return self.cell(self.projected(self.lstm(x)[0])[0][:, -1])


@pytest.mark.filterwarnings(NO_ONEDNN)
def test_a_model_is_swapped_in_place_for_training_and_back() -> None:
    torch.manual_seed(1)
    model, expected = Tagger(), Tagger().double()
    expected.load_state_dict(model.state_dict())
    x = torch.randn(2, 6, 3)
    parameters = list(model.parameters())
    report = ft.accelerate(model, training=True, num_threads=2)
    assert [(entry.name, entry.swapped) for entry in report] == [("lstm", True), ("projected", True), ("cell", False)]
    assert "only layers train faster here; fusedcell.torch.GRUCell has bits that do not vary" in str(report)
    assert isinstance(model.lstm, ft.LSTM)
    assert model.lstm.num_threads == 2
    assert all(now is before for now, before in zip(model.parameters(), parameters, strict=True))
    model(x).sum().backward()
    expected(x.double()).sum().backward()
    assert_derivatives([p.grad for p in parameters], [p.grad for p in expected.parameters()])
    again = ft.accelerate(model, training=True)
    assert next(entry.reason for entry in again) == "is accelerated already"
    report.undo()
    assert type(model.lstm) is nn.LSTM
    assert "num_threads" not in vars(model.lstm)
    assert list(model.state_dict()) == list(expected.state_dict())


def test_options_of_inference_are_not_those_of_training() -> None:
    for options in ({"dtype": "int8"}, {"isa": "scalar"}, {"example": torch.zeros(1, 2, 3)}):
        with pytest.raises(ValueError, match="training=True: expected dtype='float32' and neither isa nor example"):
            ft.accelerate(nn.LSTM(3, 4), training=True, **options)


@every_layer
def test_parametrised_weights_are_trained_through(name: str) -> None:
    ours, theirs = pair(name, 3, 4)
    for module in (ours, theirs):
        torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    x = torch.randn(5, 2, 3)
    outputs, derivatives = run(ours, x, [])
    assert_derivatives(derivatives, run(theirs, x, [])[1])
    with torch.no_grad():
        assert_same_bits(ours(x)[0], outputs[0])


@every_layer
def test_what_was_trained_becomes_a_model(name: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = getattr(ft, name)(3, 4, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.layer(x)[0])

    net = Net().eval()
    x = torch.randn(2, 6, 3)
    with torch.no_grad():
        assert_close(fc.Model.from_torch(net, x)(x.numpy()), net(x))


if __name__ == "__main__":  # from the model, not from any kernel
    GOLDEN.write_text(json.dumps({name: digest(modelled(name)) for name in LAYERS}, indent=1) + "\n")
