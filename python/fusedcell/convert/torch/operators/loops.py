"""Loops over time that torch.export has unrolled: what is done to one row is done to all of a sequence.

A row is known as a Step of its sequence. Operations of the same name on the same arguments make the same nodes at every
row, and a cell whose state is what it gave one row before makes a recurrent layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ...tracing import TIME, RefusedError, Rows
from .interpreter import Args, Interpreter
from .recurrent import DECODER, KINDS, Beginning, beginning, cell_states, cells_of, layer_maker
from .values import Final, StateStep, Step, has_symbols, mapped, name_of

_OTHER_STATE = (
    "the state of a cell that is not what the same cell gave one row before; supported: LSTMCell, GRUCell and RNNCell "
    "in a loop over a sequence that hands their states on as they are"
)
_SMALL = 4096  # numbers that are compared by value


@dataclass(eq=False)
class _Chain:
    """A cell on its way through a sequence; its h, and what makes its c, as it gives them at one row."""

    cell: Any
    direction: int
    rows: Rows
    begins: Sequence[Beginning]
    layers: int
    c: Callable[[], Rows]

    @property
    def is_cell(self) -> bool:
        """Whether it is no layer."""
        return bool(self.cell[0].endswith("_cell"))


class Loops:
    """The steps of a graph."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter, self._tracer = interpreter, interpreter.tracer
        self._made: dict[Any, Any] = {}
        self._chains: dict[Any, _Chain] = {}
        self._constants: dict[int, tuple[Any, Any]] = {}  # by address, and so they have to stay; and their keys

    def run(self, name: str, follow: Any, given: dict[str, Any], place: str) -> Any:
        """An operation on steps."""
        if name in KINDS:
            return self._cell(name, Args(**given), place)
        whole, given = given, mapped(given, self.as_step)
        steps = [value for value in _listed(given) if isinstance(value, Step)]
        rows = {step.at for step in steps}
        if name in ("stack", "cat", "concat", "concatenate"):
            joined = self.joined(name, given["tensors"], given["dim"], place)
            if joined is not None:
                return joined
        key = (name, self._key(given))
        is_other = any(
            isinstance(value, Final | StateStep) or (isinstance(value, Rows) and value.kind != "held")
            for value in _listed(given)
        )
        if all(step.is_end for step in steps) and (len(rows) > 1 or is_other or key not in self._made):
            return self._interpreter.follow(name, mapped(whole, self.final), place)
        if is_other or len(rows) > 1:
            raise RefusedError("one row of a sequence beside another, or beside what is no row of it")
        (at,) = rows
        direction = next((step.direction for step in steps if step.direction), 0)
        if key not in self._made:
            plain = mapped(given, lambda value: value.rows if isinstance(value, Step) else value)
            plain = mapped(plain, lambda value: value.value() if isinstance(value, Final) else value)
            self._made[key] = follow(self._interpreter, Args(**plain), place)
        return _each_of(self._made[key], lambda made: Step(made, at, direction))

    def final(self, value: Any) -> Any:
        """A step where its loop ends as what it leaves; other values as they are."""
        if isinstance(value, StateStep):
            chain = value.chain
            begin = chain.begins["hc".index(value.name)]
            if value.at != (chain.rows.steps[0] - 1 if chain.direction > 0 else 0):
                raise RefusedError(f"the state of a cell at row {value.at} of a sequence")
            return Final(lambda: self._value(value), begin.carried)
        if not isinstance(value, Step):
            return value
        chain = self._chains.get(self._key(value.rows))
        if chain is not None and value.is_end and chain.begins[0].carried is not None:
            return Final(lambda: self._last(value), chain.begins[0].carried)
        return self._last(value)

    def _value(self, state: StateStep) -> Any:
        found = self.as_step(state)
        if not isinstance(found, Step):
            raise RefusedError("the final state of several layers, which go through a sequence row by row, as a value")
        return self._last(found)

    def _last(self, step: Step) -> Rows:
        rows, steps = step.rows, step.rows.steps[0]
        if step.at not in (0, steps - 1):
            raise RefusedError(f"row {step.at} of a sequence; supported: the last and the first")
        timed = rows.with_grid((TIME, *rows.axes), rows.indices)
        return self._tracer.select(timed, 0, step.at, "last")

    def as_step(self, value: Any) -> Any:
        """The state of one layer, which has a value at every row."""
        if not isinstance(value, StateStep) or value.chain.layers > 1:
            return value
        chain = value.chain
        rows = chain.rows if value.name == "h" else chain.c()
        if not chain.is_cell:
            rows = rows.with_grid((1, *(axis for axis in rows.axes if axis != 1)), rows.indices)
        return Step(rows, value.at, chain.direction)

    def joined(self, name: str, values: Sequence[Any], dim: int, place: str) -> Rows | None:
        """All rows of a sequence, or those but some at its ends, one after the other."""
        steps = [value for value in values if isinstance(value, Step)]
        if len(steps) < len(values) or len({step.at for step in steps}) < 2:
            return None
        rows = steps[0].rows
        if any(self._key(step.rows) != self._key(rows) for step in steps):
            return None
        first, order = steps[0].at, 1 if steps[1].at > steps[0].at else -1
        if [step.at for step in steps] != list(range(first, first + order * len(steps), order)):
            raise RefusedError("rows of a sequence in another order")
        axes = list(rows.axes)
        if name == "stack":
            dim %= len(axes) + 1
            axes.insert(dim, TIME)
        else:
            dim %= len(axes)
            axes[dim] = TIME if axes[dim] == 1 else (TIME, axes[dim])
        made = rows.with_grid(axes, rows.indices)
        low, high = min(first, steps[-1].at), max(first, steps[-1].at)
        if low or high < rows.steps[0] - 1:
            if axes[dim] != TIME:
                raise RefusedError("some rows of a sequence beside each other")
            made = self._tracer.pad(made, dim, -low, high + 1 - rows.steps[0], place=place)
        return replace(made, reversed=order < 0)

    def _cell(self, name: str, a: Args, place: str) -> Any:
        """A cell, or a layer over one row, at one row."""
        x: Any = self.as_step(a.input)
        states = list(a.hx) if isinstance(a.hx, list | tuple) else [a.hx]
        if not isinstance(x, Step):
            raise RefusedError("a cell whose input is no row of the sequence that its state goes along")
        is_cell = name.endswith("_cell")
        time = 0 if is_cell else int(a.batch_first) if len(x.rows.axes) == 3 else 0
        if not is_cell and (x.rows.axes[time] != 1 or a.bidirectional):
            raise RefusedError("a layer over more than one row of a sequence at a time, or over both directions")
        cell = (
            name,
            self._key(x.rows),
            self._key([vars(a)[label] for label in vars(a) if label not in ("input", "hx")]),
        )
        known = self._known(states[0])
        if known is not None:
            chain, at = known
            goes_on = all(
                (found := self._known(state)) is not None and found == (chain, at) and kind == name_of
                for state, name_of in zip(states, "hc", strict=False)
                for kind in ["c" if isinstance(state, StateStep) and state.name == "c" else "h"]
            )
            if chain.cell[2] != cell[2]:
                raise RefusedError(DECODER)
            if not goes_on or chain.cell != cell or x.at != at + chain.direction:
                raise RefusedError(_OTHER_STATE)
        else:
            if has_symbols(states, Step | StateStep) or x.at not in (0, x.rows.steps[0] - 1):
                raise RefusedError(_OTHER_STATE)
            chain = self._begun(name, cell, x, time, a, states, place)
        step = Step(chain.rows, x.at, chain.direction)
        if is_cell:
            return (step, StateStep(chain, "c", x.at)) if name == "lstm_cell" else step
        return (step, *(StateStep(chain, label, x.at) for label, _ in zip("hc", states, strict=False)))

    def _begun(self, name: str, cell: Any, x: Step, time: int, a: Args, states: Sequence[Any], place: str) -> _Chain:
        direction = 1 if x.at == 0 else -1
        layers = 1 if name.endswith("_cell") else a.num_layers
        begins = [beginning(self._interpreter, state) for state in states]
        cells = cells_of(self._interpreter, name, a)
        axes = list(x.rows.axes)
        if not name.endswith("_cell"):
            del axes[time]
        timed = replace(x.rows.with_grid((TIME, *axes), x.rows.indices), reversed=direction < 0)
        made = self._tracer.recurrent(timed, layer_maker(KINDS[name], cells, layers, begins), place)

        def at_one_row(made: Rows) -> Rows:
            axes = list(made.axes[1:])
            if not name.endswith("_cell"):
                axes.insert(time, 1)
            return replace(made.with_grid(axes, made.indices), reversed=False)

        @cache
        def c() -> Rows:
            return at_one_row(cell_states(self._tracer, timed, made, cells, begins, place))

        rows = at_one_row(made)
        chain = self._chains[self._key(rows)] = _Chain(cell, direction, rows, begins, layers, c)
        return chain

    def _known(self, state: Any) -> tuple[_Chain, int] | None:
        if isinstance(state, StateStep):
            return state.chain, state.at
        if isinstance(state, Step):
            chain = self._chains.get(self._key(state.rows))
            return None if chain is None else (chain, state.at)
        return None

    def _key(self, value: Any) -> Any:
        """What is the same for the same value of all rows."""
        if isinstance(value, dict):
            return tuple((name, self._key(item)) for name, item in value.items())
        if isinstance(value, list | tuple):
            return tuple(map(self._key, value))
        if isinstance(value, Step):
            return self._key(value.rows)
        if isinstance(value, Rows):
            return (value.axes, value.parts, value.indices.tobytes(), value.constants, value.kind, value.steps)
        if isinstance(value, self._interpreter.torch.Tensor):
            if id(value) not in self._constants:
                is_small = value.numel() <= _SMALL
                content = (
                    value.detach().cpu().to(self._interpreter.torch.float64).numpy().tobytes() if is_small else b""
                )
                found = (str(value.dtype), tuple(value.shape), content or id(value))
                self._constants[id(value)] = (value, found)
            return self._constants[id(value)][1]
        try:
            hash(value)
        except TypeError:
            self._constants[id(value)] = (value, id(value))
            return id(value)
        return value


def steps_of(interpreter: Interpreter, x: Rows, dim: int, at: int, size: int = 0) -> Step | None:
    """Row `at`, with an axis of one in its place if there is to be one, if a loop over time takes it."""
    source, steps = interpreter.node.args[0], x.steps[0]
    users = sum(node.target is interpreter.node.target for node in source.users)
    is_loop = users > 2 or name_of(interpreter.node) not in ("select", "slice")
    if x.axes[dim] != TIME or x.kind != "rows" or (at in (0, steps - 1) and not is_loop):
        return None
    axes = [*x.axes[:dim], *([1] if size else []), *x.axes[dim + 1 :]]
    return Step(replace(x.with_grid(axes, x.indices), reversed=False), steps - 1 - at if x.reversed else at)


def _listed(given: Any) -> list[Any]:
    found: list[Any] = []
    mapped(given, found.append)
    return found


def _each_of(made: Any, wrap: Callable[[Rows], Step]) -> Any:
    if isinstance(made, Rows):
        return wrap(made)
    return [_each_of(item, wrap) for item in made] if isinstance(made, list | tuple) else made
