"""from_keras reads files of Keras 2 and 3, which these tests write by hand, and KerasLayer answers as Keras does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples, note_difference
from keras_models import FUNCTIONS, KerasCase, KerasCell, flat, sequential, write_case, write_h5, write_keras
from models import uniform

pytest.importorskip("h5py")

GATE_FUNCTIONS = ("sigmoid", "hard_sigmoid", "softsign", "tanh")


@st.composite
def cases(draw: st.DrawFn) -> KerasCase:
    """Any layer that is read: class, form, options and version."""
    version = draw(st.sampled_from([2, 3]))
    class_name = draw(st.sampled_from(["SimpleRNN", "LSTM", "GRU"]))
    known = sorted(set(FUNCTIONS) - ({"leaky_relu"} if version == 2 else set()))
    form = draw(st.sampled_from(["layer", "RNN", "stacked"]))
    cells = [
        KerasCell(
            class_name,
            units=4,
            activation=draw(st.sampled_from([*known, "tanh"])),
            recurrent_activation=draw(st.sampled_from(GATE_FUNCTIONS)),
            use_bias=draw(st.booleans()),
            reset_after=True,
        )
        for _ in range(draw(st.integers(1, 3)) if form == "stacked" else 1)
    ]
    if class_name == "GRU" and draw(st.booleans()):
        cells = [replace(cell, reset_after=False) for cell in cells]
    merge_mode: str | None = ""
    if len(cells) == 1 and draw(st.booleans()):
        merge_mode = draw(st.sampled_from(["concat", "sum", "mul", "ave", None]))
    options = {name: draw(st.booleans()) for name in ("return_sequences", "return_state")}
    if merge_mode == "":
        options |= {name: draw(st.booleans()) for name in ("go_backwards", "zero_output_for_mask")}
    return KerasCase(cells, draw(st.integers(1, 5)), version, form, merge_mode, options, draw(st.integers(1, 9)))


def assert_close(actual: Any, expected: list[np.ndarray], tolerance: float = 1e-5) -> None:
    arrays = flat(actual)
    assert len(arrays) == len(expected)
    for a, e in zip(arrays, expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance)


@settings(max_examples=examples(30))
@given(case=cases(), masked=st.booleans(), given_state=st.booleans())
def test_drawn_layers_of_files_answer_as_keras_does(
    tmp_path_factory: pytest.TempPathFactory, case: KerasCase, masked: bool, given_state: bool
) -> None:
    suffix = ".h5" if case.version == 2 else (".keras", ".h5")[case.seed % 2]
    path = write_case(tmp_path_factory.mktemp("keras") / f"model{suffix}", case)
    layer = fc.from_keras(path, keras_output=True)
    x = uniform(case.seed, 3, 6, case.inputs)
    mask = uniform(case.seed + 50, 3, 6) > -0.2 if masked else None
    state = None
    if given_state:
        count = case.state_count * (1 + case.bidirectional)
        state = [uniform(case.seed + 60 + i, 3, 4) for i in range(count)]
    actual, expected = layer(x, mask, state), case.expected(x, mask, state)
    note_difference(flat(actual), expected)
    assert_close(actual, expected)


def lstm(**options: Any) -> KerasCase:
    return KerasCase([KerasCell("LSTM", 4)], options=options)


@pytest.mark.parametrize(
    ("version", "middle"), [("2.2.4-tf", 0.2 * 0.75 + 0.5), ("2.15.0", 0.65), ("3.0.0", 0.75 / 6 + 0.5)]
)
def test_the_two_hard_sigmoids_go_by_the_version_in_the_file(tmp_path: Path, version: str, middle: float) -> None:
    case = KerasCase([KerasCell("SimpleRNN", 1, "hard_sigmoid", use_bias=False)], 1, int(version[0]))
    model = sequential([case.item()])
    arrays = {"kernel": np.ones((1, 1)), "recurrent_kernel": np.zeros((1, 1))}
    path = write_h5(tmp_path / "model.h5", model, {"recurrent": [arrays]}, version)
    y, _ = fc.from_keras(path)(np.array([[[0.75], [4.0], [-4.0]]], np.float32))
    np.testing.assert_allclose(y[0, :, 0], [middle, 1, 0], atol=1e-7)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_cudnn_layouts(tmp_path: Path, name: str) -> None:
    """cuDNN's arrays made of plain ones, as Keras 2's loading code converts them back."""
    cell = KerasCell(name, 4)
    case = KerasCase([cell], 3, 2)
    plain = case.arrays()[0][0]
    gates = 4 if name == "LSTM" else 3
    bias = plain["bias"]
    kernels = []
    for kernel in np.split(plain["kernel"], gates, axis=1):
        stored = np.empty((3, 4), np.float32)
        for i in range(3):
            for unit in range(4):  # element (unit, i) of the transpose, in memory row by row
                stored.reshape(-1)[unit * 3 + i] = kernel[i, unit]
        kernels.append(stored)
    if name == "LSTM":
        bias = np.stack([bias - np.float32(0.25), np.full_like(bias, 0.25)])
    arrays = {
        "kernel": np.concatenate(kernels, axis=1),
        "recurrent_kernel": np.concatenate([k.T for k in np.split(plain["recurrent_kernel"], gates, axis=1)], axis=1),
        "bias": bias.reshape(-1),
    }
    config = {"name": "recurrent", "units": 4, "return_sequences": True, "return_state": False, "go_backwards": False}
    item = {"class_name": f"CuDNN{name}", "config": {**config, "stateful": False, "trainable": True}}
    path = write_h5(tmp_path / "model.h5", sequential([item]), {"recurrent": [arrays]}, "2.2.4")
    x = uniform(1, 2, 5, 3)
    expected = replace(case, options={"return_sequences": True}).expected(x)
    assert_close(fc.from_keras(path, keras_output=True)(x), expected)
    with pytest.raises(ValueError, match=r"bias:0: expected shape .*, got \((32|24),\)"):
        fc.from_keras(write_h5(path, sequential([case.item()]), {"recurrent": [arrays]}, "2.2.4"))


def test_the_plain_layer_is_aligned_and_batch_first(tmp_path: Path) -> None:
    case = lstm(go_backwards=True, return_sequences=True)
    path = write_case(tmp_path / "model.keras", case)
    layer = fc.from_keras(path)
    assert isinstance(layer, fc.LSTM)
    assert layer.reverse
    assert layer.batch_first
    x = uniform(1, 2, 5, 3)
    assert_close(layer(x)[0][:, ::-1], case.expected(x))
    assert_close(fc.from_keras(path, keras_output=True).layer(x)[0], [case.expected(x)[0][:, ::-1]])


def test_other_dtypes_and_tiers(tmp_path: Path, isa: str) -> None:
    path = write_case(tmp_path / "model.keras", lstm())
    layer = fc.from_keras(str(path), dtype="int8", isa=isa)
    assert (layer.dtype, layer.isa) == ("int8", isa)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_weights_of_every_float_type(tmp_path: Path, dtype: str) -> None:
    case = lstm()
    arrays = [{name: array.astype(dtype) for name, array in case.arrays()[0][0].items()}]
    path = write_h5(tmp_path / "model.h5", sequential([case.item()]), {"recurrent": arrays}, "3.1.0")
    x = uniform(1, 2, 5, 3)
    assert_close(fc.from_keras(path, keras_output=True)(x), case.expected(x), 1e-3 if dtype == "float16" else 1e-5)


def two_layers(tmp_path: Path, suffix: str) -> Path:
    first, second = lstm(return_sequences=True), KerasCase([KerasCell("LSTM", 4)], 4, seed=2)
    model = sequential([first.item("encoder"), second.item("decoder")])
    arrays = first.arrays()[0] + second.arrays()[0]
    if suffix == ".h5":
        return write_h5(tmp_path / "m.h5", model, {"encoder": arrays[:1], "decoder": arrays[1:]}, "2.9.0")
    groups = {"layers/lstm/cell": arrays[0], "layers/lstm_1/cell": arrays[1]}
    return write_keras(tmp_path / "m.keras", model, groups)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_one_layer_of_several_by_its_name(tmp_path: Path, suffix: str) -> None:
    path = two_layers(tmp_path, suffix)
    x = uniform(1, 2, 5, 3)
    between: Any = fc.from_keras(path, "encoder", keras_output=True)(x)
    case = KerasCase([KerasCell("LSTM", 4)], 4, seed=2)
    assert_close(fc.from_keras(path, "decoder", keras_output=True)(between), case.expected(between))
    with pytest.raises(ValueError, match=r"2 recurrent layers; name one of them: 'encoder' \(LSTM\), 'decoder'"):
        fc.from_keras(path)
    with pytest.raises(ValueError, match="no recurrent layers are called 'head'; there are: 'encoder'"):
        fc.from_keras(path, "head")


def test_a_layer_of_a_model_in_a_model(tmp_path: Path) -> None:
    case = lstm()
    inner = {"class_name": "Functional", "config": {"name": "inner", "layers": [case.item("deep")]}}
    model = sequential([KerasCase([KerasCell("LSTM", 2)]).item("outer"), inner])
    groups = {"layers/functional/layers/lstm/cell": case.arrays()[0][0]}
    x = uniform(1, 2, 5, 3)
    layer = fc.from_keras(write_keras(tmp_path / "m.keras", model, groups), "inner/deep", keras_output=True)
    assert_close(layer(x), case.expected(x))
    path = write_h5(tmp_path / "m.h5", model, {"inner": case.arrays()[0]}, "2.9.0")
    with pytest.raises(fc.UnsupportedError, match="'inner/deep' is in a model inside the model"):
        fc.from_keras(path, "inner/deep")


def test_the_list_of_layers_of_early_keras_2(tmp_path: Path) -> None:
    case = KerasCase([KerasCell("GRU", 4, reset_after=False)], version=2)
    item = case.item()
    del item["config"]["reset_after"]  # which Keras 2.0 did not know
    model = {"class_name": "Sequential", "config": [item]}
    x = uniform(1, 2, 5, 3)
    path = write_h5(tmp_path / "m.h5", model, {"recurrent": case.arrays()[0]}, "2.0.8")
    assert_close(fc.from_keras(path, keras_output=True)(x), case.expected(x))


class TestKerasLayer:
    def layer(self, tmp_path: Path, case: KerasCase) -> Any:
        return fc.from_keras(write_case(tmp_path / "model.keras", case), keras_output=True)

    def test_stateful_layers_remember(self, tmp_path: Path) -> None:
        case = lstm(stateful=True, return_sequences=True)
        layer = self.layer(tmp_path, case)
        x = uniform(1, 2, 6, 3)
        whole = case.expected(x)[0]
        for _ in range(2):
            assert_close(np.concatenate([layer(x[:, :2]), layer(x[:, 2:])], axis=1), [whole])
            layer.reset_state()
        layer(x)
        with pytest.raises(ValueError, match="x: expected the batch of the remembered state, 2 rows, got 3"):
            layer(uniform(1, 3, 6, 3))

    def test_a_stateful_layer_remembers_after_a_given_state_too(self, tmp_path: Path) -> None:
        case = lstm(stateful=True)
        layer = self.layer(tmp_path, case)
        x = uniform(1, 2, 6, 3)
        state = [uniform(2, 2, 4), uniform(3, 2, 4)]
        layer(x[:, :2], initial_state=state)
        assert_close(layer(x[:, 2:]), case.expected(x, state=state))

    def test_states_are_arranged_as_in_keras(self, tmp_path: Path) -> None:
        stacked = KerasCase([KerasCell("LSTM", 4)] * 2, form="stacked", options={"return_state": True})
        x = uniform(1, 2, 6, 3)
        output, *states = self.layer(tmp_path, stacked)(x)
        assert output.shape == (2, 4)
        assert [[part.shape for part in cell] for cell in states] == [[(2, 4)] * 2] * 2
        again = self.layer(tmp_path, stacked)(x, initial_state=states)
        assert_close(again, stacked.expected(x, state=flat(states)))
        both = KerasCase([KerasCell("GRU", 4)], merge_mode=None, options={"return_state": True})
        assert [part.shape for part in self.layer(tmp_path, both)(x)] == [(2, 4)] * 4

    def test_one_array_is_a_state(self, tmp_path: Path) -> None:
        case = KerasCase([KerasCell("GRU", 4)])
        x, h = uniform(1, 2, 6, 3), uniform(2, 2, 4)
        assert_close(self.layer(tmp_path, case)(x, initial_state=h), case.expected(x, state=[h]))

    def test_threads_give_the_same_bits(self, tmp_path: Path) -> None:
        layer = self.layer(tmp_path, lstm())
        x = uniform(1, 2, 6, 3)
        np.testing.assert_array_equal(layer(x), layer(x, num_threads=2))

    def test_its_repr_says_what_it_returns(self, tmp_path: Path) -> None:
        layer = self.layer(tmp_path, lstm(return_sequences=True, zero_output_for_mask=True))
        assert repr(layer) == f"KerasLayer({layer.layer!r}, return_sequences=True, zero_output_for_mask=True)"

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"x": np.zeros((5, 3))}, ValueError, r"x: expected shape \(batch, time, features\)"),
            ({"x": np.zeros((2, 0, 3))}, ValueError, r"x: expected shape .* with a step at least, got \(2, 0, 3\)"),
            ({"x": [[1.0], [1.0, 2.0]]}, ValueError, "x: expected an array of floats"),
            ({"x": np.zeros((2, 5, 4))}, ValueError, "x: "),
            ({"mask": np.ones((2, 5))}, TypeError, "mask: expected an array of bools"),
            ({"mask": np.ones((5, 2), bool)}, ValueError, "mask: expected shape"),
            ({"initial_state": [np.zeros((2, 4))]}, ValueError, r"initial_state: expected 2 arrays of shape \(2, 4\)"),
            ({"initial_state": [np.zeros((1, 4))] * 2}, ValueError, r"initial_state: .* got \[\(1, 4\), \(1, 4\)\]"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        layer = self.layer(tmp_path, lstm(stateful=True))
        with pytest.raises(error, match=message):
            layer(**{"x": np.zeros((2, 5, 3)), **arguments})
