"""Stacked, bidirectional and projected layers over whole sequences, with PyTorch's conventions, in float64.

Arguments common to `rnn`, `gru` and `lstm`:

- x: (T, B, I), or (B, T, I) with `batch_first`, or one sequence, (T, I), whatever `batch_first` says. T may be 0.
- layers: a mapping with the keys of a PyTorch state dictionary under `prefix`, or what `from_state_dict` returns for
  it. The number of layers and directions and all sizes follow from the weights.
- state: h_0, for `lstm` the pair (h_0, c_0), of shape (L*D, B, size), or (L*D, size) for one sequence, in the order
  layer 0 forward, layer 0 reverse, layer 1 forward, and so on; never batch first. None is zeros.
- lengths: integers (B,), or one for one sequence, in any order, from 0 to T: where each row ends. Past the end y is
  zero and the state is held: the final state is that of the last valid step, or the initial one at length 0. The
  reverse direction starts at each row's last valid step. This is what PyTorch does with packed sequences, which must
  not be empty there (torch.nn.utils.rnn.pack_padded_sequence), and what ONNX does with sequence_lens, whose text does
  not speak of empty ones.
- mask: bool, of x's shape without the last axis, in any pattern. At a step where it is False the state is held, x has
  no influence, and y repeats the held h, which is the initial one before the first True. This is Keras's rule for
  masked steps; Keras's `zero_output_for_mask` is y multiplied by the mask afterwards, as no layer above looks at masked
  steps. With `lengths` too, a step counts if it is before the end and its mask is True; past the end y is zero.
- int8: whether every matrix product is in int8, as `int8.py` says, with inputs in int16 where it is "int16".
- input_scales: with int8, the static scale of each layer's x, both directions alike; None lets each step's x have the
  scale of its own size.

The result is y, (T, B, D*size), (B, T, D*size) or (T, D*size), forward before reverse and both aligned with x, and the
final state in the form of `state`. For one time step of the formulas, and for the options, see `cells.py`.

A shape, dtype, length or scale that does not fit raises ValueError naming the argument or the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .activations import ActivationLike
from .arrays import Array, as_float64, check_shape
from .cells import gru_step, lstm_step, rnn_step
from .int8 import IsInt8, check_static_scale
from .sequences import State, as_lengths, as_mask, scan
from .weights import Layers, Weights, from_state_dict, key_suffix

LayersLike: TypeAlias = Mapping[str, ArrayLike] | Layers


def rnn(
    x: ArrayLike,
    layers: LayersLike,
    state: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_first: bool = False,
    prefix: str = "",
    nonlinearity: ActivationLike = "tanh",
    clip: float | None = None,
    int8: IsInt8 = False,
    input_scales: Sequence[float] | None = None,
) -> tuple[Array, Array]:
    """Returns y and h_n of plain recurrent layers. Sources: torch.nn.RNN, and `rnn_step` for the formula."""

    def step(w: Weights, x_t: Array, state: State) -> State:
        arrays = (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh)
        (h,) = state
        return (rnn_step(x_t, h, *arrays, nonlinearity=nonlinearity, clip=clip),)

    stack = _quantised(_checked(layers, prefix, gates=1), int8, input_scales)
    y, (h_n,) = _run(step, stack, x, {"h_0": state}, lengths, mask, batch_first)
    return y, h_n


def gru(
    x: ArrayLike,
    layers: LayersLike,
    state: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_first: bool = False,
    prefix: str = "",
    reset_after: bool = True,
    clip: float | None = None,
    activations: Sequence[ActivationLike] = ("Sigmoid", "Tanh"),
    int8: IsInt8 = False,
    input_scales: Sequence[float] | None = None,
) -> tuple[Array, Array]:
    """Returns y and h_n of gated recurrent layers. Sources: torch.nn.GRU, and `gru_step` for the formulas."""

    def step(w: Weights, x_t: Array, state: State) -> State:
        arrays = (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh)
        (h,) = state
        return (gru_step(x_t, h, *arrays, reset_after=reset_after, clip=clip, activations=activations),)

    stack = _quantised(_checked(layers, prefix, gates=3), int8, input_scales)
    y, (h_n,) = _run(step, stack, x, {"h_0": state}, lengths, mask, batch_first)
    return y, h_n


def lstm(
    x: ArrayLike,
    layers: LayersLike,
    state: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_first: bool = False,
    prefix: str = "",
    input_forget: bool = False,
    clip: float | None = None,
    clip_before_h: bool = True,
    activations: Sequence[ActivationLike] = ("Sigmoid", "Tanh", "Tanh"),
    int8: IsInt8 = False,
    input_scales: Sequence[float] | None = None,
) -> tuple[Array, tuple[Array, Array]]:
    """Returns y and (h_n, c_n) of long short-term memory layers.

    With a projection h has size P and c has size H. Sources: torch.nn.LSTM, and `lstm_step` for the formulas.
    """

    def step(w: Weights, x_t: Array, state: State) -> State:
        h, c = state
        return lstm_step(
            x_t,
            h,
            c,
            w.weight_ih,
            w.weight_hh,
            w.bias_ih,
            w.bias_hh,
            weight_hr=w.weight_hr,
            peephole=w.weight_peephole,
            input_forget=input_forget,
            clip=clip,
            clip_before_h=clip_before_h,
            activations=activations,
        )[:2]

    if state is not None and not (isinstance(state, tuple | list) and len(state) == 2):
        raise ValueError(f"state: expected the pair (h_0, c_0), got {type(state).__name__}")
    h_0, c_0 = (None, None) if state is None else state
    stack = _quantised(_checked(layers, prefix, gates=4), int8, input_scales)
    y, (h_n, c_n) = _run(step, stack, x, {"h_0": h_0, "c_0": c_0}, lengths, mask, batch_first)
    return y, (h_n, c_n)


def _checked(layers: LayersLike, prefix: str, gates: int) -> Layers:
    """Returns the layers after checking every weight's shape, and that each layer fits the one below."""
    stack = from_state_dict(layers, prefix) if isinstance(layers, Mapping) else layers
    if not stack or not stack[0]:
        raise ValueError("layers: expected at least one layer of at least one direction, got none")
    first = stack[0][0]
    directions = len(stack[0])
    for k, layer in enumerate(stack):
        if len(layer) != directions or directions > 2:
            raise ValueError(f"layers: expected 1 or 2 directions, alike in every layer, got {[len(s) for s in stack]}")
        for reverse, w in enumerate(layer):
            suffix = key_suffix(k, bool(reverse))
            Weights.checked(gates, *vars(w).values(), suffix=suffix)
            if gates != 4 and (w.weight_hr is not None or w.weight_peephole is not None):
                name = "weight_peephole" if w.weight_hr is None else "weight_hr"
                raise ValueError(f"{name}{suffix}: expected none, as only an LSTM has it, got an array")
            units = w.hidden_size, w.output_size
            if units != (first.hidden_size, first.output_size):
                raise ValueError(
                    f"weight_hh{suffix}: expected the sizes of the first layer's c and h, "
                    f"{first.hidden_size} and {first.output_size}, got {units[0]} and {units[1]}"
                )
            width = first.input_size if k == 0 else directions * first.output_size
            check_shape("weight_ih" + suffix, w.weight_ih, (gates * w.hidden_size, width))
    return stack


def _quantised(layers: Layers, int8: IsInt8, input_scales: Sequence[float] | None) -> Layers:
    """Returns the layers with int8 matrices, if so asked: once a call, not once a step."""
    if not int8:
        if input_scales is not None:
            raise ValueError(f"input_scales: expected None without int8, got {input_scales}")
        return layers
    scales: Sequence[float | None] = [None] * len(layers) if input_scales is None else input_scales
    if len(scales) != len(layers):
        raise ValueError(f"input_scales: expected {len(layers)}, one for each layer, got {len(scales)}")
    for scale in scales:
        if scale is not None:
            check_static_scale("input_scales", scale)
    int16 = int8 == "int16"
    return [
        [w.as_int8(scale, int16=int16, suffix=key_suffix(k, bool(reverse))) for reverse, w in enumerate(layer)]
        for k, (layer, scale) in enumerate(zip(layers, scales, strict=True))
    ]


def _run(
    step: Callable[[Weights, Array, State], State],
    layers: Layers,
    x: ArrayLike,
    initial: dict[str, ArrayLike | None],
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    batch_first: bool,
) -> tuple[Array, State]:
    """Runs the layers one upon the other; `initial` holds h_0 and, for an LSTM, c_0."""
    first = layers[0][0]
    directions = len(layers[0])
    rows = as_float64("x", x)
    if rows.ndim not in (2, 3) or rows.shape[-1] != first.input_size:
        axes = "B, T" if batch_first else "T, B"
        size = first.input_size
        raise ValueError(f"x: expected shape ({axes}, {size}) or (T, {size}), got {rows.shape}")
    live = as_mask("mask", mask, rows.shape[:-1])
    # Inside, there is always a batch axis and time always comes first.
    one = rows.ndim == 2
    if one:
        rows, live = rows[:, None], live[:, None]
        lengths = None if lengths is None else np.reshape(lengths, -1)
    elif batch_first:
        rows, live = rows.swapaxes(0, 1), live.swapaxes(0, 1)
    steps, batch, _ = rows.shape
    ends = as_lengths("lengths", lengths, steps, batch)

    count = directions * len(layers)
    states = []
    for (name, value), size in zip(initial.items(), (first.output_size, first.hidden_size), strict=False):
        shape = (count, size) if one else (count, batch, size)
        array = np.zeros(shape) if value is None else as_float64(name, value)
        check_shape(name, array, shape)
        states.append(array[:, None] if one else array)

    finals: list[State] = []
    for layer in layers:
        outputs: list[Array] = []
        for w in layer:
            start = tuple(part[len(finals)] for part in states)
            y, final = scan(partial(step, w), rows, start, lengths=ends, mask=live, reverse=bool(outputs))
            outputs.append(y)
            finals.append(final)
        rows = np.concatenate(outputs, axis=-1)

    last = tuple(np.stack(part) for part in zip(*finals, strict=True))
    if one:
        return rows[:, 0], tuple(part[:, 0] for part in last)
    return rows.swapaxes(0, 1) if batch_first else rows, last
