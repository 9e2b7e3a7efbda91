"""Models of Keras with masks: for sequences that are padded at their ends `lengths` gives Keras's answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
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
    keras,
    refuse,
    sequential,
)

pytestmark = MARKS


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


@pytest.mark.filterwarnings("default")
def test_a_model_that_keeps_to_masks_says_that_calls_have_to_give_lengths(tmp_path: Path) -> None:
    inputs = keras.Input((None,), dtype="int32")
    y = keras.layers.LSTM(3, name="memory")(keras.layers.Embedding(9, 4, mask_zero=True)(inputs))
    keras.Model(inputs, y).save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="LSTM layer 'memory': Keras leaves out rows .* lengths="):
        fc.Model.from_keras(tmp_path / "m.keras")
