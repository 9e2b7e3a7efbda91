"""quantize: what trains is what runs in int8, gradients pass the rounding, and the module stays what it was."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fusedcell as fc
from drawn import examples
from fusedcell import reference
from torch_models import NO_ONEDNN, Tagger, assert_close, ft, module_of, nn, pack_sequence, states, tokens, torch

rounding: Any = pytest.importorskip("fusedcell.torch.rounding")
F = nn.functional
pytestmark = pytest.mark.filterwarnings(NO_ONEDNN)


@contextmanager
def ties() -> Iterator[list[float]]:
    """How far what is rounded within lies from where it would be rounded the other way, the least of each call.

    Near such a place a last bit of a float, which PyTorch and fusedcell do not share, decides on a whole unit.
    """
    found: list[float] = []
    plain = torch.Tensor.round

    def noted(values: Any) -> Any:
        found.append(float((values - values.floor() - 0.5).abs().nan_to_num(1).min()) if values.numel() else 1.0)
        return plain(values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "round", noted)
        yield found


def untied(make: Callable[[int], tuple[Callable[[], Any], Callable[[], Any]]]) -> None:
    """Of two ways to an answer, made of the first seed that lets the first way round nothing at a tie: the same."""
    for seed in range(20):
        trains, runs = make(seed)
        with torch.no_grad(), ties() as found:
            answer = trains()
        if min(found) > 1e-4:
            return assert_close(answer, runs())
    raise AssertionError("all seeds are tied")


def drawn(seed: int, *shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def through(x: Any, values: Any) -> Any:
    """The straight-through formula: x plus a constant."""
    return x + torch.from_numpy(values - x.detach().numpy())


def by_rows(weight: Any) -> Any:
    q, scale = reference.quantise_weights(weight.detach().numpy())
    return through(weight, q * scale[:, None])


def by_vectors(x: Any, bounded: bool = False) -> Any:
    q, scale = reference.quantise_input(x.detach().numpy(), bounded=bounded)
    return through(x, q * scale[..., None])


FLOATS = st.floats(width=32, allow_subnormal=False)
VECTORS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 5)), elements=FLOATS | st.floats(-1, 1, width=32)
)


@settings(max_examples=examples(40))
@given(VECTORS, st.booleans())
def test_inputs_become_the_references_integers(x: Any, bounded: bool) -> None:
    q, scale = reference.quantise_input(x, bounded=bounded)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = q * scale[:, None]
    np.testing.assert_array_equal(rounding.rounded_input(torch.from_numpy(x), 127.0, bounded=bounded), expected)
    if bounded and np.abs(x).max() <= 1:
        np.testing.assert_array_equal(rounding.rounded_within_one(torch.from_numpy(x), 127.0), expected)


@settings(max_examples=examples(40))
@given(VECTORS)
def test_weights_become_the_references_integers(weight: Any) -> None:
    assume(np.isfinite(weight).all())
    q, scale = reference.quantise_weights(weight)
    np.testing.assert_array_equal(rounding.rounded_rows(torch.from_numpy(weight)), q * scale[:, None])


def test_what_lies_beside_a_tie_becomes_the_references_integers() -> None:
    """Where the last bit of a quotient decides."""
    rng = np.random.default_rng(0)
    largest = rng.uniform(1, 2, (500, 1)).astype(np.float32)
    beside = (np.arange(100, 127) + 0.5) * largest.astype(np.float64) / 127
    rows = np.concatenate([largest, *(np.nextafter(beside.astype(np.float32), np.float32(to)) for to in (0, 1, 9))], 1)
    q, scale = reference.quantise_weights(rows)
    np.testing.assert_array_equal(rounding.rounded_rows(torch.from_numpy(rows)), q * scale[:, None])
    q_x, scale = reference.quantise_input(rows, bounded=False)
    np.testing.assert_array_equal(rounding.rounded_input(torch.from_numpy(rows), 127.0), q_x * scale[:, None])


def test_sixteen_bits_are_multiples_of_a_16256th() -> None:
    x = torch.tensor([[0.5, -2.0, 0.3]])
    units = rounding.UNITS["int16"]
    expected = np.rint(x.numpy() * np.float32(16256 / 2)) * np.float32(2 / 16256)
    np.testing.assert_array_equal(rounding.rounded_input(x, units), expected)
    np.testing.assert_array_equal(rounding.rounded_input(x, units, bounded=True), expected)
    small = x / 4
    expected = np.rint(small.numpy() * np.float32(16256)) * (np.float32(1) / np.float32(16256))
    np.testing.assert_array_equal(rounding.rounded_input(small, units, bounded=True), expected)
    np.testing.assert_array_equal(rounding.rounded_within_one(small, units), expected)
    layer = module_of("GRU", 3, 4)
    exact = layer(x)[0]
    ft.quantize(layer, inputs="int16")
    finer = (layer(x)[0] - exact).abs().max()
    ft.unquantize(layer)
    ft.quantize(layer)
    assert 0 < finer < (layer(x)[0] - exact).abs().max()


@st.composite
def layers(draw: Any) -> tuple[Any, ...]:
    name = draw(st.sampled_from(["RNN", "LSTM", "GRU"]))
    options = {key: draw(st.booleans()) for key in ("bidirectional", "batch_first", "bias")}
    options["num_layers"] = draw(st.integers(1, 2))
    if name == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if name == "LSTM":
        options["proj_size"] = draw(st.sampled_from([0, 3]))
    return name, options, draw(st.sampled_from(["batch", "one", "packed"])), draw(st.sampled_from([None, 0.5, 4.0]))


@settings(max_examples=examples(30))
@given(layers(), st.integers(0, 99))
def test_a_layer_answers_as_it_does_in_int8(form: Any, seed: int) -> None:
    name, options, call, size_of_states = form
    layer = module_of(name, 5, 6, seed=seed, **options)
    x = pack_sequence([drawn(seed, steps, 5) for steps in (2, 6, 4)], enforce_sorted=False)
    x = x if call == "packed" else drawn(seed, *(3, 6) if call == "batch" else (6,), 5)
    batch = {"packed": (3,), "batch": (3 if options["batch_first"] else 6,), "one": ()}[call]
    hx = None
    if size_of_states is not None:
        hx = states(layer, *batch)
        hx = tuple(size_of_states * part for part in hx) if name == "LSTM" else size_of_states * hx
    runs = copy.deepcopy(layer)
    ft.accelerate(runs, "int8")
    assert ft.quantize(layer) == ("",)
    with torch.no_grad(), ties() as found:
        answer = layer(x, hx)
    assume(min(found) > 1e-4)
    with torch.no_grad():
        assert_close(answer, runs(x, hx))


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_a_layer_answers_as_the_references_integers_do(name: str) -> None:
    def make(seed: int) -> Any:
        layer = module_of(name, 4, 6, 2, seed=seed)
        ft.quantize(layer)
        x = drawn(seed, 7, 4)
        found = {key: value.numpy() for key, value in layer.state_dict().items()}
        compute = getattr(reference, name.lower())
        return lambda: layer(x)[0], lambda: compute(x.numpy()[:, None], found, int8=True)[0][:, 0].astype(np.float32)

    untied(make)


CELLS = [(name, {"bias": bias}) for name in ("RNNCell", "LSTMCell", "GRUCell") for bias in (False, True)]


@pytest.mark.parametrize(("name", "options"), [*CELLS, ("RNNCell", {"nonlinearity": "relu"})])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_cell_answers_as_it_does_in_int8(name: str, options: Any, batch: Any) -> None:
    def make(seed: int) -> Any:
        cell = module_of(name, 5, 6, seed=seed, **options)
        ft.quantize(cell)
        runs, x, hx = fc.from_torch(cell).astype("int8"), drawn(seed, *batch, 5), states(cell, *batch)
        return lambda: (cell(x), cell(x, hx)), lambda: (runs(x.numpy()), runs(x.numpy(), arrays(hx)))

    untied(make)


def arrays(hx: Any) -> Any:
    return tuple(part.numpy() for part in hx) if isinstance(hx, tuple) else hx.numpy()


class Spotter(nn.Module):
    """A convolution with a norm, one feature by feature, an image's, layers, and a head."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.image = nn.Conv2d(1, 2, 3, stride=(1, 2), padding=(0, 1))
        self.conv = nn.Conv1d(8, 6, 3, dilation=2, stride=2, groups=2)
        self.norm = nn.BatchNorm1d(6)
        self.depth = nn.Conv1d(6, 6, 2, groups=6)
        self.inside = nn.Conv1d(1, 2, 3, padding="same")
        self.gru = nn.GRU(12, 5, 2, batch_first=True, dropout=0.5)
        self.head = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x: Any) -> Any:
        y = self.image(F.pad(x, (0, 0, 2, 0))[:, None]).permute(0, 1, 3, 2).flatten(1, 2)
        y = torch.relu(self.norm(self.conv(F.pad(y, (4, 0)))))
        y = self.depth(F.pad(y, (1, 0))).transpose(1, 2)
        y = self.inside(y.reshape(-1, 1, 6)).reshape(*y.shape[:2], 12)
        return self.head(self.gru(y)[0])


def fine_tuned(model: Any, x: Any, steps: int = 3) -> Any:
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    model.train()
    for _ in range(steps):
        loss = (model(x) - 1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def test_what_trains_is_what_the_model_runs() -> None:
    def make(seed: int) -> Any:
        spotter, x = Spotter(seed), drawn(seed, 2, 8, 8)
        names = ("image", "conv", "inside", "gru", "head.0", "head.2")
        assert ft.quantize(spotter) == names
        before = {name: value.clone() for name, value in spotter.state_dict().items()}
        fine_tuned(spotter, x)
        assert all((value != before[name]).any() for name, value in spotter.state_dict().items())
        return lambda: spotter(x), lambda: fc.Model.from_torch(spotter, x).astype("int8")(x.numpy())

    untied(make)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_a_layer_answers_as_it_does_with_inputs_in_int16(name: str) -> None:
    """But for a value beside a tie, which may become the next of the 16,256 levels."""
    layer, x = module_of(name, 5, 9, 2, batch_first=True), drawn(0, 3, 20, 5)
    ft.quantize(layer, inputs="int16")
    runs = fc.from_torch(layer).astype("int8", inputs="int16")
    with torch.no_grad():
        np.testing.assert_allclose(layer(x)[0], runs(x.numpy())[0], rtol=0, atol=2 / 16256)


def test_a_model_answers_as_it_does_with_inputs_in_int16() -> None:
    spotter, x = Spotter(0).eval(), drawn(0, 2, 8, 8)
    ft.quantize(spotter, inputs="int16")
    with torch.no_grad():
        runs = fc.Model.from_torch(spotter, x).astype("int8", inputs="int16")
        np.testing.assert_allclose(spotter(x), runs(x.numpy()), rtol=0, atol=5 / 16256)


def test_an_embedding_and_what_is_kept() -> None:
    class Net(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.embed, self.gru = nn.Embedding(20, 8, padding_idx=0), nn.GRU(8, 5, batch_first=True)
            self.head = nn.ModuleList([nn.Linear(5, 4), nn.Linear(4, 3)])

        def forward(self, x: Any) -> Any:
            return self.head[1](torch.tanh(self.head[0](self.gru(self.embed(x))[0])))

    def make(seed: int) -> Any:
        model = Net(seed).eval()
        assert ft.quantize(model, keep="head") == ("embed", "gru")
        one_kept = copy.deepcopy(model)
        assert ft.unquantize(one_kept) == ("embed", "gru")
        assert ft.quantize(one_kept, keep=["head.1"]) == ("embed", "gru", "head.0")

        def runs() -> Any:
            ft.unquantize(model)
            whole = fc.Model.from_torch(model, tokens())
            return [whole.astype("int8", keep=keep)(tokens().numpy()) for keep in ("head", "head.1")]

        return lambda: [model(tokens()), one_kept(tokens())], runs

    untied(make)


def test_gradients_of_a_linear_layer_by_hand() -> None:
    layer = module_of("Linear", 3, 2)
    ft.quantize(layer)
    x, g = drawn(0, 5, 3).requires_grad_(), drawn(1, 5, 2)
    layer(x).backward(g)
    q, scale = reference.quantise_weights(layer.weight.detach().numpy())
    q_x, scale_x = reference.quantise_input(x.detach().numpy(), bounded=False)
    assert_close(layer.weight.grad, g.numpy().T @ (q_x * scale_x[:, None]), atol=1e-6)
    assert_close(x.grad, g.numpy() @ (q * scale[:, None]), atol=1e-6)
    assert_close(layer.bias.grad, g.sum(0), atol=1e-6)


def test_gradients_of_a_convolution_and_an_embedding_are_those_of_rounded_operands() -> None:
    conv, table = module_of("Conv1d", 4, 6, 3, groups=2, padding=1, bias=False), module_of("Embedding", 9, 4)
    x, weight = drawn(0, 2, 4, 7), conv.weight.detach().clone()
    ft.quantize(conv), ft.quantize(table)
    g = drawn(1, 2, 6, 7)
    conv(x.requires_grad_()).backward(g)
    matrix = by_rows(weight.flatten(1)).view(2, 3, 6)
    windows = F.pad(x.detach(), (1, 1)).unfold(2, 3, 1).permute(0, 2, 1, 3).reshape(2, 7, 2, 6)
    pulled = torch.einsum("btgo,btgi->goi", g.transpose(1, 2).reshape(2, 7, 2, 3), by_vectors(windows))
    assert_close(conv.weight.grad.flatten(1), pulled.flatten(0, 1), atol=1e-5)
    assert_close(x.grad, F.conv_transpose1d(g, matrix.view(6, 2, 3), padding=1, groups=2), atol=1e-5)
    picked = table(torch.tensor([3, 3, 5]))
    picked.backward(torch.ones(3, 4))
    assert_close(picked, by_rows(table.weight)[[3, 3, 5]], atol=0)
    assert table.weight.grad.sum(1).tolist() == [0, 0, 0, 8, 0, 4, 0, 0, 0]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "LSTM with proj_size", "GRU"])
def test_gradients_of_a_layer_are_those_of_the_formulas(name: str, reverse: bool) -> None:
    """Of a layer over 4 steps, written out with each rounded operand as itself plus a constant."""
    options = {"proj_size": 3} if "proj" in name else {}
    layer = module_of(name.split()[0], 3, 5, bidirectional=reverse, **options)
    ft.quantize(layer)
    x, end = drawn(0, 4, 2, 3).requires_grad_(), "_l0_reverse" if reverse else "_l0"
    state = [part.requires_grad_() for part in (states(layer, 2) if "LSTM" in name else (states(layer, 2),))]
    y, _ = layer(x, tuple(state) if "LSTM" in name else state[0])
    weights = {key: value for key, value in layer.named_parameters() if reverse == key.endswith("_reverse")}
    w = {key.removesuffix(end): by_rows(value) if value.dim() > 1 else value for key, value in weights.items()}
    given = [x, *state, *weights.values()]

    h, *c = (part[-1] for part in state)
    outputs = []
    for x_t in x.flip(0) if reverse else x:
        a = by_vectors(x_t) @ w["weight_ih"].T + w["bias_ih"]
        b = by_vectors(h, bounded="weight_hr" not in w) @ w["weight_hh"].T + w["bias_hh"]
        if name == "RNN":
            h = torch.tanh(a + b)
        elif name == "GRU":
            r, z = (torch.sigmoid(p + q) for p, q in zip(a.split(5, 1)[:2], b.split(5, 1)[:2], strict=True))
            n = torch.tanh(a[:, 10:] + r * b[:, 10:])
            h = n + z * (h - n)
        else:
            i, f, g, o = (a + b).split(5, 1)
            c = [torch.sigmoid(f) * c[0] + torch.sigmoid(i) * torch.tanh(g)]
            h = torch.sigmoid(o) * torch.tanh(c[0])
            h = by_vectors(h, bounded=True) @ w["weight_hr"].T if "weight_hr" in w else h
        outputs.append(h)
    expected = torch.stack(outputs[::-1] if reverse else outputs)
    actual = y[..., -expected.shape[-1] :]
    pull = drawn(3, *expected.shape)
    assert_close(actual, expected, atol=1e-6)
    assert_close(torch.autograd.grad(actual, given, pull), torch.autograd.grad(expected, given, pull), atol=1e-5)


def test_state_dictionaries_are_interchangeable_and_parameters_are_the_same_objects() -> None:
    plain, prepared = Tagger(), Tagger()
    parameters, classes = dict(prepared.named_parameters()), [type(part) for part in prepared.modules()]
    assert ft.quantize(prepared) == ("embed", "encoder.0", "layers.0", "layers.1", "cells.refine", "score")
    assert prepared.again is prepared.cells["refine"]
    assert isinstance(prepared.layers[0], nn.LSTM)
    assert [(name, id(value)) for name, value in prepared.named_parameters()] == [
        (name, id(value)) for name, value in parameters.items()
    ]
    with torch.no_grad():
        for parameter in prepared.parameters():
            parameter.add_(0.01)
    plain.load_state_dict(prepared.state_dict())
    ft.unquantize(prepared)
    assert [type(part) for part in prepared.modules()] == classes
    assert not any(key.startswith("fusedcell") for part in prepared.modules() for key in vars(part))
    assert_close(prepared(tokens()), plain(tokens()), atol=0)
    ft.quantize(plain)
    plain.load_state_dict(prepared.state_dict())
    assert ft.unquantize(nn.Linear(1, 1)) == ()


def test_copies_and_pickles_are_prepared_and_can_be_undone_by_themselves() -> None:
    model = Tagger()
    ft.quantize(model)
    expected = model(tokens())
    stored = io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(stored, weights_only=False)]
    for other in others:
        assert_close(other(tokens()), expected, atol=0)
        assert len(ft.unquantize(other)) == 6
        assert type(other.layers[1]) is nn.GRU
        assert (other(tokens()) - expected).abs().max() > 1e-4
    assert_close(model(tokens()), expected, atol=0)


def test_frozen_and_parametrised_weights() -> None:
    layer = module_of("GRU", 3, 4)
    layer.weight_ih_l0.requires_grad_(False)
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    ft.quantize(layer)
    x = drawn(0, 5, 2, 3)
    runs = fc.from_torch(layer).astype("int8")
    y, _ = layer(x)
    y.sum().backward()
    assert layer.weight_ih_l0.grad is None
    assert layer.parametrizations.weight_hh_l0.original1.grad is not None
    assert_close(y, runs(x.numpy())[0])
    ft.unquantize(layer)
    torch.nn.utils.parametrize.remove_parametrizations(layer, "weight_hh_l0")
    assert type(layer) is nn.GRU


def test_dropout_acts_between_layers_in_training_alone() -> None:
    layer = module_of("LSTM", 3, 4, num_layers=2, dropout=0.999)
    ft.quantize(layer)
    x = drawn(0, 5, 2, 3)
    silent = layer.train()(x)[0]
    assert not torch.equal(silent, layer.eval()(x)[0])
    with torch.no_grad():  # the second layer then has its biases alone
        layer.weight_ih_l1.zero_()
    assert_close(layer(x)[0], silent, atol=0.02)


def test_a_nan_spoils_its_own_row() -> None:
    layer = module_of("LSTM", 3, 4)
    ft.quantize(layer)
    x = drawn(0, 5, 2, 3)
    expected = layer(x)[0]
    x[2, 0, 1] = float("nan")
    y = layer(x)[0]
    assert_close((y[:2], y[:, 1]), (expected[:2], expected[:, 1]), atol=0)
    assert y[2:, 0].isnan().all()


class OwnForward(nn.Linear):
    def forward(self, input: Any) -> Any:
        return super().forward(input) + 1


class OnlyBuilt(nn.GRU):
    def __init__(self) -> None:
        super().__init__(3, 4)


def accelerated() -> Any:
    layer = nn.LSTM(3, 4)
    ft.accelerate(layer)
    return layer


def prepared_already() -> Any:
    layer = nn.LSTM(3, 4)
    ft.quantize(layer)
    return layer


def with_a_forward() -> Any:
    layer = nn.Linear(3, 4)
    layer.forward = lambda x: x
    return layer


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nn.ConvTranspose1d(3, 4, 2), "ConvTranspose1d"),
        (lambda: nn.Conv3d(3, 4, 2), "Conv3d"),
        (lambda: nn.MultiheadAttention(4, 2), "MultiheadAttention"),
        (lambda: nn.Bilinear(3, 4, 2), "Bilinear"),
        (lambda: nn.EmbeddingBag(3, 4), "EmbeddingBag"),
        (lambda: nn.Embedding(3, 4, max_norm=1), "max_norm"),
        (lambda: nn.Conv2d(3, 3, (1, 3), groups=3), "axes is time"),
        (lambda: nn.LazyLinear(3), "LazyLinear"),
        (lambda: nn.GRU(3, 4).double(), "weight_ih_l0 in float64"),
        (lambda: OwnForward(3, 4), "OwnForward adds 'forward'"),
        (lambda: torch.jit.script(nn.Linear(3, 4)), "TorchScript"),
        (lambda: ft.GRU(3, 4), "trains in float32"),
        (lambda: ft.Linear(3, 4), "trains in float32"),
        (accelerated, "accelerated"),
        (prepared_already, "already"),
        (with_a_forward, "forward of its own"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*jit.script.*is deprecated", "ignore:Lazy modules")
def test_what_cannot_be_prepared_is_refused_by_name_and_nothing_is_changed(make: Any, said: str) -> None:
    part = make()
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(part))
    with pytest.raises(fc.errors.UnsupportedError, match=f"'1.0' .*{said}"):
        ft.quantize(model)
    assert type(model[0]) is nn.Linear
    assert ft.quantize(model, keep="1") == ("0",)


def test_wrong_arguments_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got int"):
        ft.quantize(3)
    with pytest.raises(fc.errors.UnsupportedError, match="dtype='int4' is not supported; supported: int8"):
        ft.quantize(model, "int4")
    with pytest.raises(fc.errors.UnsupportedError, match="inputs='int4' is not supported; supported: int8, int16"):
        ft.quantize(model, inputs="int4")
    with pytest.raises(ValueError, match="keep: 'head' is not a submodule; submodules: 0"):
        ft.quantize(model, keep=["0", "head"])
    with pytest.raises(ValueError, match="nothing in it is rounded"):
        ft.quantize(model, keep="0")
    assert type(model[0]) is nn.Linear
    assert ft.quantize(OnlyBuilt()) == ("",)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_calls_that_do_not_fit_are_refused(name: str) -> None:
    module = module_of(name, 3, 4)
    ft.quantize(module)
    with pytest.raises((ValueError, RuntimeError), match="input"):
        module(torch.zeros(2, 2))
    with pytest.raises((ValueError, RuntimeError), match=r"hx: expected|[Hh]idden"):
        module(torch.zeros(2, 3), states(module, 3))


def test_exports_are_refused_and_say_what_to_do() -> None:
    layer = module_of("GRU", 3, 4)
    ft.quantize(layer)
    with pytest.raises(fc.errors.UnsupportedError, match=r"QATGRU trains, .*unquantize\(model\) first"):
        torch.export.export(layer, (torch.zeros(2, 3),), strict=False)
