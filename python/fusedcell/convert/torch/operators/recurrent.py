"""Recurrent layers and cells, and the states that they begin with and leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....cell_options import Activation, CellOptions
from ...spec import RecurrentSpec, build
from ...tracing import BATCH, TIME, OtherAxisError, RefusedError, Rows, Tracer
from ...tracing.rows import flat, said
from .interpreter import OPERATIONS, Args, Interpreter
from .values import Final

KINDS = {
    name + suffix: kind
    for name, kind in {
        "lstm": "lstm", "gru": "gru_reset_after", "rnn_tanh": "rnn_tanh", "rnn_relu": "rnn_relu"
    }.items()
    for suffix in ("", "_cell")
}  # fmt: skip
_ALL = slice(None)
# An LSTM whose output gate is open and whose h is c: what remains of it is c' = f c + i g.
_GIVES_C = CellOptions((Activation("Sigmoid"), Activation("Tanh"), Activation("Affine", 1.0, 0.0)))
_MOST_OF_COPIES = 2**22  # weights of a matrix that has a block for each
_ENDS = "a final c, or that of both directions, of several sequences in a row; supported: y, and h of one direction"
_OPEN = 100.0  # of which float32's sigmoid is 1
DECODER = (
    "the final state of an encoder as the initial state of a decoder; supported: zeros and constants as initial "
    "states. fusedcell.from_torch(module.encoder) and from_torch(module.decoder) are layers that take and give states, "
    "and fusedcell.torch.accelerate(model) runs both in the module as it stands"
)


@dataclass(frozen=True, eq=False)
class Beginning:
    """An initial state: constants (layers * D, 1, H), if they are not zero, or an input of the module.

    - carried: of an input, what has to come back in its place
    """

    array: Any = None
    carried: Rows | None = None

    def of(self, part: slice) -> Beginning:
        """That of some layers and directions."""
        return Beginning(None if self.array is None else self.array[part], self.carried)


def beginning(interpreter: Interpreter, state: Any) -> Beginning:
    """What a layer or a cell begins with."""
    if isinstance(state, Final) or (isinstance(state, Rows) and state.kind == "whole"):
        raise RefusedError(DECODER)
    if isinstance(state, Rows):
        if not interpreter.is_input(state):
            raise RefusedError(
                "an initial state that is computed; supported: zeros, constants, and inputs of the module"
            )
        return Beginning(carried=interpreter.carried(state))
    if state is None:
        return Beginning()
    array = interpreter.array(state)
    array = array.reshape(-1, *array.shape[-2:]) if array.ndim > 1 else array.reshape(1, 1, -1)
    if array.shape[1] > 1 and (array != array[:, :1]).any():
        raise RefusedError("an initial state that is not the same for all sequences")
    return Beginning(array[:, :1] if array.any() else None)


def cells_of(interpreter: Interpreter, name: str, a: Args) -> list[dict[str, Any]]:
    """Weights by their names, of each layer and direction."""
    if name.endswith("_cell"):
        given = {"weight_ih": a.w_ih, "weight_hh": a.w_hh, "bias_ih": a.b_ih, "bias_hh": a.b_hh}
        return [{label: interpreter.array(value) for label, value in given.items() if value is not None}]
    arrays = [interpreter.array(value) for value in a.params]
    count = len(arrays) // (a.num_layers * (1 + a.bidirectional))
    labels = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if a.has_biases else []), "weight_hr"][:count]
    return [dict(zip(labels, arrays[i : i + count], strict=True)) for i in range(0, len(arrays), count)]


def layer_maker(
    kind: str, cells: Sequence[dict[str, Any]], layers: int, begins: Sequence[Beginning], part: slice = _ALL
) -> Callable[[bool], Any]:
    """Makes a layer, running backwards if asked to."""

    def make(reverse: bool) -> Any:
        if reverse and len(cells) > 1:
            raise RefusedError("a bidirectional layer, or several, over a sequence that runs backwards")
        begin = None
        if any(given.array is not None for given in begins):
            size = cells[0]["weight_hh"].shape[1]
            widths = [size, cells[0]["weight_hh"].shape[0] // 4]
            begin = tuple(
                np.zeros((len(cells), 1, width), np.float32) if given.array is None else given.array[part]
                for given, width in zip(begins, widths, strict=False)
            )
        spec = RecurrentSpec(kind, tuple(cells), (), None, layers, reverse, False, begin)
        return build(spec, dtype="float32", isa=None)

    return make


def cell_states(
    tracer: Tracer, x: Rows, y: Rows, cells: Sequence[dict[str, Any]], begins: Sequence[Beginning], place: str
) -> Rows:
    """The c of an LSTM's directions at every row of x, (time, batch, features) in either order, of which it makes y.

    Each is the h of a layer that gets what the LSTM's gates see: x, and the h before it.
    """
    time, size = x.axes.index(TIME), len(y.indices) // len(cells)
    found = []
    for direction, weights in enumerate(cells):
        h, c = (None if given.array is None else given.array[direction : direction + 1] for given in begins)
        if h is not None and h.any():
            raise RefusedError("an LSTM's cell state as a value where its h begins with other constants than zeros")
        own, answer = x, y.taken(-1, slice(direction * size, (direction + 1) * size))
        if direction:
            own, answer = own.flipped([time]), answer.flipped([time])
        before = tracer.pad(answer, time, 1, -1, place=f"{place}.before")
        gates = tracer.concat([own, before], -1, f"{place}.gates")
        made = tracer.recurrent(gates, _c_maker(weights, None if c is None else (0 * c, c)), f"{place}.c")
        found.append(made.flipped([time]) if direction else made)
    joined: Rows = tracer.concat(found, -1, place)
    return joined


def _c_maker(weights: dict[str, Any], begin: Any) -> Callable[[bool], Any]:
    """Makes a layer of an LSTM's gates over x and the h before, whose own h is the LSTM's c."""
    seen = np.concatenate([weights["weight_ih"], weights["weight_hh"]], 1)
    size = len(seen) // 4
    bias = np.zeros(4 * size, np.float64)
    for name in ("bias_ih", "bias_hh"):
        bias += weights.get(name, 0.0)
    seen[3 * size :], bias[3 * size :] = 0, _OPEN
    zeros = np.zeros((4 * size, size), np.float32)
    cell = {"weight_ih": seen, "weight_hh": zeros, "bias_ih": bias.astype(np.float32), "bias_hh": zeros[:, 0]}

    def make(reverse: bool) -> Any:
        spec = RecurrentSpec("lstm", (cell,), (_GIVES_C,), reverse=reverse, initial_state=begin)
        return build(spec, dtype="float32", isa=None)

    return make


def _layer(name: str) -> Any:
    def run(interpreter: Interpreter, a: Args, place: str) -> tuple[Any, ...]:
        if a.train and a.dropout > 0:
            raise RefusedError(f"dropout of {a.dropout} in training mode; supported: module.eval()")
        x = a.input.value() if isinstance(a.input, Final) else a.input
        states = list(a.hx) if isinstance(a.hx, list | tuple) else [a.hx]
        if not isinstance(x, Rows):
            for state in states:
                beginning(interpreter, state)
            raise RefusedError("a recurrent layer over constants")
        directions, rank = 1 + a.bidirectional, len(x.axes)
        time = 0 if rank == 2 else int(a.batch_first)
        if rank == 2:  # one sequence
            states = [state.unsqueeze(1) if isinstance(state, interpreter.torch.Tensor) else state for state in states]
        begins = [beginning(interpreter, state) for state in states]
        is_single = rank == 3 and x.axes[1 - time] == 1  # a batch of one that the module has made
        if is_single:
            x = interpreter.tracer.squeeze(x, [1 - time])
            time = 0
        is_step = x.axes[time] == 1 and not interpreter.tracer.graph.has_time
        if is_step:
            x = _one_row(x, time, begins)
        along, others = x.axes[time], flat([x.axes[1 - time]]) if len(x.axes) == 3 else []
        positions = along if isinstance(along, int) and TIME in others else None
        if along != TIME and positions is None:
            raise OtherAxisError(
                f"a recurrent layer along an axis of {said(x.axes[time])}, which is not the time of an input: the "
                "module makes it itself, or runs at no other number of rows than the example's; supported: sequences "
                "of any length"
            )
        copies = 1 if positions else math.prod(part for part in others if isinstance(part, int))
        is_apart = positions is not None or copies > 1
        if (directions > 1 or is_apart) and any(begin.carried is not None for begin in begins):
            raise RefusedError("a state that goes through a bidirectional layer, or one of several sequences in a row")
        cells = cells_of(interpreter, name, a)
        axes = x.axes
        if copies > 1:  # one layer whose matrices have one block for each
            cells = [_of_copies(cell, copies, directions if i >= directions else 1) for i, cell in enumerate(cells)]
            begins = [Beginning(None if begin.array is None else np.tile(begin.array, copies)) for begin in begins]
            x = x.with_grid([*(part for part in others if part == BATCH), TIME, copies * axes[-1]], x.indices)
        apart = a.num_layers > 1 and any(
            _reads_state(user, begins[0].carried is not None) for user in interpreter.node.users
        )
        layers = 1 if apart else a.num_layers
        tracer, inputs, outputs = interpreter.tracer, [], []
        for first in range(0, len(cells), layers * directions):
            part = slice(first, first + layers * directions)
            inputs.append(x)
            x = tracer.recurrent(x, layer_maker(KINDS[name], cells[part], layers, begins, part), place, positions)
            outputs.append(x)
        if copies > 1:
            grids = [output.indices.reshape(directions, copies, -1).swapaxes(0, 1) for output in outputs]
            axes = (*axes[:-1], grids[0].shape[2] * directions)
            outputs = [output.with_grid(axes, grid) for output, grid in zip(outputs, grids, strict=True)]
            x = outputs[-1]

        def final(rows: Sequence[Rows]) -> Any:
            if is_apart and directions > 1:
                raise RefusedError(_ENDS)
            found = _final(tracer, rows, directions, time)
            return tracer.unsqueeze(found, 1) if is_single else found

        def final_c() -> Any:
            if is_apart:
                raise RefusedError(_ENDS)
            parts = [slice(first, first + directions) for first in range(0, len(cells), directions)]
            return final(
                [
                    cell_states(tracer, own, y, cells[part], [begin.of(part) for begin in begins], place)
                    for own, y, part in zip(inputs, outputs, parts, strict=True)
                ]
            )

        makes = (lambda: final(outputs), final_c)
        finals = [Final(make, begin.carried) for make, begin in zip(makes, begins, strict=False)]
        if is_step:
            x = x.with_grid((*x.axes[:time], 1, *x.axes[time + 1 :]), x.indices)
        if is_single:
            x = interpreter.tracer.unsqueeze(x, 1 - int(a.batch_first))
        return (x, *finals)

    return run


def _cell(name: str) -> Any:
    """A cell that is no part of a loop: one step, whose state is the module's argument."""

    def run(interpreter: Interpreter, a: Args, place: str) -> Any:
        x = a.input.value() if isinstance(a.input, Final) else a.input
        states = list(a.hx) if isinstance(a.hx, list | tuple) else [a.hx]
        begins = [beginning(interpreter, state) for state in states]
        if not isinstance(x, Rows) or interpreter.tracer.graph.has_time or x.has_time:
            raise RefusedError("a cell that is not called once for each row of a sequence, in a loop over time")
        timed = _one_row(x.with_grid((1, *x.axes), x.indices), 0, begins)
        cells = cells_of(interpreter, name, a)
        made = interpreter.tracer.recurrent(timed, layer_maker(KINDS[name], cells, 1, begins), place)
        makes = (lambda: made, lambda: cell_states(interpreter.tracer, timed, made, cells, begins, place))
        finals = [Final(_without_time(make), begin.carried) for make, begin in zip(makes, begins, strict=False)]
        return finals if len(finals) > 1 else finals[0]

    return run


OPERATIONS |= {name: (_cell if name.endswith("_cell") else _layer)(name) for name in KINDS}


def _of_copies(cell: dict[str, Any], copies: int, directions: int) -> dict[str, Any]:
    """The cell that does for each of so many parts of x and h what this one does; of x in each of the directions."""

    def spread(name: str, array: Any) -> Any:
        gates = 1 if name == "weight_hr" else len(cell["weight_hh"]) // units
        rows = array.reshape(gates, 1, len(array) // gates, *array.shape[1:])
        if array.ndim == 1:
            return rows.repeat(copies, 1).reshape(-1)
        if copies * copies * array.size > _MOST_OF_COPIES:
            raise RefusedError(
                f"a recurrent layer for each of {copies} sequences in a row, whose matrix would have "
                f"{copies**2 * array.size} weights; supported: at most {_MOST_OF_COPIES}"
            )
        sides = directions if name == "weight_ih" else 1
        parts = rows.reshape(gates, len(array) // gates, sides, -1)
        blocks = np.einsum("grdk,mn->gmrdnk", parts, np.eye(copies))
        return blocks.reshape(copies * len(array), -1).astype(array.dtype)

    units = len(cell["weight_hr"].T) if "weight_hr" in cell else cell["weight_hh"].shape[1]
    return {name: spread(name, array) for name, array in cell.items()}


def _without_time(make: Callable[[], Rows]) -> Callable[[], Rows]:
    def value() -> Rows:
        made = make()
        return made.with_grid(made.axes[1:], made.indices)

    return value


def _one_row(x: Rows, time: int, begins: Sequence[Beginning]) -> Rows:
    """A tensor with an axis of one in place of time, as one row of a sequence that streams carry on."""
    if any(begin.carried is None for begin in begins):
        raise RefusedError("one step from a state that is no argument; supported: states that are taken and returned")
    return x.with_grid((*x.axes[:time], TIME, *x.axes[time + 1 :]), x.indices)


def _reads_state(user: Any, is_state: bool) -> bool:
    """Whether a user of what a layer gives reads its final h or c, and does not only give back a state."""
    return user.args[1] > 0 and any(reader.op != "output" or not is_state for reader in user.users)


def _final(tracer: Tracer, outputs: Sequence[Rows], directions: int, time: int) -> Rows:
    """Of what each layer gives, the last of each of its directions, (layers * D, B, H)."""
    found = []
    for output in outputs:
        if output.kind == "held":
            found.append(output.with_grid([axis for axis in output.axes if axis != TIME], output.indices))
        elif directions == 1:
            found.append(tracer.select(output, time, -1, "last"))
        else:
            both = tracer.ends(output, time)
            size = len(output.indices) // 2
            found += [both.taken(-1, slice(0, size)), both.taken(-1, slice(size, 2 * size))]
    stacked: Rows = tracer.stack(found, 0, "last")
    return stacked
