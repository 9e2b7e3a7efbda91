"""A dtype for each matrix: what it computes, what it is called, and what stays."""

from __future__ import annotations

import pickle
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
import general_bit_model
from fusedcell._dtypes import DTYPES
from models import EVERY_NAME, KIND, flat, uniform
from test_widths import rounded, same

pytestmark = pytest.mark.core


PAIRS = [pair for pair in product(DTYPES[:4], DTYPES[:4]) if pair[0] != pair[1]]
PAIRS += [("int8", "int8_int16"), ("int8_int16", "int8")]


def matrices(mapping: dict[str, np.ndarray]) -> list[str]:
    return [name for name in mapping if name.startswith("weight_") and "peephole" not in name]


def rounded_each(mapping: dict[str, np.ndarray], dtypes: dict[str, str]) -> dict[str, np.ndarray]:
    """Halves as float32; the model rounds int8 itself."""
    halves = {name: dtype for name, dtype in dtypes.items() if dtype.endswith("float16")}
    return {name: rounded(array, halves[name]) if name in halves else array for name, array in mapping.items()}


@pytest.mark.any_cpu
@pytest.mark.parametrize(("ih", "hh"), PAIRS)
@pytest.mark.parametrize("name", EVERY_NAME)
def test_each_matrix_has_the_bits_of_its_own_type(name: str, ih: str, hh: str, isa: str) -> None:
    mapping, x = KIND[name].weights(5, 19), uniform(2, 4, 5)
    dtypes = {matrix: hh if matrix == "weight_hh_l0" else ih for matrix in matrices(mapping)}
    y, state = KIND[name].make(mapping, isa=isa).astype(dtypes)(x)
    plain = {name.removesuffix("_l0"): dtype for name, dtype in dtypes.items()}
    expected_y, expected_c = general_bit_model.run_kind(KIND[name], rounded_each(mapping, dtypes), x, plain)
    np.testing.assert_array_equal(y, expected_y)
    if isinstance(state, tuple):
        np.testing.assert_array_equal(state[1][0], expected_c)


@given(data=st.data())
def test_any_mixture_has_the_same_bits_however_it_is_called_and_on_every_tier(data: st.DataObject) -> None:
    kind = KIND[data.draw(st.sampled_from(EVERY_NAME))]
    input_size, hidden_size, layers, batch = (data.draw(st.integers(1, most)) for most in (20, 40, 3, 5))
    mapping = kind.weights(input_size, hidden_size, layers=layers)
    dtypes = {name: data.draw(st.sampled_from(DTYPES)) for name in matrices(mapping)}
    x = uniform(3, 6, batch, input_size)
    layer = kind.make(mapping, isa="scalar").astype(dtypes)
    expected = layer(x)
    for isa in fc.isas():
        tier = kind.make(mapping, isa=isa).astype(dtypes)
        assert tier.dtypes == dtypes
        same(tier(x, num_threads=2), expected)
        stream = tier.stream(batch_size=batch)
        steps = [stream.step(x_t if batch > 1 else x_t[0]).reshape(batch, -1) for x_t in x]
        np.testing.assert_array_equal(np.array(steps), flat(expected)[0])
        streams = [tier.stream() for _ in range(batch)]
        np.testing.assert_array_equal([tier.step_many(streams, x_t) for x_t in x], flat(expected)[0])


def test_int8_weights_take_inputs_in_int16_where_asked() -> None:
    layer = layer_of_two()
    small = layer.astype("int8", inputs="int16")
    assert small.dtype == "int8_int16"
    assert small.nbytes == layer.astype("int8").nbytes
    x = uniform(1, 5, 4)
    same(small.astype("int8", inputs="int8")(x), layer.astype("int8")(x))
    same(layer.astype("int8").astype("int8_int16")(x), small(x))
    one = layer.astype({"weight_ih": "int8", "weight_hh": "float16"}, inputs="int16")
    assert one.dtypes["weight_ih_l1"] == "int8_int16"
    assert one.dtypes["weight_hh_l1"] == "float16"


def test_inputs_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(fc.UnsupportedError, match="inputs='int4' is not supported; supported: int8, int16"):
        layer_of_two().astype("int8", inputs="int4")
    with pytest.raises(ValueError, match=r"inputs: expected None, as dtype='float16' has no int8 weights .*'int16'"):
        layer_of_two().astype("float16", inputs="int16")


def test_nodes_of_models_take_inputs_in_int16_and_tables_stay() -> None:
    table, weight = uniform(1, 11, 6), uniform(2, 3, 6)
    model = fc.Model([("table", fc.Embedding(table), "x"), ("head", fc.Dense(weight), "table")])
    small = model.astype("int8", inputs="int16")
    (_, embedding, _), (_, head, _) = small.nodes
    assert (embedding.dtype, head.dtype) == ("int8", "int8_int16")
    again = pickle.loads(pickle.dumps(small))
    np.testing.assert_array_equal(again(np.arange(11)), small(np.arange(11)))
    ((_, same_head, _),) = [node for node in again.nodes if node[0] == "head"]
    assert same_head.dtype == "int8_int16"
    errors = [
        np.abs(model.astype("int8", inputs=inputs, keep="table")(np.arange(11)) - model(np.arange(11))).mean()
        for inputs in ("int8", "int16")
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("ih", "hh"),
    [("float32", "int8"), ("int8", "float32"), ("float16", "int8"), ("int8", "bfloat16"), ("int8_int16", "float32")],
)
@pytest.mark.parametrize("name", ["lstm", "gru_reset_after", "rnn_tanh"])
def test_matrices_that_a_step_walks_in_turns_have_the_bits_of_a_sequence(name: str, ih: str, hh: str, isa: str) -> None:
    """Above 2^18 bytes of weights a step takes blocks of W and R in turns, which differ in number by their types."""
    layer = KIND[name].make(KIND[name].weights(301, 357), isa=isa).astype({"weight_ih": ih, "weight_hh": hh})
    assert layer.nbytes > 2**18
    x = uniform(4, 3, 301)
    expected = flat(layer(x))[0]
    for num_threads in (1, 2):
        stream = layer.stream(num_threads=num_threads)
        np.testing.assert_array_equal([stream.step(x_t) for x_t in x], expected)
    two = layer.stream(batch_size=2)
    np.testing.assert_array_equal(two.step(np.stack([x[0], x[0]])), np.stack([expected[0]] * 2))


def layer_of_two(**options: Any) -> fc.LSTM:
    return fc.LSTM.from_state_dict(KIND["lstm"].weights(4, 9, layers=2), **options)


def test_a_name_with_a_suffix_goes_before_one_without_and_the_rest_stays() -> None:
    layer = layer_of_two(dtype="bfloat16").astype({"weight_hh_l1": "float16", "weight_hh": "int8"})
    assert layer.dtypes == {
        "weight_ih_l0": "bfloat16",
        "weight_hh_l0": "int8",
        "weight_ih_l1": "bfloat16",
        "weight_hh_l1": "float16",
    }
    assert layer.dtype == "mixed"
    assert "'weight_hh_l1': 'float16'" in repr(layer)
    again = layer.astype({"weight_ih": "int8"})
    assert (again.dtypes["weight_hh_l1"], again.dtypes["weight_ih_l1"]) == ("float16", "int8")
    assert layer.astype("int8").dtype == "int8"
    assert layer_of_two().astype({"weight_ih": "int8", "weight_hh": "int8"}).dtype == "int8"
    assert layer_of_two().astype({}).dtypes == layer_of_two().dtypes


def test_a_numpy_dtype_is_its_name() -> None:
    dtype: Any = np.dtype("float16")
    assert layer_of_two().astype({"weight_ih": dtype}).dtypes["weight_ih_l1"] == "float16"
    assert layer_of_two().astype(dtype).dtype == "float16"


def test_a_cell_has_names_without_suffix() -> None:
    cell = KIND["lstm"].make_cell(KIND["lstm"].weights(4, 9)).astype({"weight_ih": "int8"})
    assert cell.dtypes == {"weight_ih": "int8", "weight_hh": "float32"}


def test_int8_matrices_stay_the_integers_that_they_are() -> None:
    layer = layer_of_two(dtype="int8")
    again = layer.astype({"weight_ih_l0": "float32"}).astype({"weight_ih_l0": "int8"})
    for name in ("weight_hh", "weight_hh_scale"):
        np.testing.assert_array_equal(layer.stack.arrays()[0][name], again.stack.arrays()[0][name])


def test_scales_of_the_input_stay_with_int8_weights_of_it() -> None:
    layer = layer_of_two().astype("int8", input_scales=[0.5, 0.25])
    assert layer.astype({"weight_hh": "float16"}).input_scales == (0.5, 0.25)
    assert layer.astype(layer.dtypes).input_scales == (0.5, 0.25)
    assert layer.astype({"weight_ih_l0": "float16"}).input_scales is None
    mixed = layer_of_two().astype({"weight_ih": "int8"}, input_scales=[0.5, 0.25])
    assert mixed.input_scales == (0.5, 0.25)
    with pytest.raises(ValueError, match="input_scales: only int8 has them, not float32, which weight_ih_l1 is in"):
        layer_of_two().astype({"weight_ih_l0": "int8"}, input_scales=[0.5, 0.25])


def test_matrices_take_the_bytes_of_their_types() -> None:
    layer = fc.LSTM.from_state_dict(KIND["lstm"].weights(64, 64))
    mixed = layer.astype({"weight_hh": "int8", "weight_ih": "float16"})
    assert mixed.matrix_nbytes * 8 == layer.matrix_nbytes * 3  # (1/4 + 1/2) / 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"weight_hh_l2": "int8"},
            ValueError,
            "dtype: 'weight_hh_l2' is not one of the matrices; expected weight_ih,",
        ),
        ({"weight_hr": "int8"}, ValueError, "dtype: 'weight_hr' is not one"),
        ({"bias_ih_l0": "float16"}, ValueError, "dtype: 'bias_ih_l0' is not one"),
        ({3: "float16"}, ValueError, "dtype: 3 is not one"),
        ({"weight_hh": "int4"}, fc.errors.UnsupportedError, "weight_hh: dtype='int4' is not supported"),
        ({"weight_hh": None}, fc.errors.UnsupportedError, "weight_hh: dtype=None is not supported"),
        ({"weight_hh": np.zeros(3)}, fc.errors.UnsupportedError, "weight_hh: dtype=array"),
    ],
)
def test_what_names_no_matrix_or_type_is_refused(changes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        layer_of_two().astype(changes)


def test_a_weight_that_its_type_cannot_hold_is_named() -> None:
    mapping = KIND["lstm"].weights(4, 9)
    mapping["weight_ih_l0"][2, 1] = 1e6
    layer = fc.LSTM.from_state_dict(mapping)
    assert layer.astype({"weight_hh": "float16"}).dtypes["weight_ih_l0"] == "float32"
    with pytest.raises(ValueError, match=r"weight_ih_l0: expected weights that float16 can hold, got 1e\+06.*\(2, 1\)"):
        layer.astype({"weight_ih": "float16"})


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_hh": "int8"},
        {"weight_ih_l1": "float16", "weight_hh_l0": "bfloat16"},
        {"weight_ih_l1": "int8_int16", "weight_hh_l0": "int8"},
        {"weight_ih": "int8_int16", "weight_hh": "int8_int16"},
    ],
)
def test_files_and_pickles_keep_each_type(changes: dict[str, str], tmp_path: Path) -> None:
    layer = layer_of_two().astype(changes)
    fc.save(layer, tmp_path / "layer.safetensors")
    x = uniform(1, 5, 4)
    for again in (fc.load(tmp_path / "layer.safetensors"), pickle.loads(pickle.dumps(layer))):
        assert again.dtypes == layer.dtypes
        same(again(x), layer(x))
        fc.save(again, tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "layer.safetensors").read_bytes()


def test_streams_go_on_from_bytes_of_the_same_mixture_alone() -> None:
    changes = {"weight_hh": "int8"}
    stream = layer_of_two().astype(changes).stream()
    x = uniform(1, 2, 4)
    stream.step(x[0])
    expected = stream.copy().step(x[1])
    np.testing.assert_array_equal(
        layer_of_two().astype(changes).stream_from_bytes(stream.to_bytes()).step(x[1]), expected
    )
    for other in (layer_of_two(), layer_of_two(dtype="int8"), layer_of_two().astype({"weight_hh_l0": "int8"})):
        with pytest.raises(ValueError, match="expected a state of this layer's weights"):
            other.stream_from_bytes(stream.to_bytes())
