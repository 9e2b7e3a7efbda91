"""return_cells= and return_gates=: every c and every gate of a run, and a y with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import reference
from models import EVERY_KIND, KIND, GeneralKind, Kind, flat, reference_function, reference_options, uniform

GATED = [kind for kind in EVERY_KIND if kind.gates > 1]
every_gated = pytest.mark.parametrize("kind", GATED, ids=lambda kind: kind.name)
INPUT_SIZE = 9

pytestmark = pytest.mark.float_weights


def wanted(kind: Kind) -> dict[str, bool]:
    return {"return_cells": True, "return_gates": True} if kind.gates == 4 else {"return_gates": True}


def arrays_of(trace: Any) -> list[np.ndarray]:
    return [array for array in trace if array is not None]


def expected_lstm(kind: Kind, mapping: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c (T, H) and gates (T, 4, H) of one sequence, by the reference's step."""
    options = reference_options(kind.cell_options) if isinstance(kind, GeneralKind) else {}
    arrays: dict[str, Any] = {name.removesuffix("_l0"): value for name, value in mapping.items()}
    peephole = arrays.pop("weight_peephole", None)
    h, c = np.zeros(arrays["weight_hh"].shape[1]), np.zeros(len(arrays["weight_hh"]) // 4)
    cells, gates = [], []
    for x_t in x:
        h, c, values = reference.lstm_step(x_t, h, c, **arrays, peephole=peephole, **options)
        cells.append(c)
        gates.append(values)
    return np.array(cells), np.array(gates)


def expected_gru(kind: Kind, mapping: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """r, z and n (T, 3, H) of one sequence, written out, with h from the reference's step."""
    options = kind.cell_options if isinstance(kind, GeneralKind) else None
    given = reference_options(options) if options else {}
    names = options.activations if options else None
    f, g = map(reference_function, names) if names else (reference.activation("Sigmoid"), reference.activation("Tanh"))
    bound = given.get("clip", np.inf)
    W, R, b, b_h = (mapping[name + "_l0"].astype(float) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    (Rr, Rz, Rn), (br, bz, bn) = np.split(R, 3), np.split(b_h, 3)
    h, gates = np.zeros(R.shape[1]), []
    for x_t in x:
        pr, pz, pn = np.split(W @ x_t + b, 3)
        r = f(np.clip(pr + Rr @ h + br, -bound, bound))
        z = f(np.clip(pz + Rz @ h + bz, -bound, bound))
        a = r * (Rn @ h + bn) if kind.options["reset_after"] else Rn @ (r * h) + bn
        gates.append([r, z, g(np.clip(pn + a, -bound, bound))])
        h = reference.gru_step(x_t, h, W, R, b, b_h, reset_after=kind.options["reset_after"], **given)
    return np.array(gates)


@pytest.mark.core
@every_gated
@pytest.mark.parametrize("hidden_size", [1, 8, 17, 33])
def test_cells_and_gates_are_those_of_the_reference(kind: Kind, hidden_size: int, isa: str) -> None:
    mapping = kind.weights(INPUT_SIZE, hidden_size)
    x = uniform(51, 12, INPUT_SIZE)
    *_, trace = kind.make(mapping, isa=isa)(x, **wanted(kind))
    if kind.gates == 4:
        cells, gates = expected_lstm(kind, mapping, x)
        np.testing.assert_allclose(trace.cells, cells[None], rtol=0, atol=2e-6)
    else:
        gates = expected_gru(kind, mapping, x)
        assert trace.cells is None
    np.testing.assert_allclose(trace.gates, gates[None], rtol=0, atol=2e-6)


@pytest.mark.core
@every_gated
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("batch", [1, 7])
def test_y_and_the_state_have_the_same_bits_with_a_trace(kind: Kind, dtype: str, batch: int, isa: str) -> None:
    layer = kind.make(kind.weights(INPUT_SIZE, 33, layers=2), dtype=dtype, isa=isa)
    x = uniform(52, 20, batch, INPUT_SIZE)
    *result, _ = layer(x, **wanted(kind))
    for a, e in zip(flat(result), flat(layer(x)), strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.any_cpu
@pytest.mark.core
@every_gated
def test_every_tier_traces_the_same_bits(kind: Kind) -> None:
    mapping = kind.weights(INPUT_SIZE, 33, layers=2, directions=2)
    x = uniform(53, 5, 7, INPUT_SIZE)
    traces = [arrays_of(kind.make(mapping, isa=tier)(x, **wanted(kind))[-1]) for tier in fc.isas()]
    for trace in traces[1:]:
        for a, e in zip(trace, traces[0], strict=True):
            np.testing.assert_array_equal(a, e)


@every_gated
def test_layers_and_directions_are_in_the_order_of_the_states(kind: Kind) -> None:
    mapping = kind.weights(INPUT_SIZE, 17, layers=2, directions=2)
    x = uniform(54, 11, 3, INPUT_SIZE)
    *_, trace = kind.make(mapping)(x, **wanted(kind))

    def only(suffix: str) -> Any:
        own = {name.removesuffix(suffix) + "_l0": a for name, a in mapping.items() if name.endswith(suffix)}
        return kind.make(own)

    below = x
    for layer in range(2):
        outputs = []
        for direction, suffix in enumerate((f"_l{layer}", f"_l{layer}_reverse")):
            order = slice(None, None, -1 if direction else 1)
            y, _, alone = only(suffix)(below[order], **wanted(kind))
            outputs.append(y[order])
            for whole, part in zip(arrays_of(trace), arrays_of(alone), strict=True):
                np.testing.assert_array_equal(whole[2 * layer + direction], part[0][order])
        below = np.concatenate(outputs, axis=-1)


@every_gated
@pytest.mark.parametrize("directions", [1, 2])
def test_masked_steps_hold_c_and_have_no_gates_and_past_the_end_is_zero(kind: Kind, directions: int) -> None:
    layer = kind.make(kind.weights(INPUT_SIZE, 17, layers=3, directions=directions))
    x = uniform(55, 90, 4, INPUT_SIZE)
    lengths = np.array([90, 0, 50, 41])
    mask = uniform(56, 90, 4) > -0.5
    *_, trace = layer(x, lengths=lengths, mask=mask, **wanted(kind))
    inside = np.arange(90)[:, None] < lengths
    assert not trace.gates[:, ~(inside & mask)].any()
    for row in range(4):
        counting = (inside & mask)[:, row]
        *_, alone = layer(x[counting, row], **wanted(kind))
        np.testing.assert_array_equal(trace.gates[:, counting, row], alone.gates)
        if trace.cells is not None:
            np.testing.assert_array_equal(trace.cells[:, counting, row], alone.cells)
    if trace.cells is not None:
        assert not trace.cells[:, ~inside].any()
        held = (inside & ~mask)[1:]
        if directions == 1:
            np.testing.assert_array_equal(trace.cells[:, 1:][:, held], trace.cells[:, :-1][:, held])


@every_gated
def test_shapes_follow_x(kind: Kind) -> None:
    mapping = kind.weights(INPUT_SIZE, 17, layers=2)
    x = uniform(57, 6, 3, INPUT_SIZE)
    *_, trace = kind.make(mapping)(x, **wanted(kind))
    *_, first = kind.make(mapping, batch_first=True)(x.swapaxes(0, 1), **wanted(kind))
    *_, alone = kind.make(mapping)(x[:, 2], **wanted(kind))
    assert trace.gates.shape == (2, 6, 3, kind.gates, 17)
    for array, batch_first, one in zip(arrays_of(trace), arrays_of(first), arrays_of(alone), strict=True):
        np.testing.assert_array_equal(batch_first.swapaxes(1, 2), array)
        np.testing.assert_array_equal(one, array[:, :, 2])


@every_gated
@pytest.mark.parametrize("shape", [{"hidden_size": 300}, {"hidden_size": 100, "layers": 3}], ids=str)
def test_threads_trace_the_same_bits(kind: Kind, shape: dict[str, Any]) -> None:
    layer = kind.make(kind.weights(40, **shape))
    x, mask = uniform(58, 90, 4, 40), uniform(59, 90, 4) > -0.5
    one, three = (layer(x, mask=mask, num_threads=n, **wanted(kind)) for n in (1, 3))
    for a, e in zip(arrays_of(three[-1]), arrays_of(one[-1]), strict=True):
        np.testing.assert_array_equal(a, e)


def test_only_what_is_asked_for_is_there() -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(3, 5))
    x = uniform(60, 4, 2, 3)
    assert len(layer(x)) == 2
    assert layer(x, return_cells=True)[-1].gates is None
    assert layer(x, return_gates=True)[-1].cells is None
    np.testing.assert_array_equal(layer(x, return_cells=True)[-1].cells[0, -1], layer(x)[1][1][0])
