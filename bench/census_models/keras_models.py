"""Models that are published for Keras."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

import fusedcell as fc

from .case import Case, Entry, normal, tokens

os.environ.setdefault("KERAS_BACKEND", "torch")


def of_keras(make: Callable[[Any], Any], x: np.ndarray) -> Case:
    import keras
    import torch

    keras.utils.set_random_seed(0)
    model = make(keras)

    def theirs(x: np.ndarray) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(x), training=False)

    return Case(lambda: fc.Model.from_keras(model), [(x,)], theirs)


def keyword_crnn(keras: Any) -> Any:
    layers = keras.layers
    mels = keras.Input((98, 40))
    x = layers.Reshape((98, 40, 1))(mels)
    x = layers.Conv2D(16, (3, 3), activation="relu")(x)
    x = layers.Conv2D(16, (5, 5), strides=(1, 2), activation="relu")(x)
    x = layers.Reshape((92, 17 * 16))(x)
    x = layers.GRU(128, return_sequences=True)(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(128, activation="relu")(x)
    return keras.Model(mels, layers.Dense(12, activation="softmax")(layers.Dense(12)(x)))


def telemanom(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None, 25)),
            layers.LSTM(80, return_sequences=True),
            layers.Dropout(0.3),
            layers.LSTM(80, return_sequences=False),
            layers.Dropout(0.3),
            layers.Dense(10),
            layers.Activation("linear"),
        ]
    )


def precise(keras: Any) -> Any:
    layers = keras.layers
    gru = layers.GRU(20, activation="linear", dropout=0.2, name="net", reset_after=False)
    return keras.Sequential([keras.Input((29, 13)), gru, layers.Dense(1, activation="sigmoid")])


def korean_spacing(keras: Any) -> Any:
    layers = keras.layers
    text = keras.Input((198,))
    embedded = layers.Embedding(500, 64)(text)
    parts = [layers.Conv1D(32, taps, padding="same", activation="relu")(embedded) for taps in (1, 2, 3, 4, 5)]
    x = layers.Concatenate()([*parts, embedded])
    x = layers.BatchNormalization()(x)
    x = layers.TimeDistributed(layers.Dense(100, activation="relu"))(x)
    x = layers.Bidirectional(layers.GRU(50, return_sequences=True))(x)
    return keras.Model(text, layers.TimeDistributed(layers.Dense(1, activation="sigmoid"))(x))


def earthquakes(keras: Any) -> Any:
    layers = keras.layers
    spectrogram = keras.Input((150, 41, 3))

    def residual(x: Any, filters: int) -> Any:
        y = layers.Activation("relu")(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x)))
        return layers.Add()([x, layers.Conv2D(filters, 3, padding="same")(y)])

    x = residual(layers.Conv2D(8, (9, 9), strides=2, padding="same", activation="relu")(spectrogram), 8)
    x = residual(layers.Conv2D(16, (5, 5), strides=2, padding="same", activation="relu")(x), 16)
    x = layers.Reshape((38, 11 * 16))(x)
    x = layers.BatchNormalization()(layers.Bidirectional(layers.LSTM(32, return_sequences=True))(x))
    x = layers.BatchNormalization()(layers.LSTM(32, return_sequences=True)(x))
    x = layers.TimeDistributed(layers.Dense(32, activation="relu"))(x)
    return keras.Model(spectrogram, layers.TimeDistributed(layers.Dense(1, activation="sigmoid"))(x))


def entry(name: str, source: str, make: Callable[[Any], Any], x: np.ndarray) -> Entry:
    return Entry(name, "Keras", "Keras, PyTorch", source, lambda: of_keras(make, x))


MODELS = [
    entry("CRNN for keywords", "google-research/kws_streaming", keyword_crnn, normal(1, 98, 40)),
    entry("telemanom", "khundman/telemanom", telemanom, normal(1, 250, 25)),
    entry("Mycroft Precise", "MycroftAI/mycroft-precise", precise, normal(1, 29, 13) / 8),
    entry("PyKoSpacing-like", "haven-jeon/PyKoSpacing", korean_spacing, tokens(500, 1, 198)),
    entry("CRED-like", "smousavi05/CRED", earthquakes, normal(1, 150, 41, 3)),
]
