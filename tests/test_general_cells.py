"""Cells with options: numbers worked by hand, what options leave alone, one reversed direction, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import _core, reference
from fusedcell.cell_options import Activation, CellOptions
from models import GENERAL_KINDS, KIND, KIND_NAMES, GeneralKind, flat, layer_from_cells, reference_options, uniform
from test_widths import rounded_weights

pytestmark = pytest.mark.float_weights

IDENTITY = Activation("Affine", 1, 0)

every_general_kind = pytest.mark.parametrize("kind", GENERAL_KINDS, ids=lambda kind: kind.name)


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


def one_unit(kind: str, weight_ih: list[float], bias: list[float], options: CellOptions, **more: Any) -> Any:
    """A layer of one unit and one input, with no weight on h unless `weight_hh` gives it."""
    arrays = {
        "weight_ih": np.array(weight_ih, np.float32)[:, None],
        "weight_hh": np.array(more.pop("weight_hh", np.zeros(len(weight_ih))), np.float32)[:, None],
        "bias_ih": np.array(bias, np.float32),
    }
    if "peephole" in more:
        arrays["weight_peephole"] = np.array(more.pop("peephole"), np.float32)
    return layer_from_cells(kind, [arrays], options=[options], **more)


def lstm_step(layer: Any, x: float, c: float, h: float = 0.0) -> tuple[float, float]:
    y, (_, c_n) = layer(np.array([[x]], np.float32), (np.array([[h]], np.float32), np.array([[c]], np.float32)))
    return float(y[0, 0]), float(c_n[0, 0])


@pytest.mark.core
def test_peepholes_see_the_old_c_in_i_and_f_and_the_new_c_in_o(isa: str) -> None:
    layer = one_unit("lstm", [1, 2, 3, 4], [0, 0, 0, 1], CellOptions((IDENTITY,) * 3), peephole=[10, 20, 100], isa=isa)
    # i = 1 + 10 * 0.5, f = 2 + 20 * 0.5, g = 3;  c' = 12 * 0.5 + 6 * 3;  o = 4 + 1 + 100 * c';  h' = o c'
    assert lstm_step(layer, 1, 0.5) == (2405 * 24, 24)


@pytest.mark.core
def test_a_coupled_forget_gate_is_one_minus_i_whatever_its_own_weights(isa: str) -> None:
    options = CellOptions((IDENTITY,) * 3, input_forget=True)
    layer = one_unit("lstm", [0.25, 1000, 2, 1], [0, -7, 0, 0], options, peephole=[0.5, 1000, 0], isa=isa)
    # i = 0.25 + 0.5 * 0.5;  f = 1 - 0.5;  c' = 0.5 * 0.5 + 0.5 * 2;  h' = 1 * 1.25
    assert lstm_step(layer, 1, 0.5) == (1.25, 1.25)


@pytest.mark.core
@pytest.mark.parametrize(("clip_before_h", "h"), [(True, 2.0 * 2), (False, 2.0 * 14)])
def test_clip_bounds_whole_pre_activations_but_never_the_state(clip_before_h: bool, h: float, isa: str) -> None:
    options = CellOptions((IDENTITY,) * 3, clip=2, clip_before_h=clip_before_h)
    layer = one_unit("lstm", [5, 1, -3, 1], [-4, 0, 0, 6], options, peephole=[1, -1, 10], isa=isa)
    # i = 5 - 4 + 5 = 6, clipped to 2; f = 1 - 5 = -4, to -2; g = -3, to -2;  c' = -2 * 5 + 2 * -2;  o = 7 - 140, to -2
    assert lstm_step(layer, 1, 5) == (h, -14)


@pytest.mark.core
@pytest.mark.parametrize("kind", ["gru_reset_after", "gru_reset_before"])
def test_clip_in_a_gru_bounds_all_that_enters_the_candidate(kind: str, isa: str) -> None:
    options = CellOptions((IDENTITY,) * 2, clip=2)
    layer = one_unit(kind, [3, 0.5, -1], [0, 0, 0], options, weight_hh=[0, 0, 1], isa=isa)
    # r = 3, to 2; z = 0.5; n = -1 + 2 * 4 = 7, to 2; h' = (1 - 0.5) * 2 + 0.5 * 4
    y, _ = layer(np.array([[1]], np.float32), np.array([[4]], np.float32))
    assert y.tolist() == [[3]]


@pytest.mark.core
def test_alpha_and_beta_belong_to_their_own_activation(isa: str) -> None:
    functions = (Activation("Affine", 2, 1), Activation("Affine", 3, -1), Activation("LeakyRelu", 0.5))
    layer = one_unit("lstm", [1, 1, -1, 1], [0, 0, 0, 0], CellOptions(functions), isa=isa)
    # i = f = o = 3; g = -4; c' = 3 * 1 + 3 * -4; h' = 3 * (0.5 * -9)
    assert lstm_step(layer, 1, 1) == (-13.5, -9)


@pytest.mark.core
@pytest.mark.parametrize("name", KIND_NAMES)
def test_options_that_say_the_usual_give_the_usual_bits(name: str, isa: str) -> None:
    kind = KIND[name]
    usual = {1: ("Tanh" if name == "rnn_tanh" else "Relu",), 3: ("Sigmoid", "Tanh"), 4: ("Sigmoid", "Tanh", "Tanh")}
    options = CellOptions(tuple(Activation(function) for function in usual[kind.gates]), clip_before_h=False)
    general = GeneralKind(
        name,
        kind.layer,
        kind.cell,
        kind.gates,
        kind.reference,
        kernel_kind=name.removesuffix("_projected"),
        cell_options=options,
    )
    mapping = kind.weights(9, 17, layers=2, directions=2)
    plain, said = kind.make(mapping, isa=isa), general.make(mapping, isa=isa)
    x = uniform(1, 7, 3, 9)
    same(said(x), plain(x))
    assert said.cell_options == plain.cell_options == (CellOptions(),) * 4
    assert repr(said) == repr(plain)
    assert said.nbytes == plain.nbytes


def test_a_plain_rnn_is_of_the_kind_that_its_options_say() -> None:
    arrays = [{"weight_ih": uniform(i, 3, 2), "weight_hh": uniform(i + 1, 3, 3)} for i in (1, 5)]
    relu, tanh = CellOptions((Activation("Relu"),)), CellOptions((Activation("Tanh"),))
    layer = layer_from_cells("rnn_tanh", arrays[:1], options=[relu])
    assert (layer.nonlinearity, layer.cell_options) == ("relu", (CellOptions(),))
    both = layer_from_cells("rnn_tanh", arrays, num_directions=2, options=[tanh, relu])
    assert (both.nonlinearity, both.cell_options) == ("tanh, relu", (CellOptions(), relu))
    x = uniform(9, 4, 2)
    y, _ = both(x)
    same((y[:, :3],), (layer_from_cells("rnn_tanh", arrays[:1])(x)[0],))
    same((y[::-1, 3:],), (layer_from_cells("rnn_relu", arrays[1:])(x[::-1])[0],))


@pytest.mark.core
def test_directions_have_options_of_their_own(isa: str) -> None:
    kind = KIND["lstm_peephole"]
    mapping = kind.weights(5, 9, directions=2)
    options = [CellOptions(clip=0.25), CellOptions((Activation("HardSigmoid", 0.25, 0.5),) + (Activation("Tanh"),) * 2)]
    cells = [
        {name.removesuffix(end): array for name, array in mapping.items() if name.endswith(end)}
        for end in ("_l0", "_l0_reverse")
    ]
    layer = layer_from_cells("lstm", cells, num_directions=2, options=options, isa=isa)
    assert layer.cell_options == tuple(options)
    x = uniform(2, 8, 2, 5)
    y, _ = layer(x)
    for direction, (arrays, item) in enumerate(zip(cells, options, strict=True)):
        flip = slice(None, None, -1 if direction else 1)
        alone = {f"{name}_l0": array for name, array in arrays.items()}
        expected, _ = reference.lstm(x[flip], alone, **reference_options(item))
        np.testing.assert_allclose(y[flip, :, 9 * direction :][..., :9], expected, rtol=0, atol=2e-6)


@pytest.mark.core
@every_general_kind
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_have_the_bits_of_float32_with_rounded_weights(kind: GeneralKind, dtype: str, isa: str) -> None:
    mapping = kind.weights(9, 17)
    rounded = rounded_weights(mapping, dtype)
    if kind.peephole:
        rounded["weight_peephole_l0"] = mapping["weight_peephole_l0"]
    x = uniform(3, 5, 7, 9)
    half = kind.make(mapping, dtype=dtype, isa=isa)
    same(half(x), kind.make(rounded, isa=isa)(x))
    same(kind.make(mapping, isa=isa).astype(dtype)(x), half(x))


@pytest.mark.core
@every_general_kind
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_one_reversed_direction_is_the_forward_one_on_flipped_time(kind: GeneralKind, dtype: str, isa: str) -> None:
    mapping = kind.weights(9, 17, layers=2)
    forward, backward = (kind.make(mapping, dtype=dtype, isa=isa, reverse=reverse) for reverse in (False, True))
    x, lengths = uniform(4, 7, 4, 9), [7, 0, 3, 6]
    y, end = backward(x)
    flipped_y, flipped_end = forward(x[::-1])
    same((y[::-1], end), (flipped_y, flipped_end))
    y, end = backward(x, lengths=lengths)
    for row, length in enumerate(lengths):
        alone, _ = forward(x[:length, row][::-1])
        same((y[:length, row],), (alone[::-1],))
        assert not y[length:, row].any()
    same(backward(x, lengths=lengths, num_threads=2), (y, end))


def test_a_reversed_layer_keeps_its_direction_and_has_no_streams() -> None:
    kind = KIND["lstm_coupled"]
    layer = kind.make(kind.weights(6, 9, layers=2), reverse=True, batch_first=True)
    assert layer.reverse
    assert not layer.bidirectional
    assert "reverse=True" in repr(layer)
    for other in (layer.astype("int8"), layer.astype("float16").astype("float32")):
        assert (other.reverse, other.cell_options) == (True, layer.cell_options)
        assert "peepholes=True" in repr(other)
    with pytest.raises(fc.UnsupportedError, match="a reverse layer needs the whole sequence, so it has no streams"):
        layer.stream()
    with pytest.raises(ValueError, match="stack: expected one direction that runs forwards"):
        _core.Stream(layer._stack)
    with pytest.raises(ValueError, match="reverse: expected False with two directions"):
        kind.make(kind.weights(6, 9, directions=2), reverse=True)
    assert not KIND["lstm"].make(KIND["lstm"].weights(2, 3)).reverse


def test_long_reversed_sequences_on_threads() -> None:
    kind = KIND["lstm"]
    mapping = kind.weights(40, 300, layers=3)
    cells = [{name[:-3]: a for name, a in mapping.items() if name.endswith(end)} for end in ("_l0", "_l1", "_l2")]
    layer = layer_from_cells("lstm", cells, reverse=True)
    x = uniform(5, 100, 40)
    same(layer(x, num_threads=2), layer(x))
    same((layer(x, num_threads=2)[0][::-1],), (kind.make(mapping)(x[::-1])[0],))


def test_peepholes_come_with_pytorchs_names() -> None:
    kind = KIND["lstm_peephole"]
    mapping = kind.weights(6, 9, layers=2, directions=2)
    x = uniform(6, 5, 6)
    same(fc.LSTM.from_state_dict(mapping)(x), kind.make(mapping)(x))


def test_a_repr_shows_what_is_not_as_usual() -> None:
    assert repr(KIND["lstm_hard"].make(KIND["lstm_hard"].weights(2, 3))).startswith(
        "LSTM(2, 3, activations=(HardSigmoid(0.2, 0.5), Softsign, ScaledTanh(1.25, 0.75)), clip=1, clip_before_h=False,"
    )
    coupled = KIND["lstm_coupled"]
    assert repr(coupled.make_cell(coupled.weights(2, 3))).startswith(
        "LSTMCell(2, 3, peepholes=True, clip=0.5, input_forget=True, "
    )
    elu: Any = KIND["rnn_elu"]
    layer = layer_from_cells(
        "rnn_tanh",
        [{"weight_ih": np.ones((1, 1)), "weight_hh": np.ones((1, 1))}] * 2,
        num_directions=2,
        options=[CellOptions(), elu.cell_options],
    )
    assert "cell_options=(as usual; activations=(Elu(0.75),), clip=1.5), bidirectional=True" in repr(layer)


def refuse(options: Any, kind: str = "lstm", **arrays: Any) -> Any:
    gates = {"lstm": 4, "gru_reset_after": 3, "rnn_tanh": 1}[kind]
    cell = {"weight_ih": np.zeros((gates * 2, 3)), "weight_hh": np.zeros((gates * 2, 2)), **arrays}
    return layer_from_cells(kind, [cell], options=[options] if not isinstance(options, list) else options)


SIGMOIDS = (Activation("Sigmoid"),) * 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            CellOptions((Activation("Swish"), *SIGMOIDS[:2])),
            fc.UnsupportedError,
            "activations_l0: 'Swish' is not",
        ),
        (
            CellOptions((Activation("sigmoid"), *SIGMOIDS[:2])),
            fc.UnsupportedError,
            "supported: Relu, Tanh, Sigmoid,",
        ),
        (CellOptions((Activation([]), *SIGMOIDS[:2])), fc.UnsupportedError, r"activations_l0: \[\] is not supported"),  # type: ignore[arg-type] # wrong on purpose
        (CellOptions(SIGMOIDS[:2]), ValueError, r"activations_l0: expected 3 \(f, g, h\), got \("),
        (CellOptions("abc"), ValueError, r"activations_l0: expected 3 \(f, g, h\), got 'abc'"),  # type: ignore[arg-type] # wrong on purpose
        (CellOptions(("Sigmoid",) * 3), TypeError, "activations_l0: expected Activation, got str"),  # type: ignore[arg-type] # wrong on purpose
        (CellOptions((Activation("Elu", np.nan),) * 3), ValueError, "alpha of Elu: expected a finite float32, got nan"),
        (
            CellOptions((Activation("Elu", 1e39),) * 3),
            ValueError,
            "alpha of Elu: expected a finite float32, got 1e",
        ),
        (CellOptions((Activation("Elu", "1"),) * 3), TypeError, "alpha of Elu: expected a number, got str"),  # type: ignore[arg-type] # wrong on purpose
        (CellOptions((Activation("Elu", 1, 1),) * 3), ValueError, "beta of Elu: expected 0, as it takes none, got 1"),
        (CellOptions((Activation("Affine", 1, np.inf),) * 3), ValueError, "beta of Affine: expected a finite float32"),
        (CellOptions(clip=0), ValueError, r"clip_l0: expected a number from 2\^-126 on, or None, got 0"),
        (CellOptions(clip=-1.0), ValueError, r"clip_l0: expected a number from 2\^-126 on, or None, got -1"),
        (CellOptions(clip=1e-40), ValueError, r"clip_l0: expected a number from 2\^-126 on"),
        (CellOptions(clip=np.nan), ValueError, "clip_l0: expected a finite float32, got nan"),
        (CellOptions(clip=np.inf), ValueError, "clip_l0: expected a finite float32, got inf"),
        (CellOptions(clip=10**400), ValueError, "clip_l0: expected a finite float32, got inf"),
        (CellOptions(clip="1"), TypeError, "clip_l0: expected a number, got str"),  # type: ignore[arg-type] # wrong on purpose
        (CellOptions(clip=True), TypeError, "clip_l0: expected a number, got bool"),
        (CellOptions(clip_before_h=1), TypeError, "clip_before_h_l0: expected a bool, got int"),  # type: ignore[arg-type] # wrong on purpose
        (CellOptions(input_forget=None), TypeError, "input_forget_l0: expected a bool, got NoneType"),  # type: ignore[arg-type] # wrong on purpose
        (3, TypeError, "options_l0: expected CellOptions, got int"),
        ([CellOptions()] * 2, ValueError, "options: expected one per layer and direction, 1, got 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        refuse(options)


def test_what_other_cells_do_not_have_is_refused() -> None:
    for kind in ("gru_reset_after", "rnn_tanh"):
        with pytest.raises(ValueError, match="input_forget_l0: expected False, as only the LSTM has a forget gate"):
            refuse(CellOptions(input_forget=True), kind)
        with pytest.raises(ValueError, match="weight_peephole_l0: only the LSTM has peepholes"):
            refuse(CellOptions(), kind, weight_peephole=np.zeros(6))
    with pytest.raises(ValueError, match=r"activations_l0: expected 2 \(f, g\)"):
        refuse(CellOptions(SIGMOIDS), "gru_reset_after")
    with pytest.raises(ValueError, match=r"activations_l0: expected 1 \(f\)"):
        refuse(CellOptions(()), "rnn_tanh")


def test_peepholes_of_another_shape_or_of_some_layers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weight_peephole_l0: expected shape \(6,\), got \(8,\)"):
        refuse(CellOptions(), weight_peephole=np.zeros(8))
    with pytest.raises(TypeError, match="weight_peephole_l0: expected an array of floats"):
        refuse(CellOptions(), weight_peephole=np.zeros(6, np.int32))
    cell = {"weight_ih": np.zeros((8, 2)), "weight_hh": np.zeros((8, 2))}
    with_peephole = cell | {"weight_peephole": np.zeros(6)}
    with pytest.raises(ValueError, match="weight_peephole_l1: missing, but other layers have peepholes"):
        layer_from_cells("lstm", [with_peephole, cell])
    with pytest.raises(ValueError, match="weight_peephole_l1: unexpected, other layers have no peepholes"):
        layer_from_cells("lstm", [cell, with_peephole])


def test_alpha_beta_and_clip_are_read_back_as_they_were_given() -> None:
    options = CellOptions((Activation("HardSigmoid", 0.2, 1 / 6), Activation("Tanh")), clip=0.1)
    cell = {"weight_ih": np.zeros((6, 3)), "weight_hh": np.zeros((6, 2))}
    (got,) = layer_from_cells("gru_reset_before", [cell], options=[options]).cell_options
    assert got.activations is not None
    assert (got.activations[0].alpha, got.clip) == (0.2, 0.1)
    assert np.float32(got.activations[0].beta) == np.float32(1 / 6)
    assert got.activations[1] == Activation("Tanh")
