"""What goes in: any float array NumPy can view; everything else raises, naming the argument, and changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from models import KIND, KINDS, Kind, flat, uniform

pytestmark = [pytest.mark.core, pytest.mark.float_weights]

LSTM = KIND["lstm"]
MAPPING = LSTM.weights(6, 9)
X = uniform(1, 6)


def misaligned(x: np.ndarray) -> np.ndarray:
    """The same floats one byte off their alignment."""
    memory = np.zeros(x.nbytes + 1, np.uint8)
    memory[1:] = np.frombuffer(x.tobytes(), np.uint8)
    return memory[1:].view(np.float32).reshape(x.shape)


VIEWS: dict[str, Callable[[np.ndarray], Any]] = {
    "offset by one float": lambda x: np.concatenate([[np.float32(9)], x.ravel()])[1:].reshape(x.shape),
    "misaligned": misaligned,
    "strided": lambda x: np.repeat(x, 3, axis=-1)[..., ::3],
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1],
    "Fortran order": np.asfortranarray,
    "big-endian": lambda x: x.astype(">f4"),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "float64": lambda x: x.astype(np.float64),
    "list": lambda x: x.tolist(),
    "memoryview": lambda x: memoryview(np.ascontiguousarray(x)),  # type: ignore[arg-type] # NumPy's stubs do not know arrays as buffers
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_views_and_other_float_types_give_the_same_bits(kind: Kind, view: str, isa: str) -> None:
    mapping = kind.weights(6, 9)
    x = uniform(2, 5, 3, 6)
    expected = flat(kind.make(mapping, isa=isa)(x))
    viewed = VIEWS[view]
    layer = kind.make({name: viewed(array) for name, array in mapping.items()}, isa=isa)
    for a, e in zip(flat(layer(viewed(x))), expected, strict=True):
        np.testing.assert_array_equal(a, e)
    stream = layer.stream(3)
    np.testing.assert_array_equal(np.array([stream.step(viewed(step)) for step in x]), expected[0])


@pytest.mark.parametrize("value", [1e39, -1e300])
def test_weights_and_states_that_float32_does_not_hold_are_refused(value: float) -> None:
    wide = {name: array.astype(np.float64) for name, array in MAPPING.items()}
    wide["weight_hh_l0"][3, 2] = value
    with pytest.raises(ValueError, match="weight_hh_l0: a value is beyond float32"):
        LSTM.make(wide)
    state = np.full((1, 1, 9), value)
    with pytest.raises(ValueError, match="c: a value is beyond float32"):
        LSTM.make(MAPPING).with_initial_state(np.zeros((1, 1, 9)), state)


def test_half_precision_is_widened_exactly() -> None:
    x = uniform(3, 4, 6).astype(np.float16)
    layer = LSTM.make(MAPPING)
    np.testing.assert_array_equal(layer(x)[0], layer(x.astype(np.float32))[0])


NOT_FLOATS = [
    (np.zeros(6, np.int32), "x: expected an array of floats, got dtype int32"),
    ([1, 2, 3, 4, 5, 6], f"x: expected an array of floats, got list of dtype {np.array([1]).dtype}"),
    (np.zeros(6, np.complex64), "x: expected an array of floats, got dtype complex64"),
    (np.zeros(6, bool), "x: expected an array of floats, got dtype bool"),
    ("text", "x: expected an array of floats, got str of dtype <U4"),
    (None, "x: expected an array of floats, got NoneType of dtype object"),
    ([[1.0], [2.0, 3.0]], "x: expected an array of floats, got list"),
]
WRONG_SHAPES = [
    (np.zeros(5, np.float32), r"x: expected shape \(6,\), got \(5,\)"),
    (np.zeros((1, 6), np.float32), r"x: expected shape \(6,\), got \(1, 6\)"),
    (np.float32(1), r"x: expected shape \(6,\), got \(\)"),
    (np.zeros((0,), np.float32), r"x: expected shape \(6,\), got \(0,\)"),
]


@pytest.mark.parametrize(("x", "message"), NOT_FLOATS)
def test_step_refuses_what_is_not_floats(x: Any, message: str) -> None:
    refused(lambda stream: stream.step(x), TypeError, message)
    for call in (LSTM.make(MAPPING), LSTM.make_cell(MAPPING)):
        with pytest.raises(TypeError, match=message):
            call(x)


@pytest.mark.parametrize(("x", "message"), WRONG_SHAPES)
def test_step_refuses_another_shape(x: Any, message: str) -> None:
    refused(lambda stream: stream.step(x), ValueError, message)


def refused(call: Callable[[fc.Stream], Any], error: type[Exception], message: str) -> None:
    """The call raises, and the stream goes on as if it had never been made."""
    stream, untouched = LSTM.make(MAPPING).stream(), LSTM.make(MAPPING).stream()
    stream.step(X)
    untouched.step(X)
    with pytest.raises(error, match=message):
        call(stream)
    np.testing.assert_array_equal(stream.step(X), untouched.step(X))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros(8, np.float32), ValueError, r"out: expected shape \(9,\), got \(8,\)"),
        (np.zeros((1, 9), np.float32), ValueError, r"out: expected shape \(9,\), got \(1, 9\)"),
        (np.zeros(9), TypeError, "out: expected a float32 array, got dtype float64"),
        ([0.0] * 9, TypeError, "out: expected a float32 array, got list"),
        (np.zeros(18, np.float32)[::2], ValueError, "out: expected a writeable, aligned, C-contiguous array"),
        (misaligned(np.zeros(9, np.float32)), ValueError, "out: expected a writeable, aligned, C-contiguous array"),
        (np.frombuffer(bytes(36), np.float32), ValueError, "out: expected a writeable"),
        (np.zeros(9, ">f4"), ValueError, "native byte order"),
    ],
)
def test_step_refuses_an_out_that_it_cannot_write_in_place(out: Any, error: type[Exception], message: str) -> None:
    refused(lambda stream: stream.step(X, out), error, message)


def test_step_refuses_its_own_state_as_out() -> None:
    refused(lambda stream: stream.step(X, stream.state[0][0, 0]), ValueError, "out: expected memory of its own")
    refused(lambda stream: stream.step(X, stream.state[1][0, 0]), ValueError, "out: expected memory of its own")


@pytest.mark.parametrize(
    ("args", "keywords", "message"),
    [
        ((), {}, "x is missing"),
        ((X, None, None), {}, "expected at most 2 arguments, got 3"),
        ((X,), {"output": None}, "unexpected argument 'output'"),
        ((X,), {"x": X}, "got two values for 'x'"),
    ],
)
def test_step_checks_its_arguments_as_python_does(args: Any, keywords: Any, message: str) -> None:
    refused(lambda stream: stream.step(*args, **keywords), TypeError, message)


@pytest.mark.parametrize(
    ("block", "error", "message"),
    [
        (
            np.zeros((4, 5), np.float32),
            ValueError,
            r"block: expected shape \(steps, 6\) or \(steps, 1, 6\), got \(4, 5\)",
        ),
        (np.zeros((4, 2, 6), np.float32), ValueError, r"block: expected .* got \(4, 2, 6\)"),
        (X, ValueError, r"block: expected .* got \(6,\)"),
        (np.zeros((4, 6), np.int8), TypeError, "block: expected an array of floats, got dtype int8"),
    ],
)
def test_process_refuses(block: Any, error: type[Exception], message: str) -> None:
    refused(lambda stream: stream.process(block), error, message)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (np.zeros((1, 1, 9), np.float32), TypeError, r"state: expected a pair \(h, c\), got numpy.ndarray"),
        ((np.zeros((1, 1, 9)),) * 3, TypeError, r"state: expected a pair \(h, c\), got tuple"),
        (
            (np.zeros((1, 1, 9)), np.zeros((1, 2, 9))),
            ValueError,
            r"state c: expected shape \(1, 1, 9\), got \(1, 2, 9\)",
        ),
        ((np.zeros((2, 9)), np.zeros((1, 9))), ValueError, r"state h: expected shape \(1, 1, 9\), got \(2, 9\)"),
        ((None, np.zeros((1, 9))), TypeError, "state h: expected an array of floats, got NoneType"),
    ],
)
def test_setting_a_state_refuses(state: Any, error: type[Exception], message: str) -> None:
    refused(lambda stream: setattr(stream, "state", state), error, message)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 5), np.float32), r"x: expected shape \(steps, batch, 6\) or \(steps, 6\), got \(4, 5\)"),
        (np.zeros(6, np.float32), r"x: expected .* got \(6,\)"),
        (np.zeros((1, 4, 2, 6), np.float32), r"x: expected .* got \(1, 4, 2, 6\)"),
    ],
)
def test_layers_refuse_another_shape(x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSTM.make(MAPPING)(x)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([4, 5], ValueError, r"lengths: expected values from 0 to the number of steps, 4, got 5 at index 1"),
        ([-1, 4], ValueError, "got -1 at index 0"),
        ([4], ValueError, r"lengths: expected shape \(2,\) \(one per batch row\), got \(1,\)"),
        ([[4, 4]], ValueError, "lengths: expected shape"),
        ([4.0, 4.0], TypeError, "lengths: expected an array of integers, got dtype float64"),
        ("44", TypeError, "lengths: expected an array of integers"),
        (np.array([2**64 - 1, 0], np.uint64), ValueError, "lengths: expected values from 0"),
    ],
)
def test_layers_refuse_wrong_lengths(lengths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LSTM.make(MAPPING)(np.zeros((4, 2, 6), np.float32), lengths=lengths)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (np.zeros((1, 2, 9)), TypeError, r"state: expected a pair \(h, c\), got ndarray"),
        ((np.zeros((1, 3, 9)), np.zeros((1, 2, 9))), ValueError, r"h_0: expected shape \(1, 2, 9\), got \(1, 3, 9\)"),
        ((np.zeros((1, 2, 9)), np.zeros((1, 2, 8))), ValueError, r"c_0: expected shape \(1, 2, 9\), got \(1, 2, 8\)"),
        ((np.zeros((1, 2, 9), np.int64), None), TypeError, "h_0: expected an array of floats, got dtype int64"),
    ],
)
def test_layers_refuse_another_models_state(state: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LSTM.make(MAPPING)(np.zeros((4, 2, 6), np.float32), state)


def replaced(**arrays: Any) -> dict[str, Any]:
    return MAPPING | arrays


@pytest.mark.parametrize(
    ("mapping", "error", "message"),
    [
        ({}, ValueError, "mapping: no name starts with 'weight_ih_l0'"),
        (3, TypeError, "mapping: expected a mapping"),
        ({1: X}, TypeError, "mapping: expected names as strings, got 1"),
        (
            replaced(weight_ih_l0=np.zeros((35, 6))),
            ValueError,
            r"weight_ih_l0: expected shape \(4 \* hidden_size, input_size\), got \(35, 6\)",
        ),
        (replaced(weight_ih_l0=np.zeros(36)), ValueError, "weight_ih_l0: expected shape"),
        (replaced(weight_ih_l0=np.zeros((0, 6))), ValueError, "weight_ih_l0: expected shape"),
        (
            replaced(weight_hh_l0=np.zeros((36, 8))),
            ValueError,
            r"weight_hh_l0: expected shape \(36, 9\), got \(36, 8\)",
        ),
        (replaced(bias_hh_l0=np.zeros(35)), ValueError, r"bias_hh_l0: expected shape \(36,\), got \(35,\)"),
        (replaced(bias_ih_l0=np.zeros(36, np.int64)), TypeError, "bias_ih_l0: expected .* floats, got dtype int64"),
        (replaced(weight_hr_l0=np.zeros((4, 8))), ValueError, r"weight_hh_l0: expected shape \(36, 4\), got \(36, 9\)"),
        (
            replaced(weight_xx_l0=X),
            fc.UnsupportedError,
            "'weight_xx_l0' is not an array of this layer; supported: weight_ih",
        ),
        (replaced(weight_ih_l01=X), fc.UnsupportedError, "'weight_ih_l01' is not an array of this layer"),
        (replaced(**{"fc.weight": X}), fc.UnsupportedError, "'fc.weight' is not an array of this layer"),
        (replaced(weight_ih_l2=X), ValueError, "bias_hh_l1 is missing"),
        (replaced(weight_ih_l0_reverse=X), ValueError, "bias_hh_l0_reverse is missing"),
        ({k: v for k, v in MAPPING.items() if k != "weight_hh_l0"}, ValueError, "weight_hh_l0 is missing"),
    ],
)
def test_from_state_dict_refuses(mapping: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fc.LSTM.from_state_dict(mapping)


def test_a_gru_refuses_a_projection() -> None:
    kind = KIND["gru_reset_after"]
    with pytest.raises(fc.UnsupportedError, match="weight_hr_l0"):
        kind.make(kind.weights(6, 9) | {"weight_hr_l0": np.zeros((4, 9), np.float32)})


def test_a_layer_without_the_second_direction_of_the_first_is_refused() -> None:
    mapping = LSTM.weights(6, 9, layers=2, directions=2)
    with pytest.raises(ValueError, match="mapping: bias_hh_l1_reverse is missing"):
        LSTM.make({name: array for name, array in mapping.items() if not name.endswith("l1_reverse")})


def test_layers_that_differ_in_their_biases_are_refused() -> None:
    mapping = LSTM.weights(6, 9, layers=2)
    del mapping["bias_ih_l1"]
    with pytest.raises(ValueError, match="bias_ih_l1 is missing"):
        LSTM.make(mapping)
    mapping = LSTM.weights(6, 9, layers=2, bias=False) | {"bias_ih_l1": np.zeros(36, np.float32)}
    with pytest.raises(ValueError, match="bias_ih_l1 has no counterpart in layer 0"):
        LSTM.make(mapping)


@pytest.mark.parametrize("make", [LSTM.make, LSTM.make_cell])
@pytest.mark.parametrize("dtype", ["int4", "float64", "", None])
def test_an_unknown_dtype_is_refused(make: Callable[..., Any], dtype: Any) -> None:
    with pytest.raises(fc.UnsupportedError, match=r"dtype=.* is not supported; supported: float32"):
        make(MAPPING, dtype=dtype)


def test_an_unknown_nonlinearity_is_refused() -> None:
    with pytest.raises(fc.UnsupportedError, match="nonlinearity='gelu' is not supported; supported: tanh, relu"):
        fc.RNN.from_state_dict(KIND["rnn_tanh"].weights(2, 2), nonlinearity="gelu")


@pytest.mark.parametrize("name", ["weight_ih", "weight_hh"])
def test_cells_need_both_weights(name: str) -> None:
    arrays: dict[str, Any] = {"weight_ih": np.zeros((4, 1)), "weight_hh": np.zeros((4, 1))} | {name: None}
    with pytest.raises(TypeError, match=f"{name}: expected an array of floats, got None"):
        fc.LSTMCell(**arrays)


@pytest.mark.parametrize(
    ("x", "state", "error", "message"),
    [
        (np.zeros(5), None, ValueError, r"x: expected shape \(6,\) or \(batch, 6\), got \(5,\)"),
        (X, np.zeros(9), TypeError, r"state: expected a pair \(h, c\), got ndarray"),
        (X, (np.zeros((1, 9)), np.zeros(9)), ValueError, r"h: expected shape \(9,\), got \(1, 9\)"),
        (X, (np.zeros(9), np.zeros(8)), ValueError, r"c: expected shape \(9,\), got \(8,\)"),
    ],
)
def test_cells_refuse(x: Any, state: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LSTM.make_cell(MAPPING)(x, state)


def test_a_stream_that_was_never_initialised_is_refused() -> None:
    with pytest.raises(TypeError):
        fc.Stream.__new__(fc.Stream).step(X)


class Meddler:
    """An argument whose conversion does something to another one, as any code of its own may."""

    def __init__(self, array: np.ndarray, action: Callable[[], object]) -> None:
        self.array = array
        self.action = action

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self.action()
        return self.array


@pytest.mark.parametrize("size", [0, 3, 100_000])
def test_an_argument_that_another_one_resizes_is_refused(size: int) -> None:
    layer, cell = LSTM.make(MAPPING), LSTM.make_cell(MAPPING)

    def meddler(victim: np.ndarray, *shape: int) -> Meddler:
        return Meddler(np.zeros(shape, np.float32), lambda: victim.resize(size, refcheck=False))

    x = uniform(1, 7, 6).copy()
    with pytest.raises(ValueError, match="x: it was changed in place while another argument was converted"):
        layer(x, (meddler(x, 1, 9), np.zeros((1, 9), np.float32)))
    x = uniform(1, 6).copy()
    with pytest.raises(ValueError, match="x: it was changed in place while another argument was converted"):
        cell(x, (np.zeros(9, np.float32), meddler(x, 9)))
    h = uniform(2, 9).copy()
    with pytest.raises(ValueError, match="h: it was changed in place while another argument was converted"):
        cell(uniform(1, 6), (h, meddler(h, 9)))
    stream = layer.stream()
    before = [part.copy() for part in flat((stream.state,))]
    h = np.ones((1, 1, 9), np.float32)
    with pytest.raises(ValueError, match=r"state h: expected shape \(1, 1, 9\), got"):
        stream.state = (h, meddler(h, 1, 1, 9))
    for actual, expected in zip(flat((stream.state,)), before, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")  # NumPy advises against it
@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_weights_that_another_array_changes_are_refused(dtype: type) -> None:
    mapping: dict[str, Any] = {name: array.copy() for name, array in LSTM.weights(8, 8).items()}
    victim = mapping["weight_ih_l0"]
    mapping["bias_hh_l0"] = Meddler(mapping["bias_hh_l0"], lambda: setattr(victim, "dtype", np.dtype(dtype)))
    with pytest.raises(ValueError, match="weight_ih_l0: it was changed in place while another argument was converted"):
        LSTM.make(mapping)


def test_any_number_of_steps_of_no_rows_takes_no_time() -> None:
    steps = sys.maxsize // 256
    y, (h, c) = LSTM.make(MAPPING)(np.zeros((steps, 0, 6), np.float32))
    assert (y.shape, h.shape, c.shape) == ((steps, 0, 9), (1, 0, 9), (1, 0, 9))


@pytest.mark.parametrize("row", [2**63, 2**64 - 1])
def test_a_row_number_beyond_the_machines_integers_is_refused(row: int) -> None:
    stream = LSTM.make(MAPPING).stream(2)
    with pytest.raises(IndexError, match=f"rows: expected numbers from 0 to 1, got {row}"):
        stream.reset(np.array([0, row], np.uint64))


def test_an_argument_that_runs_another_step_while_it_is_read_does_not_change_this_one() -> None:
    cell = LSTM.make_cell(MAPPING)
    x, h, c = uniform(1, cell.input_size), uniform(2, cell.hidden_size), uniform(3, cell.hidden_size)

    class Steps:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            cell(-x, (-h, -c))
            return c

    for got, expected in zip(cell(x, (h, Steps())), cell(x, (h, c)), strict=True):
        np.testing.assert_array_equal(got, expected)
