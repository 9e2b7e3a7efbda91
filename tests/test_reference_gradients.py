"""Derivatives of `fusedcell.reference`: those of differences of the reference itself, and of autograd in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusedcell import reference

STEPS, BATCH, INPUTS, UNITS = 6, 3, 4, 5
KINDS = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}
LENGTHS = np.array([6, 0, 4])

pytestmark = [pytest.mark.core, pytest.mark.any_cpu]  # NumPy computes it


def problem(kind: str, layers: int = 2, directions: int = 2, bias: bool = True) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    rows = KINDS[kind] * UNITS
    mapping: dict[str, np.ndarray] = {}
    for layer in range(layers):
        inputs = INPUTS if layer == 0 else directions * UNITS
        for end in (f"_l{layer}", f"_l{layer}_reverse")[:directions]:
            shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, UNITS), "bias_ih": (rows,), "bias_hh": (rows,)}
            mapping |= {
                name + end: rng.normal(size=shape) * 0.5 for name, shape in list(shapes.items())[: 2 + 2 * bias]
            }
    parts = 2 if kind == "lstm" else 1
    states = [tuple(rng.normal(size=(layers * directions, BATCH, UNITS)) for _ in range(parts)) for _ in range(2)]
    return {
        "x": rng.normal(size=(STEPS, BATCH, INPUTS)),
        "mapping": mapping,
        "state": states[0],
        "dy": rng.normal(size=(STEPS, BATCH, directions * UNITS)),
        "dstate": states[1],
    }


def holes() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    return {"lengths": LENGTHS, "mask": rng.random((STEPS, BATCH)) < 0.7, "resets": rng.random((STEPS, BATCH)) < 0.3}


@pytest.mark.parametrize("options", [{}, {"lengths": LENGTHS}, holes()], ids=["plain", "lengths", "holes"])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_those_of_small_differences(kind: str, options: dict[str, Any]) -> None:
    given = problem(kind)
    found = reference.gradients(kind, **given, **options)
    rng = np.random.default_rng(9)
    step = 1e-6

    def loss(x: np.ndarray, state: tuple[np.ndarray, ...], mapping: dict[str, np.ndarray]) -> float:
        run = reference.gradients(kind, x, mapping, state, **options)
        return float(
            (run.y * given["dy"]).sum() + sum((a * b).sum() for a, b in zip(run.state, given["dstate"], strict=True))
        )

    def way(array: np.ndarray) -> np.ndarray:
        return rng.normal(size=array.shape)

    for moved in ("x", "state", *given["mapping"]):
        x, state, mapping = given["x"], given["state"], given["mapping"]
        if moved == "x":
            ways = [way(x)]
            ends = [loss(x + sign * step * ways[0], state, mapping) for sign in (1, -1)]
            derivatives = [found.x]
        elif moved == "state":
            ways = [way(part) for part in state]
            ends = [
                loss(x, tuple(p + s * step * w for p, w in zip(state, ways, strict=True)), mapping) for s in (1, -1)
            ]
            derivatives = list(found.initial)
        else:
            ways = [way(mapping[moved])]
            ends = [loss(x, state, mapping | {moved: mapping[moved] + s * step * ways[0]}) for s in (1, -1)]
            derivatives = [found.weights[moved]]
        expected = sum((a * b).sum() for a, b in zip(derivatives, ways, strict=True))
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=1e-6, abs=1e-6), moved


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_run_is_the_layer(kind: str) -> None:
    given, options = problem(kind), {"lengths": LENGTHS, "mask": holes()["mask"]}
    run = reference.gradients(kind, given["x"], given["mapping"], given["state"], **options)
    keywords = {"nonlinearity": kind[4:]} if kind.startswith("rnn") else {}
    layer = getattr(reference, kind[:3] if keywords else kind)
    state = given["state"] if kind == "lstm" else given["state"][0]
    y, last = layer(given["x"], given["mapping"], state, **options, **keywords)
    np.testing.assert_allclose(run.y, y, atol=1e-14)
    for actual, expected in zip(run.state, last if kind == "lstm" else (last,), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reset_parts_a_sequence_in_both_directions(kind: str) -> None:
    given = problem(kind, layers=1)
    resets = np.zeros((STEPS, BATCH), bool)
    resets[4] = True
    whole = reference.gradients(kind, given["x"], given["mapping"], given["state"], resets=resets)
    first, rest = (
        reference.gradients(kind, given["x"][steps], given["mapping"]).y for steps in (slice(0, 4), slice(4, None))
    )
    np.testing.assert_allclose(whole.y[:4, :, UNITS:], first[..., UNITS:], atol=1e-14)
    np.testing.assert_allclose(whole.y[4:, :, :UNITS], rest[..., :UNITS], atol=1e-14)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_those_of_autograd(kind: str, bias: bool) -> None:
    torch = pytest.importorskip("torch")
    given = problem(kind, bias=bias)
    keywords = {"nonlinearity": kind[4:]} if kind.startswith("rnn") else {}
    cls = getattr(torch.nn, kind.upper()[:3] if keywords else kind.upper())
    module = cls(INPUTS, UNITS, 2, bias=bias, bidirectional=True, **keywords).double()
    module.load_state_dict({key: torch.from_numpy(value) for key, value in given["mapping"].items()})
    x, *state = (torch.from_numpy(array).requires_grad_() for array in (given["x"], *given["state"]))
    y, last = module(x, tuple(state) if kind == "lstm" else state[0])
    outputs = [y, *(last if kind == "lstm" else (last,))]
    expected = torch.autograd.grad(
        outputs,
        [x, *state, *module.parameters()],
        [torch.from_numpy(array) for array in (given["dy"], *given["dstate"])],
    )
    found = reference.gradients(kind, **given)
    keys = [name for name, _ in module.named_parameters()]
    for actual, wanted in zip((found.x, *found.initial, *(found.weights[k] for k in keys)), expected, strict=True):
        np.testing.assert_allclose(actual, wanted.numpy(), atol=1e-12)


def test_arguments_that_do_not_fit_are_named() -> None:
    given = problem("lstm")
    with pytest.raises(ValueError, match="kind: expected one of rnn_tanh, rnn_relu, gru, lstm, got 'peephole'"):
        reference.gradients("peephole", **given)
    with pytest.raises(ValueError, match="dy: expected"):
        reference.gradients("lstm", **(given | {"dy": given["dy"][1:]}))
    with pytest.raises(ValueError, match="resets: expected"):
        reference.gradients("lstm", **given, resets=np.zeros(3, bool))
