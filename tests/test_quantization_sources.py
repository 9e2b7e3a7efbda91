"""Where the error of narrower weights comes from: against the reference's int8 on the layer's own states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import _core
from fusedcell.cell_options import CellOptions
from fusedcell.quantization import compare, products, single, sources
from fusedcell.reference import int8_linear, quantise_input, quantise_weights
from fusedcell.reference.activations import sigmoid
from models import EVERY_KIND, GeneralKind, Kind, reference_function, uniform

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
stacks = pytest.mark.parametrize("directions", [1, 2])


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("scale", [None, 0.01])
def test_inputs_are_rounded_to_the_integers_of_the_definition(bounded: bool, scale: float | None, isa: str) -> None:
    for size in (1, 7, 16, 33):
        x = (
            uniform(size, 9, size)
            * np.float32(2) ** np.array([-140, -101, -99, -7, 0, 3, 99, 0, 0], np.float32)[:, None]
        )
        x[-2, -1], x[-1, 0] = np.nan, -np.inf
        q, scales = _core.quantise(x, bounded, scale or 0, isa)
        for actual, expected in zip((q, scales), quantise_input(x, bounded=bounded, static_scale=scale), strict=True):
            np.testing.assert_array_equal(actual, expected)


@every_kind
@stacks
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_single_layers_chained_give_the_same_bits(kind: Kind, directions: int, dtype: str) -> None:
    layer = kind.make(kind.weights(6, 9, layers=3, directions=directions))
    layer = layer.astype(dtype, input_scales=[0.01, 0.02, 0.005] if dtype == "int8" else None)
    x = uniform(3, 12, 2, 6)
    y = x
    singles: Any
    for singles in single.single_layers(layer):
        outputs = [part(y[::-1] if reverse else y)[0] for reverse, part in enumerate(singles)]
        y = single.joined(outputs, single.reverse_flags(layer))
    np.testing.assert_array_equal(y, layer(x)[0])


def functions_of(kind: Kind) -> tuple[Any, Any]:
    """A gate of its pre-activation, and h() of c."""
    options = kind.cell_options if isinstance(kind, GeneralKind) else CellOptions()
    given = [reference_function(activation) for activation in options.activations or ()]
    clip = np.inf if options.clip is None else options.clip
    f, h = given[0] if given else sigmoid, given[-1] if given else np.tanh
    return lambda a: f(np.clip(a, -clip, clip)), h


def one_step_errors(
    kind: Kind, arrays: dict[str, np.ndarray], x: np.ndarray, input_scale: float | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """y of a cell over time, and each gate's int8 pre-activation minus the exact one, all (T, B, units)."""
    cell = kind.make_cell(arrays)
    state: Any = None
    before: list[Any] = []
    after: list[Any] = []
    cells: list[Any] = []
    for step in x:
        before.append(np.zeros((len(step), cell.proj_size or cell.hidden_size)) if state is None else after[-1])
        state = cell(step, state)
        after.append(state[0] if isinstance(state, tuple) else state)
        cells.append(state[-1])
    h = np.array(before, np.float32)
    gate, output = functions_of(kind)
    bounded = not kind.projected and kind.name not in ("rnn_relu", "rnn_elu", "lstm_hard", "gru_before_leaky")

    def pair(name: str, values: np.ndarray, bounded: bool, scale: float | None = None) -> list[list[np.ndarray]]:
        weights = arrays[name]
        bias = arrays.get(name.replace("weight", "bias"), np.zeros(len(weights))).astype(np.float64)
        exact = values.astype(np.float64) @ weights.T.astype(np.float64) + bias
        rounded = int8_linear(values, *quantise_weights(weights), bounded=bounded, static_scale=scale, start=bias)
        return [np.split(product, kind.gates if name != "weight_hr" else 1, axis=-1) for product in (exact, rounded)]

    (x_exact, x_rounded), (h_exact, h_rounded) = (
        pair("weight_ih", x, False, input_scale),
        pair("weight_hh", h, bounded),
    )
    errors = {
        gate: x_rounded[k] - x_exact[k] + h_rounded[k] - h_exact[k]
        for k, gate in enumerate({1: "h", 3: "rzn", 4: "ifgo"}[kind.gates])
    }
    if kind.name == "lstm_coupled":
        del errors["f"]
    if kind.gates == 3:
        r = gate(x_exact[0] + h_exact[0])
        if kind.options["reset_after"]:
            recurrent = r * (h_rounded[2] - h_exact[2])
        else:
            exact, rounded = pair("weight_hh", r * h, bounded)
            recurrent = rounded[2] - exact[2]
        errors["n"] = x_rounded[2] - x_exact[2] + recurrent
    if kind.projected:
        m = gate(x_exact[3] + h_exact[3]) * output(np.array(cells).astype(np.float64))
        exact, rounded = pair("weight_hr", m, kind.name == "lstm_projected")
        errors["projection"] = rounded[0] - exact[0]
    return np.array(after), errors


def all_one_step_errors(
    kind: Kind, mapping: dict[str, np.ndarray], x: np.ndarray, directions: int, scales: list[float] | None
) -> Iterator[tuple[tuple[int, str, str], np.ndarray]]:
    for layer in range(2):
        outputs = []
        for direction in range(directions):
            end = f"_l{layer}" + "_reverse" * direction
            arrays = {name.removesuffix(end): a for name, a in mapping.items() if name.endswith(end)}
            arrays = {name: a for name, a in arrays.items() if "_l" not in name}
            flip = slice(None, None, -1 if direction else 1)
            y, errors = one_step_errors(kind, arrays, x[flip], scales[layer] if scales else None)
            outputs.append(y[flip])
            for gate, error in errors.items():
                yield (layer, ("forward", "reverse")[direction], gate), error
        x = np.concatenate(outputs, axis=-1)


@every_kind
@stacks
@pytest.mark.parametrize("scales", [None, [0.01, 0.005]], ids=["by_row", "fixed"])
def test_sources_and_rows_are_the_error_of_one_step(kind: Kind, directions: int, scales: Any) -> None:
    mapping = kind.weights(5, 8, layers=2, directions=directions)
    layer = kind.make(mapping)
    x = uniform(4, 15, 3, 5)
    comparison = compare(layer, layer.astype("int8", input_scales=scales), x, rows=4)
    errors = dict(all_one_step_errors(kind, mapping, x, directions, scales))
    assert [(source.layer, source.direction, source.gate) for source in comparison.sources] == list(errors)
    for source, error in zip(comparison.sources, errors.values(), strict=True):
        assert source.rms == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)

    whole = sum((error**2).mean(axis=(0, 1)).sum() for error in errors.values())
    largest = sorted((e for error in errors.values() for e in (error**2).mean(axis=(0, 1))), reverse=True)
    assert [row.rms for row in comparison.rows] == pytest.approx(np.sqrt(largest[:4]), rel=1e-5)
    for row in comparison.rows:
        square = (errors[row.layer, row.direction, row.gate][..., row.unit] ** 2).mean()
        assert row.rms == pytest.approx(np.sqrt(square), rel=1e-5)
        assert row.share == pytest.approx(square / whole, rel=1e-5)


@every_kind
def test_parts_add_up_to_the_error_of_the_product(kind: Kind) -> None:
    mapping = kind.weights(7, 12)
    before = kind.make(mapping)
    for after in (before.astype("int8"), before.astype("int8", input_scales=[0.02]), before.astype("float16")):
        matrices, narrower = products.matrices_of(before), products.matrices_of(after)
        assert set(matrices) == {name.removesuffix("_l0") for name in mapping if name.startswith("weight")} - {
            "weight_peephole"
        }
        for name, matrix in matrices.items():
            x = uniform(5, 20, matrix.weights.shape[1])
            whole = narrower[name].product(x) - matrix.product(x)
            parts = products.product_errors(matrix, narrower[name], x)
            np.testing.assert_allclose(parts[0] + parts[1], whole, rtol=0, atol=1e-14)


@every_kind
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_round_no_inputs(kind: Kind, dtype: str) -> None:
    layer = kind.make(kind.weights(5, 8, layers=2, directions=2))
    comparison = compare(layer, layer.astype(dtype), uniform(6, 10, 2, 5))
    assert comparison.rms > 0
    for source in comparison.sources:
        assert source.rms > 0
        assert all((part > 0) == name.startswith("weight") for name, part in source.parts.items())


def test_biases_that_differ_count_with_the_weights() -> None:
    weights = {"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.zeros((1, 1)), "bias_hh_l0": np.zeros(1)}
    one, other = (
        fc.RNN.from_state_dict({**weights, "bias_ih_l0": np.array([bias])}, nonlinearity="relu") for bias in (0.5, 0.75)
    )
    comparison = compare(one, other, np.array([[1], [2]], np.float32))
    assert comparison.rms == 0.25
    assert comparison.sources[0].parts == {"weight_ih": 0.25, "x": 0, "weight_hh": 0, "h": 0}


@every_kind
def test_parts_of_long_data_are_summed(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = kind.make(kind.weights(5, 8))
    x = uniform(9, 40, 3, 5)
    at_once = compare(layer, layer.astype("int8"), x)
    monkeypatch.setattr(sources, "_VALUES_AT_A_TIME", 200)
    for part, whole in zip(compare(layer, layer.astype("int8"), x).sources, at_once.sources, strict=True):
        assert part.rms == pytest.approx(whole.rms, rel=1e-9)
        assert part.parts == pytest.approx(whole.parts, rel=1e-9)
