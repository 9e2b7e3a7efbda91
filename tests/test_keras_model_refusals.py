"""What no Model can do of Keras's is refused, and the error names the layer and what is supported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fusedcell as fc
from keras_models import write_h5
from live_keras import MARKS, L, filled, keras, refuse, sequential

pytestmark = MARKS


class TestRefusals:
    @pytest.mark.parametrize(
        ("layers", "message"),
        [
            (lambda: [L.Lambda(lambda x: x + 1, name="f")], "Lambda layer 'f': Lambda is not supported; supported: A"),
            (lambda: [L.GroupNormalization(2)], "a norm over all rows of a sequence"),
            (lambda: [L.Conv1D(3, 3, strides=2, padding="same", name="c")], "Conv1D layer 'c': padding='same' with"),
            (lambda: [L.Softmax(axis=1)], "along time"),
            (lambda: [L.Softmax(axis=(1, 2))], r"axis=\[1, 2\]; supported: one axis"),
            (lambda: [L.Dense(3, activation=L.LeakyReLU())], "layer 'dense.*': activation=.* is not supported"),
            (lambda: [L.BatchNormalization(axis=1)], "along time"),
            (lambda: [L.LayerNormalization(axis=(1, 2))], "along time"),
            (lambda: [L.AveragePooling1D(3, strides=1, padding="same")], "a mean over windows that counts no padding"),
            (lambda: [L.MaxPooling1D(3, strides=1, padding="same")], "a maximum along time with padding"),
            (lambda: [L.Permute((2, 1)), L.Dense(3)], "weights along time"),
            (lambda: [L.LSTM(3), L.RepeatVector(6), L.LSTM(3, name="d")], "a recurrent layer whose steps are copies of"
             " the answer of a whole sequence is not supported; supported: steps of an input"),
            (lambda: [L.LSTM(3, go_backwards=True, return_sequences=True, name="b")], "output 'b': an answer that runs"
             " backwards"),
            (lambda: [L.LSTM(3, activation="gelu")], "activation='gelu' is not supported; supported: tanh"),
            (lambda: [L.Dense(3, activation="sparsemax")], "activation='sparsemax' is not supported; supported: relu"),
            (lambda: [L.ReLU(3.0, threshold=1.0)], "max_value=3.0, negative_slope=0.0 and threshold=1.0 together are"),
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

    def test_rows_beyond_all_measure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        refuse(sequential(L.RepeatVector(2**23), shape=(2,)), "rows of 16777216 features; supported: 1 to")
        refuse(
            sequential(L.GRU(1, return_sequences=True), L.Reshape((1, 2**10)), L.LSTM(1), shape=(2**10, 1)),
            r"over \(batch, 1, time\)",
        )
        monkeypatch.setattr("fusedcell.convert.keras.model._MOST_FEATURES", 2**12)
        layers = [L.RepeatVector(2**10), L.Flatten(), L.ReLU(), L.ReLU()]
        refuse(sequential(*layers, shape=(2,)), "more than 4096 features of all layers together")

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
        refuse(keras.Model(x, keras.ops.sin(x)), "the operation Sin is not supported; supported: Absolute, Add")
        refuse(keras.Model(x, keras.ops.min(x, axis=1)), "the operation Min is not supported; supported: Absolute, Add")
        refuse(keras.Model(x, keras.ops.mean(x, axis=None)), "axis=None; supported: an integer")
        refuse(keras.Model(x, L.Attention()([x, x])), "layer 'attention.*': Attention is not supported; supported: A")
        refuse(keras.Model(x, L.MultiHeadAttention(2, 3)(x, x)), "MultiHeadAttention is not supported; supported: A")
        refuse(keras.Model(x, L.Dot(-1)([x, x])), "axes=-1; supported: 1, of two tensors")
        refuse(keras.Model(x, keras.ops.split(x, [1], axis=1)), "split along time; supported: along features")
        refuse(sequential(L.Dense(6), L.Reshape((6, 1)), L.LSTM(3), shape=(6,)), "whose steps are parts of one row")
        refuse(keras.Model(x, L.Concatenate(axis=1)([x, x])), "sequences one after another")
        refuse(keras.Model(x, x[:, 3]), "row 3 of a sequence; supported: the last and the first")

    def test_classes_of_the_user_s_own(self) -> None:
        class Dense(L.Dense):
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
        class Dense(L.Dense):
            pass

        for suffix in (".keras", ".h5"):
            sequential(Dense(3, name="d")).save(tmp_path / f"model{suffix}")
            with pytest.raises(fc.UnsupportedError, match=r"layer 'd': .*Dense is not"):
                fc.Model.from_keras(tmp_path / f"model{suffix}")
