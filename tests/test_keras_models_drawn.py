"""Drawn models of Keras: each is computed as Keras does, or refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples, note_difference
from live_keras import MARKS, STEPS, WORDS, L, answers, arrays_for, assert_same, filled, flat, keras

pytestmark = MARKS


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
                lambda: L.Reshape(draw(st.sampled_from([(-1, 1), (-1, 2), (1, -1), (-1, 3)]))),
                lambda: L.Permute((2, 1)) if rank > 2 else L.Reshape((1, -1)),
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
        except (ValueError, TypeError):  # which Keras refuses
            continue
    outputs = [tensors[-1]]
    if merges and draw(st.integers(0, 2)) == 0:
        outputs.append(draw(st.sampled_from(tensors[len(inputs) :] or tensors)))
    model = keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])
    return filled(model, draw(st.integers(1, 9)))


COUNTS = {"agreed": 0, "refused": 0}


@settings(max_examples=examples(50))
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


def test_most_drawn_models_are_not_refused() -> None:
    assert COUNTS["agreed"] >= 2 * COUNTS["refused"] or not COUNTS["agreed"]
