"""Model.from_keras against Keras itself: each layer, live models and files of both versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from keras_models import write_h5, write_whole_model
from live_keras import (
    MARKS,
    STEPS,
    TOKENS,
    WORDS,
    L,
    answers,
    arrays_for,
    assert_same,
    check,
    filled,
    flat,
    keras,
    sequential,
    torch,
)
from models import uniform

pytestmark = MARKS
ops = keras.ops

FRAMES: dict[str, Any] = {"shape": (None, 12, 2)}

LAYERS: dict[str, Callable[[], Any]] = {
    "Dense": lambda: sequential(L.Dense(3, activation="sigmoid"), L.Dense(3, use_bias=False, activation="softmax")),
    "Embedding": lambda: sequential(L.Embedding(WORDS, 3), L.Dense(2), **TOKENS),
    "LSTM": lambda: sequential(L.LSTM(3, return_sequences=True), L.LSTM(2)),
    "GRU": lambda: sequential(L.GRU(3, return_sequences=True), L.GRU(2, reset_after=False)),
    "SimpleRNN": lambda: sequential(L.SimpleRNN(3, activation="relu", return_sequences=True), L.SimpleRNN(2)),
    "stacked cells": lambda: sequential(L.RNN([L.LSTMCell(3), L.LSTMCell(3)], return_sequences=True)),
    "RNN": lambda: sequential(L.RNN(L.GRUCell(3))),
    "go_backwards": lambda: sequential(L.GRU(3, go_backwards=True), L.Dense(2)),
    "go_backwards twice": lambda: sequential(
        L.GRU(3, go_backwards=True, return_sequences=True),
        L.Dense(2, activation="tanh"),
        L.LSTM(3, go_backwards=True, return_sequences=True),
    ),
    "stateful": lambda: sequential(L.GRU(3, stateful=True, return_sequences=True), batch_size=3),
    "Conv1D": lambda: sequential(L.Conv1D(6, 3, activation="relu"), L.Conv1D(6, 2, groups=3, use_bias=False)),
    "Conv1D causal": lambda: sequential(L.Conv1D(6, 3, padding="causal", dilation_rate=4)),
    "Conv1D same": lambda: sequential(L.Conv1D(6, 4, padding="same"), L.Conv1D(6, 3, padding="same", dilation_rate=2)),
    "Conv1D strided": lambda: sequential(L.Conv1D(6, 3, strides=2), L.Conv1D(3, 4, strides=3, padding="causal")),
    "Conv1D same strided": lambda: sequential(L.Conv1D(6, 5, strides=3, padding="same"), shape=(STEPS - 1, 4)),
    "Conv1D same in steps": lambda: sequential(L.Conv1D(6, 2, strides=2, padding="same"), L.GRU(3)),
    "Conv1D channels_first": lambda: sequential(
        L.Permute((2, 1)), L.Conv1D(6, 3, data_format="channels_first"), L.Permute((2, 1)), shape=(STEPS, 4)
    ),
    "DepthwiseConv1D": lambda: sequential(L.DepthwiseConv1D(3, depth_multiplier=2, padding="same", activation="tanh")),
    "SeparableConv1D": lambda: sequential(L.SeparableConv1D(5, 3, depth_multiplier=2, strides=2, activation="relu")),
    "Conv1DTranspose": lambda: sequential(
        L.Conv1DTranspose(5, 3, strides=2), L.Conv1DTranspose(4, 5, strides=2, padding="same")
    ),
    "Conv1DTranspose further": lambda: sequential(
        L.Conv1DTranspose(3, 2, strides=3), L.Conv1DTranspose(2, 3, strides=2, padding="same", output_padding=1)
    ),
    "Conv2D": lambda: sequential(
        L.Conv2D(4, (3, 3), padding="same", activation="relu"),
        L.MaxPooling2D((1, 2)),
        L.Conv2D(3, (2, 3), strides=(1, 2)),
        L.Reshape((-1, 6)),
        L.GRU(3),
        **FRAMES,
    ),
    "2D in all forms": lambda: sequential(
        L.DepthwiseConv2D((2, 3)),
        L.SeparableConv2D(3, (2, 2), padding="same"),
        L.ZeroPadding2D(((1, 0), (2, 1))),
        L.Cropping2D(((0, 1), (1, 1))),
        L.UpSampling2D((1, 2)),
        L.AveragePooling2D((1, 3)),
        L.Conv2DTranspose(2, (1, 3), strides=(1, 2)),
        **FRAMES,
    ),
    "pools": lambda: sequential(L.MaxPooling1D(2), L.AveragePooling1D(3, strides=1), L.MaxPooling1D(3, strides=2)),
    "pools same": lambda: sequential(L.MaxPooling1D(2, padding="same"), shape=(STEPS, 4)),
    "GlobalMaxPooling1D": lambda: sequential(L.GlobalMaxPooling1D(), L.Dense(2)),
    "GlobalAveragePooling1D": lambda: sequential(L.GlobalAveragePooling1D(keepdims=True), L.Flatten(), L.Dense(2)),
    "global pools of frames": lambda: sequential(L.Conv2D(3, 3), L.GlobalAveragePooling2D(), L.Dense(2), **FRAMES),
    "TimeDistributed": lambda: sequential(
        L.TimeDistributed(L.Conv1D(3, 3, activation="relu")),
        L.TimeDistributed(L.MaxPooling1D(2)),
        L.TimeDistributed(L.Flatten()),
        L.TimeDistributed(L.Dense(3)),
        **FRAMES,
    ),
    "TimeDistributed model": lambda: sequential(
        L.TimeDistributed(keras.Sequential([keras.Input((12, 2)), L.Conv1D(3, 3), L.GlobalMaxPooling1D()])),
        L.LSTM(3),
        **FRAMES,
    ),
    "BatchNormalization": lambda: sequential(
        L.BatchNormalization(), L.Conv1D(5, 3), L.BatchNormalization(scale=False), L.ReLU(),
        L.BatchNormalization(center=False),
    ),
    "norms": lambda: sequential(L.LayerNormalization(), L.UnitNormalization(), L.LayerNormalization(scale=False)),
    "LayerNormalization of frames": lambda: sequential(L.LayerNormalization(axis=(2, 3)), **FRAMES),
    "left out": lambda: sequential(
        L.Dropout(0.5), L.SpatialDropout1D(0.5), L.GaussianNoise(1.0), L.GaussianDropout(0.5), L.AlphaDropout(0.5),
        L.ActivityRegularization(0.1), L.Identity(), L.Dense(2),
    ),
    "rows": lambda: sequential(L.ZeroPadding1D((1, 2)), L.Cropping1D((2, 1)), L.UpSampling1D(3), L.Conv1D(3, 2)),
    "activations": lambda: sequential(
        L.ReLU(1.0), L.ReLU(negative_slope=0.3), L.ReLU(threshold=0.2), L.LeakyReLU(0.1), L.ELU(0.5),
        L.PReLU(shared_axes=[1]), L.Softmax(),
    ),
    "PReLU of frames": lambda: sequential(L.PReLU(shared_axes=[1, 3]), L.PReLU(shared_axes=[1]), **FRAMES),
    "scales": lambda: sequential(
        L.Rescaling(2.0, -1.0), L.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4]), L.Normalization(),
        L.Normalization(invert=True),
    ),
    "shapes": lambda: sequential(L.Reshape((-1, 2, 2)), L.Permute((1, 3, 2)), L.Reshape((-1, 4)), L.LSTM(3)),
    "features alone": lambda: sequential(L.Dense(5, activation="relu"), L.RepeatVector(3), L.Flatten(), shape=(7,)),
    "a window of features": lambda: sequential(
        L.Conv1D(5, 3, strides=2, padding="same"), L.MaxPooling1D(2, padding="same"), L.Flatten(), L.Dense(2),
        shape=(13, 4),
    ),
    "all steps in one": lambda: sequential(
        L.Conv1D(3, 3, padding="same"), L.LSTM(3, return_sequences=True), L.Dropout(0.5), L.Flatten(), L.Dense(2),
        shape=(13, 4),
    ),
    "an image": lambda: sequential(L.Conv2D(4, 3), L.MaxPooling2D(2), L.Flatten(), L.Dense(2), shape=(12, 10, 3)),
    "one feature": lambda: sequential(L.GRU(1, return_sequences=True), L.Reshape((-1,))),
    "no layers": lambda: sequential(L.Dropout(0.5)),
    "slices": lambda: keras.Model(x := keras.Input((None, 4)), [x[:, 1:-2], x[..., 1:3], x[:, 0], x[:, -1:]]),
    "an image on its side": lambda: sequential(
        L.Conv2D(4, 3, padding="same", activation="relu"), L.MaxPooling2D((2, 2)), L.Permute((2, 1, 3)),
        L.Reshape((8, 16)), L.GRU(3, return_sequences=True), L.Dense(2), shape=(8, 16, 1),
    ),
    "channels first": lambda: sequential(L.Permute((2, 1)), L.LSTM(3), L.Dense(1), shape=(5, 5)),
    "numbers as steps": lambda: sequential(L.Reshape((6, 1)), L.LSTM(3), L.Dense(1), shape=(6,)),
    "numbers as steps of two": lambda: sequential(L.Reshape((3, 2)), L.GRU(3, return_sequences=True), shape=(6,)),
    "numbers as one step": lambda: sequential(
        L.Reshape((1, 6)), L.LSTM(3, return_sequences=True), L.GRU(2, return_sequences=True, go_backwards=True),
        L.Bidirectional(L.GRU(2)), L.Dense(1), shape=(6,),
    ),
    "steps as parts of longer ones": lambda: sequential(
        L.Reshape((2, 4, 3)), L.TimeDistributed(L.Conv1D(5, 2, activation="relu")), L.TimeDistributed(L.Flatten()),
        L.LSTM(3), L.Dense(1), shape=(8, 3),
    ),
    "repeated for each feature": lambda: sequential(
        L.LSTM(4), L.RepeatVector(8), L.TimeDistributed(L.Dense(2, activation="tanh")), shape=(8, 3)
    ),
    "reductions": lambda: keras.Model(x := keras.Input((None, 4)), [
        keras.ops.mean(x, axis=1), keras.ops.max(x, axis=-1), keras.ops.sum(x, axis=[1, 2]),
        keras.ops.mean(x, axis=2, keepdims=True),
    ]),
    "functions": lambda: keras.Model(x := keras.Input((None, 4)), [
        ops.log1p(ops.abs(x)) + ops.sqrt(ops.square(x)) - ops.log10(ops.maximum(ops.abs(x), 0.1)),
        ops.expm1(-x), ops.log2(ops.log(ops.exp(x) + 2.0)), ops.silu(ops.softplus(ops.relu6(x))),
        ops.concatenate([ops.minimum(x, L.Dense(4)(x)), x], axis=-1),
    ]),
    "functions with options": lambda: keras.Model(x := keras.Input((None, 4)), [
        ops.clip(x, -0.5, 1), *ops.split(x, 2, axis=-1), *ops.split(x, [1, 3], axis=2),
        ops.squeeze(L.Conv2D(1, 3, padding="same")(ops.expand_dims(x, -1)), axis=-1), ops.stack([x, -x], axis=2),
    ]),
    "products of rows": lambda: keras.Model(x := keras.Input((None, 4)), [
        L.Dot(axes=1)([y := L.GRU(3)(x), z := L.LSTM(3)(x)]), L.Dot(axes=[-1, -1], normalize=True)([z, y]),
    ]),
    "GroupNormalization of frames": lambda: sequential(
        L.TimeDistributed(L.GroupNormalization(2, axis=1)), L.TimeDistributed(L.GroupNormalization(-1, scale=False)),
        **FRAMES,
    ),
    "extremes": lambda: keras.Model(x := keras.Input((None, 4)), [
        L.Maximum()([x, y := L.Dense(4)(x), L.LSTM(4, return_sequences=True)(x)]), L.Minimum()([x, y]),
    ]),
    "features as many as there are": lambda: sequential(
        L.Conv2D(2, 3, padding="same"), L.Reshape((6, -1)), L.GRU(3), shape=(6, 5, 1)
    ),
    "a token": lambda: sequential(L.Embedding(WORDS, 3), L.Flatten(), L.Dense(2), shape=(1,), dtype="int32"),
}  # fmt: skip
FUNCTIONS = (
    "relu tanh sigmoid elu softplus softsign exponential gelu silu relu6 hard_sigmoid leaky_relu hard_tanh celu linear "
    "softmax log_softmax selu mish hard_silu log_sigmoid"
)


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_is_computed_as_keras_does(name: str) -> None:
    check(LAYERS[name]())


@pytest.mark.parametrize("function", FUNCTIONS.split())
def test_each_activation_is_computed_as_keras_does(function: str) -> None:
    check(sequential(L.Activation(function), L.Dense(3, activation=function)))


@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave"])
def test_both_directions_are_merged_in_every_mode(merge_mode: str, return_sequences: bool) -> None:
    layer = L.Bidirectional(L.LSTM(3, return_sequences=return_sequences), merge_mode=merge_mode)
    check(sequential(layer, L.Dense(2)))


@pytest.mark.parametrize("return_sequences", [True, False])
def test_both_directions_and_their_states_apart(return_sequences: bool) -> None:
    x = keras.Input((None, 4))
    layer = L.Bidirectional(L.GRU(3, return_sequences=return_sequences, return_state=True), merge_mode=None)
    check(filled(keras.Model(x, layer(x))))


def functional_model() -> Any:
    """Several inputs and outputs, a shared layer, a shared model, operators, a state that is read."""
    a, b, c = keras.Input((None, 4), name="a"), keras.Input((None, 4), name="b"), keras.Input((5,), name="c")
    shared = L.Dense(3, name="shared")
    inner = keras.Sequential(
        [keras.Input((None, 3)), L.Dense(4), L.BatchNormalization(), L.Bidirectional(L.LSTM(2, return_sequences=True))],
        name="inner",
    )
    both = L.Concatenate()([inner(shared(a)), inner(shared(b))])
    y, state = L.GRU(4, return_state=True, return_sequences=True, name="gru")(both)
    mixed = L.Add()([L.Average()([y, y * 2 - 1]), L.Multiply()([y, L.Dense(4)(c)])])
    ends = L.Subtract()([mixed[:, -1], state])
    return filled(keras.Model([a, b, c], {"rows": mixed, "state": state, "end": ends}))


def test_functional_models_with_all_that_they_can_have() -> None:
    model = functional_model()
    ours = fc.Model.from_keras(model)
    assert ours.inputs == ("a", "b", "c")
    assert set(ours.outputs) == {"rows", "state", "end"}
    values = arrays_for(model)
    with torch.no_grad():
        expected = model([torch.from_numpy(value) for value in values])
    for name, answer in zip(ours.outputs, ours(*values), strict=True):
        assert_same([answer], [np.asarray(expected[name].detach())])


@pytest.mark.parametrize(
    ("steps", "size", "rows", "width"),
    [(8, 6, 4, 12), (8, 6, -1, 12), (None, 6, -1, 18), (8, 6, 16, 3), (None, 6, -1, 2), (8, 4, 8, 4), (8, 8, 8, 8)],
)
@pytest.mark.parametrize("has_layer", [False, True])
def test_steps_are_joined_and_parted_as_reshape_does(
    has_layer: bool, steps: int | None, size: int, rows: int, width: int
) -> None:
    first = [L.GRU(size, return_sequences=True)] if has_layer else []
    check(sequential(*first, L.Reshape((rows, width)), L.LSTM(3, return_sequences=True), shape=(steps, size)))


def test_inputs_and_outputs_in_dictionaries_come_in_keras_s_order() -> None:
    b, a = keras.Input((None, 4), name="b"), keras.Input((None, 3), name="a")
    y = L.Concatenate()([b, a])
    model = filled(keras.Model({"z": b, "y": a}, {"second": L.Dense(1)(y), "first": L.LSTM(2)(y)}))
    ours = fc.Model.from_keras(model)
    assert (ours.inputs, ours.outputs) == (("y", "z"), ("first", "second"))
    given = {"z": uniform(1, 2, 5, 4), "y": uniform(2, 2, 5, 3)}
    with torch.no_grad():
        expected = model({name: torch.from_numpy(value) for name, value in given.items()})
    found = dict(zip(ours.outputs, ours(given["y"], given["z"]), strict=True))
    assert_same([found[name] for name in expected], [np.asarray(part.detach()) for part in expected.values()])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "name", ["functional", "Conv2D", "TimeDistributed", "scales", "2D in all forms", "stacked cells", "reductions"]
)
def test_files_have_the_bits_of_live_models(tmp_path: Path, name: str, suffix: str) -> None:
    model = functional_model() if name == "functional" else LAYERS[name]()
    model.save(tmp_path / f"model{suffix}")
    values = arrays_for(model)
    ours = fc.Model.from_keras(tmp_path / f"model{suffix}")
    for a, b in zip(flat(ours(*values)), flat(fc.Model.from_keras(model)(*values)), strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_constant_initial_state_is_the_stream_s_too() -> None:
    x = keras.Input((None, 4))
    model = filled(keras.Model(x, L.GRU(3, return_sequences=True)(x, initial_state=keras.ops.ones((1, 3)) * 0.5)))
    values = uniform(1, 1, 6, 4)
    expected = answers(model, [values])[0]
    stream = fc.Model.from_keras(model).stream()
    assert_same([np.stack([stream.step(values[0, t]) for t in range(6)])], [expected[0]])


def test_a_stateful_model_is_a_stream() -> None:
    model = sequential(L.LSTM(3, stateful=True, return_sequences=True), L.Dense(2), shape=(5, 4), batch_size=2)
    stream = fc.Model.from_keras(model).stream(2)
    for seed in (1, 2, 3):
        x = uniform(seed, 2, 5, 4)
        assert_same([stream.process(x)], answers(model, [x]))


@keras.saving.register_keras_serializable(package="tests")  # type: ignore[misc] # Keras has no types
def gate_of_keras_2(v: Any) -> Any:
    return keras.ops.clip(0.2 * v + 0.5, 0, 1)


class TestFilesOfBothVersions:
    """Files that are written here by hand, against Keras 3 with the same weights."""

    def live(self, version: int, weights: dict[str, list[dict[str, np.ndarray]]]) -> Any:
        words, frames = keras.Input((None,), dtype="int32"), keras.Input((None, 4))
        inner = keras.Sequential([keras.Input((None, 3)), L.Dense(3, activation="tanh")], name="inner")
        conv = L.Conv1D(3, 3, padding="causal", dilation_rate=2, activation="relu", use_bias=False, name="conv")
        norm = inner(L.BatchNormalization(name="norm")(conv(frames)))
        both = L.Concatenate()([norm, inner(L.Embedding(5, 3, name="table")(words))])
        gate = gate_of_keras_2 if version == 2 else "hard_sigmoid"
        lstm = L.LSTM(3, recurrent_activation=gate, return_sequences=True)
        drop = L.Bidirectional(lstm, merge_mode="ave", name="bi")(both)
        head = L.Dense(2, activation="softmax", name="head")(L.GlobalMaxPooling1D()(drop))
        model = keras.Model([words, frames], [head, drop])
        for name, cells in weights.items():
            model.get_layer(name).set_weights([array for cell in cells for array in cell.values()])
        return model

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    @pytest.mark.parametrize("version", [2, 3])
    def test_whole_models(self, tmp_path: Path, version: int, suffix: str) -> None:
        weights = write_whole_model(tmp_path / f"model{suffix}", version)
        model = self.live(version, weights)
        ours = fc.Model.from_keras(tmp_path / f"model{suffix}")
        assert (ours.inputs, ours.outputs) == (("words", "frames"), ("head", "drop"))
        values = arrays_for(model)
        assert_same(ours(*values), answers(model, values))

    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            (
                ("LeakyReLU", {"alpha": {"class_name": "__numpy__", "config": {"value": 0.5, "dtype": "float32"}}}),
                lambda x: np.where(x > 0, x, 0.5 * x),
            ),
            (("LeakyReLU", {"alpha": 0.25}), lambda x: np.where(x > 0, x, 0.25 * x)),
            (("ThresholdedReLU", {"theta": 0.5}), lambda x: np.where(x > 0.5, x, 0)),
            (("Activation", {"activation": "hard_sigmoid"}), lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
            (("Activation", {"activation": "swish"}), lambda x: x / (1 + np.exp(-x))),
            (("UnitNormalization", {"axis": [-1]}), lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)),
        ],
    )
    def test_layers_that_keras_2_has_otherwise(self, tmp_path: Path, item: Any, expected: Any) -> None:
        first = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, None, 3]}}
        layer = {"class_name": item[0], "config": {"name": "layer", **item[1]}}
        model = {"class_name": "Sequential", "config": {"name": "model", "layers": [first, layer]}}
        path = write_h5(tmp_path / "model.h5", model, {"layer": []}, "2.15.0")
        x = uniform(1, 2, 5, 3)
        assert_same([fc.Model.from_keras(path)(x)], [expected(x.astype(np.float64))])

    def test_a_depthwise_convolution_of_keras_2(self, tmp_path: Path) -> None:
        config = {"name": "d", "kernel_size": [2], "strides": [1], "padding": "valid", "use_bias": False}
        layer = {"class_name": "DepthwiseConv1D", "config": {**config, "batch_input_shape": [None, None, 3]}}
        model = {"class_name": "Sequential", "config": {"name": "model", "layers": [layer]}}
        kernel = uniform(1, 2, 3, 1)
        path = write_h5(tmp_path / "model.h5", model, {"d": [{"depthwise_kernel": kernel}]}, "2.9.0")
        x = uniform(2, 2, 5, 3)
        expected = x[:, :-1] * kernel[0, :, 0] + x[:, 1:] * kernel[1, :, 0]
        assert_same([fc.Model.from_keras(path)(x)], [expected])
