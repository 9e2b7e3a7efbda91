"""Options, peepholes and the reverse direction come back from files and pickles, and bad ones are refused."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.cell_options import Activation, CellOptions
from fusedcell.reference.activations import ACTIVATIONS, activation_parameters
from models import KIND, KINDS, layer_from_cells, uniform
from test_storage import container, every_dtype, int8_file, layer_of, same, tiny_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "layer.safetensors"


@every_dtype
def test_options_peepholes_and_the_reverse_direction_travel(dtype: str, path: Path) -> None:
    kind = KIND["lstm_coupled"]
    layer = kind.make(kind.weights(9, 17, layers=2), dtype=dtype, reverse=True)
    fc.save(layer, path)
    x = uniform(33, 6, 2, 9)
    for clone in (fc.load(path), pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        same(clone(x), layer(x))
        assert (clone.reverse, clone.cell_options, repr(clone)) == (True, layer.cell_options, repr(layer))
    again = path.with_name("again.safetensors")
    fc.save(fc.load(path), again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.core
def test_each_direction_keeps_its_own_options() -> None:
    options = (CellOptions(clip=0.1), CellOptions((Activation("Elu", 0.3), Activation("HardSigmoid", 0.2, 0.7))))
    arrays = [{"weight_ih": uniform(i, 9, 2), "weight_hh": uniform(i + 1, 9, 3)} for i in (1, 5)]
    layer = layer_from_cells("gru_reset_before", arrays, num_directions=2, options=options)
    loaded = pickle.loads(pickle.dumps(layer))
    assert loaded.cell_options == layer.cell_options == options
    same(loaded(uniform(9, 4, 2)), layer(uniform(9, 4, 2)))


def test_layers_as_usual_are_stored_in_the_first_version_of_the_format() -> None:
    for kind in KINDS:
        description, _ = layer_of(kind, "float32")._to_tensors()
        assert description["format_version"] == 1
    kind = KIND["gru_before_clipped"]
    description, _ = layer_of(kind, "float32")._to_tensors()
    assert description["format_version"] == 2


USUAL = {"activations": None, "clip": None, "clip_before_h": True, "input_forget": False}
ELU = {"name": "Elu", "alpha": 0.5, "beta": 0.0}


def test_a_file_with_options_made_by_hand_loads(path: Path) -> None:
    path.write_bytes(tiny_file(format_version=2, reverse=True, options=[USUAL | {"activations": [ELU], "clip": 5}]))
    layer = fc.load(path)
    assert layer.cell_options == (CellOptions((Activation("Elu", 0.5),), clip=5.0),)
    # Backwards: 2 * 2 = 4, then 2 * 1 + 3 * 4, clipped to 5.
    assert layer(np.array([[1], [2]], np.float32))[0].tolist() == [[5], [4]]


# Of the second version of the format: changes to a description, the exception, and what its message has.
OPTION_MISFITS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"reverse": "yes"}, ValueError, "reverse: expected a bool, got 'yes'"),
    ({"reverse": True, "class": "RNNCell"}, fc.UnsupportedError, "'weight_hh_l0' is not an array of a cell"),
    ({"options": {}}, ValueError, "options: expected a list, got {}"),
    ({"options": None}, ValueError, "options: expected a list, got None"),
    ({"options": [{}]}, ValueError, "options: expected an object with activations, clip, clip_before_h, input_fo"),
    ({"options": [3]}, ValueError, "options: expected an object with activations"),
    ({"options": [USUAL | {"more": 1}]}, ValueError, "options: expected an object with activations"),
    ({"options": [USUAL] * 2}, ValueError, "options: expected one per layer and direction, 1, got 2"),
    ({"options": [USUAL | {"activations": "Elu"}]}, ValueError, "options: expected activations as a list"),
    ({"options": [USUAL | {"activations": ["Elu"]}]}, ValueError, "activations_l0: expected an object with alpha, b"),
    ({"options": [USUAL | {"activations": [ELU] * 2}]}, ValueError, r"activations_l0: expected 1 \(f\)"),
    ({"options": [USUAL | {"activations": [ELU | {"name": "X"}]}]}, fc.UnsupportedError, "'X' is not supported"),
    ({"options": [USUAL | {"activations": [ELU | {"name": ["X"]}]}]}, fc.UnsupportedError, "is not supported"),
    ({"options": [USUAL | {"activations": [ELU | {"alpha": 1e999}]}]}, ValueError, "is not JSON: expected a value"),
    ({"options": [USUAL | {"activations": [ELU | {"alpha": "1"}]}]}, ValueError, "alpha of Elu: expected a number"),
    ({"options": [USUAL | {"clip": 10**400}]}, ValueError, "clip_l0: expected a finite float32, got 1000"),
    ({"options": [USUAL | {"clip": float("nan")}]}, ValueError, "'fusedcell' is not JSON: expected a value"),
    ({"options": [USUAL | {"clip": -1}]}, ValueError, r"clip_l0: expected a number from 2\^-126 on"),
    ({"options": [USUAL | {"clip_before_h": 0}]}, ValueError, "clip_before_h_l0: expected a bool, got 0"),
    ({"options": [USUAL | {"input_forget": True}]}, ValueError, "input_forget_l0: expected False, as only the LST"),
]


@pytest.mark.parametrize(("changes", "error", "message"), OPTION_MISFITS)
def test_options_that_do_not_fit_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str, path: Path
) -> None:
    path.write_bytes(tiny_file(**{"format_version": 2, **changes}))
    with pytest.raises(error, match=f"{path}: .*({message})"):
        fc.load(path)


# Shortest decimals, halfway cases between two floats and between two doubles, the ends of both ranges.
NUMBERS = """
0.1 1e-40 1.1754943508222875e-38 3.4028234663852886e38 3.4028235677973366e38 1e39 1e-46 5e-324 1e-400 1e999 7 16777217
16777217.000000001 1.00000005960464477540 1.00000005960464477539 9007199254740993e-15 0.0 -0 -1.5 1E2 1e+2
12345678901234567890123456789 0.30000001192092896
"""


@pytest.mark.parametrize("number", NUMBERS.split())
def test_numbers_are_the_nearest_float32_of_the_nearest_double(number: str, path: Path) -> None:
    affine = {"name": "Affine", "alpha": 12321, "beta": 0.0}
    options = json.dumps([USUAL | {"activations": [affine], "clip": 45654}])
    double = float(number)
    for value, other, least in (("12321", "45654", -np.inf), ("45654", "12321", 2.0**-126)):
        text = options.replace(value, number).replace(other, "2.5")
        description = (
            '{"format_version": 2, "class": "RNN", "kind": "rnn_relu", "dtype": "float32", "batch_first": true, '
            f'"reverse": false, "options": {text}}}'
        )
        path.write_bytes(container(__metadata__={"fusedcell": description}))
        if abs(double) > float(np.finfo(np.float32).max) or double < least:
            with pytest.raises(ValueError, match=r"expected a (finite float32|number from 2\^-126 on)"):
                fc.load(path)
            continue
        (loaded,) = fc.load(path).cell_options
        assert loaded.activations is not None
        actual = loaded.activations[0].alpha if value == "12321" else loaded.clip
        assert np.float32(actual).view(np.uint32) == np.float32(double).view(np.uint32)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_takes_the_parameters_that_it_has(name: str, path: Path) -> None:
    for alpha, beta in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.3, 0.3)):
        given = {parameter for parameter, value in (("alpha", alpha), ("beta", beta)) if value}
        activation = {"name": name, "alpha": alpha, "beta": beta}
        path.write_bytes(tiny_file(format_version=2, options=[USUAL | {"activations": [activation]}]))
        if given <= set(activation_parameters(name)):
            expected = None if (name, alpha, beta) == ("Relu", 0, 0) else (Activation(name, alpha, beta),)
            layer = fc.load(path)
            assert layer.nonlinearity == name.lower()
            assert layer.cell_options[0].activations == (None if name == "Tanh" else expected)
        else:
            with pytest.raises(ValueError, match=f"of {name}: expected 0, as it takes none, got 0.3"):
                fc.load(path)


def test_peepholes_belong_to_the_second_version_and_to_an_lstm(path: Path) -> None:
    arrays: dict[str, Any] = {"weight_peephole": np.ones(3, np.float32)}
    path.write_bytes(int8_file(**arrays))
    with pytest.raises(fc.UnsupportedError, match="'weight_peephole' is not an array of a cell"):
        fc.load(path)
    path.write_bytes(int8_file(**arrays).replace(b'\\"format_version\\": 1', b'\\"format_version\\": 2'))
    with pytest.raises(ValueError, match="weight_peephole: only the LSTM has peepholes"):
        fc.load(path)
    path.write_bytes(
        int8_file(weight_peephole=np.ones(3, np.int8)).replace(b'\\"format_version\\": 1', b'\\"format_version\\": 2')
    )
    with pytest.raises(ValueError, match="weight_peephole: expected dtype float32, got int8"):
        fc.load(path)


def test_a_file_of_ours_is_no_state_dictionary(path: Path) -> None:
    kind = KIND["gru_reset_before"]
    fc.save(kind.make(kind.weights(6, 9)), path)
    with pytest.raises(fc.UnsupportedError, match=r"fusedcell\.save wrote it, .*; read it with fusedcell\.load"):
        fc.GRU.from_state_dict(path)
