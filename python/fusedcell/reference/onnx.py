"""The ONNX operators RNN, GRU and LSTM from the text of their definition, in float64.

Source: https://onnx.ai/onnx/operators/ (operator set 22; 14 added `layout`, 7 is otherwise the same). Inputs and
attributes keep the operator's names, and None is an absent one.

With D directions, T steps, N rows, I inputs, H units and G gates:

- X [T, N, I], or [N, T, I] with layout=1; W [D, G*H, I]; R [D, G*H, H]; B [D, 2*G*H], the biases of W, then those of R.
- sequence_lens: integers [N], from 0 to T. Y is 0 from there on, and the final state is that of the row's last step;
  the reverse direction starts at it. The text does not say what the final state is at length 0: here it is the
  initial one, as in `layers.py`; ONNX Runtime and OpenVINO return zeros.
- initial_h, initial_c: [D, N, H], or [N, D, H] with layout=1.
- P [D, 3*H], the peepholes.
- Gate blocks: GRU z r h; LSTM i o f c, and i o f in P.
- direction: "forward", "reverse" or "bidirectional". Y of the reverse direction stays aligned with X.
- activations: names in any case, for each direction f (RNN), f g (GRU) or f g h (LSTM). The functions that take an
  alpha consume activation_alpha one by one in that order, and likewise beta; where a list ends, the defaults of
  `activations.py` hold. A value that no function takes is refused.
- clip, as `cells.py` says. clip_before_h=False, which is no attribute, is what ONNX Runtime does with LSTM's clip.

The result is Y [T, D, N, H], or [N, T, D, H] with layout=1, then Y_h, and Y_c for LSTM, of initial_h's shape.

A shape, dtype or attribute that does not fit raises ValueError naming it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .activations import Activation, activation, activation_parameters
from .arrays import Array, as_float64, check_shape
from .cells import gru_step, lstm_step, rnn_step
from .sequences import State, as_lengths, as_mask, scan
from .weights import Weights

# Where PyTorch's blocks, i f g o, r z n and, of the peepholes, i f o, are among ONNX's.
_RNN_BLOCKS = (0,)
_GRU_BLOCKS = (1, 0, 2)
LSTM_BLOCKS = (0, 2, 3, 1)
_PEEPHOLE_BLOCKS = (0, 2, 1)

_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}

_Step: TypeAlias = Callable[[Weights, Sequence[Activation], Array, State], State]


def onnx_rnn(
    X: ArrayLike,
    W: ArrayLike,
    R: ArrayLike,
    B: ArrayLike | None = None,
    sequence_lens: ArrayLike | None = None,
    initial_h: ArrayLike | None = None,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    layout: int = 0,
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
) -> tuple[Array, Array]:
    """Returns Y and Y_h of the operator RNN, whose default f is Tanh; the formula is that of `rnn_step`."""

    def step(w: Weights, functions: Sequence[Activation], x: Array, state: State) -> State:
        arrays = (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh)
        (h,) = state
        return (rnn_step(x, h, *arrays, nonlinearity=functions[0], clip=clip),)

    count = direction_count(direction)
    functions = functions_of(activations, ("Tanh",), count, activation_alpha, activation_beta)
    weights = weights_of(_RNN_BLOCKS, count, hidden_size, W, R, B, None)
    Y, (Y_h,) = run(step, weights, functions, X, sequence_lens, {"initial_h": initial_h}, direction, layout)
    return Y, Y_h


def onnx_gru(
    X: ArrayLike,
    W: ArrayLike,
    R: ArrayLike,
    B: ArrayLike | None = None,
    sequence_lens: ArrayLike | None = None,
    initial_h: ArrayLike | None = None,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    layout: int = 0,
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    linear_before_reset: int = 0,
) -> tuple[Array, Array]:
    """Returns Y and Y_h of the operator GRU, whose default f and g are Sigmoid and Tanh.

    The formulas are those of `gru_step`, reset_after where linear_before_reset is not 0.
    """

    def step(w: Weights, functions: Sequence[Activation], x: Array, state: State) -> State:
        arrays = (w.weight_ih, w.weight_hh, w.bias_ih, w.bias_hh)
        reset_after = linear_before_reset != 0
        (h,) = state
        return (gru_step(x, h, *arrays, reset_after=reset_after, clip=clip, activations=functions),)

    count = direction_count(direction)
    functions = functions_of(activations, ("Sigmoid", "Tanh"), count, activation_alpha, activation_beta)
    weights = weights_of(_GRU_BLOCKS, count, hidden_size, W, R, B, None)
    Y, (Y_h,) = run(step, weights, functions, X, sequence_lens, {"initial_h": initial_h}, direction, layout)
    return Y, Y_h


def onnx_lstm(
    X: ArrayLike,
    W: ArrayLike,
    R: ArrayLike,
    B: ArrayLike | None = None,
    sequence_lens: ArrayLike | None = None,
    initial_h: ArrayLike | None = None,
    initial_c: ArrayLike | None = None,
    P: ArrayLike | None = None,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    layout: int = 0,
    activations: Sequence[str] | None = None,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    clip: float | None = None,
    input_forget: int = 0,
    clip_before_h: bool = True,
) -> tuple[Array, Array, Array]:
    """Returns Y, Y_h and Y_c of the operator LSTM, whose default f, g and h are Sigmoid, Tanh and Tanh.

    The formulas are those of `lstm_step`.
    """

    def step(w: Weights, functions: Sequence[Activation], x: Array, state: State) -> State:
        h, c = state
        return lstm_step(
            x,
            h,
            c,
            w.weight_ih,
            w.weight_hh,
            w.bias_ih,
            w.bias_hh,
            peephole=w.weight_peephole,
            input_forget=input_forget != 0,
            clip=clip,
            clip_before_h=clip_before_h,
            activations=functions,
        )[:2]

    count = direction_count(direction)
    functions = functions_of(activations, ("Sigmoid", "Tanh", "Tanh"), count, activation_alpha, activation_beta)
    weights = weights_of(LSTM_BLOCKS, count, hidden_size, W, R, B, P)
    initial = {"initial_h": initial_h, "initial_c": initial_c}
    Y, (Y_h, Y_c) = run(step, weights, functions, X, sequence_lens, initial, direction, layout)
    return Y, Y_h, Y_c


def direction_count(direction: str) -> int:
    """Returns 1 or 2; raises ValueError for another direction than the three."""
    if direction not in _DIRECTIONS:
        raise ValueError(f"direction: expected one of {', '.join(_DIRECTIONS)}, got {direction!r}")
    return len(_DIRECTIONS[direction])


def functions_of(
    names: Sequence[str] | None,
    default: tuple[str, ...],
    directions: int,
    alpha: Sequence[float] | None,
    beta: Sequence[float] | None,
) -> list[list[Activation]]:
    """Returns each direction's activations, with the values of alpha and beta handed out in order."""
    total = directions * len(default)
    if names is None:
        names = default * directions
    if isinstance(names, str) or len(names) != total:
        raise ValueError(f"activations: expected {total} names, got {names!r}")
    left = {"alpha": list(alpha or ()), "beta": list(beta or ())}
    functions = []
    for name in names:
        taken = {key: left[key].pop(0) for key in activation_parameters(name) if left[key]}
        functions.append(activation(name, **taken))
    for key, values in left.items():
        if values:
            raise ValueError(f"activation_{key}: expected no more values than {names!r} take, got {values} besides")
    return [functions[i : i + len(default)] for i in range(0, total, len(default))]


def weights_of(
    blocks: tuple[int, ...],
    directions: int,
    hidden_size: int | None,
    W: ArrayLike,
    R: ArrayLike,
    B: ArrayLike | None,
    P: ArrayLike | None,
) -> list[Weights]:
    """Returns each direction's weights in PyTorch's layout."""
    recurrent = as_float64("R", R)
    check_shape("R", recurrent, (directions, f"{len(blocks)}*H", "H"))
    units = recurrent.shape[2] if hidden_size is None else hidden_size
    rows = len(blocks) * units
    inputs = as_float64("W", W)
    biases = np.zeros((directions, 2 * rows)) if B is None else as_float64("B", B)
    check_shape("R", recurrent, (directions, rows, units))
    check_shape("W", inputs, (directions, rows, "I"))
    check_shape("B", biases, (directions, 2 * rows))
    peepholes = None
    if P is not None:
        peepholes = as_float64("P", P)
        check_shape("P", peepholes, (directions, 3 * units))

    weights = []
    for d in range(directions):
        bias_ih, bias_hh = np.split(biases[d], 2)
        weights.append(
            Weights(
                _reordered(inputs[d], blocks),
                _reordered(recurrent[d], blocks),
                _reordered(bias_ih, blocks),
                _reordered(bias_hh, blocks),
                weight_peephole=None if peepholes is None else _reordered(peepholes[d], _PEEPHOLE_BLOCKS),
            )
        )
    return weights


def _reordered(array: Array, blocks: tuple[int, ...]) -> Array:
    parts = np.split(array, len(blocks))
    return np.concatenate([parts[block] for block in blocks])


def run(
    step: _Step,
    weights: list[Weights],
    functions: list[list[Activation]],
    X: ArrayLike,
    sequence_lens: ArrayLike | None,
    initial: dict[str, ArrayLike | None],
    direction: str,
    layout: int,
) -> tuple[Array, State]:
    """Runs each direction and returns Y and the final states in the shapes of `layout`."""
    if layout not in (0, 1):
        raise ValueError(f"layout: expected 0 or 1, got {layout}")
    x = as_float64("X", X)
    first = weights[0]
    check_shape("X", x, ("N" if layout else "T", "T" if layout else "N", first.input_size))
    if layout:
        x = x.swapaxes(0, 1)
    steps, batch, _ = x.shape
    lengths = as_lengths("sequence_lens", sequence_lens, steps, batch)

    states = []
    for name, value in initial.items():
        shape = (batch, len(weights)) if layout else (len(weights), batch)
        array = np.zeros((*shape, first.hidden_size)) if value is None else as_float64(name, value)
        check_shape(name, array, (*shape, first.hidden_size))
        states.append(array.swapaxes(0, 1) if layout else array)

    outputs, finals = [], []
    for d, reverse in enumerate(_DIRECTIONS[direction]):
        y, final = scan(
            partial(step, weights[d], functions[d]),
            x,
            tuple(part[d] for part in states),
            lengths=lengths,
            mask=as_mask("mask", None, (steps, batch)),
            reverse=reverse,
        )
        outputs.append(y)
        finals.append(final)

    Y = np.stack(outputs, axis=1)
    last = tuple(np.stack(part) for part in zip(*finals, strict=True))
    if layout:
        return Y.transpose(2, 0, 1, 3), tuple(part.swapaxes(0, 1) for part in last)
    return Y, last
