"""`fc.check`: an answer that differs by one real mistake, and the mistake is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from fusedcell import nodes, reference
from fusedcell._dtypes import DTYPES
from fusedcell.cell_options import Activation, CellOptions
from models import KIND, layer_from_cells, uniform

Weights = dict[str, np.ndarray]
SIZES = st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(1, 50))


def blocks(array: np.ndarray, order: str, wanted: str) -> np.ndarray:
    parts = dict(zip(order, np.split(array, len(order)), strict=True))
    return np.concatenate([parts[letter] for letter in wanted])


def reordered(weights: Weights, order: str, wanted: str) -> Weights:
    return {name: blocks(array, order, wanted) for name, array in weights.items()}


def changed(weights: Weights, **arrays: Callable[[np.ndarray], np.ndarray]) -> Weights:
    return {name: arrays.get(name.removesuffix("_l0"), lambda a: a)(array) for name, array in weights.items()}


def transposed(array: np.ndarray) -> np.ndarray:
    size = array.shape[1]
    return np.concatenate([part.T for part in np.split(array, len(array) // size)])


def named(result: Any, *texts: str) -> None:
    """It is not as expected, and the mistake says so in these words."""
    assert not result
    assert result.mistake is not None, str(result)
    for text in texts:
        assert text in result.mistake.mistake, result.mistake
    assert result.mistake.advice in str(result)
    assert result.mistake.mistake in str(result)


def of_layer(kind: str, sizes: tuple[int, int, int]) -> tuple[Weights, np.ndarray, np.ndarray]:
    """Weights, x of some steps of three sequences, and y by the specification."""
    inputs, hidden, seed = sizes
    weights = KIND[kind].weights(inputs, hidden, seed=seed)
    x = 2 * uniform(seed, 11, 3, inputs)
    return weights, x, KIND[kind].expected(x, weights)[0]


@pytest.mark.parametrize(
    "kind", ["rnn_tanh", "rnn_relu", "lstm", "lstm_projected", "gru_reset_after", "gru_reset_before"]
)
@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_what_is_right_is_as_expected_after_one_run(kind: str, sizes: tuple[int, int, int]) -> None:
    weights, x, y = of_layer(kind, sizes)
    result = fc.check(KIND[kind].make(weights), x, y)
    assert result.ok, str(result)
    assert (result.mistake, result.runs, result.outputs[0].begins) == (None, 1, None)
    assert "as expected" in str(result)


@pytest.mark.parametrize(
    ("kind", "order"),
    [("lstm", "ifog"), ("lstm", "iofg"), ("lstm", "fiog"), ("gru_reset_after", "zrn"), ("gru_reset_before", "nrz")],
)
@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_an_order_of_gates_is_named(kind: str, order: str, sizes: tuple[int, int, int]) -> None:
    weights, x, y = of_layer(kind, sizes)
    letters = "ifgo" if kind == "lstm" else "rzn"
    layer = KIND[kind].make(reordered(weights, letters, order))
    result = fc.check(layer, x, y)
    named(result, f"in the order {' '.join(order)}, and were taken as {' '.join(letters)}")
    line = result.mistake.advice.partition("loaded: ")[2]  # type: ignore[union-attr]
    given = reordered(weights, letters, order)
    right = {name: eval(line, {"np": np, "array": array}) for name, array in given.items()}
    assert all(np.array_equal(right[name], weights[name]) for name in weights)


PLANTED: dict[str, tuple[str, Callable[[Weights], Weights], str]] = {
    "hh transposed": ("lstm", lambda w: changed(w, weight_hh=transposed), "weight_hh is transposed"),
    "hh of a GRU": ("gru_reset_after", lambda w: changed(w, weight_hh=transposed), "weight_hh is transposed"),
    "hh of an RNN": ("rnn_tanh", lambda w: changed(w, weight_hh=np.transpose), "weight_hh is transposed"),
    "reshaped": (
        "lstm",
        lambda w: changed(w, weight_ih=lambda a: a.T.reshape(a.shape)),
        "weight_ih is reshaped where it should be transposed",
    ),
    "bias twice": (
        "lstm",
        lambda w: changed(w, bias_ih=lambda a: a / 2, bias_hh=lambda a: a / 2),
        "the bias is added twice",
    ),
    "exchanged": (
        "gru_reset_after",
        lambda w: w | {"bias_ih_l0": w["bias_hh_l0"], "bias_hh_l0": w["bias_ih_l0"]},
        "bias_ih and bias_hh are exchanged",
    ),
    "forget bias": (
        "lstm",
        lambda w: changed(w, bias_ih=lambda a: a - np.repeat([0, 1, 0, 0], len(a) // 4).astype(np.float32)),
        "the bias of the forget gate is 1 more than here",
    ),
    "z the other way": (
        "gru_reset_after",
        lambda w: {name: (a.T * np.repeat([1, -1, 1], len(a) // 3)).T for name, a in w.items()},
        "the update gate z is the share of the new state",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_a_mistake_in_the_weights_is_named(name: str, sizes: tuple[int, int, int]) -> None:
    kind, plant, text = PLANTED[name]
    weights, x, y = of_layer(kind, (sizes[0], sizes[1] + 1, sizes[2]))
    layer = KIND[kind].make({key: array.astype(np.float32) for key, array in plant(weights).items()})
    named(fc.check(layer, x, y), text)


@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_biases_that_the_other_model_does_not_have_are_named(sizes: tuple[int, int, int]) -> None:
    weights, x, _ = of_layer("lstm", sizes)
    without = {name: array for name, array in weights.items() if "bias" not in name}
    once = without | {"bias_ih_l0": weights["bias_ih_l0"]}
    double = once | {"bias_hh_l0": weights["bias_ih_l0"]}
    named(fc.check(KIND["lstm"].make(weights), x, reference.lstm(x, without)[0]), "there is no bias")
    named(fc.check(KIND["lstm"].make(double), x, reference.lstm(x, once)[0]), "added once, and is twice here")


@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_the_two_forms_of_a_gru_are_told_apart(sizes: tuple[int, int, int]) -> None:
    weights, x, _ = of_layer("gru_reset_after", sizes)
    weights["bias_hh_l0"][-sizes[1] :] = 0  # as what is not of that form knows the sum of both biases alone
    for after in (True, False):
        expected = reference.gru(x, weights, reset_after=after)[0]
        layer = fc.GRU.from_state_dict(weights, reset_after=not after)
        named(fc.check(layer, x, expected), f"reset_after is {after}")


@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_batch_and_time_are_told_apart(sizes: tuple[int, int, int]) -> None:
    weights, x, y = of_layer("gru_reset_after", sizes)
    other = fc.GRU.from_state_dict(weights, batch_first=True)
    named(fc.check(other, x, y), "the axes of x are (time, batch, ...), and were taken as (batch, time, ...)")
    result = fc.check(other, x.swapaxes(0, 1), y)
    named(result, "the axes of expected are (step, sequence, feature)")
    assert "batch_first=False" in str(result)
    problem = result.outputs[0].problem
    assert f"expected has shape {y.shape} for y, which is {y.swapaxes(0, 1).shape} (sequence, step, feature)" in problem
    assert "expected.transpose(1, 0, 2) has that shape" in problem
    single = fc.check(fc.GRU.from_state_dict(weights), x[:, 0], y[:, 0].T)
    assert single.ok or single.mistake is not None


@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_directions_and_steps_are_named(sizes: tuple[int, int, int]) -> None:
    weights, x, y = of_layer("lstm", sizes)
    layer = KIND["lstm"].make(weights)
    backward = reference.lstm(x[::-1], weights)[0]
    named(fc.check(layer, x, backward[::-1]), "x runs backward in time, and the answer is aligned with it again")
    named(fc.check(layer, x, backward), "x runs backward in time, and the answer goes with it")
    named(fc.check(layer, x, y[::-1]), "the steps of expected run backward")
    named(fc.check(layer, x, y[-1]), "expected is the last step alone")
    both = KIND["lstm"].weights(sizes[0], sizes[1], directions=2, seed=sizes[2])
    two, y2 = KIND["lstm"].make(both), KIND["lstm"].expected(x, both)[0]
    half = sizes[1]
    named(fc.check(two, x, y2[..., :half] + y2[..., half:]), "expected is the sum of both directions")
    named(fc.check(two, x, np.concatenate([y2[..., half:], y2[..., :half]], -1)), "the reverse direction and then")
    ends = np.concatenate([y2[-1][..., :half], y2[0][..., half:]], -1)
    named(fc.check(two, x, ends), "the last step of the forward direction and the first of the reverse one")
    swapped = {
        name.removesuffix("_reverse") + "_reverse" * (not name.endswith("_reverse")): a for name, a in both.items()
    }
    named(fc.check(KIND["lstm"].make(swapped), x, y2), "of the forward and of the reverse direction are exchanged")


@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru_reset_after"])
@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_a_state_that_was_not_reset_is_named(kind: str, sizes: tuple[int, int, int]) -> None:
    weights, x, _ = of_layer(kind, sizes)
    layer, case = KIND[kind].make(weights), KIND[kind]
    again = case.expected(np.concatenate([x, x]), weights)[0][len(x) :]
    named(fc.check(layer, x, again), "goes on from an earlier call that was not reset")
    other = case.expected(np.concatenate([2 * uniform(99, *x.shape), x]), weights)[0][len(x) :]
    named(fc.check(layer, x, other), "goes on from an earlier call that was not reset")


@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_activations_are_named(sizes: tuple[int, int, int]) -> None:
    weights, x, _ = of_layer("lstm", sizes)
    cell = {name.removesuffix("_l0"): array for name, array in weights.items()}
    hard = (Activation("HardSigmoid", 0.2, 0.5), Activation("Tanh"), Activation("Tanh"))
    expected = layer_from_cells("lstm", [cell], options=[CellOptions(activations=hard)])(x)[0]
    named(fc.check(KIND["lstm"].make(weights), x, expected), "the activation of the gates is hard_sigmoid, 0.2 x + 0.5")
    rnn, x, _ = of_layer("rnn_tanh", sizes)
    expected = reference.rnn(x, rnn, nonlinearity="relu")[0]
    named(fc.check(KIND["rnn_tanh"].make(rnn), x, expected), "the nonlinearity is relu, and is tanh here")


@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_rounded_weights_are_named(sizes: tuple[int, int, int]) -> None:
    weights, x, _ = of_layer("gru_reset_after", sizes)
    rounded = {name: a.astype(np.float16).astype(np.float32) if "weight" in name else a for name, a in weights.items()}
    result = fc.check(KIND["gru_reset_after"].make(weights), x, reference.gru(x, rounded)[0], tolerance=1e-6)
    named(result, "its weights are rounded to float16")


def small_model(weights: Weights, seed: int = 5, **head: Any) -> fc.Model:
    hidden = weights["weight_hh_l0"].shape[1]
    inputs = weights["weight_ih_l0"].shape[1]
    return fc.Model([
        ("conv", nodes.Window(uniform(seed, inputs, 3 * inputs), taps=3, padding=(2, 0), activation="tanh"), "x"),
        ("encoder", fc.LSTM.from_state_dict(weights), "conv"),
        ("decoder", fc.LSTM.from_state_dict(KIND["lstm"].weights(hidden, 6, seed=seed)), "encoder"),
        ("head", nodes.Dense(uniform(seed + 1, 6, 6), uniform(seed + 2, 6), **head), "decoder"),
    ])  # fmt: skip


@given(SIZES)
@settings(max_examples=3, deadline=None)
def test_the_node_of_a_model_is_named(sizes: tuple[int, int, int]) -> None:
    weights, x, _ = of_layer("lstm", sizes)
    right = small_model(weights)
    y = right(x)
    assert fc.check(right, x, y).ok
    result = fc.check(small_model(reordered(weights, "ifgo", "ifog")), x, y)
    named(result, "in the order i f o g")
    assert result.mistake is not None
    assert result.mistake.node == "encoder"
    conv, encoder, decoder, head = right.nodes
    turned = nodes.Dense(head[1].weight.T, head[1].bias)
    result = fc.check(fc.Model([conv, encoder, decoder, ("head", turned, "decoder")]), x, y)
    named(result, "the matrix is transposed")
    assert result.mistake is not None
    assert result.mistake.node == "head"
    wide = conv[1]._with(padding=(1, 1))
    result = fc.check(fc.Model([("conv", wide, "x"), encoder, decoder, head]), x, y)
    named(result, "padding is (2, 0) rows (left, right), and is (1, 1) here")


def test_a_mistake_in_all_layers_of_a_class_is_named_once() -> None:
    weights, x, _ = of_layer("lstm", (3, 4, 1))
    right = small_model(weights)
    wrong = [(name, node, source) for name, node, source in right.nodes]
    for place, own in ((1, weights), (2, KIND["lstm"].weights(4, 6, seed=5))):
        name, _, source = wrong[place]
        wrong[place] = (name, fc.LSTM.from_state_dict(reordered(own, "ifgo", "ifog")), source)
    result = fc.check(fc.Model(wrong), x, right(x))
    named(result, "in the order i f o g")
    assert result.mistake is not None
    assert result.mistake.node == "encoder, decoder"


def test_options_of_nodes_are_named() -> None:
    x = uniform(3, 12, 2, 8)
    conv = nodes.Window(uniform(1, 4, 3), taps=3, positions=8)  # 8 x 1 to 6 x 4 inside each row
    weight = uniform(2, 5, 24)
    turned = weight[:, np.arange(24).reshape(4, 6).T.ravel()]

    def model(dense: np.ndarray, activation: Any = "gelu", eps: float = 1e-5) -> fc.Model:
        return fc.Model([
            ("conv", conv, "x"),
            ("dense", nodes.Dense(dense, uniform(5, 5), activation=activation), "conv"),
            ("norm", nodes.LayerNorm(np.ones(5), np.zeros(5), eps=eps), "dense"),
        ])  # fmt: skip

    y = model(turned)(x)
    for other, node, text in (
        (model(weight), "dense", "what it reads was flattened channels first"),
        (model(turned, "gelu_tanh"), "dense", "the activation is 'Gelu', and is 'GeluTanh' here"),
        (model(turned, None), "", ""),
        (model(turned, eps=1e-3), "norm", "eps is 1e-05, and is 0.001 here"),
    ):
        result = fc.check(other, x, y, tolerance=1e-6)
        assert not result
        assert (result.mistake is not None) is bool(node), str(result)
        if result.mistake is not None:
            assert result.mistake.node == node
            assert text in result.mistake.mistake


def test_models_of_any_axes_inputs_and_tokens_are_checked() -> None:
    rng = np.random.default_rng(1)
    gru = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(8, 5))
    items: list[Any] = [("gru", gru, ("x", "z")), ("head", nodes.Dense(uniform(1, 6, 5)), "gru")]
    axes = {"x": ("batch", 2, 3, "time"), "z": ("batch", "time", 2), "head": ("batch", "time", 2, 3)}
    model = fc.Model(items, {"x": 6, "z": 2}, axes=axes)
    x, z = rng.standard_normal((3, 2, 3, 10)), rng.standard_normal((3, 10, 2))
    y = model(x, z)
    result = fc.check(model, (x, z), y)
    assert result.ok
    assert result.outputs[0].at is not None
    assert list(result.outputs[0].at) == ["sequence", "step", "feature 2", "feature 3"]
    named(fc.check(model, (x, z), y.swapaxes(2, 3)), "the axes of expected are (sequence, step, feature 3, feature 2)")
    named(
        fc.check(model, (x, z), model(x[..., ::-1], z[:, ::-1])), "x runs backward in time, and the answer goes with it"
    )
    words = fc.Model(
        [
            ("table", nodes.Embedding(uniform(1, 9, 4)), "ids"),
            ("rnn", KIND["rnn_tanh"].make(KIND["rnn_tanh"].weights(4, 5)), "table"),
        ]
    )
    ids = rng.integers(0, 9, (7, 3))
    assert fc.check(words, ids, words(ids)).ok
    other = fc.Model(words.nodes, batch_first=True)
    named(fc.check(other, ids, words(ids)), "the axes of x are (time, batch), and were taken as (batch, time)")
    torch = pytest.importorskip("torch")
    assert fc.check(words, torch.from_numpy(ids), torch.from_numpy(words(ids))).ok


def test_features_of_x_that_were_flattened_the_other_way_are_named() -> None:
    weights, _, _ = of_layer("gru_reset_after", (12, 4, 1))
    layer, x = KIND["gru_reset_after"].make(weights), 2 * uniform(5, 9, 3, 12)
    y = layer(x.reshape(9, 3, 4, 3).swapaxes(2, 3).reshape(9, 3, 12))[0]
    named(fc.check(layer, x, y), "the features of x are 4 x 3, flattened the other way round")


def test_what_is_done_at_the_end_of_a_model_is_named() -> None:
    torch = pytest.importorskip("torch")
    weights, x, _ = of_layer("lstm", (3, 4, 2))
    plain, soft = small_model(weights), small_model(weights, activation="softmax")
    logits = torch.from_numpy(plain(x))
    named(fc.check(plain, x, logits.softmax(-1)), "expected has gone through softmax, and the answer has not")
    named(fc.check(plain, x, logits.log_softmax(-1)), "expected has gone through log_softmax")
    named(fc.check(soft, x, logits), "the answer has gone through softmax, and expected has not")
    named(fc.check(soft, x, logits.log_softmax(-1)), "expected is the logarithm of the answer")
    named(fc.check(plain, x, logits.sigmoid()), "expected has gone through sigmoid")
    named(fc.check(plain, x, 3 * logits + 1), "expected is 3 times the answer, plus 1")
    named(fc.check(plain, x, logits[..., [2, 0, 1, 5, 4, 3]]), "the features are the same in another order")
    named(fc.check(plain, x[..., ::-1], logits), "the features of x are in the opposite order")
    late = np.concatenate([np.zeros((2, 3, 6), np.float32), logits.numpy()[:-2]])
    named(fc.check(plain, x, late), "step t of the answer is step t + 2 of expected")


def test_a_real_torch_model_agrees_and_a_planted_mistake_is_found() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(5, 7, num_layers=2, batch_first=True)
    x = torch.randn(3, 12, 5)
    with torch.no_grad():
        y, state = lstm(x)
    layer = fc.from_torch(lstm)
    result = fc.check(layer, x, (y, state))
    assert result.ok
    assert [each.name for each in result.outputs] == ["y", "h_n", "c_n"]
    wrong = {name: torch.from_numpy(blocks(a.numpy(), "ifgo", "fiog")) for name, a in lstm.state_dict().items()}
    named(fc.check(fc.LSTM.from_state_dict(wrong, batch_first=True), x, (y, state)), "in the order f i o g")


def test_a_report_has_the_place_and_the_beginning() -> None:
    weights, x, y = of_layer("lstm", (3, 4, 1))
    layer = KIND["lstm"].make(weights)
    wrong = y.copy()
    wrong[6, 1, 2] += 0.5
    wrong[8, 0, 3] -= 0.25
    result = fc.check(layer, x, wrong)
    found = result.outputs[0]
    assert found.at == {"step": 6, "sequence": 1, "feature": 2}
    assert found.begins == 6
    assert found.largest == pytest.approx(0.5, abs=1e-5)
    assert found.relative == pytest.approx(0.5 / np.abs(wrong).max(), rel=1e-4)
    assert found.expected == wrong[6, 1, 2]
    assert found.snr_db == pytest.approx(10 * np.log10((wrong**2).sum() / (0.25 + 0.0625)), abs=1e-2)
    assert result.mistake is None
    assert "step 6, sequence 1, feature 2" in str(result)
    assert "No single mistake of those that were tried" in str(result)
    assert repr(result) == str(result)
    quick = fc.check(layer, x, wrong, explain=False)
    assert (quick.runs, quick.mistake, quick.ok) == (1, None, False)


@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru_reset_after"])
@given(SIZES)
@settings(max_examples=4, deadline=None)
def test_weights_of_another_model_are_explained_by_nothing(kind: str, sizes: tuple[int, int, int]) -> None:
    weights, x, _ = of_layer(kind, sizes)
    other = KIND[kind].weights(sizes[0], sizes[1], seed=sizes[2] + 1)
    result = fc.check(KIND[kind].make(other), x, KIND[kind].expected(x, weights)[0])
    assert not result.ok
    assert result.mistake is None, str(result)


def test_the_number_of_runs_is_bounded() -> None:
    for kind in ("rnn_tanh", "lstm", "lstm_projected", "gru_reset_after", "gru_reset_before"):
        weights, x, y = of_layer(kind, (24, 5, 1))
        assert fc.check(KIND[kind].make(weights), x, -(y**2)).runs <= 70
    weights, x, _ = of_layer("lstm", (24, 5, 1))
    model = small_model(weights)
    assert fc.check(model, x, model(x) ** 2).runs <= 20 + 3 * 50 + 2 * 10


def test_nan_is_a_difference_and_the_same_nan_is_none() -> None:
    weights, x, y = of_layer("lstm", (3, 4, 1))
    layer, wrong, bad = KIND["lstm"].make(weights), y.copy(), x.copy()
    wrong[3, 0, 0] = np.nan
    result = fc.check(layer, x, wrong)
    assert (result.ok, result.outputs[0].largest, result.outputs[0].begins) == (False, np.inf, 3)
    bad[5, 2] = np.nan
    assert fc.check(layer, bad, layer(bad)[0]).ok


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_narrower_weights_are_allowed_what_rounding_explains(dtype: str) -> None:
    weights, x, y = of_layer("lstm", (8, 16, 1))
    layer = KIND["lstm"].make(weights)
    assert fc.check(layer.astype(dtype), x, y).ok
    assert not fc.check(layer.astype(dtype), x, y, tolerance=1e-7, explain=False).ok


def test_one_sequence_and_axes_of_length_one_are_taken() -> None:
    weights, x, y = of_layer("gru_reset_after", (3, 4, 1))
    layer = KIND["gru_reset_after"].make(weights)
    assert fc.check(layer, x[:, 0], y[:, :1]).ok
    assert fc.check(layer, x[:, :1], (y[:, 0], y[-1, :1])).ok


def test_arguments_of_another_kind_are_refused() -> None:
    weights, x, y = of_layer("lstm", (3, 4, 1))
    layer = KIND["lstm"].make(weights)
    with pytest.raises(TypeError, match="model: expected a layer or a Model, got dict"):
        fc.check({}, x, y)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected: expected an array of numbers, got dtype"):
        fc.check(layer, x, np.array(["a"]))
    with pytest.raises(ValueError, match=r"expected 1 to 3 arrays \(y, h_n, c_n\), got 4"):
        fc.check(layer, x, (y, y, y, y))
    with pytest.raises(ValueError, match="tolerance: expected a number from 0, got -1"):
        fc.check(layer, x, y, tolerance=-1)


def padded_to(sequences: list[np.ndarray], steps: int, value: float, *, in_front: bool) -> np.ndarray:
    """Sequences as a batch of so many steps."""
    rows = []
    for each in sequences:
        padding = np.full((steps - len(each), *each.shape[1:]), value, each.dtype)
        rows.append(np.concatenate([padding, each] if in_front else [each, padding]))
    return np.stack(rows)


@pytest.mark.parametrize("in_front", [False, True])
@pytest.mark.parametrize("every_step", [False, True])
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), data=st.data())
@settings(max_examples=examples(15), deadline=None)
def test_padding_that_a_mask_leaves_out_is_named(
    every_step: bool, in_front: bool, lengths: list[int], data: st.DataObject
) -> None:
    """Of tokens that end in zeros, and of steps that are all of the value that masks; what is past the end is free."""
    tokens = data.draw(st.booleans())
    value = 0 if tokens else data.draw(st.sampled_from([0.0, -10.0]))
    weights = KIND["lstm"].weights(3, 5, directions=1 if every_step else 2)
    table, head = uniform(1, 7, 3), uniform(2, 2, 5 if every_step else 10)
    items: list[Any] = [("lstm", fc.LSTM.from_state_dict(weights, batch_first=True), "table" if tokens else "x")]
    items = [("table", nodes.Embedding(table), "x")] * tokens + items
    items += [] if every_step else [("last", nodes.Last(num_directions=2), "lstm")]
    model = fc.Model([*items, ("head", nodes.Dense(head), items[-1][0])], batch_first=True)
    rng = np.random.default_rng(sum(lengths))
    sequences = [rng.integers(1, 7, n) if tokens else rng.standard_normal((n, 3)).astype(np.float32) for n in lengths]
    alone = [model(each[None])[0] for each in sequences]
    steps = 12
    expected = padded_to(alone, steps, 7.5, in_front=in_front) if every_step else np.stack(alone)
    result = fc.check(model, padded_to(sequences, steps, value, in_front=in_front), expected)
    named(result, f"steps of x that are all {value:g} {'in front of' if in_front else 'behind'} a sequence are padding")
    assert f"give lengths=[{', '.join(map(str, lengths))}] with the call" in result.mistake.advice  # type: ignore[union-attr]


def test_padding_of_a_layer_is_named_and_that_of_an_equal_answer_is_none() -> None:
    weights, _, _ = of_layer("gru_reset_after", (3, 4, 1))
    layer = KIND["gru_reset_after"].make(weights)
    x = uniform(1, 9, 2, 3)
    x[5:, 0] = 0
    y, h = layer(x, lengths=[5, 9])
    named(fc.check(layer, x, (y, h)), "steps of x that are all 0 behind a sequence are padding")
    assert fc.check(layer, x, layer(x))
    assert fc.check(layer, np.zeros((9, 2, 3), np.float32), np.ones((9, 2, 4))).mistake is None


def test_what_rounded_weights_may_explain_is_no_fault() -> None:
    weights, x, _ = of_layer("gru_reset_after", (5, 8, 1))
    model = fc.Model([("gru", KIND["gru_reset_after"].make(weights), "x")])
    narrow, y = model.astype("int8"), model(x)
    assert fc.check(narrow, x, y).ok
    said = str(fc.check(narrow, x, y, tolerance=1e-6))
    assert "The model's weights are rounded, which by itself may make a difference of 0.05" in said
    assert "another checkpoint" not in said
    assert "weights of another checkpoint" in str(fc.check(narrow, x, y + x[..., :1] ** 2))


def test_other_shapes_are_not_put_down_to_weights() -> None:
    weights, x, _ = of_layer("gru_reset_after", (5, 8, 1))
    said = str(fc.check(KIND["gru_reset_after"].make(weights), x, np.zeros((3, 3))))
    assert "No single mistake" in said
    assert "checkpoint" not in said
