"""Amplifiers' JSON files answer as their own formats say, sample by sample too, or are refused with the key's name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from fusedcell import reference
from fusedcell.errors import UnsupportedError
from json_models import (
    ACTIVATIONS,
    Drawn,
    amplifier,
    load,
    nam,
    rtneural,
    rtneural_layer,
    simple_rnn,
    state_dict,
    with_test,
)

TOLERANCE = 2e-6
STEPS = 23
seeds = st.integers(0, 99)
sizes = st.integers(1, 6)
UNITS = ("LSTM", "GRU", "RNN")
ONE_AXIS = ("dense", "time-distributed-dense", "conv1d", "gru", "lstm", "prelu", "batchnorm", "activation")


def signal(inputs: int = 1, steps: int = STEPS) -> np.ndarray:
    return Drawn(5)(steps, inputs, low=-1, high=1)


def assert_answers(model: fc.Model, x: np.ndarray, expected: np.ndarray) -> None:
    """In one call, and the same bits sample by sample."""
    y = model(x)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, TOLERANCE, TOLERANCE)
    stream = model.stream()
    np.testing.assert_array_equal(np.concatenate([stream.process(x[:5]), stream.process(x[5:])]), y)


# NAM


@given(seeds, sizes, sizes, st.integers(1, 3), st.integers(1, 2))
@settings(max_examples=examples(20))
def test_a_nam_lstm_starts_from_its_own_state(seed: int, inputs: int, units: int, layers: int, outputs: int) -> None:
    model, arrays = nam(seed, inputs, units, layers, outputs, out_channels=outputs)
    layer = {name: array for name, array in arrays.items() if name.endswith(tuple("0123"))}
    x = signal(inputs)
    y, _ = reference.lstm(x[:, None], layer, (arrays["h"], arrays["c"]))
    assert_answers(load(model), x, y[:, 0] @ arrays["W"].T + arrays["b"])


def test_a_nam_lstm_by_hand() -> None:
    """Without weights every gate is 1/2, so c halves from 2 on: h is tanh(1) / 2, then tanh(1/2) / 2."""
    weights = [*[0] * 8, *[0] * 4, 0, 2, 2, 1]
    config = {"input_size": 1, "hidden_size": 1, "num_layers": 1}
    model = load({"version": "0.7.0", "architecture": "LSTM", "config": config, "weights": weights})
    expected = [[1.7615941559557649], [1.4621171572600098]]
    stream = model.stream()
    for _ in range(2):
        np.testing.assert_allclose(stream.process(np.ones((2, 1))), expected, 1e-6)
        stream.reset()
    batch = model(np.ones((3, 2, 1)))  # (B, T, 1), as the trainer has it
    np.testing.assert_allclose(batch, np.broadcast_to(expected, (3, 2, 1)), 1e-6)


# RTNeural


@st.composite
def chains(draw: Any) -> tuple[int, list[Any]]:
    drawn = Drawn(draw(seeds))
    size = first = draw(sizes)
    layers: list[Any] = []
    for kind in draw(st.lists(st.sampled_from(ONE_AXIS), min_size=1, max_size=4)):
        outputs, options, activation = draw(sizes), {}, draw(st.sampled_from(list(ACTIVATIONS)))
        if kind == "dense":
            options = {"arrays": draw(st.integers(1, 2))}
        elif kind == "conv1d":
            options = {"kernel_size": [draw(st.integers(1, 4))], "dilation": [draw(st.integers(1, 3))]}
            groups = draw(st.sampled_from([count for count in (1, 2, 3) if size % count == 0]))
            options["groups"], outputs = groups, groups * outputs
        elif kind in ("gru", "lstm"):
            activation = draw(st.sampled_from(("", "tanh")))
        elif kind == "prelu":
            outputs, activation, options = size, "", {"slopes": draw(st.sampled_from((1, size)))}
        elif kind == "batchnorm":
            outputs, activation = size, ""
            options = {"affine": draw(st.booleans()), "epsilon": draw(st.sampled_from((0.001, 0.01, 5.0)))}
        else:
            outputs = size if kind == "activation" else outputs
        act = "" if kind in ("gru", "lstm") else activation
        layers.append(rtneural_layer(kind, size, drawn, outputs, act, **options))
        layers[-1].item["activation"] = activation
        size = layers[-1].size
    layers.append(rtneural_layer("dense", size, drawn, draw(sizes)))
    return first, layers


@given(chains())
@settings(max_examples=examples(60))
def test_a_chain_of_layers(chain: tuple[int, list[Any]]) -> None:
    size, layers = chain
    model, answer = rtneural(size, layers)
    assert_answers(load(model), signal(size), answer(signal(size)))


@given(seeds, st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.sampled_from(("stride", "strides")))
@settings(max_examples=examples(15))
def test_a_strided_convolution_answers_where_its_stride_falls(
    seed: int, groups: int, taps: int, stride: int, key: str
) -> None:
    drawn = Drawn(seed)
    options = {"kernel_size": [taps], "dilation": [2], "groups": groups, "strides": stride}
    layer = rtneural_layer("conv1d", 2 * groups, drawn, 3 * groups, "relu", **options)
    layer.item[key] = layer.item.pop("strides")
    model, answer = rtneural(2 * groups, [layer])
    assert_answers(load(model), signal(2 * groups), answer(signal(2 * groups)))


@given(st.data(), seeds)
@settings(max_examples=examples(30))
def test_convolutions_in_two_axes(data: st.DataObject, seed: int) -> None:
    """Filters of a feature are beside each other; time is looked back at, whatever the padding."""
    draw, drawn = data.draw, Drawn(seed)
    features, filters = draw(st.integers(3, 9)), draw(st.integers(1, 3))
    first = {"num_features_in": features, "num_filters_in": filters}
    layers = [
        rtneural_layer(
            "conv2d", features * filters, drawn, draw(st.integers(1, 3)), draw(st.sampled_from(("", "relu", "tanh"))),
            kernel_size_time=draw(st.integers(1, 4)), kernel_size_feature=draw(st.integers(1, 3)),
            dilation=draw(st.integers(1, 3)), strides=draw(st.integers(1, 3)),
            padding=draw(st.sampled_from(("valid", "same"))), **first,
        )
    ]  # fmt: skip
    last = {"num_filters_in": layers[0].item["num_filters_out"]}
    last["num_features_in"] = layers[0].size // last["num_filters_in"]
    size, affine = layers[0].size, draw(st.booleans())
    layers.append(rtneural_layer("batchnorm2d", size, drawn, size, epsilon=0.1, affine=affine, **last))
    model, answer = rtneural(features * filters, layers)
    model["in_shape"] = [None, STEPS, features, filters]
    assert_answers(load(model), signal(features * filters), answer(signal(features * filters)))


def test_a_normalisation_far_from_zero_keeps_what_it_centres() -> None:
    layer = {"type": "batchnorm", "activation": "", "shape": [None, None, 1], "epsilon": 0.0}
    layer["weights"] = [[4099.0], [0.3]]
    model = load({"in_shape": [None, None, 1], "layers": [layer]})
    np.testing.assert_allclose(model(np.array([[4099], [4099.25]])), np.array([[0], [0.4564354646]]), 1e-6)


# AIDA-X


@given(seeds, st.sampled_from(("lstm", "gru")), st.integers(1, 3), st.booleans(), st.booleans())
@settings(max_examples=examples(20))
def test_aida_x_adds_the_amplified_input_and_then_amplifies(
    seed: int, unit: str, inputs: int, skip: bool, tested: bool
) -> None:
    model, answer = amplifier(seed, unit, inputs)

    def skipped(x: np.ndarray) -> np.ndarray:
        return answer(x) + skip * x[:, :1]

    if tested:  # without gains
        model = with_test(model, skipped, inputs)
    if skip:
        model["in_skip"] = 1
    x = signal(inputs)
    assert_answers(load(model), x, skipped(x))
    loud = x * np.array([2.0, *[1.0] * (inputs - 1)])  # the audio, and no knob
    gains = {"in_gain": 20 * np.log10(2), "out_gain": -20.0}
    assert_answers(load(model | gains), x, 0.1 * skipped(loud))


def test_a_gain_of_no_decibels_is_none_and_one_of_minus_90_is_silence() -> None:
    model, answer = amplifier()
    assert_answers(load(model | {"in_gain": 0, "out_gain": None, "in_skip": 0}), signal(), answer(signal()))
    assert_answers(load(model | {"out_gain": -90}), signal(), np.zeros((STEPS, 1)))


@given(seeds, st.integers(0, 49), st.sampled_from((1e-3, -0.01, 0.5, -3e38)))
@settings(max_examples=examples(15))
def test_a_file_that_fails_its_own_test_is_refused_with_where_and_by_how_much(
    seed: int, sample: int, change: float
) -> None:
    model = with_test(*amplifier(seed))
    load(model)
    model["output_batch"][sample] += change
    with pytest.raises(ValueError, match=r"amp\.json: output_batch: the model fails the file's own test: ") as failure:
        load(model)
    if change > -1:
        assert "1 of 50 samples are off by more than " in str(failure.value)
        assert f"from sample {sample} on; most by {abs(change):.3g}, at sample {sample}" in str(failure.value)


def test_a_wrong_order_of_gates_fails_the_test() -> None:
    model = with_test(*amplifier())
    arrays = model["layers"][0]["weights"]
    arrays[0] = np.array(arrays[0])[:, [*range(4), *range(8, 12), *range(4, 8), *range(12, 16)]].tolist()
    with pytest.raises(ValueError, match="own test"):
        load(model)


def test_a_model_that_answers_nan_fails_the_test() -> None:
    """Infinity less infinity."""
    shape = {"type": "dense", "activation": ""}
    wide = shape | {"shape": [None, None, 2], "weights": [[[3e38, 3e38]], [3e38, 3e38]]}
    model = {"in_shape": [None, None, 1], "layers": [wide, shape | {"shape": [1], "weights": [[[1], [-1]]]}]}
    assert np.isnan(load(model)(np.ones((3, 1)))).all()
    with pytest.raises(ValueError, match=r"3 of 3 samples are off .* from sample 0 on; most by nan, at sample 0"):
        load(model | {"input_batch": [1, 1, 1], "output_batch": [0, 0, 0]})


# GuitarML and PyTorch's names


def of_simple_rnn(model: dict[str, Any], x: np.ndarray) -> np.ndarray:
    data, state = model["model_data"], model["state_dict"]
    recurrent: dict[str, Callable[..., Any]] = {"LSTM": reference.lstm, "GRU": reference.gru, "RNN": reference.rnn}
    y, _ = recurrent[data["unit_type"]](
        x[:, None], {name: np.array(array) for name, array in state.items()}, prefix="rec."
    )
    y = y[:, 0] @ np.array(state["lin.weight"]).T + np.array(state.get("lin.bias", 0))
    return y + x[:, : data["skip"]] if data["skip"] else y


@given(seeds, st.sampled_from(UNITS), sizes, sizes, st.integers(1, 3), st.integers(0, 3), st.booleans())
@settings(max_examples=examples(30))
def test_guitarml_adds_as_many_inputs_as_are_skipped(
    seed: int, unit: str, inputs: int, units: int, layers: int, skip: int, bias: bool
) -> None:
    outputs = max(1, min(skip, inputs)) if skip != 1 else 2
    model = simple_rnn(seed, unit, inputs, units, layers, outputs, skip=skip, bias_fl=bias)
    assert_answers(load(model), signal(inputs), of_simple_rnn(model, signal(inputs)))


@pytest.mark.parametrize("unit", ["LSTM", "GRU"])
def test_guitarml_is_what_pytorch_has_of_it(unit: str) -> None:
    """In PyTorch's shapes: (T, B, I)."""
    torch = pytest.importorskip("torch")
    model = simple_rnn(3, unit, 3, 5, 2)
    state = {name: torch.tensor(array) for name, array in model["state_dict"].items()}
    rec, lin = getattr(torch.nn, unit)(3, 5, 2), torch.nn.Linear(5, 1)
    rec.load_state_dict({name[4:]: array for name, array in state.items() if name.startswith("rec.")})
    lin.load_state_dict({name[4:]: array for name, array in state.items() if name.startswith("lin.")})
    x = torch.from_numpy(signal(2 * 3).astype(np.float32).reshape(STEPS, 2, 3))
    with torch.no_grad():
        expected = (lin(rec(x)[0]) + x[:, :, :1]).numpy()
    np.testing.assert_allclose(load(model)(x.numpy()), expected, 1e-5, 1e-5)


@given(seeds, st.lists(st.tuples(st.sampled_from(("LSTM", "GRU")), sizes, st.integers(1, 3)), max_size=3), sizes)
@settings(max_examples=examples(20))
def test_names_of_pytorch_make_a_chain_of_recurrent_layers_and_one_linear(
    seed: int, recurrent: list[tuple[str, int, int]], inputs: int
) -> None:
    drawn, size = Drawn(seed), inputs
    state: dict[str, Any] = {}
    x = signal(inputs)
    y = x
    for index, (unit, units, layers) in enumerate(recurrent):
        found = state_dict(unit, size, units, layers, drawn, f"net.{index}.")
        run: Callable[..., Any] = reference.lstm if unit == "LSTM" else reference.gru
        y = run(y[:, None], {name: np.array(array) for name, array in found.items()}, prefix=f"net.{index}.")[0][:, 0]
        state |= found
        size = units
    weight = drawn(2, size)
    state["head.weight"] = weight.tolist()
    if seed % 2:
        state["head.bias"] = [0.5, -0.5]
    assert_answers(load(state), x, y @ weight.T + (np.array([0.5, -0.5]) if seed % 2 else 0))


def test_types_are_those_of_every_model() -> None:
    model = load(simple_rnn(), dtype="int8", isa="scalar")
    assert (model.isa, model.inputs, model.outputs) == ("scalar", ("x",), ("out",))
    assert model.nodes[0][1].dtype == "int8"


# What is refused


def changed(model: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with something else there; `...` takes it away."""
    model = copy.deepcopy(model)
    place = model
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return model


DRAWN = Drawn(1)
NAM, RNN, AIDA = nam()[0], simple_rnn(), with_test(*amplifier())
CONV = rtneural(
    4, [rtneural_layer("conv1d", 4, DRAWN, 2, "tanh", kernel_size=[3], dilation=[2], groups=2),
        rtneural_layer("batchnorm", 2, DRAWN, 2, epsilon=0.5), rtneural_layer("prelu", 2, DRAWN, 2),
        rtneural_layer("gru", 2, DRAWN, 2)],
)[0]  # fmt: skip
CONV2D = rtneural(
    8, [rtneural_layer("conv2d", 8, DRAWN, 3, kernel_size_time=2, kernel_size_feature=2, dilation=1, strides=1,
                       num_filters_in=2, num_features_in=4, padding="valid")],
)[0]  # fmt: skip
STATE = state_dict("LSTM", 1, 2, 1, DRAWN, "lstm.") | {"dense.weight": [[1, 2]], "dense.bias": [0.5]}

UNSUPPORTED = [
    (NAM, ("architecture",), "WaveNet", r"architecture 'WaveNet' is not supported; supported: 'LSTM'"),
    (NAM, ("version",), "0.4.0", r"version '0.4.0' is not supported"),
    (NAM, ("version",), "1.0.0", r"version '1.0.0' is not supported"),
    (NAM, ("config", "bidirectional"), True, r"config.'bidirectional' is not supported; supported here: 'input_size'"),
    (NAM, ("config", "in_channels"), 2, r"config.in_channels is not supported where it is not input_size, 1"),
    (NAM, ("head_scale",), 0.02, r"'head_scale' is not supported"),
    (AIDA, ("out_bias",), 1, r"'out_bias' is not supported; supported here: .*'in_gain'"),
    (AIDA, ("layers", 0, "type"), "unknown", r"layers\[0\].type 'unknown' is not supported; supported: 'dense', "),
    (AIDA, ("layers", 0, "activation"), "relu", r"layers\[0\].activation 'relu' of lstm is not supported"),
    (AIDA, ("layers", 0, "go_backwards"), True, r"layers\[0\].'go_backwards' is not supported"),
    (AIDA, ("layers", 1, "activation"), "swish", r"layers\[1\].activation 'swish' of dense .*'elu'"),
    (CONV, ("in_skip",), 1, r"in_skip is not supported for 2 outputs"),
    (CONV, ("layers", 0, "padding"), "valid", r"layers\[0\].padding 'valid' is not supported; supported: 'causal'"),
    (CONV, ("layers", 0, "dilation"), 65536, None),
    (CONV, ("layers", 2, "activation"), "tanh", r"layers\[2\].activation 'tanh' of prelu"),
    (CONV2D, ("layers", 0, "padding"), "causal", r"layers\[0\].padding 'causal' is not supported"),
    (CONV2D, ("layers", 0, "activation"), "softmax", r"layers\[0\].activation 'softmax' of two axes"),
    (CONV2D, ("in_shape",), [None, None, 70000], r"in_shape: 70000 features are not supported"),
    (RNN, ("model_data", "model"), "GatedConvNet", r"model_data.model 'GatedConvNet' is not supported"),
    (RNN, ("model_data", "unit_type"), "Transformer", r"model_data.unit_type 'Transformer' is not .*: LSTM, GRU, RNN"),
    (RNN, ("model_data", "dropout"), 0.1, r"model_data.'dropout' is not supported"),
    (RNN, ("state_dict", "rec.weight_hr_l0"), [[1]], r"state_dict.'rec.weight_hr_l0' is not supported"),
    (STATE, ("lstm.weight_ih_l0_reverse",), [[1]], r"'lstm.weight_ih_l0_reverse' is not supported"),
    (STATE, ("other.weight",), [[1]], r"'other.' after a linear layer is not .*from_torch takes the module"),
    (STATE, ("dense.weight",), [[[1, 2]]], r"dense.weight with 3 axes is not supported, .* convolution's stride"),
]

INVALID = [
    (NAM, ("weights",), [0.5], r"weights: expected 70 numbers for what config says, got 1"),
    (NAM, ("weights", 3), "0.5", r"weights: expected finite float32 numbers, got '0.5'"),
    (NAM, ("weights", 3), True, r"weights: expected finite float32 numbers, got True"),
    (NAM, ("weights", 3), 1e39, r"weights: expected finite float32 numbers, got 1e\+39"),
    (NAM, ("weights", 3), 10**400, r"weights: expected finite float32 numbers, got 1000"),
    (NAM, ("weights", 3), None, r"weights: expected finite float32 numbers, got None"),
    (NAM, ("weights",), ..., r"weights is missing"),
    (NAM, ("config", "hidden_size"), 0, r"config.hidden_size: expected an integer from 1 to 65536, got 0"),
    (NAM, ("config", "num_layers"), 1.5, r"config.num_layers: expected an integer .* got 1.5"),
    (NAM, ("config",), [], r"config: expected an object, got a list of 0"),
    (NAM, ("metadata",), 3, r"metadata: expected an object, got 3"),
    (NAM, ("sample_rate",), 0, r"sample_rate: expected a positive number"),
    (AIDA, ("layers",), [], r"layers: expected a list of 1 to 1000 layers"),
    (AIDA, ("layers",), [{"type": "activation", "shape": [1]}], r"layers: none of them computes anything"),
    (AIDA, ("layers", 0), 5, r"layers\[0\]: expected an object, got 5"),
    (
        AIDA,
        ("layers", 0, "shape"),
        [None, None, 5],
        r"layers\[0\].weights\[0\]: expected shape \(1, 20\), got",
    ),
    (AIDA, ("layers", 0, "shape"), [None], r"layers\[0\].shape: expected a list that ends in a number of features"),
    (AIDA, ("layers", 1, "weights", 0, 2), [], r"layers\[1\].weights\[0\]: expected numbers in lists of equal sizes"),
    (AIDA, ("layers", 1, "weights"), [], r"layers\[1\].weights\[0\] is missing"),
    (AIDA, ("in_skip",), 2, r"in_skip: expected an integer from 0 to 1, got 2"),
    (AIDA, ("in_gain",), 1000, r"in_gain: expected decibels up to 700, got 1000"),
    (AIDA, ("in_gain",), "loud", r"in_gain: expected finite float32 numbers, got 'loud'"),
    (AIDA, ("output_batch",), ..., r"output_batch is missing"),
    (AIDA, ("output_batch",), [0.5], r"output_batch: expected as many numbers as input_batch has, 50"),
    (CONV, ("input_batch",), [0.5], r"output_batch is missing"),
    (CONV, ("layers", 0, "groups"), 3, r"layers\[0\].groups: 4 inputs and 2 outputs are not 3 equal groups"),
    (CONV, ("layers", 0, "kernel_size"), [3, 3], r"layers\[0\].kernel_size: expected an integer"),
    (
        CONV,
        ("layers", 0, "weights"),
        [*CONV["layers"][0]["weights"], [1]],
        r"layers\[0\].weights: expected 2 arrays, got 3",
    ),
    (CONV, ("layers", 1, "epsilon"), -3, r"layers\[1\].epsilon: expected variances that are more than 0"),
    (CONV, ("layers", 2, "weights", 0), [[1, 2, 3]], r"layers\[2\].weights\[0\]: expected shape \(1, 1\) or \(1, 2\)"),
    (CONV, ("layers", 3, "weights", 2), [0.5] * 6, r"layers\[3\].weights\[2\]: expected numbers in lists .* 2 deep"),
    (CONV2D, ("layers", 0, "num_filters_in"), 3, r"layers\[0\].num_features_in: 3 filters of 4 are not 8 features"),
    (CONV2D, ("layers", 0, "shape"), [None, None, 8], r"layers\[0\].shape has 8 features, but the layer gives 9"),
    (RNN, ("model_data", "num_layers"), 2, r"model_data.num_layers is 2, but state_dict has 1"),
    (RNN, ("model_data", "skip"), -1, r"model_data.skip: expected an integer from 0"),
    (RNN, ("model_data", "bias_fl"), "yes", r"model_data.bias_fl: expected true or false, got 'yes'"),
    (RNN, ("model_data", "hidden_size"), 5, r"state_dict.rec.weight_hh_l0: expected shape \(any, 5\), got \(16, 4\)"),
    (RNN, ("state_dict", "rec.bias_hh_l0"), ..., r"state_dict.rec.bias_hh_l0 is missing"),
    (RNN, ("state_dict",), ..., r"state_dict is missing"),
    (STATE, ("lstm.weight_hh_l0",), [[1, 2]], r"lstm.weight_hh_l0: expected shape \(4 \* H, H\) of an LSTM or"),
    (STATE, ("dense.weight",), [[1, 2, 3]], r"'dense.' takes 3 features, but what is before it gives 2"),
]


@pytest.mark.parametrize(("model", "path", "value", "message"), UNSUPPORTED)
def test_what_cannot_be_honoured_is_refused_by_name(model: Any, path: Any, value: Any, message: str | None) -> None:
    if message is None:
        value, message = [value], r"layers\[0\].dilation: "
        model = changed(model, ("layers", 0, "kernel_size"), [40])
        model["layers"][0]["weights"][0] = np.zeros((40, 2, 2)).tolist()
    with pytest.raises(UnsupportedError, match=rf"amp\.json: {message}"):
        load(changed(model, path, value))


@pytest.mark.parametrize(("model", "path", "value", "message"), INVALID)
def test_what_does_not_fit_is_refused_with_its_key(model: Any, path: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"amp\.json: {message}"):
        load(changed(model, path, value))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"[1, 2]", "expected a JSON object, got a list of 2"),
        (b"{}", "expected one of the keys 'architecture'"),
        (b'{"architecture": "LSTM", "layers": []}', "expected one of the keys"),
        (b'{"name": "amp"}', "expected one of the keys .* got 'name'"),
        (b'{"weight": [[NaN]]}', "NaN in it"),
        (b'{"layers": [], "metadata": {"esr": -Infinity}}', "-Infinity in it"),
        (b'{"layers": [], "layers": []}', "the key 'layers' is there twice"),
        (b"[" * 200_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"weight": [' + b"9" * 9999 + b"]}", "not JSON"),
        (b'{"weight": [' + b"[]," * (1 << 20) + b"[]]}", "1048579 lists and objects"),
    ],
)
def test_what_is_no_model_is_refused_before_it_takes_much(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"amp\.json: .*{message}"):
        load(data)


def test_a_file_that_is_too_large_is_read_no_further(tmp_path: Path) -> None:
    path = tmp_path / "large.nam"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(UnsupportedError, match=r"large\.nam: it has more than 67108864 bytes"):
        fc.Model.from_json(path)


def test_what_a_file_says_of_itself_is_left_alone(tmp_path: Path) -> None:
    notes = {"name": "Amp", "author": "", "esr": 0.01, "samplerate": "48000", "license": "CC0", "metadata": {"a": [1]}}
    path = tmp_path / "amp.json"
    path.write_text("\n" + json.dumps(AIDA | notes), encoding="utf-8")
    assert isinstance(fc.Model.from_json(str(path)), fc.Model)
