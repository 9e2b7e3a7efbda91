"""Model.from_keras against Keras itself: live models and files, drawn ones too, are computed exactly or refused."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples, note_difference
from keras_models import write_h5, write_whole_model
from models import uniform

os.environ.setdefault("KERAS_BACKEND", "torch")
torch: Any = pytest.importorskip("torch")
pytest.importorskip("h5py")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras: Any = pytest.importorskip("keras", minversion="3.0")

L = keras.layers
pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="masks go by the rule of Keras's PyTorch backend"),
    pytest.mark.filterwarnings("ignore"),  # of Keras's own
]

STEPS = 24
WORDS = 5


def filled(model: Any, seed: int = 1) -> Any:
    """The model with weights about 0.5, and variances about 1."""
    for index, variable in enumerate(model.variables):
        shape = tuple(variable.shape)
        if "float" in str(variable.dtype) and "seed" not in variable.path:
            values = uniform(1000 * seed + index, *shape) * np.float32(0.8)
            if len(shape) > 1:
                values /= np.float32(np.sqrt(np.prod(shape[:-1])) / 2 + 1)
            variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def sequential(*layers: Any, shape: tuple[int | None, ...] = (None, 4), **options: Any) -> Any:
    return filled(keras.Sequential([keras.Input(shape, **options), *layers]))


def arrays_for(model: Any, rows: int = 3, steps: int = STEPS, seed: int = 1) -> list[np.ndarray]:
    """Values of the inputs: whole numbers for those that are declared so."""
    found = []
    for index, tensor in enumerate(model.inputs):
        shape = [rows, *(steps if size is None else size for size in tensor.shape[1:])]
        if "int" in str(tensor.dtype):
            found.append(np.random.default_rng(seed + index).integers(1, WORDS, shape))
        else:
            found.append(uniform(seed + index, *shape))
    return found


def answers(model: Any, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        tensors = [torch.from_numpy(value) for value in values]
        result = model(tensors if len(tensors) > 1 else tensors[0])
    return [np.asarray(part.detach()) for part in keras.tree.flatten(result)]


def flat(answer: Any) -> list[np.ndarray]:
    return list(answer) if isinstance(answer, tuple) else [answer]


def assert_same(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    assert [a.shape for a in actual] == [e.shape for e in expected]
    for a, e in zip(actual, expected, strict=True):
        assert np.abs(a - e).max(initial=0) <= 1e-5 * max(1.0, float(np.abs(e).max(initial=0)))


def check(model: Any, steps: int = STEPS) -> fc.Model:
    values = arrays_for(model, steps=steps)
    ours = fc.Model.from_keras(model)
    assert_same(flat(ours(*values)), answers(model, values))
    return ours


TOKENS: dict[str, Any] = {"shape": (None,), "dtype": "int32"}
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


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "name", ["functional", "Conv2D", "TimeDistributed", "scales", "2D in all forms", "stacked cells"]
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


class TestMasks:
    """A mask is said by `lengths`: for sequences that are padded at their ends the answers are Keras's."""

    def check(self, model: Any, value: Any = 0) -> None:
        (x,) = arrays_for(model)
        lengths = np.array([STEPS, 7, 1])
        for row, length in zip(x, lengths, strict=True):
            row[length:] = value
        (expected,) = answers(model, [x])
        actual = fc.Model.from_keras(model)(x, lengths=lengths)
        if expected.ndim == 3:
            for row, length in zip(expected, lengths, strict=True):
                row[length:] = 0
        assert_same([actual], [expected])

    @pytest.mark.parametrize(
        "layers",
        [
            lambda: [L.LSTM(3), L.Dense(2)],
            lambda: [L.Bidirectional(L.GRU(3, return_sequences=True)), L.Dense(4), L.GRU(3, go_backwards=True)],
            lambda: [L.Dense(3), L.TimeDistributed(L.Dense(2)), L.GlobalAveragePooling1D()],
            lambda: [L.LSTM(3, return_sequences=True), L.BatchNormalization(), L.Dense(2, activation="softmax")],
        ],
    )
    def test_of_embeddings_and_of_values(self, layers: Callable[[], list[Any]]) -> None:
        self.check(sequential(L.Embedding(WORDS, 4, mask_zero=True), *layers(), **TOKENS))
        self.check(sequential(L.Masking(-1.0), *layers()), value=-1)

    def test_of_merged_tensors(self) -> None:
        x = keras.Input((None,), dtype="int32")
        word = L.Embedding(WORDS, 4, mask_zero=True)(x)
        both = L.Concatenate()([word, L.LSTM(3, return_sequences=True)(word)])
        self.check(filled(keras.Model(x, L.GRU(3)(both))))

    def test_that_nothing_keeps_to_have_no_effect(self) -> None:
        check(sequential(L.Embedding(WORDS, 4, mask_zero=True), L.Conv1D(3, 3), L.GlobalMaxPooling1D(), **TOKENS))

    @pytest.mark.parametrize(
        "layers",
        [
            lambda: [L.LSTM(3, return_sequences=True), L.Conv1D(3, 3)],
            lambda: [L.LSTM(3, return_sequences=True), L.GlobalMaxPooling1D()],
            lambda: [L.GRU(3, return_sequences=True), L.Reshape((-1, 3)), L.GRU(2)],
        ],
    )
    def test_behind_which_others_read_the_padding_are_refused(self, layers: Callable[[], list[Any]]) -> None:
        model = sequential(L.Embedding(WORDS, 4, mask_zero=True), *layers(), **TOKENS)
        with pytest.raises(fc.UnsupportedError, match=r"it reads rows that a mask says are padding, to which .* keeps"):
            fc.Model.from_keras(model)

    def test_that_do_not_run_backwards_as_the_output_does_are_refused(self) -> None:
        layers = [L.GRU(3, go_backwards=True, return_sequences=True), L.GlobalAveragePooling1D()]
        refuse(
            sequential(L.Embedding(WORDS, 4, mask_zero=True), *layers, **TOKENS), "which Keras then has for other steps"
        )

    def test_of_the_model_s_own_making_are_refused(self) -> None:
        x = keras.Input((None, 4))
        mask = keras.ops.not_equal(x[..., 0], 0)
        with pytest.raises(fc.UnsupportedError, match="a mask of its own"):
            fc.Model.from_keras(filled(keras.Model(x, L.LSTM(3)(x, mask=mask))))


def refuse(model: Any, message: str) -> None:
    with pytest.raises(fc.UnsupportedError, match=message):
        fc.Model.from_keras(model)


class TestRefusals:
    @pytest.mark.parametrize(
        ("layers", "message"),
        [
            (lambda: [L.Lambda(lambda x: x + 1, name="f")], "Lambda layer 'f': Lambda is not supported; supported: A"),
            (lambda: [L.GroupNormalization(2)], "GroupNormalization is not supported"),
            (lambda: [L.Conv1D(3, 3, strides=2, padding="same", name="c")], "Conv1D layer 'c': padding='same' with"),
            (lambda: [L.Softmax(axis=1)], "along time"),
            (lambda: [L.Softmax(axis=(1, 2))], r"axis=\[1, 2\]; supported: one axis"),
            (lambda: [L.Dense(3, activation=L.LeakyReLU())], "layer 'dense.*': activation=.* is not supported"),
            (lambda: [L.BatchNormalization(axis=1)], "along time"),
            (lambda: [L.LayerNormalization(axis=(1, 2))], "along time"),
            (lambda: [L.AveragePooling1D(3, strides=1, padding="same")], "a mean over windows that counts no padding"),
            (lambda: [L.MaxPooling1D(3, strides=1, padding="same")], "a maximum along time with padding"),
            (lambda: [L.Permute((2, 1)), L.Dense(3)], "weights along time"),
            (lambda: [L.LSTM(3), L.RepeatVector(6), L.LSTM(3)], "a recurrent layer over"),
            (lambda: [L.LSTM(3, go_backwards=True, return_sequences=True)], "an answer that runs backwards"),
            (lambda: [L.LSTM(3, activation="gelu")], "activation='gelu' is not supported; supported: tanh"),
            (lambda: [L.Dense(3, activation="sparsemax")], "activation='sparsemax' is not supported; supported: relu"),
            (lambda: [L.ReLU(3.0, threshold=1.0)], "one of max_value, negative_slope and threshold"),
            (lambda: [L.LSTM(3, return_sequences=True), L.Reshape((-1, 4)), L.Dense(2)], "a reshape of .* that mixes"),
        ],
    )  # fmt: skip
    def test_layers_by_name(self, layers: Callable[[], list[Any]], message: str) -> None:
        shape = (8, 4) if any(type(layer).__name__ in ("BatchNormalization", "LayerNormalization", "Permute", "Reshape")
                              for layer in layers()) else (None, 4)  # fmt: skip
        stream = [L.GRU(4, return_sequences=True)] if shape == (8, 4) else []  # so that it cannot be features alone
        refuse(sequential(*stream, *layers(), shape=shape), message)

    def test_inputs_that_are_no_arrays_of_one_length(self) -> None:
        refuse(filled(keras.Model(x := keras.Input((None, None, 2)), L.Dense(3)(x))), "several axes of any length")

    def test_rows_beyond_all_measure(self) -> None:
        refuse(sequential(L.RepeatVector(2**23), shape=(2,)), "rows of 16777216 features; supported: 1 to")
        layers = [L.RepeatVector(2**20), L.Flatten(), L.ReLU(), L.ReLU()]
        refuse(sequential(*layers, shape=(2,)), "more than 4194304 features of all layers together")

    def test_inputs_that_are_sparse(self, tmp_path: Path) -> None:
        item = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 2], "sparse": True}}
        model = {"class_name": "Sequential", "config": {"name": "model", "layers": [item]}}
        with pytest.raises(fc.UnsupportedError, match="the input 'x' is sparse or ragged"):
            fc.Model.from_keras(write_h5(tmp_path / "model.h5", model, {}, "2.15.0"))

    def test_what_the_model_s_calls_ask_for(self) -> None:
        x, h = keras.Input((None, 4)), keras.Input((3,))
        refuse(keras.Model([x, h], L.GRU(3)(x, initial_state=h)), "an initial state that the model computes, or takes")
        refuse(keras.Model(x, L.Dropout(0.5)(x, training=True)), "with training=True")
        refuse(keras.Model(x, L.LSTM(3, return_state=True)(x)), "the cell state that an LSTM ends with")
        refuse(keras.Model(x, keras.ops.maximum(x, 0.5)), "the operation Maximum is not supported; supported: Add")
        refuse(keras.Model(x, L.Concatenate(axis=1)([x, x])), "sequences one after another")
        refuse(keras.Model(x, x[:, 3]), "row 3 of a sequence; supported: the last and the first")

    def test_classes_of_the_user_s_own(self) -> None:
        class Dense(L.Dense):  # type: ignore[name-defined] # Keras makes its names at run time
            pass

        class Own(keras.Model):
            pass

        refuse(sequential(Dense(3)), "Dense is not Keras's own")
        refuse(Own(), "Own is not supported; supported: the path of a file, or a Sequential or Functional model")
        model = sequential(L.Dense(3, name="d"))
        model.layers[0].call = lambda x: x
        refuse(model, "layer 'd': Dense is not Keras's own, or its call is not")
        model = sequential(L.Dense(3, name="d", activation=lambda x: x))
        refuse(model, "layer 'd': activation=.* is not supported")

    def test_classes_of_the_user_s_own_in_files(self, tmp_path: Path) -> None:
        @keras.saving.register_keras_serializable(package="Mine")
        class Dense(L.Dense):  # type: ignore[name-defined] # likewise
            pass

        for suffix in (".keras", ".h5"):
            sequential(Dense(3, name="d")).save(tmp_path / f"model{suffix}")
            with pytest.raises(fc.UnsupportedError, match=r"layer 'd': .*Dense is not"):
                fc.Model.from_keras(tmp_path / f"model{suffix}")


# Drawn models: each agrees or is refused.

SIZES = st.integers(1, 5)


def over_time(draw: st.DrawFn) -> Any:
    size, taps = draw(SIZES), draw(st.integers(1, 4))
    padding = draw(st.sampled_from(["valid", "same", "causal"]))
    stride = draw(st.sampled_from([1, 1, 1, 2, 3]))
    function = draw(st.sampled_from([None, "relu", "tanh", "selu", "softmax"]))
    kind = draw(
        st.sampled_from(["conv", "conv", "depthwise", "separable", "transposed", "pool", "rows", "rnn", "rnn", "bi"])
    )
    plain = "same" if padding == "same" else "valid"
    if kind == "conv":
        dilation = draw(st.integers(1, 3)) if stride == 1 else 1
        return L.Conv1D(size, taps, strides=stride, padding=padding, dilation_rate=dilation, activation=function)
    if kind == "depthwise":
        return L.DepthwiseConv1D(taps, depth_multiplier=draw(st.integers(1, 2)), strides=stride, padding=plain)
    if kind == "separable":
        return L.SeparableConv1D(size, taps, strides=stride, padding=plain, activation=function)
    if kind == "transposed":
        return L.Conv1DTranspose(size, taps, strides=stride, padding=plain, activation=function)
    if kind == "pool":
        make = draw(st.sampled_from([L.MaxPooling1D, L.AveragePooling1D]))
        return make(taps, strides=draw(st.sampled_from([None, 1, 2])), padding=plain)
    if kind == "rows":
        ends = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
        return draw(st.sampled_from([L.ZeroPadding1D(ends), L.Cropping1D(ends), L.UpSampling1D(1 + ends[0])]))
    make = draw(st.sampled_from([L.LSTM, L.GRU, L.SimpleRNN]))
    if kind == "bi":
        mode = draw(st.sampled_from(["concat", "sum", "mul", "ave"]))
        return L.Bidirectional(make(size, return_sequences=draw(st.booleans())), merge_mode=mode)
    return make(size, return_sequences=draw(st.sampled_from([True, True, False])), go_backwards=draw(st.booleans()))


def of_rows(draw: st.DrawFn, rank: int) -> Any:
    time = [1] if rank > 2 else None
    layer = draw(
        st.sampled_from(
            [
                lambda: L.Dense(draw(SIZES), activation=draw(st.sampled_from([None, "gelu", "mish", "log_softmax"]))),
                lambda: L.BatchNormalization(scale=draw(st.booleans()), center=draw(st.booleans())),
                lambda: L.LayerNormalization(),
                lambda: L.UnitNormalization(),
                lambda: L.PReLU(shared_axes=time),
                lambda: L.LeakyReLU(0.2),
                lambda: L.Dropout(0.5),
                lambda: L.Normalization(),
                lambda: L.Rescaling(0.5, 0.25),
                lambda: L.Softmax(),
                lambda: L.TimeDistributed(L.Dense(draw(SIZES))) if rank > 2 else L.ReLU(),
                lambda: L.Activation(draw(st.sampled_from(["tanh", "relu", "sigmoid", "elu", "softsign"]))),
            ]
        )
    )
    return layer()


def of_frames(draw: st.DrawFn) -> Any:
    taps = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride = (1, draw(st.integers(1, 2)))
    padding = draw(st.sampled_from(["valid", "same"]))
    return draw(
        st.sampled_from(
            [
                lambda: L.Conv2D(draw(SIZES), taps, strides=stride, padding=padding, activation="relu"),
                lambda: L.DepthwiseConv2D(taps, strides=(1, 1), padding=padding),
                lambda: L.MaxPooling2D((1, taps[1]), strides=stride),
                lambda: L.AveragePooling2D((1, taps[1])),
                lambda: L.BatchNormalization(),
                lambda: L.TimeDistributed(L.Flatten()),
                lambda: L.TimeDistributed(L.Conv1D(draw(SIZES), taps[1])),
                lambda: L.Dense(draw(SIZES)),
                lambda: L.Permute((1, 3, 2)),
                lambda: L.GlobalAveragePooling2D(),
                lambda: L.Conv2DTranspose(draw(SIZES), (1, taps[1]), strides=stride, padding=padding),
            ]
        )
    )()


def drawn_layer(draw: st.DrawFn, x: Any) -> Any:
    """A layer for a tensor, by its rank."""
    rank = len(x.shape)
    if rank == 4:
        return of_frames(draw)
    if rank == 2:
        return of_rows(draw, 2)
    ends = st.sampled_from([L.GlobalAveragePooling1D, L.GlobalMaxPooling1D, L.Flatten])
    which = draw(st.integers(0, 9))
    return draw(ends)() if which == 0 else over_time(draw) if which < 6 else of_rows(draw, 3)


@st.composite
def keras_models(draw: st.DrawFn) -> Any:
    """Sequential ones, and functional ones that merge what they have, call layers twice and answer several times."""
    length = draw(st.sampled_from([None, None, STEPS, 9]))
    kind = draw(st.sampled_from(["rows", "rows", "rows", "tokens", "frames", "features"]))
    shape: dict[str, Any] = {"rows": (length, 4), "tokens": (length,), "frames": (length, 8, 2), "features": (6,)}
    inputs = [keras.Input(shape[kind], dtype="int32" if kind == "tokens" else "float32")]
    x = inputs[0]
    if kind == "tokens":
        x = L.Embedding(WORDS, draw(SIZES))(x)
    tensors = [x]
    merges = draw(st.booleans())
    if merges and draw(st.integers(0, 3)) == 0:
        inputs.append(keras.Input(draw(st.sampled_from([(length, 4), (4,)]))))
        tensors.append(inputs[1])
    for _ in range(draw(st.integers(1, 5))):
        x = draw(st.sampled_from(tensors[-2:])) if merges else tensors[-1]
        try:
            if merges and draw(st.integers(0, 3)) == 0:
                others = [t for t in tensors if len(t.shape) == len(x.shape)]
                pair = [x, draw(st.sampled_from(others))]
                names = (
                    [L.Concatenate] if pair[0].shape != pair[1].shape else [L.Add, L.Multiply, L.Average, L.Subtract]
                )
                tensors.append(draw(st.sampled_from(names))()(pair))
                continue
            layer = drawn_layer(draw, x)
            tensors += [layer(x)]
            twice = [t for t in tensors[:-1] if t.shape == x.shape]
            if merges and twice and draw(st.integers(0, 4)) == 0:
                tensors.append(layer(draw(st.sampled_from(twice))))
        except ValueError:  # which Keras refuses
            continue
    outputs = [tensors[-1]]
    if merges and draw(st.integers(0, 2)) == 0:
        outputs.append(draw(st.sampled_from(tensors[len(inputs) :] or tensors)))
    model = keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])
    return filled(model, draw(st.integers(1, 9)))


COUNTS = {"agreed": 0, "refused": 0}


@settings(max_examples=examples(100))
@given(model=keras_models())
def test_drawn_models_are_computed_as_keras_does_or_refused(model: Any) -> None:
    values = arrays_for(model)
    try:
        expected = answers(model, values)
    except (ValueError, RuntimeError):  # of numbers of steps that do not meet, or none
        return
    try:
        ours = fc.Model.from_keras(model)
    except fc.UnsupportedError:
        COUNTS["refused"] += 1
        return
    COUNTS["agreed"] += 1
    # An input that nothing reads is of floats here.
    given = [x if name in ours.tokens else x.astype(np.float32) for name, x in zip(ours.inputs, values, strict=True)]
    actual = flat(ours(*given))
    note_difference(actual, expected)
    assert_same(actual, expected)


@settings(max_examples=examples(15))
@given(model=keras_models(), suffix=st.sampled_from([".keras", ".h5"]))
def test_drawn_files_have_the_bits_of_live_models(
    tmp_path_factory: pytest.TempPathFactory, model: Any, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("keras") / f"model{suffix}"
    model.save(path)
    try:
        live = fc.Model.from_keras(model)
    except fc.UnsupportedError as error:
        with pytest.raises(fc.UnsupportedError, match=re.escape(str(error).removeprefix("model: "))):
            fc.Model.from_keras(path)
        return
    assert fc.Model.from_keras(path)._to_bytes() == live._to_bytes()


@st.composite
def masked_models(draw: st.DrawFn) -> Any:
    """One chain of layers behind a mask, with residual connections."""
    x = keras.Input((None,), dtype="int32")
    y = L.Embedding(WORDS, 4, mask_zero=True)(x)
    size = st.integers(2, 4)
    kinds = [
        lambda: L.LSTM(draw(size), return_sequences=True),
        lambda: L.GRU(draw(size), return_sequences=draw(st.booleans()), go_backwards=draw(st.booleans())),
        lambda: L.Bidirectional(
            L.GRU(draw(size), return_sequences=True), merge_mode=draw(st.sampled_from(["sum", "concat"]))
        ),
        lambda: L.Dense(draw(size), activation="tanh"),
        lambda: L.TimeDistributed(L.Dense(draw(size))),
        lambda: draw(st.sampled_from([L.BatchNormalization, L.LayerNormalization, L.PReLU]))(),
        lambda: L.Conv1D(draw(size), 3, padding=draw(st.sampled_from(["valid", "same", "causal"]))),
        lambda: L.MaxPooling1D(2),
        lambda: L.Reshape((-1, y.shape[-1])),
        lambda: L.GlobalAveragePooling1D(),
        lambda: L.GlobalMaxPooling1D(),
    ]
    for _ in range(draw(st.integers(1, 5))):
        if len(y.shape) < 3:
            break
        layer = draw(st.sampled_from(kinds))()
        before, y = y, L.PReLU(shared_axes=[1])(y) if isinstance(layer, L.PReLU) else layer(y)
        if y.shape == before.shape and len(y.shape) == 3 and draw(st.booleans()):
            y = L.Add()([before, y])
    return filled(keras.Model(x, L.Dense(2)(y)), draw(st.integers(1, 9)))


@settings(max_examples=examples(40))
@given(model=masked_models())
def test_drawn_models_behind_masks_answer_as_keras_does_or_are_refused(
    model: Any,
) -> None:
    lengths = [STEPS, 11, 7]
    (x,) = arrays_for(model)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 0
    try:
        (expected,) = answers(model, [x])
        alone = [answers(model, [row[None, :length]])[0][0] for row, length in zip(x, lengths, strict=True)]
    except (ValueError, RuntimeError):  # of numbers of steps that do not meet
        return
    try:
        ours = fc.Model.from_keras(model)
    except fc.UnsupportedError:
        return
    keeps = all(np.abs(row[: len(one)] - one).max() < 1e-4 for row, one in zip(expected, alone, strict=True))
    if keeps:
        for row, one in zip(ours(x, lengths=lengths), alone, strict=True):
            assert_same([row[: len(one)]], [one])
    else:
        assert_same([ours(x)], [expected])


def test_most_drawn_models_are_not_refused() -> None:
    assert COUNTS["agreed"] >= 2 * COUNTS["refused"] or not COUNTS["agreed"]


@pytest.mark.filterwarnings("default")
def test_a_model_that_keeps_to_masks_says_that_calls_have_to_give_lengths(tmp_path: Path) -> None:
    inputs = keras.Input((None,), dtype="int32")
    y = keras.layers.LSTM(3, name="memory")(keras.layers.Embedding(9, 4, mask_zero=True)(inputs))
    keras.Model(inputs, y).save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="LSTM layer 'memory': Keras leaves out rows .* lengths="):
        fc.Model.from_keras(tmp_path / "m.keras")
