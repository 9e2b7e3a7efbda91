"""One time step of each recurrent cell, in float64.

Arguments common to all: x is (I,) or (B, I), and the state has x's leading axes; weights are in PyTorch's layout, gate
blocks in the order i f g o (LSTM) or r z n (GRU), biases optional, each on its own. Whatever real dtype comes in, the
arithmetic is float64 and so are the results. A shape that does not fit raises ValueError naming the argument.

`clip` bounds the input of every activation to [-clip, clip], as the ONNX attribute of that name does; None bounds
nothing. `activations` are names from `activations.py` in any case, or functions of one array.

`int8` quantises the weight matrices and what they multiply, as `int8.py` says, the latter to int16 where it is
"int16"; biases and peepholes are exact. A matrix that is an `Int8Matrix` already is multiplied so in any case. Bounded
by 1, for the rules there, are
- h of the plain cell, where f is Tanh or Sigmoid;
- h and r * h of the GRU, where f is Sigmoid and g is Tanh or Sigmoid;
- o * h(c') of the LSTM, and its h without a projection, where f and h() are Tanh or Sigmoid.

Sources
- ONNX: operators RNN, GRU and LSTM, https://onnx.ai/onnx/operators/
- PyTorch: torch.nn.RNN, LSTM and GRU, https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers
- Keras: keras/src/layers/rnn/, https://keras.io/api/layers/recurrent_layers/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .activations import ActivationLike, is_any, resolve, sigmoid, tanh
from .arrays import Array, as_float64, check_shape
from .int8 import Int8Matrix, IsInt8, Matrix, MatrixLike, int8_linear
from .weights import Weights


class LSTMGates(NamedTuple):
    """The gate values of one LSTM step, each (H,) or (B, H): input, forget, candidate, output."""

    i: Array
    f: Array
    g: Array
    o: Array


class LSTMStep(NamedTuple):
    """The result of one LSTM step: h (H,) or (P,), and c (H,), or with a leading batch axis, and the gate values."""

    h: Array
    c: Array
    gates: LSTMGates


# Infinite inputs are allowed, and IEEE makes inf * 0 a NaN: that is the answer, not a fault worth a warning.
@np.errstate(invalid="ignore")
def rnn_step(
    x: ArrayLike,
    h: ArrayLike,
    weight_ih: MatrixLike,
    weight_hh: MatrixLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    *,
    nonlinearity: ActivationLike = "tanh",
    clip: float | None = None,
    int8: IsInt8 = False,
) -> Array:
    """Returns the next h of a plain recurrent cell, (H,) or (B, H) float64.

        h' = f(W_ih x + b_ih + W_hh h + b_hh)

    weight_ih (H, I), weight_hh (H, H), biases (H,). PyTorch calls f `nonlinearity` and allows tanh and relu; here it is
    any activation. Sources: ONNX RNN, 'Equations'; torch.nn.RNN; Keras SimpleRNN.
    """
    w = Weights.checked(1, weight_ih, weight_hh, bias_ih, bias_hh, int8=int8)
    x, h = _rows(w, x, h=(h, w.output_size))
    (f,) = resolve("nonlinearity", (nonlinearity,), 1)
    a_h = _linear(h, w.weight_hh, w.bias_hh, bounded=is_any(f, tanh, sigmoid))
    return f(_clipped(_linear(x, w.weight_ih, w.bias_ih) + a_h, clip))


@np.errstate(invalid="ignore")
def gru_step(
    x: ArrayLike,
    h: ArrayLike,
    weight_ih: MatrixLike,
    weight_hh: MatrixLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    *,
    reset_after: bool = True,
    clip: float | None = None,
    activations: Sequence[ActivationLike] = ("Sigmoid", "Tanh"),
    int8: IsInt8 = False,
) -> Array:
    """Returns the next h of a gated recurrent unit, (H,) or (B, H) float64.

        r  = f(W_ir x + b_ir + W_hr h + b_hr)
        z  = f(W_iz x + b_iz + W_hz h + b_hz)
        n  = g(W_in x + b_in + r * (W_hn h + b_hn))        reset_after
        n  = g(W_in x + b_in + W_hn (r * h) + b_hn)        not reset_after
        h' = (1 - z) * n + z * h

    weight_ih (3*H, I), weight_hh (3*H, H), biases (3*H,), blocks r z n. `activations` are (f, g).

    torch.nn.GRU is reset_after; ONNX GRU is where linear_before_reset is not 0, and by default is not; Keras GRU is by
    default, from Keras 3 and tf.keras 2 on. The form without is that of Cho et al. 2014 (arXiv:1406.1078), whose update
    gate keeps h where z is 1, as here. In Chung et al. 2014 (arXiv:1412.3555), h' = (1 - z) * h + z * n: such a network
    is this one with the z rows of weights and biases negated, because sigmoid(-a) = 1 - sigmoid(a).
    """
    w = Weights.checked(3, weight_ih, weight_hh, bias_ih, bias_hh, int8=int8)
    x, h = _rows(w, x, h=(h, w.output_size))
    f, g = resolve("activations", activations, 2)
    bounded = is_any(f, sigmoid) and is_any(g, tanh, sigmoid)

    x_r, x_z, x_n = np.split(_linear(x, w.weight_ih, w.bias_ih), 3, axis=-1)
    h_r, h_z, h_n = np.split(_linear(h, w.weight_hh, w.bias_hh, bounded=bounded), 3, axis=-1)
    r = f(_clipped(x_r + h_r, clip))
    z = f(_clipped(x_z + h_z, clip))
    if reset_after:
        a_n = x_n + r * h_n
    else:
        units = w.hidden_size
        b_hn = None if w.bias_hh is None else w.bias_hh[2 * units :]
        a_n = x_n + _linear(r * h, w.weight_hh[2 * units :], b_hn, bounded=bounded)
    n = g(_clipped(a_n, clip))
    return (1.0 - z) * n + z * h


@np.errstate(invalid="ignore")
def lstm_step(
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weight_ih: MatrixLike,
    weight_hh: MatrixLike,
    bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None,
    *,
    weight_hr: MatrixLike | None = None,
    peephole: ArrayLike | None = None,
    input_forget: bool = False,
    clip: float | None = None,
    clip_before_h: bool = True,
    activations: Sequence[ActivationLike] = ("Sigmoid", "Tanh", "Tanh"),
    int8: IsInt8 = False,
) -> LSTMStep:
    """Returns the next h and c of a long short-term memory cell, with the gate values, all float64.

        i  = f(W_ii x + b_ii + W_hi h + b_hi + p_i * c)
        f  = f(W_if x + b_if + W_hf h + b_hf + p_f * c)      or 1 - i with input_forget
        g  = g(W_ig x + b_ig + W_hg h + b_hg)
        c' = f * c + i * g
        o  = f(W_io x + b_io + W_ho h + b_ho + p_o * c')     the new c
        h' = o * h(c')                                       then W_hr h' with a projection

    weight_ih (4*H, I), weight_hh (4*H, H) or (4*H, P), biases (4*H,), blocks i f g o; weight_hr (P, H); peephole
    (3*H,), blocks i f o. h is (H,), or (P,) with a projection, and c is (H,), each with x's leading axis.
    `activations` are the functions (f, g, h).

    `clip_before_h` says whether clip also bounds the c' that enters h(); c' itself, the state, is never clipped. The
    text of ONNX LSTM bounds 'the input of activations', so it does; ONNX Runtime and OpenVINO leave that c' alone.

    Sources: ONNX LSTM, 'Equations' and attributes clip and input_forget; torch.nn.LSTM, with proj_size; Keras LSTM,
    whose `recurrent_activation` is f and whose `activation` is both g and h. Peepholes are those of Gers and
    Schmidhuber 2000, the coupled gate is that of Greff et al. 2017 (arXiv:1503.04069), the projection is that of
    Sak et al. 2014 (arXiv:1402.1128).
    """
    w = Weights.checked(4, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peephole, int8=int8)
    x, h, c = _rows(w, x, h=(h, w.output_size), c=(c, w.hidden_size))
    act_f, act_g, act_h = resolve("activations", activations, 3)
    bounded = is_any(act_f, tanh, sigmoid) and is_any(act_h, tanh, sigmoid)

    a_h = _linear(h, w.weight_hh, w.bias_hh, bounded=bounded and w.weight_hr is None)
    a_i, a_f, a_g, a_o = np.split(_linear(x, w.weight_ih, w.bias_ih) + a_h, 4, axis=-1)
    p_i, p_f, p_o = (None,) * 3 if w.weight_peephole is None else np.split(w.weight_peephole, 3)

    i = act_f(_clipped(_peep(a_i, p_i, c), clip))
    f = 1.0 - i if input_forget else act_f(_clipped(_peep(a_f, p_f, c), clip))
    g = act_g(_clipped(a_g, clip))
    c_new = f * c + i * g
    o = act_f(_clipped(_peep(a_o, p_o, c_new), clip))
    h_new = o * act_h(_clipped(c_new, clip if clip_before_h else None))
    if w.weight_hr is not None:
        h_new = _linear(h_new, w.weight_hr, None, bounded=bounded)
    return LSTMStep(h_new, c_new, LSTMGates(i, f, g, o))


def _linear(x: Array, weight: Matrix, bias: Array | None, *, bounded: bool = False) -> Array:
    if isinstance(weight, Int8Matrix):
        return int8_linear(
            x,
            weight.q,
            weight.scale,
            bounded=bounded,
            static_scale=weight.input_scale,
            start=0.0 if bias is None else bias,
            int16=weight.int16,
        )
    product: Array = x @ weight.T
    return product if bias is None else product + bias


def _peep(a: Array, weight: Array | None, c: Array) -> Array:
    return a if weight is None else a + weight * c


def _clipped(a: Array, clip: float | None) -> Array:
    if clip is None:
        return a
    if not clip > 0:
        raise ValueError(f"clip: expected a positive number or None, got {clip}")
    return np.clip(a, -clip, clip)


def _rows(weights: Weights, x: ArrayLike, **state: tuple[ArrayLike, int]) -> tuple[Array, ...]:
    """Returns x and the state as float64, after checking that they fit the weights and one another."""
    rows = as_float64("x", x)
    if rows.ndim not in (1, 2) or rows.shape[-1] != weights.input_size:
        raise ValueError(f"x: expected shape ({weights.input_size},) or (B, {weights.input_size}), got {rows.shape}")
    arrays = [rows]
    for name, (value, size) in state.items():
        arrays.append(as_float64(name, value))
        check_shape(name, arrays[-1], (*rows.shape[:-1], size))
    return tuple(arrays)
