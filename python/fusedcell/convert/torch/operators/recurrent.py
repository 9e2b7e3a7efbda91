"""Recurrent layers and cells, and the states that they begin with and leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...spec import RecurrentSpec, build
from ...tracing import TIME, OtherAxisError, RefusedError, Rows
from ...tracing.rows import said
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
_NO_CELL_STATE = "an LSTM's final cell state; supported: the final h, and both where the module takes them as arguments"


@dataclass(frozen=True, eq=False)
class Beginning:
    """An initial state: constants (layers * D, 1, H), if they are not zero, or an input of the module.

    - carried: of an input, what has to come back in its place
    """

    array: Any = None
    carried: Rows | None = None


def beginning(interpreter: Interpreter, state: Any) -> Beginning:
    """What a layer or a cell begins with."""
    if isinstance(state, Rows):
        if not interpreter.is_input(state):
            raise RefusedError(
                "an initial state that is computed; supported: zeros, constants, and inputs of the module"
            )
        return Beginning(carried=interpreter.carried(state))
    if isinstance(state, Final):
        raise RefusedError("the final state of one layer as the initial state of another")
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


def _layer(name: str) -> Any:
    def run(interpreter: Interpreter, a: Args, place: str) -> tuple[Any, ...]:
        if a.train and a.dropout > 0:
            raise RefusedError(f"dropout of {a.dropout} in training mode; supported: module.eval()")
        x = a.input.value() if isinstance(a.input, Final) else a.input
        directions, rank = 1 + a.bidirectional, len(x.axes)
        time = 0 if rank == 2 else int(a.batch_first)
        states = list(a.hx) if isinstance(a.hx, list | tuple) else [a.hx]
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
        if x.axes[time] != TIME:
            raise OtherAxisError(f"a layer that goes along {said(x.axes[time])}; supported: along time")
        if directions > 1 and any(begin.carried is not None for begin in begins):
            raise RefusedError("a state that goes through a bidirectional layer")
        cells = cells_of(interpreter, name, a)
        apart = a.num_layers > 1 and any(
            _reads_h(user, begins[0].carried is not None) for user in interpreter.node.users
        )
        layers = 1 if apart else a.num_layers
        outputs: list[Rows] = []
        for first in range(0, len(cells), layers * directions):
            part = slice(first, first + layers * directions)
            x = interpreter.tracer.recurrent(x, layer_maker(KINDS[name], cells[part], layers, begins, part), place)
            outputs.append(x)

        def final_h() -> Any:
            found = _final_h(interpreter, outputs, directions, time)
            return interpreter.tracer.unsqueeze(found, 1) if is_single else found

        finals = [Final(make, begin.carried) for make, begin in zip((final_h, _no_cell_state), begins, strict=False)]
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
        if not isinstance(x, Rows) or interpreter.tracer.graph.has_time or x.has_time:
            raise RefusedError("a cell that is not called once for each row of a sequence, in a loop over time")
        begins = [beginning(interpreter, state) for state in states]
        timed = _one_row(x.with_grid((1, *x.axes), x.indices), 0, begins)
        cells = cells_of(interpreter, name, a)
        made = interpreter.tracer.recurrent(timed, layer_maker(KINDS[name], cells, 1, begins), place)
        h = made.with_grid(made.axes[1:], made.indices)
        finals = [Final(make, begin.carried) for make, begin in zip((lambda: h, _no_cell_state), begins, strict=False)]
        return finals if len(finals) > 1 else finals[0]

    return run


OPERATIONS |= {name: (_cell if name.endswith("_cell") else _layer)(name) for name in KINDS}


def _one_row(x: Rows, time: int, begins: Sequence[Beginning]) -> Rows:
    """A tensor with an axis of one in place of time, as one row of a sequence that streams carry on."""
    if any(begin.carried is None for begin in begins):
        raise RefusedError("one step from a state that is no argument; supported: states that are taken and returned")
    return x.with_grid((*x.axes[:time], TIME, *x.axes[time + 1 :]), x.indices)


def _reads_h(user: Any, is_state: bool) -> bool:
    """Whether a user of what a layer gives reads its final h, and does not only give back a state."""
    return user.args[1] == 1 and any(reader.op != "output" or not is_state for reader in user.users)


def _no_cell_state() -> Any:
    raise RefusedError(_NO_CELL_STATE)


def _final_h(interpreter: Interpreter, outputs: Sequence[Rows], directions: int, time: int) -> Rows:
    """The final h of each layer and direction, (layers * D, B, H)."""
    tracer, found = interpreter.tracer, []
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
