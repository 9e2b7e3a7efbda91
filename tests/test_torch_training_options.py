"""What fusedcell.torch's layers have beyond PyTorch's: draws, masks, checkpoints; and projections.

The derivatives are those of autograd in float64, through the same formulas step by step.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
from fusedcell import _core, reference
from torch_models import LAYERS, assert_same_bits, ft, nn, torch

TOLERANCE = 2e-5  # of the largest derivative
STREAMS = 4  # of a layer in one direction
every_layer = pytest.mark.parametrize("name", LAYERS)


def seed_of(seed: int) -> int:
    """The number that a call takes of PyTorch's generator after this seed, which is set again."""
    torch.manual_seed(seed)
    drawn = int(torch.empty((), dtype=torch.int64).random_())
    torch.manual_seed(seed)
    return drawn


def step(mode: str, weights: dict[str, Any], x: Any, h: Any, h_dropped: Any, c: Any) -> tuple[Any, Any]:
    """The new h, before a projection, and c."""
    a_x = nn.functional.linear(x, weights["weight_ih"], weights.get("bias_ih"))
    a_h = nn.functional.linear(h_dropped, weights["weight_hh"], weights.get("bias_hh"))
    if mode == "GRU":
        (x_r, x_z, x_n), (h_r, h_z, h_n) = a_x.chunk(3, -1), a_h.chunk(3, -1)
        z = torch.sigmoid(x_z + h_z)
        return (1 - z) * torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n) + z * h, c
    if mode != "LSTM":
        return (torch.tanh if mode == "RNN_TANH" else torch.relu)(a_x + a_h), c
    i, f, g, o = (a_x + a_h).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def looped(
    module: Any, parameters: dict[str, Any], x: Any, states: list[Any], seed: int, lengths: Any, mask: Any, resets: Any
) -> list[Any]:
    """y and the last states of the module, x (T, B, I)."""
    steps, batch, _ = x.shape
    outputs = module.proj_size or module.hidden_size
    lengths = torch.full((batch,), steps) if lengths is None else lengths
    mask = torch.ones(steps, batch) if mask is None else mask
    resets = torch.zeros(steps, batch) if resets is None else resets
    of_h, of_c = module.zoneout if isinstance(module.zoneout, tuple) else (module.zoneout,) * 2

    def taken(stream: int, rate: float, count: int, size: int) -> Any:
        return torch.from_numpy(reference.taken(seed, stream, rate, count, batch, size))

    finals: list[Any] = []
    for layer in range(module.num_layers):
        if layer > 0 and module.dropout > 0 and module.training:
            kept = taken(len(finals) * STREAMS, module.dropout, steps, x.shape[-1])
            x = x * kept / (1 - module.dropout)
        parts = []
        for reverse in range(1 + module.bidirectional):
            at = len(finals)
            end = f"_l{layer}" + "_reverse" * reverse
            weights = {key.removesuffix(end): value for key, value in parameters.items() if key.endswith(end)}
            h, c = (state[at] for state in states) if module.mode == "LSTM" else (states[0][at], states[0][at])
            factor = torch.ones(batch, outputs)
            if module.training and module.recurrent_dropout:
                rate = module.recurrent_dropout
                factor = taken(at * STREAMS + 1, rate, 1, outputs)[0] / (1 - rate)
            shares = [
                taken(at * STREAMS + 2 + i, rate, steps, module.hidden_size)
                if module.training
                else torch.full((steps, 1, 1), 1 - rate)
                for i, rate in enumerate((of_h, of_c))
            ]
            y = [None] * steps
            for t in reversed(range(steps)) if reverse else range(steps):
                inside = (t < lengths)[:, None]
                counts = inside & (mask[t] != 0)[:, None]
                before = t + reverse
                if before < steps:
                    anew = inside & (before < lengths)[:, None] & (resets[before] != 0)[:, None]
                    h, c = torch.where(anew, 0, h), torch.where(anew, 0, c)
                h_new, c_new = step(module.mode, weights, x[t], h, h * factor, c)
                if module.proj_size:
                    h_new = h_new @ weights["weight_hr"].T
                elif of_h:
                    h_new = shares[0][t] * h_new + (1 - shares[0][t]) * h
                if of_c:
                    c_new = shares[1][t] * c_new + (1 - shares[1][t]) * c
                h, c = torch.where(counts, h_new, h), torch.where(counts, c_new, c)
                y[t] = torch.where(inside, h, 0)
            parts.append(torch.stack(y))
            finals.append((h, c))
        x = torch.cat(parts, -1)
    return [x, *(torch.stack(part) for part in list(zip(*finals, strict=True))[: len(states)])]


def derivatives(outputs: list[Any], tensors: list[Any]) -> list[Any]:
    by_outputs = [torch.arange(o.numel(), dtype=torch.float64).cos().reshape(o.shape).to(o.dtype) for o in outputs]
    return list(torch.autograd.grad(outputs, tensors, by_outputs))


def run(module: Any, x: Any, states: list[Any], **keywords: Any) -> list[Any]:
    """What the module returns, and derivatives by x, the states and the parameters."""
    x, *states = (tensor.detach().clone().requires_grad_() for tensor in (x, *states))
    y, last = module(x, tuple(states) if module.mode == "LSTM" else states[0], **keywords)
    outputs = [y, *(last if module.mode == "LSTM" else (last,))]
    return [o.detach() for o in outputs] + derivatives(outputs, [x, *states, *module.parameters()])


def given_states(module: Any, *batch: int) -> list[Any]:
    count = module.num_layers * (1 + module.bidirectional)
    sizes = [module.proj_size or module.hidden_size, module.hidden_size][: 1 + (module.mode == "LSTM")]
    return [torch.randn(count, *batch, size) * 0.5 for size in sizes]


def sequences(steps: int, batch: int) -> dict[str, Any]:
    return {
        "lengths": torch.randint(0, steps + 1, (batch,)),
        "mask": torch.rand(steps, batch) < 0.7,
        "resets": torch.rand(steps, batch) < 0.3,
    }


RATES = st.sampled_from([0.0, 0.3, 0.8])


@given(
    name=st.sampled_from([*LAYERS, "LSTM"]),
    steps=st.integers(1, 9),
    batch=st.integers(1, 7),
    inputs=st.integers(1, 30),
    units=st.integers(2, 40),
    has=st.sets(st.sampled_from(["lengths", "mask", "resets"])),
    options=st.fixed_dictionaries(
        {
            "num_layers": st.integers(1, 2),
            "bidirectional": st.booleans(),
            "bias": st.booleans(),
            "dropout": RATES,
            "recurrent_dropout": RATES,
            "checkpoint": st.booleans(),
            "num_threads": st.integers(1, 3),
        }
    ),
    of_h=RATES,
    of_c=RATES,
    projects=st.booleans(),
    training=st.booleans(),
)
def test_derivatives_are_those_of_the_formulas(
    name: str,
    steps: int,
    batch: int,
    inputs: int,
    units: int,
    has: set[str],
    options: Any,
    of_h: float,
    of_c: float,
    projects: bool,
    training: bool,
) -> None:
    torch.manual_seed(1)
    more: dict[str, Any] = {"zoneout": (of_h, of_c) if name == "LSTM" else of_h}
    if name == "LSTM" and projects:
        more = {"proj_size": units // 2}
    if name == "RNN" and projects:
        more["nonlinearity"] = "relu"
    options |= more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dropout with one layer
        module = getattr(ft, name)(inputs, units, **options).train(training)
    x, states = torch.randn(steps, batch, inputs), given_states(module, batch)
    drawn = sequences(steps, batch)
    keywords = {key: drawn[key] if key in has else None for key in drawn}
    seed = seed_of(5)
    found = run(module, x, states, **keywords)
    parameters = {key: value.detach().double().requires_grad_() for key, value in module.named_parameters()}
    own_x, *own = (tensor.double().requires_grad_() for tensor in (x, *states))
    outputs = looped(module, parameters, own_x, own, seed, **keywords)
    expected = [o.detach() for o in outputs] + derivatives(outputs, [own_x, *own, *parameters.values()])
    for actual, e in zip(found, expected, strict=True):
        assert (actual.double() - e).abs().max() <= TOLERANCE * max(e.abs().max(), 1e-6)


def everything(name: str) -> dict[str, Any]:
    """Two segments of sums, rows that end and are masked, episodes, both directions, two layers, and all draws."""
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "dropout": 0.2, "recurrent_dropout": 0.3}
    options["zoneout"] = (0.2, 0.4) if name == "LSTM" else 0.2
    return options


def computed(name: str, **options: Any) -> list[Any]:
    torch.manual_seed(4)
    module = getattr(ft, name)(5, 19, **(everything(name) | options))
    x, states, keywords = torch.randn(90, 3, 5), given_states(module, 3), sequences(90, 3)
    torch.manual_seed(6)
    return run(module, x, states, **keywords)


@every_layer
@pytest.mark.parametrize("projected", [False, True])
def test_bits_are_the_same_on_every_tier_with_any_threads_and_checkpoints(
    name: str, projected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if projected and name != "LSTM":
        pytest.skip("only an LSTM has projections")
    options = {"proj_size": 11, "zoneout": 0.0} if projected else {}
    expected = computed(name, **options)
    for isa in fc.isas():
        monkeypatch.setenv("FUSEDCELL_ISA", isa)
        assert_same_bits(computed(name, **options, checkpoint=isa != "scalar", num_threads=2), expected)


def test_the_generator_has_the_published_values() -> None:
    # The known answers that the generator's authors publish with it, of 10 rounds.
    for counter, key, words in (
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ):
        assert reference.philox4x32(np.array(counter, np.uint64), key).tolist() == words


@pytest.mark.parametrize("rate", [0.0, 1e-10, 0.25, 0.9, 1 - 1e-12, 1.0])
def test_draws_are_those_of_the_reference(rate: float) -> None:
    seed, stream, shape = 0x299F31D0A4093822, 0x03707344, (3, 5, 71)
    x = np.linspace(1, 2, 3 * 5 * 71, dtype=np.float32).reshape(shape)
    taken = reference.taken(seed, stream, rate, *shape).astype(np.float32)
    scale = np.float32(1 / (1 - rate)) if rate < 1 else np.float32(0)
    np.testing.assert_array_equal(_core.dropout(x, seed, stream, rate), x * taken * scale)
    assert abs(taken.mean() - (1 - rate)) < 0.05


def test_what_is_dropped_is_zero_whatever_it_was() -> None:
    x = np.full((1, 1, 100), np.inf, np.float32)
    assert set(_core.dropout(x, 1, 0, 0.5).ravel().tolist()) == {0.0, np.inf}


@every_layer
def test_draws_do_not_depend_on_the_arrangement(name: str) -> None:
    torch.manual_seed(1)
    module = getattr(ft, name)(4, 6, **everything(name))
    x, lengths = torch.randn(7, 3, 4), torch.tensor([7, 5, 2])

    def drawn(x: Any, **keywords: Any) -> Any:
        torch.manual_seed(2)
        return module(x, **keywords)[0]

    y = drawn(x, lengths=lengths)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths)
    assert_same_bits(nn.utils.rnn.pad_packed_sequence(drawn(packed))[0], y)
    module.batch_first = True
    assert_same_bits(drawn(x.transpose(0, 1), lengths=lengths).transpose(0, 1), y)
    assert not torch.equal(module(x.transpose(0, 1), lengths=lengths)[0].transpose(0, 1), y)  # another draw


@every_layer
def test_without_draws_nothing_is_taken_of_the_generator(name: str) -> None:
    module = getattr(ft, name)(4, 6, **everything(name)).eval()
    before = torch.get_rng_state()
    x = torch.randn(7, 3, 4)
    torch.set_rng_state(before)
    assert_same_bits(module(x)[0], module(x)[0])
    assert torch.equal(torch.get_rng_state(), before)


@every_layer
@pytest.mark.parametrize("batch_first", [False, True])
def test_masked_training_has_the_bits_of_inference(name: str, batch_first: bool) -> None:
    torch.manual_seed(1)
    options = {"proj_size": 3} if name == "LSTM" else {}
    module = getattr(ft, name)(4, 6, 2, bidirectional=True, batch_first=batch_first, **options)
    x, mask, lengths = torch.randn(7, 7, 4), torch.rand(7, 7) < 0.6, torch.randint(0, 8, (7,))
    found = module(x, lengths=lengths, mask=mask.to(torch.float32))
    assert found[0].grad_fn is not None
    with torch.no_grad():
        assert_same_bits(found, module(x, lengths=lengths, mask=mask.int()))
    layer = fc.from_torch(module)
    assert_same_bits(found[0], layer(x.numpy(), lengths=lengths.numpy(), mask=mask.numpy())[0])


def test_one_sequence_has_a_mask_of_its_steps() -> None:
    module = ft.GRU(4, 6)
    x, mask = torch.randn(7, 4), torch.rand(7) < 0.6
    y, _ = module(x, mask=mask)
    assert_same_bits(y, module(x[:, None], mask=mask[:, None])[0][:, 0])
    with torch.no_grad():
        assert_same_bits(y, module(x, mask=mask)[0])


@every_layer
def test_options_that_do_not_fit_are_refused_by_name(name: str) -> None:
    cls = getattr(ft, name)
    for options in ({"recurrent_dropout": 1.5}, {"zoneout": -0.1}, {"recurrent_dropout": "much"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected a rate from 0 to 1"):
            cls(3, 4, **options)
    module = cls(3, 4)
    x = torch.randn(5, 2, 3)
    with pytest.raises(ValueError, match="mask: expected shape"):
        module(x, mask=torch.ones(2, 5))
    with pytest.raises(ValueError, match="mask: expected bools, or 0 and 1"):
        module(x, mask=torch.full((5, 2), 0.5))
    module.zoneout = 0.1
    with pytest.raises(fc.UnsupportedError, match=r"zoneout=0\.1 is trained, but not run"):
        fc.from_torch(module)
    with pytest.raises(fc.UnsupportedError, match="zoneout"):
        fc.Model.from_torch(nn.Sequential(module).eval(), x)
    module.train()
    module.zoneout, module.recurrent_dropout = 0.0, 0.2
    with pytest.raises(fc.UnsupportedError, match=r"recurrent_dropout=0\.2 in training mode"):
        fc.from_torch(module)
    assert_same_bits(fc.from_torch(module.eval())(x.numpy())[0], module(x)[0])
    assert repr(module).endswith("recurrent_dropout=0.2)")
    if name == "LSTM":
        with pytest.raises(fc.UnsupportedError, match=r"zoneout: 0\.1 with proj_size=2"):
            cls(3, 4, proj_size=2, zoneout=0.1)
    else:
        with pytest.raises(ValueError, match="zoneout: expected a rate"):
            cls(3, 4, zoneout=(0.1, 0.2))
