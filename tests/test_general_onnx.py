"""Any attributes of the ONNX operators RNN, GRU and LSTM: the layer that they describe agrees with their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drawn import examples, note_difference
from fusedcell import reference
from fusedcell.cell_options import Activation, CellOptions
from fusedcell.reference import ACTIVATIONS
from fusedcell.reference.activations import activation_parameters
from models import layer_from_cells, uniform

pytestmark = pytest.mark.core

# The operator's blocks in the order that a layer wants: i f g o of i o f c, r z n of z r h, and i f o of i o f.
BLOCKS = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}
PEEPHOLE_BLOCKS = [0, 2, 1]
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
SPECIFICATION: dict[str, Any] = {"RNN": reference.onnx_rnn, "GRU": reference.onnx_gru, "LSTM": reference.onnx_lstm}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}

SHIFT, MOST_GROWTH = 1e-3, 10  # of biases, and how much more of it an answer may show

parameters = st.floats(-1, 1, width=32)


@st.composite
def activations(draw: st.DrawFn) -> Activation:
    name = draw(st.sampled_from(ACTIVATIONS))
    return Activation(name, **{parameter: draw(parameters) for parameter in activation_parameters(name)})


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    op = draw(st.sampled_from(list(BLOCKS)))
    direction = draw(st.sampled_from(list(DIRECTIONS)))
    count, gates = DIRECTIONS[direction], len(BLOCKS[op])
    steps, batch, inputs, units = (draw(st.integers(1, largest)) for largest in (6, 5, 9, 20))
    seed = draw(st.integers(1, 99))

    def array(index: int, *shape: int, scale: float = 1.0) -> np.ndarray:
        return uniform(1000 * seed + index, *shape) * np.float32(scale)

    tensors = {
        "X": array(0, steps, batch, inputs),
        "W": array(1, count, gates * units, inputs, scale=1 / np.sqrt(inputs + 3)),
        "R": array(2, count, gates * units, units, scale=1 / np.sqrt(units + 3)),
        "B": array(3, count, 2 * gates * units, scale=0.2),
        "initial_h": array(4, count, batch, units),
    }
    attributes: dict[str, Any] = {"direction": direction, "clip": draw(st.none() | st.floats(0.125, 4, width=32))}
    if op == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if op == "LSTM":
        tensors["initial_c"] = array(5, count, batch, units)
        attributes |= {"input_forget": draw(st.integers(0, 1)), "clip_before_h": draw(st.booleans())}
        if draw(st.booleans()):
            tensors["P"] = array(6, count, 3 * units, scale=0.5)
    functions = None
    if draw(st.booleans()):
        number = count * FUNCTIONS[op]
        functions = draw(st.lists(activations(), min_size=number, max_size=number))
    lengths = draw(st.none() | st.lists(st.integers(0, steps), min_size=batch, max_size=batch))
    return {"op": op, "tensors": tensors, "attributes": attributes, "functions": functions, "lengths": lengths}


def layer_of(case: dict[str, Any]) -> Any:
    op, tensors, attributes = case["op"], case["tensors"], case["attributes"]
    count, gates = DIRECTIONS[attributes["direction"]], len(BLOCKS[op])

    def reordered(array: np.ndarray, blocks: list[int]) -> np.ndarray:
        parts = np.split(array, len(blocks))
        return np.concatenate([parts[block] for block in blocks])

    cells, options = [], []
    for d in range(count):
        bias_ih, bias_hh = np.split(tensors["B"][d], 2)
        arrays = {"weight_ih": tensors["W"][d], "weight_hh": tensors["R"][d], "bias_ih": bias_ih, "bias_hh": bias_hh}
        cells.append({name: reordered(array, BLOCKS[op]) for name, array in arrays.items()})
        if "P" in tensors:
            cells[-1]["weight_peephole"] = reordered(tensors["P"][d], PEEPHOLE_BLOCKS)
        functions = case["functions"]
        options.append(
            CellOptions(
                functions and tuple(functions[d * FUNCTIONS[op] :][: FUNCTIONS[op]]),
                attributes["clip"],
                attributes.get("clip_before_h", True),
                attributes.get("input_forget", 0) == 1,
            )
        )
    before_or_after = "after" if attributes.get("linear_before_reset") else "before"
    kind = {"RNN": "rnn_tanh", "LSTM": "lstm", "GRU": f"gru_reset_{before_or_after}"}[op]
    assert len(cells[0]["weight_ih"]) % gates == 0
    reverse = attributes["direction"] == "reverse"
    return layer_from_cells(kind, cells, num_directions=count, options=options, reverse=reverse)


@settings(max_examples=examples(100))
@given(case=cases())
def test_any_attributes_agree_with_the_definition(case: dict[str, Any]) -> None:
    tensors, attributes, functions = case["tensors"], dict(case["attributes"]), case["functions"]
    if functions:
        attributes["activations"] = [item.name for item in functions]
        for parameter in ("alpha", "beta"):
            taken = [item for item in functions if parameter in activation_parameters(item.name)]
            attributes[f"activation_{parameter}"] = [getattr(item, parameter) for item in taken]
    Y, *expected = SPECIFICATION[case["op"]](**tensors, **attributes, sequence_lens=case["lengths"])
    layer = layer_of(case)
    state = (tensors["initial_h"], tensors["initial_c"]) if case["op"] == "LSTM" else tensors["initial_h"]
    y, end = layer(tensors["X"], state, lengths=case["lengths"])
    steps, count, batch, units = Y.shape
    expected_y = Y.transpose(0, 2, 1, 3).reshape(steps, batch, count * units)
    actual, expected = [y, *(end if isinstance(end, tuple) else [end])], [expected_y, *expected]
    # Where a recurrence of unbounded functions makes any difference larger at each step, it does so with what each
    # rounding is off, too.
    moved = tensors | {"B": tensors["B"] + np.float32(SHIFT)}
    Y_moved, *_ = SPECIFICATION[case["op"]](**moved, **attributes, sequence_lens=case["lengths"])
    assume(np.abs(Y_moved - Y).max(initial=0) < MOST_GROWTH * SHIFT)
    note_difference(actual, expected)
    for a, e in zip(actual, expected, strict=True):
        # Unbounded functions make states of any size, whose errors are relative.
        np.testing.assert_allclose(a, e, rtol=0, atol=2e-6 * max(1.0, float(np.abs(e).max())))
