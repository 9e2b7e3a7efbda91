"""Layers: stacks, directions, projections, arrangements of the axes, initial states, lengths and empty sequences."""

from __future__ import annotations

import inspect
import pydoc
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from models import EVERY_KIND, KIND, KINDS, Kind, flat, random_state, uniform

pytestmark = [pytest.mark.core, pytest.mark.float_weights]

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)


def check(
    kind: Kind,
    mapping: dict[str, np.ndarray],
    x: np.ndarray,
    state: Any = None,
    *,
    isa: str,
    lengths: Any = None,
    batch_first: bool = False,
) -> None:
    layer = kind.make(mapping, isa=isa, batch_first=batch_first)
    actual = layer(x, state, lengths=lengths)
    expected = kind.expected(x, mapping, state, lengths=lengths, batch_first=batch_first)
    for a, e in zip(flat(actual), flat(expected), strict=True):
        assert a.shape == e.shape
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, e, rtol=0, atol=2e-6)


@every_kind
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("directions", [1, 2])
def test_stacked_and_bidirectional(kind: Kind, layers: int, directions: int, isa: str) -> None:
    mapping = kind.weights(6, 9, layers=layers, directions=directions)
    check(kind, mapping, uniform(1, 11, 4, 6), random_state(kind, mapping, 4), isa=isa)


@every_kind
def test_the_arrangement_of_the_axes(kind: Kind, isa: str) -> None:
    mapping = kind.weights(6, 9, layers=2, directions=2)
    x = uniform(2, 5, 3, 6)
    check(kind, mapping, x, isa=isa, batch_first=True)
    check(kind, mapping, x[:, 0], random_state(kind, mapping), isa=isa)
    check(kind, mapping, x[:, 0], isa=isa, batch_first=True)


@every_kind
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [(7, 7, 7), (3, 7, 0), (0, 0, 0), (1, 2, 6)])
def test_lengths_in_any_order_zeros_allowed(kind: Kind, lengths: tuple[int, ...], batch_first: bool, isa: str) -> None:
    mapping = kind.weights(6, 9, layers=2, directions=2)
    x = uniform(3, 3, 7, 6) if batch_first else uniform(3, 7, 3, 6)
    state = random_state(kind, mapping, 3)
    check(kind, mapping, x, state, isa=isa, lengths=np.array(lengths, np.int32), batch_first=batch_first)


@every_kind
def test_what_lies_past_a_length_is_never_used(kind: Kind, isa: str) -> None:
    layer = kind.make(kind.weights(6, 9, layers=2, directions=2), isa=isa)
    x = uniform(4, 5, 2, 6)
    spoilt = x.copy()
    spoilt[3:, 0] = np.nan
    for a, e in zip(flat(layer(spoilt, lengths=[3, 5])), flat(layer(x, lengths=[3, 5])), strict=True):
        np.testing.assert_array_equal(a, e)


@every_kind
@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (0, 0), (0,)])
def test_empty_sequences_and_batches_keep_the_initial_state(kind: Kind, shape: tuple[int, ...], isa: str) -> None:
    mapping = kind.weights(6, 9, layers=2, directions=2)
    state = random_state(kind, mapping, *shape[1:])
    y, end = kind.make(mapping, isa=isa)(np.zeros((*shape, 6), np.float32), state)
    assert y.shape[:-1] == shape
    for a, e in zip(flat((end,)), flat((state,)), strict=True):
        np.testing.assert_array_equal(a, e)


def test_the_callers_arrays_are_left_alone(isa: str) -> None:
    kind = KIND["lstm"]
    mapping = kind.weights(6, 9)
    x, state = uniform(5, 4, 6), random_state(kind, mapping)
    before = [array.copy() for array in (x, *state, *mapping.values())]
    kind.make(mapping, isa=isa)(x, state)
    for array, copy in zip((x, *state, *mapping.values()), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_weights_are_copied(isa: str) -> None:
    kind = KIND["gru_reset_after"]
    mapping = kind.weights(6, 9)
    layer = kind.make(mapping, isa=isa)
    x = uniform(6, 4, 6)
    before = layer(x)[0]
    for array in mapping.values():
        array[:] = 7
    np.testing.assert_array_equal(layer(x)[0], before)


@every_kind
def test_properties_are_inferred_from_names_and_shapes(kind: Kind) -> None:
    layer = kind.make(kind.weights(6, 9, layers=3, directions=2))
    assert (layer.input_size, layer.hidden_size, layer.num_layers, layer.bidirectional) == (6, 9, 3, True)
    assert layer.proj_size == (4 if kind.projected else 0)
    assert layer.output_size == (8 if kind.projected else 18)
    assert layer.dtype == "float32"
    assert layer.isa == fc.isas()[0]
    assert not layer.batch_first
    assert layer.nbytes >= sum(
        array.nbytes for array in kind.weights(6, 9, layers=3, directions=2, bias=False).values()
    )
    assert "6, 9, num_layers=3" in repr(layer)


def test_a_prefix_selects_one_module_of_a_model() -> None:
    kind = KIND["lstm"]
    mapping = kind.weights(6, 9)
    model = {f"encoder.lstm.{name}": array for name, array in mapping.items()} | {"head.weight": np.ones((2, 9))}
    x = uniform(7, 4, 6)
    np.testing.assert_array_equal(kind.make(model, prefix="encoder.lstm.")(x)[0], kind.make(mapping)(x)[0])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_the_same_as_pytorch(kind: Kind, directions: int, bias: bool, isa: str) -> None:
    torch = pytest.importorskip("torch")
    if kind.name == "gru_reset_before":
        pytest.skip("PyTorch has no such GRU")
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": directions == 2, "bias": bias}
    if kind.projected:
        options["proj_size"] = 5
    if kind.layer is fc.RNN:
        options["nonlinearity"] = kind.options["nonlinearity"]
    torch.manual_seed(0)
    module = getattr(torch.nn, kind.layer.__name__)(7, 12, **options)
    x = torch.randn(9, 3, 7)
    with torch.inference_mode():
        expected: Any = module(x)
    actual = kind.make(module.state_dict(), isa=isa)(x)
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_allclose(a, torch.as_tensor(e).numpy(), rtol=0, atol=1e-6)


@every_kind
def test_help_says_how_a_layer_is_made_and_shows_no_constructor(kind: Kind) -> None:
    layer = kind.make(kind.weights(2, 3))
    shown = pydoc.plain(pydoc.render_doc(type(layer))).partition("Method resolution order")[0]
    assert f"{type(layer).__name__}(*args" not in shown
    assert "Made of trained weights by ``from_state_dict``" in shown
    assert list(inspect.signature(layer).parameters)[:2] == ["x", "state"]
