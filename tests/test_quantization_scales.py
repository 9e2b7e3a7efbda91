"""Fixed scales of int8 inputs found from data: values worked by hand, blocks against one array, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.quantization import input_scales
from models import EVERY_KIND, Kind, one_unit, uniform

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
stacks = pytest.mark.parametrize("directions", [1, 2])


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_scales_worked_by_hand() -> None:
    layer = one_unit([1, 1], 0)
    x = np.array([[0.5, -2.54], [1.27, 0]])
    assert input_scales(layer, x) == (float(np.float32(2.54) / np.float32(127)),)
    assert input_scales(layer, x) == pytest.approx([0.02])
    assert input_scales(layer, x, headroom=1.5) == pytest.approx([0.03])


def test_scales_of_states_that_go_on() -> None:
    # Layer 0 sums up: 1, 3, 6.
    layer = one_unit([1], 1, ("_l0", "_l1"))
    expected = tuple(float(np.float32(largest / 127)) for largest in (3, 6))
    assert input_scales(layer, column(1, 2, 3)) == expected
    assert input_scales(layer, [column(1), column(2, 3)]) == expected
    assert input_scales(layer, iter([column(1), column(), column(2), column(3)])) == expected
    assert input_scales(layer, np.broadcast_to(column(1, 2, 3)[:, None], (3, 4, 1))) == expected


def test_blocks_of_bidirectional_layers_are_whole_sequences() -> None:
    layer = fc.RNN.from_state_dict(
        {
            f"{name}_l{k}{end}": np.ones((1, 1 + (k and name == "weight_ih")))
            for k in range(2)
            for end in ("", "_reverse")
            for name in ("weight_ih", "weight_hh")
        },
        nonlinearity="relu",
    )
    assert input_scales(layer, column(1, 2, 3)) == pytest.approx([3 / 127, 6 / 127])
    assert input_scales(layer, [column(1), column(2, 3)]) == pytest.approx([3 / 127, 5 / 127])


@every_kind
@stacks
def test_scales_are_what_the_layers_see(kind: Kind, directions: int) -> None:
    mapping = kind.weights(5, 8, layers=3, directions=directions)
    layer = kind.make(mapping)
    x = uniform(10, 30, 2, 5)
    largest = [np.abs(x).max()]
    for layers in (1, 2):
        below = {name: a for name, a in mapping.items() if int(name.split("_l")[1][0]) < layers}
        largest.append(np.abs(kind.make(below)(x)[0]).max())
    scales = input_scales(layer, x)
    assert scales == tuple((np.array(largest) / np.float32(127)).tolist())
    if directions == 1:
        assert input_scales(layer, [x[:7], x[7:8], x[8:]]) == scales
    assert layer.astype("int8", input_scales=scales).input_scales == scales


def test_scales_that_cannot_be_found_are_refused() -> None:
    layer = one_unit([1], 1, ("_l0", "_l1"))
    for nothing in ([], np.zeros((0, 1)), [np.zeros((0, 1))]):
        with pytest.raises(ValueError, match="blocks: expected at least one step, got none"):
            input_scales(layer, nothing)
    with pytest.raises(ValueError, match="blocks: the inputs of layer 0 are all zero"):
        input_scales(layer, np.zeros((3, 1)))
    with pytest.raises(ValueError, match="blocks: the inputs of layer 1 are all zero"):
        input_scales(layer, -np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"blocks: expected scales from 2\^-100 to 2\^100, but that of layer 0"):
        input_scales(layer, np.full((3, 1), 1e-30))
    with pytest.raises(ValueError, match="blocks: expected 1 batch rows in every block, got 2"):
        input_scales(layer, [np.ones((3, 1)), np.ones((3, 2, 1))])
    with pytest.raises(TypeError, match="blocks: expected an array or an iterable of arrays, got float"):
        input_scales(layer, 1.0)
    for headroom in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="headroom: expected a finite number"):
            input_scales(layer, np.ones((3, 1)), headroom=headroom)
    with pytest.raises(ValueError, match=r"^headroom: expected scales from 2\^-100 to 2\^100, but that of layer 0"):
        input_scales(layer, np.ones((3, 1)), headroom=1e45)
    with pytest.raises(TypeError, match="headroom: expected a number, got '1'"):
        input_scales(layer, np.ones((3, 1)), headroom="1")  # type: ignore[arg-type]
