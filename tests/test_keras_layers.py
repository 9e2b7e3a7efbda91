"""from_keras and KerasLayer against Keras itself: layer objects, and the files that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples, note_difference
from keras_models import flat
from live_keras import MARKS, keras, torch
from models import uniform

layers = keras.layers
pytestmark = MARKS

GATE_FUNCTIONS = ("sigmoid", "hard_sigmoid", "softsign", "tanh")
FUNCTIONS = ("tanh", "relu", "linear", "softplus", "elu", "leaky_relu", *GATE_FUNCTIONS)


def filled(layer: Any, inputs: int, seed: int) -> Any:
    """The layer, built, with weights that shrink."""
    layer.build((None, 6, inputs))
    weights = [array.shape for array in layer.get_weights()]
    scale = [np.float32(0.8 / np.sqrt(shape[0] + 1)) for shape in weights]
    layer.set_weights([uniform(seed * 100 + i, *shape) * scale[i] for i, shape in enumerate(weights)])
    return layer


@st.composite
def keras_layers(draw: st.DrawFn) -> Any:
    """Any recurrent layer of Keras that is read, with 3 inputs."""
    class_name = draw(st.sampled_from(["SimpleRNN", "LSTM", "GRU"]))

    def cell_options() -> dict[str, Any]:
        options: dict[str, Any] = {
            "activation": draw(st.sampled_from(["tanh", *FUNCTIONS])),
            "use_bias": draw(st.booleans()),
        }
        if class_name != "SimpleRNN":
            options["recurrent_activation"] = draw(st.sampled_from(GATE_FUNCTIONS))
        if class_name == "GRU":
            options["reset_after"] = reset_after
        return options | {"dropout": 0.5, "recurrent_dropout": draw(st.sampled_from([0.0, 0.5]))}

    reset_after = draw(st.booleans())
    form = draw(st.sampled_from(["layer", "RNN", "stacked"]))
    options = {name: draw(st.booleans()) for name in ("return_sequences", "return_state")}
    bidirectional = draw(st.booleans())
    if not bidirectional:
        options["go_backwards"] = draw(st.booleans())
    if not options.get("go_backwards") and not bidirectional:  # whose masks Keras cannot unroll
        options["unroll"] = draw(st.booleans())
    zero = draw(st.booleans()) and not bidirectional and not options.get("unroll")
    if form == "layer":
        layer = getattr(layers, class_name)(4, **cell_options(), **options, zero_output_for_mask=zero)
    else:
        make = getattr(layers, f"{class_name}Cell")
        # Keras fails on a stack of one cell with a mask, and stacks in two directions are refused.
        count = draw(st.integers(2, 3)) if form == "stacked" and not bidirectional else 1
        cells = [make(4, **cell_options()) for _ in range(count)]
        layer = layers.RNN(
            cells[0] if count == 1 else layers.StackedRNNCells(cells), **options, zero_output_for_mask=zero
        )
    if bidirectional:
        layer = layers.Bidirectional(layer, merge_mode=draw(st.sampled_from(["concat", "sum", "mul", "ave", None])))
    return filled(layer, 3, draw(st.integers(1, 9)))


def answer_of(model: Any, x: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        return [part.numpy() for part in flat(model(torch.from_numpy(x)))]


def answer(layer: Any, x: np.ndarray, mask: Any = None, state: Any = None) -> list[np.ndarray]:
    with torch.no_grad():
        result = layer(
            torch.from_numpy(x), mask=None if mask is None else torch.from_numpy(mask), initial_state=tensors(state)
        )
    return [part.numpy() for part in flat(result)]


def tensors(state: Any) -> Any:
    if isinstance(state, list):
        return [tensors(part) for part in state]
    return None if state is None else torch.from_numpy(state)


def drawn_state(layer: Any, rows: int, seed: int) -> list[Any]:
    """A state for a layer, as one calls it with: nested as the cells are."""
    if isinstance(layer, layers.Bidirectional):
        return drawn_state(layer.forward_layer, rows, seed) + drawn_state(layer.backward_layer, rows, seed + 1)

    def arrays(sizes: Any, seed: int) -> Any:
        if isinstance(sizes, (list, tuple)):
            return [arrays(size, seed + 10 * i) for i, size in enumerate(sizes)]
        return uniform(seed, rows, sizes)

    state = arrays(layer.cell.state_size, seed)
    return state if isinstance(state, list) else [state]


def assert_close(actual: Any, expected: list[np.ndarray]) -> None:
    arrays = flat(actual)
    assert len(arrays) == len(expected)
    for a, e in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-5)


@settings(max_examples=examples(60))
@given(layer=keras_layers(), masked=st.booleans(), seed=st.integers(1, 99))
def test_drawn_layers_answer_as_keras_does(layer: Any, masked: bool, seed: int) -> None:
    x = uniform(seed, 3, 6, 3)
    mask = uniform(seed + 1, 3, 6) > -0.2 if masked else None
    actual, expected = fc.from_keras(layer, keras_output=True)(x, mask), answer(layer, x, mask)
    note_difference(flat(actual), expected)
    assert_close(actual, expected)


@settings(max_examples=examples(30))
@given(
    layer=keras_layers(),
    seed=st.integers(1, 99),
    suffix=st.sampled_from([".keras", ".h5"]),
    masked=st.sampled_from([None, None, "bool", "int32"]),
    rows=st.sampled_from([0, 0, 1, 3]),
)
def test_drawn_layers_of_files_that_keras_wrote(
    tmp_path_factory: pytest.TempPathFactory, layer: Any, seed: int, suffix: str, masked: str | None, rows: int
) -> None:
    """With constants in the model's call of the layer, and without."""
    path = tmp_path_factory.mktemp("keras") / f"model{suffix}"
    inputs = keras.Input((6, 3), batch_size=3)
    constants: dict[str, Any] = {"initial_state": drawn_state(layer, rows, seed)} if rows else {}
    if masked:
        constants["mask"] = (uniform(seed + 1, 3, 6) > -0.2).astype(masked)
    model = keras.Model(inputs, layer(inputs, **constants))
    model.save(path)
    x = uniform(seed, 3, 6, 3)
    actual, expected = fc.from_keras(path, keras_output=True)(x), answer_of(model, x)
    note_difference(flat(actual), expected)
    assert_close(actual, expected)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["SimpleRNN", "GRU", "LSTM"])
def test_initial_states_and_masks(name: str, bidirectional: bool) -> None:
    options = {"return_sequences": not bidirectional, "return_state": True}
    layer = getattr(layers, name)(4, **options)
    layer = filled(layers.Bidirectional(layer) if bidirectional else layer, 3, 5)
    x, mask = uniform(1, 3, 6, 3), uniform(2, 3, 6) > 0
    mask[0], mask[1, :3] = False, False
    state = [uniform(10 + i, 3, 4) for i in range((1 + bidirectional) * (2 if name == "LSTM" else 1))]
    ours = fc.from_keras(layer, keras_output=True)
    assert_close(ours(x, mask, state), answer(layer, x, mask, state))


def test_a_stateful_layer() -> None:
    layer = layers.GRU(4, stateful=True, return_sequences=True)
    layer.build((3, 6, 3))
    ours = fc.from_keras(layer, keras_output=True)
    for seed in (1, 2):
        x = uniform(seed, 3, 6, 3)
        assert_close(ours(x), answer(layer, x))
    layer.reset_state()
    ours.reset_state()
    assert_close(ours(x), answer(layer, x))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "stacked"])
def test_a_stateful_layer_goes_on_from_where_it_is(name: str, bidirectional: bool) -> None:
    if name == "stacked":
        cells = [layers.LSTMCell(4) for _ in range(1 if bidirectional else 2)]
        layer = layers.RNN(layers.StackedRNNCells(cells), stateful=True)
    else:
        layer = getattr(layers, name)(4, stateful=True)
    if bidirectional:
        layer = layers.Bidirectional(layer)
    layer.build((3, 6, 3))
    for seed in (1, 2):
        answer(layer, uniform(seed, 3, 6, 3))
    ours = fc.from_keras(layer, keras_output=True)
    for seed in (3, 4):
        x = uniform(seed, 3, 6, 3)
        assert_close(ours(x), answer(layer, x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("frozen", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("form", ["bidirectional", "stacked"])
def test_files_of_partly_frozen_layers(tmp_path: Path, form: str, frozen: tuple[bool, bool], suffix: str) -> None:
    """An .h5 file has the weights that are trained first, whichever cell they are of."""
    if form == "stacked":
        layer = filled(layers.RNN([layers.GRUCell(3), layers.GRUCell(3)]), 3, 2)
        parts = layer.cell.cells
    else:
        layer = filled(layers.Bidirectional(layers.GRU(3)), 3, 2)
        parts = [layer.forward_layer, layer.backward_layer]
    for part, is_frozen in zip(parts, frozen, strict=True):
        part.trainable = not is_frozen
    path = tmp_path / f"model{suffix}"
    inputs = keras.Input((6, 3))
    keras.Model(inputs, layer(inputs)).save(path)
    if frozen == (True, False) and suffix == ".h5":
        with pytest.raises(fc.UnsupportedError, match=r"not in order, .* supported: the same model saved as \.keras"):
            fc.from_keras(path)
    else:
        x = uniform(1, 3, 6, 3)
        assert_close(fc.from_keras(path, keras_output=True)(x), answer(layer, x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_of_a_model_by_name(tmp_path: Path, suffix: str) -> None:
    shared = layers.LSTM(4, return_sequences=True, name="shared")
    a, b = keras.Input((6, 3)), keras.Input((6, 3))
    both = layers.Concatenate()([shared(a), shared(b)])
    last = layers.LSTM(5, name="last")(layers.Bidirectional(layers.GRU(4, return_sequences=True), name="middle")(both))
    model = keras.Model([a, b], layers.Dense(2)(last))
    path = tmp_path / f"model{suffix}"
    model.save(path)
    x = uniform(1, 2, 6, 3)
    for name, size in (("shared", 3), ("middle", 8), ("last", 8)):
        values = np.resize(x, (2, 6, size))
        expected = answer(model.get_layer(name), values)
        assert_close(fc.from_keras(path, name, keras_output=True)(values), expected)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_in_a_model(tmp_path: Path, suffix: str) -> None:
    inner = keras.Sequential([keras.Input((6, 3)), layers.LSTM(4, name="a"), layers.Dense(3)], name="inner")
    model = keras.Sequential([keras.Input((6, 3)), layers.LSTM(3, return_sequences=True, name="b"), inner])
    path = tmp_path / f"model{suffix}"
    model.save(path)
    x = uniform(1, 2, 6, 3)
    assert_close(fc.from_keras(path, "inner/a", keras_output=True)(x), answer(inner.get_layer("a"), x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_in_a_time_distributed_layer(tmp_path: Path, suffix: str) -> None:
    inner = keras.Sequential([keras.Input((6, 3)), layers.GRU(4, name="a")], name="inner")
    path = tmp_path / f"model{suffix}"
    keras.Sequential([keras.Input((2, 6, 3)), layers.TimeDistributed(inner, name="each")]).save(path)
    x = uniform(1, 2, 6, 3)
    assert_close(fc.from_keras(path, "each/inner/a", keras_output=True)(x), answer(inner.get_layer("a"), x))


def test_what_the_model_computes_for_a_layer_is_said(tmp_path: Path) -> None:
    sequences, state = keras.Input((6, 3)), keras.Input((4,))
    y = layers.GRU(4, name="a")(layers.Masking()(sequences), initial_state=state)
    keras.Model([sequences, state], y).save(tmp_path / "model.keras")
    ours = fc.from_keras(tmp_path / "model.keras", keras_output=True)
    assert ours.from_other_layers == ("initial_state", "mask")


@pytest.mark.parametrize("bidirectional", [False, True])
def test_masks_of_integers(bidirectional: bool) -> None:
    layer = layers.GRU(4, return_sequences=True)
    layer = filled(layers.Bidirectional(layer) if bidirectional else layer, 3, 5)
    x, mask = uniform(1, 3, 6, 3), (uniform(2, 3, 6) > 0).astype(np.int64)
    assert_close(fc.from_keras(layer, keras_output=True)(x, mask), answer(layer, x, mask))


@pytest.mark.parametrize("policy", ["float64", "float16", "bfloat16", "mixed_bfloat16"])
def test_weights_of_other_dtypes(policy: str) -> None:
    layer = layers.LSTM(4, dtype=policy, recurrent_initializer="glorot_uniform")
    layer.build((None, 6, 3))
    weights = [np.asarray(value.value.detach().float()) for value in layer.weights]
    plain = layers.LSTM(4)
    plain.build((None, 6, 3))
    plain.set_weights(weights)
    x = uniform(1, 2, 6, 3)
    assert_close(fc.from_keras(layer, keras_output=True)(x), answer(plain, x))


class TestRefusals:
    def built(self, layer: Any) -> Any:
        layer.build((None, 6, 3))
        return layer

    def refused(self, layer: Any, message: str, **options: Any) -> None:
        with pytest.raises(fc.UnsupportedError, match=message):
            fc.from_keras(self.built(layer), **options)

    def test_classes_of_the_users_own(self) -> None:
        class LSTM(layers.LSTM):  # type: ignore[name-defined] # Keras makes its names at run time
            def call(self, *args: Any, **kwargs: Any) -> Any:
                return super().call(*args, **kwargs) * 2

        self.refused(LSTM(4), "LSTM is not supported; supported: the path of a file, or a layer of Keras 3: SimpleRNN")

    def test_cells_of_the_users_own(self) -> None:
        class LSTMCell(layers.LSTMCell):  # type: ignore[name-defined] # likewise
            pass

        self.refused(layers.RNN(LSTMCell(4)), "cell: 'LSTMCell' is not supported; supported: SimpleRNNCell, LSTMCell")

    def test_a_layer_that_was_given_a_cell_or_a_call_of_the_users_own(self) -> None:
        class OwnCell(layers.SimpleRNNCell):  # type: ignore[name-defined] # likewise
            def call(self, *args: Any, **kwargs: Any) -> Any:
                h, state = super().call(*args, **kwargs)
                return 2 * h, state

        layer = layers.SimpleRNN(4)
        layer.cell = OwnCell(4)
        self.refused(layer, r"SimpleRNN layer .*OwnCell is not Keras's own")
        layer = layers.Bidirectional(layers.LSTM(4))
        layer.backward_layer.cell.call = lambda *args, **kwargs: None
        self.refused(layer, "Bidirectional layer .*: LSTMCell is not Keras's own, or its call is not")

    def test_functions_of_the_users_own_that_are_called_as_keras_ones(self) -> None:
        def tanh(x: Any) -> Any:
            return x

        self.refused(layers.LSTM(4, activation=tanh), "LSTM layer .*: activation=.*tanh.* is not supported")

    def test_activations_without_a_counterpart(self) -> None:
        self.refused(
            layers.GRU(4, activation="gelu"), "GRU layer .*: activation='gelu' is not supported; supported: tanh"
        )
        self.refused(
            layers.GRU(4, activation=layers.LeakyReLU()), "activation=.*LeakyReLU.* is not supported; supported: tanh"
        )

    def test_cells_that_differ(self) -> None:
        cells = layers.StackedRNNCells([layers.LSTMCell(4), layers.LSTMCell(5)])
        self.refused(layers.RNN(cells), "the cells of StackedRNNCells differ: lstm of 4 units and lstm of 5")
        cells = layers.StackedRNNCells([layers.LSTMCell(4), layers.GRUCell(4)])
        self.refused(layers.RNN(cells), "differ: lstm of 4 units and gru_reset_after of 4")

    def test_directions_that_differ(self) -> None:
        backward = layers.LSTM(5, go_backwards=True)
        self.refused(
            layers.Bidirectional(layers.LSTM(4), backward_layer=backward), "layer and backward_layer differ: lstm of 4"
        )
        forward = layers.LSTM(4, go_backwards=True)
        self.refused(
            layers.Bidirectional(forward, backward_layer=layers.LSTM(4)), "layer: go_backwards=True is not supported"
        )

    def test_directions_of_several_cells(self) -> None:
        stack = layers.RNN(layers.StackedRNNCells([layers.LSTMCell(4), layers.LSTMCell(4)]))
        self.refused(layers.Bidirectional(stack), "StackedRNNCells of several cells in each direction")

    def test_a_plain_layer_concatenates(self) -> None:
        self.refused(
            layers.Bidirectional(layers.LSTM(4), merge_mode="sum"),
            "merge_mode='sum' is not supported by a layer, .* or any with keras_output=True",
        )

    def test_other_layers(self) -> None:
        self.refused(layers.Dense(4), "Dense is not supported; supported: the path of a file, or a layer of Keras 3")

    def test_layers_without_weights(self) -> None:
        with pytest.raises(ValueError, match=r"LSTM layer '.*' has no weights yet; build it or call it once"):
            fc.from_keras(layers.LSTM(4))

    def test_a_name_for_what_is_one_layer(self) -> None:
        with pytest.raises(TypeError, match="name: is for files"):
            fc.from_keras(self.built(layers.LSTM(4)), "lstm")
