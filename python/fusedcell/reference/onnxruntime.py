"""The arithmetic of ONNX Runtime's quantised LSTM, com.microsoft.DynamicQuantizeLSTM, for those who compare with it.

It is that of ONNX LSTM (`onnx.py`) but for what is multiplied. Weights are (q - zero_point) * scale; X, once and all of
it, and the h of all rows, at every step, are rounded to 256 multiples of a scale of their own:

    scale = (max(x, 0) - min(x, 0)) / 255, or 1 where that is 0
    zero_point = round(-min(x, 0) / scale)
    x' = (clip(round(x / scale) + zero_point, 0, 255) - zero_point) * scale

in float32, ties to even. So a row's answer depends on its neighbours in the batch, and a step's on the whole of X.
clip leaves alone the cell state that enters h().

Source: onnxruntime/contrib_ops/cpu/quantization/dynamic_quantize_lstm.cc and core/providers/cpu/rnn/rnn_helpers.cc of
https://github.com/microsoft/onnxruntime. fusedcell's own int8 is another definition: `int8.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .activations import Activation
from .arrays import Array, as_float64
from .cells import lstm_step
from .onnx import LSTM_BLOCKS, direction_count, functions_of, run, weights_of
from .sequences import State
from .weights import Weights


def ort_dynamic_quantize_lstm(
    X: ArrayLike,
    W: ArrayLike,
    R: ArrayLike,
    B: ArrayLike | None = None,
    initial_h: ArrayLike | None = None,
    initial_c: ArrayLike | None = None,
    P: ArrayLike | None = None,
    *,
    W_scale: ArrayLike,
    W_zero_point: ArrayLike,
    R_scale: ArrayLike,
    R_zero_point: ArrayLike,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    input_forget: int = 0,
) -> tuple[Array, Array, Array]:
    """Returns Y [T, D, N, H], Y_h and Y_c [D, N, H], within what float32 loses of ONNX Runtime's on one thread.

    Inputs and attributes are the operator's: W [D, I, 4*H] and R [D, H, 4*H], int8 or uint8, gates i o f c; scales and
    zero points [D] or [D, 4*H]; the rest as for `onnx_lstm`. sequence_lens is not among them. Where a value lies midway
    between two multiples, the last bit of h decides which it becomes, and answers that go on from there differ.
    """

    def step(w: Weights, functions: Sequence[Activation], x: Array, state: State) -> State:
        h, c = state
        arrays = (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh)
        return lstm_step(
            x,
            _rounded(h),
            c,
            *arrays,
            peephole=w.weight_peephole,
            input_forget=input_forget != 0,
            clip=clip,
            clip_before_h=False,
            activations=functions,
        )[:2]

    count = direction_count(direction)
    functions = functions_of(activations, ("Sigmoid", "Tanh", "Tanh"), count, activation_alpha, activation_beta)
    floats = (_dequantised(W, W_scale, W_zero_point), _dequantised(R, R_scale, R_zero_point))
    weights = weights_of(LSTM_BLOCKS, count, hidden_size, *floats, B, P)
    initial = {"initial_h": initial_h, "initial_c": initial_c}
    x = _rounded(as_float64("X", X))
    Y, (Y_h, Y_c) = run(step, weights, functions, x, None, initial, direction, 0)
    return Y, Y_h, Y_c


def _dequantised(q: ArrayLike, scale: ArrayLike, zero_point: ArrayLike) -> Array:
    """[D, K, 4*H] as [D, 4*H, K], with one scale and zero point a direction or a column."""
    integers = np.asarray(q).astype(np.float64)
    scales, zeros = (np.asarray(a).astype(np.float64).reshape(len(integers), 1, -1) for a in (scale, zero_point))
    product = (integers - zeros) * scales
    return as_float64("weights", product.swapaxes(1, 2))


def _rounded(x: Array) -> Array:
    values = x.astype(np.float32)
    low, high = values.min(initial=np.float32(0)), values.max(initial=np.float32(0))
    scale = np.float32(1) if low == high else (high - low) / np.float32(255)
    zero_point = np.clip(np.rint(-low / scale), 0, 255)
    q = np.clip(np.rint(values / scale) + zero_point, 0, 255)
    result: Array = np.multiply(q - zero_point, scale, dtype=np.float64)
    return result
