"""What nodes hold, what they round to, and how a model's sizes follow from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fusedcell as fc
from fusedcell import nodes
from fusedcell.reference.int8 import quantise_weights
from models import KIND, uniform

SMALL = st.integers(1, 4)


def answer(node: Any, x: np.ndarray, **inputs: int) -> np.ndarray:
    y: np.ndarray = fc.Model([("y", node, "x")], inputs or None)(x)
    return y


def scattered(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """A transposed convolution as it is defined, x (T, I) in float64: each input row is added to k rows of output."""
    inputs, outputs, taps = weight.shape
    whole = np.zeros(((len(x) - 1) * stride + taps, groups, outputs))
    for t, row in enumerate(x.reshape(len(x), groups, inputs // groups)):
        each = weight.reshape(groups, inputs // groups, outputs, taps)
        whole[t * stride : t * stride + taps] += np.einsum("gi,giok->kgo", row, each)
    return whole.reshape(len(whole), -1) + bias


@pytest.mark.core
@given(
    groups=st.sampled_from([1, 2]), inside=st.booleans(), rows=SMALL, inputs=SMALL, outputs=SMALL,
    taps=st.integers(1, 7), stride=SMALL, padding=st.integers(0, 5), output_padding=st.integers(0, 3),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_transposed_convolutions_are_what_scattering_adds_up_to(
    groups: int, inside: bool, rows: int, inputs: int, outputs: int, taps: int, stride: int, padding: int,
    output_padding: int, seed: int,
) -> None:  # fmt: skip
    kept = (rows - 1) * stride + taps - 2 * padding + output_padding
    assume(kept > 0 and output_padding < stride)
    weight = uniform(seed, groups * inputs, outputs, taps)
    bias, x = uniform(seed + 1, groups * outputs), uniform(seed + 2, rows, groups * inputs)
    node = nodes.Window.transposed(
        weight, bias, stride=stride, padding=padding, output_padding=output_padding, groups=groups,
        positions=rows if inside else None,
    )  # fmt: skip
    whole = scattered(x, weight, bias, stride, groups)
    expected = np.concatenate([whole, np.tile(bias, (stride, 1))])[padding : padding + kept]
    y = answer(node, x.reshape(1, -1) if inside else x).reshape(-1, groups * outputs)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.core
def test_the_layout_of_convolutions_is_turned_once() -> None:
    weight = np.arange(24.0).reshape(2, 3, 4)  # outputs, inputs, taps
    np.testing.assert_array_equal(nodes.Window.from_conv1d(weight).weight, weight.transpose(0, 2, 1).reshape(2, 12))
    np.testing.assert_array_equal(nodes.Window.from_conv1d(weight).window[1], weight[:, :, 1].T)


def matrices() -> list[np.ndarray]:
    tiny = uniform(1, 5, 7)
    tiny[2] *= 2.0**-120
    tiny[3] = 0
    return [uniform(2, 40, 33) * 10.0, uniform(3, 9, 1), tiny, np.exp2(uniform(4, 30, 16) * 20).astype(np.float32)]


@pytest.mark.core
@pytest.mark.filterwarnings("ignore::fusedcell.QuantizationWarning")  # of the wide one
@pytest.mark.parametrize("matrix", matrices(), ids=["uniform", "column", "tiny", "wide"])
@pytest.mark.parametrize("make", [nodes.Dense, nodes.Embedding])
def test_int8_matrices_are_those_of_the_specification_and_stay_so(matrix: np.ndarray, make: Any) -> None:
    node = make(matrix).astype("int8")
    q, scales = quantise_weights(matrix)
    _, stored = node._to_file()
    np.testing.assert_array_equal(stored["weight"], q)
    np.testing.assert_array_equal(stored["weight_scale"], scales)
    assert node.astype("int8") is node
    back = node.astype("float32")
    np.testing.assert_array_equal(back.weight if make is nodes.Dense else back.table, q * scales[:, None])


@pytest.mark.core
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_are_rounded_as_layers_round_theirs(dtype: str) -> None:
    weight = np.exp2(uniform(5, 300, 8) * 14).astype(np.float32) * np.sign(uniform(6, 300, 8))
    weight[0] = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 2.0**-25, 2.0**-24, -0.0, 3 * 2.0**-25]
    layer = fc.RNN.from_state_dict({"weight_ih_l0": weight, "weight_hh_l0": np.zeros((300, 300))}, dtype=dtype)
    node = nodes.Dense(weight).astype(dtype)
    np.testing.assert_array_equal(node.weight, layer._stack.arrays()[0]["weight_ih"])
    with pytest.raises(
        ValueError, match=rf"head: weight: expected weights that {dtype} can hold, got .* index \(0, 1\)"
    ):
        fc.Model([("head", nodes.Dense([[1, 3.4e38]]), "x")]).astype(dtype)


@pytest.mark.core
def test_astype_names_nodes_and_those_below_them_and_keeps_others() -> None:
    gru = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(2, 2))
    model = fc.Model(
        [
            ("encoder.a", nodes.Dense(uniform(1, 2, 2)), "x"),
            ("encoder.b", gru, "encoder.a"),
            ("head", nodes.Dense(uniform(2, 2, 2), activation="softmax"), "encoder.b"),
        ]
    )
    loaded = fc.Model(fc.Model._from_bytes(model._to_bytes()).nodes)

    def dtypes(model: Any) -> dict[str, str]:
        return {name: node.dtype for name, node, _ in model.nodes if hasattr(node, "dtype")}

    assert dtypes(model.astype("int8", keep=("head",))) == {"encoder.a": "int8", "encoder.b": "int8", "head": "float32"}
    assert dtypes(loaded.astype("int8", keep="head"))["head.linear"] == "float32"
    mixed = model.astype({"encoder": "float16", "encoder.b": {"weight_hh": "int8"}})
    assert dtypes(mixed) == {"encoder.a": "float16", "encoder.b": "mixed", "head": "float32"}
    for wrong in ({"dtype": {"heads": "int8"}}, {"dtype": "int8", "keep": ("heads",)}):
        with pytest.raises(ValueError, match="'heads' is not a node; nodes: encoder"):
            model.astype(**wrong)
    with pytest.raises(fc.UnsupportedError, match="dtype='int4' is not supported"):
        model.astype("int4")
    with pytest.raises(fc.UnsupportedError, match=r"^encoder.a: expected one dtype, as there is one matrix"):
        model.astype({"encoder.a": {"weight": "int8"}})
    for kept in ("encoder", "encoder.a"):
        with pytest.raises(ValueError, match=r"^keep: expected nodes that dtype does not name, got 'encoder.a'"):
            model.astype({"encoder.a": "int8"}, keep=kept)
    assert dtypes(model.astype({"encoder": "int8"}, keep="encoder.a"))["encoder.a"] == "float32"
    with pytest.raises(TypeError, match=r"^keep: expected names of nodes, got int"):
        model.astype("int8", keep=5)  # type: ignore[arg-type]
    plain = fc.Model([("gain", nodes.Scale(np.ones(2)), "x"), ("head", nodes.Dense(uniform(1, 2, 2)), "gain")])
    with pytest.raises(ValueError, match=r"^dtype: 'gain' has no matrix; nodes that have one: head"):
        plain.astype({"gain": "int8"})
    with pytest.raises(ValueError, match=r"^keep: 'gain' has no matrix; nodes that have one: head"):
        plain.astype("int8", keep="gain")


@pytest.mark.core
@pytest.mark.parametrize(
    ("listed", "inputs", "sizes"),
    [
        ([("y", nodes.Dense(np.ones((2, 3))), "x")], None, {"x": 3, "y": 2}),
        ([("a", nodes.Activation("relu"), "x"), ("y", nodes.Dense(np.ones((2, 3))), "a")], None, {"x": 3, "y": 2}),
        ([("a", nodes.Dense(np.ones((2, 3))), "x"), ("y", nodes.Dense(np.ones((1, 6))), ("a", "z"))], None,
         {"x": 3, "z": 4, "y": 1}),
        ([("a", nodes.Scale([1, 2]), "x"), ("y", nodes.Add(), ("a", "z"))], None, {"x": 2, "z": 2, "y": 2}),
        ([("a", nodes.GLU(), "x"), ("y", nodes.Dense(np.ones((1, 3))), "a")], {"x": 6}, {"x": 6, "y": 1}),
        ([("y", nodes.Depthwise(np.ones((2, 3)), positions=4), "x")], None, {"x": 12, "y": 9}),
        ([("y", nodes.MeanPool(2, positions=4), "x")], {"x": 8}, {"x": 8, "y": 4}),
        ([("a", nodes.PReLU([0.5]), "x"), ("y", nodes.Last(), "a")], {"x": 5}, {"x": 5, "y": 5}),
    ],
)  # fmt: skip
def test_sizes_of_inputs_follow_from_who_reads_them(listed: Any, inputs: Any, sizes: dict[str, int]) -> None:
    assert fc.Model(listed, inputs).sizes == sizes


@pytest.mark.core
def test_sizes_that_do_not_follow_are_asked_for() -> None:
    with pytest.raises(ValueError, match="inputs: the number of features of 'x' does not follow; give it"):
        fc.Model([("y", nodes.GLU(), "x")])
    embedding = [("y", nodes.Embedding(np.ones((5, 2))), "t")]
    assert (fc.Model(embedding).tokens, fc.Model(embedding, {"t": 3}).tokens) == ({"t": 5}, {"t": 3})


ONE = np.ones((1, 1), np.float32)
new: Any = nodes
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: new.Dense(np.ones(3)), ValueError, r"weight: expected an array of 2 axes, got \(3,\)"),
    (lambda: new.Dense(np.ones((0, 3))), ValueError, r"weight: expected an array of 2 axes, got \(0, 3\)"),
    (lambda: new.Dense(ONE, [1, 2]), ValueError, r"bias: expected shape \(1,\), got \(2,\)"),
    (lambda: new.Dense(ONE.astype(complex)), TypeError, "weight: expected an array of floats, got dtype complex128"),
    (lambda: new.Dense([["a"]]), TypeError, "weight: expected an array"),
    (lambda: new.Dense([[1e39]]), ValueError, "weight: a value is beyond float32"),
    (lambda: new.Dense(ONE, activation="swoosh"), fc.UnsupportedError, "activation: 'swoosh' is not supported; .*"),
    (lambda: new.Dense(ONE, activation=("affine", 1)), ValueError, "activation: beta of Affine is missing"),
    (lambda: new.Dense(ONE, activation=("relu", 1)), ValueError, "activation: Relu takes 0 of alpha and beta, got 1"),
    (lambda: new.Dense(ONE, activation=("elu", "1")), TypeError, "alpha of Elu: expected a number, got str"),
    (lambda: new.Dense(ONE, activation=("elu", 1e39)), ValueError, "alpha of Elu: expected a finite float32"),
    (lambda: new.Dense(ONE, activation=7), TypeError, "activation: expected a name"),
    (lambda: new.Activation("softmax"), fc.UnsupportedError, "activation: 'softmax' is not supported"),
    (lambda: new.Window(np.ones((2, 5)), taps=2), ValueError, r"weight: expected shape \(O, 2 \* I / groups\), got"),
    (lambda: new.Window(np.ones((3, 2)), taps=2, groups=2), ValueError, "weight: 3 outputs are not 2 equal groups"),
    (lambda: new.Window(ONE, taps=0), ValueError, "taps: expected 1 or more, got 0"),
    (lambda: new.Window(ONE, taps=1.0), TypeError, "taps: expected an integer, got float"),
    (lambda: new.Window(ONE, taps=True), TypeError, "taps: expected an integer, got bool"),
    (lambda: new.Window(ONE, taps=1, stride=0), ValueError, "stride: expected 1 or more, got 0"),
    (lambda: new.Window(ONE, taps=1, padding=(1, 2, 3)), ValueError, r"padding: expected \(left, right\)"),
    (lambda: new.Window(ONE, taps=1, padding="same"), TypeError, "padding: expected an integer, got str"),
    (lambda: new.Window.transposed(np.ones((3, 1, 2)), groups=2), ValueError, "weight: 3 inputs are not 2 equal"),
    (lambda: new.Window.transposed(np.ones((1, 1, 2)), output_padding=1), ValueError, "output_padding: expected"),
    (lambda: new.MaxPool(2, padding=1), ValueError, "padding: expected 0 or less, as zeros would be in the maximum"),
    (lambda: new.Take([]), ValueError, "indices: expected shape"),
    (lambda: new.Take([0.5]), ValueError, "indices: expected whole numbers from 0"),
    (lambda: new.Take([-1]), ValueError, "indices: expected whole numbers from 0"),
    (lambda: new.Take([0, 1, 2], repeat=2), ValueError, "indices: 3 of them are not 2 equal rows"),
    (lambda: new.Last(3), ValueError, "num_directions: expected 1 or 2, got 3"),
    (lambda: new.LayerNorm(eps=-1), ValueError, "eps: expected 0 or more, got -1"),
    (lambda: new.LayerNorm(parts=0), ValueError, "parts: expected 1 or more, got 0"),
    (lambda: new.Chain([]), TypeError, "nodes: expected a list of nodes"),
    (lambda: new.Chain([1]), TypeError, "nodes: expected a list of nodes"),
]  # fmt: skip


@pytest.mark.core
@pytest.mark.parametrize(("make", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_does_not_fit_is_refused_by_name(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.core
def test_activations_go_by_their_names_in_any_case() -> None:
    for name in ("LeakyRelu", "leaky_relu", "leakyrelu", ("leaky_relu", 0.01), ["LeakyRelu", 0.01]):
        assert repr(new.Dense(ONE, activation=name)) == "Dense(weight=(1, 1), activation=('LeakyRelu', 0.01))"
    assert repr(nodes.Activation("hard_sigmoid")) == "Activation('HardSigmoid', 0.2, 0.5)"
    assert repr(nodes.Dense(ONE, activation="log_softmax")) == "Dense(weight=(1, 1), activation='LogSoftmax')"


@pytest.mark.core
def test_a_node_keeps_what_it_was_given() -> None:
    weight = np.ones((2, 2))
    node = nodes.Dense(weight)
    weight[:] = 7
    np.testing.assert_array_equal(node.weight, np.ones((2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        node.weight[:] = 7
    with pytest.raises(AttributeError):
        node.weight = weight  # type: ignore[misc] # wrong on purpose
