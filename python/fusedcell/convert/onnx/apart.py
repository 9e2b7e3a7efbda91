"""Cells that exporters have taken apart, known by what is computed and not by how: one step of an RNN, GRU or LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ... import nodes
from ..spec import Arrays, RecurrentSpec
from ..tracing import BATCH, RefusedError
from ..tracing.rows import Floats, Indices, Rows
from .arithmetic import Arithmetic, Atom, Data, Product, State, Sum, Terms, elements_of
from .calls import Call
from .cells import run
from .elements import Places
from .values import Value


class _OtherError(Exception):
    """It is no cell."""


@dataclass(frozen=True)
class _Cell:
    """A cell at one probe: arrays in PyTorch's layout, what it takes, and elements (B, H) of its states.

    - new: where the states go on that are not what the cell gives
    """

    kind: str
    arrays: Arrays
    data: dict[Any, Rows]
    old: tuple[Indices, ...]
    new: tuple[Indices, ...] = ()

    def is_same(self, other: _Cell) -> bool:
        """Whether it is the same cell at another probe."""
        return (
            self.kind == other.kind
            and list(self.data) == list(other.data)
            and all(np.array_equal(array, other.arrays[name]) for name, array in self.arrays.items())
        )


def cell(call: Call, arithmetic: Arithmetic, places: Places) -> Value | None:
    """What a layer answers, if these elements are what a cell gives; None if not."""
    if call.tracer.graph.has_time:
        return None
    try:
        cells = [_Probe(call, arithmetic, probe, array).cell() for probe, array in enumerate(places)]
        if not all(cells[0].is_same(other) for other in cells):
            return None
        values = list(cells[0].data.values())
        x = call.tracer.concat(values, -1) if len(values) > 1 else values[0]
        batch = x.axes[:-1] or (1,)
        spec = RecurrentSpec(cells[0].kind, (cells[0].arrays,))
        made = run(call, spec, x.with_grid((1, *batch, x.axes[-1]), x.indices), 0, 1)
        rows = made.reshaped([array.shape for array in places])
    except (_OtherError, RefusedError):
        return None
    elements, layer = arithmetic.elements, call.tracer.graph.step(made.parts[0]).node
    arithmetic.answered(places, rows)
    for index in range(len(cells[0].old)):
        old = tuple(each.old[index] for each in cells)
        onward: Any = [each.new[index - 1] for each in cells] if index else places
        elements.carry(old, tuple(new.reshape(ids.shape) for new, ids in zip(onward, old, strict=True)), layer)
    return Value(rows=rows, places=places)


@dataclass(eq=False)
class _Affine:
    """What a gate is a function of: data and a state by matrices, and a bias.

    - reset: the elements by whose sigmoid the state is multiplied before
    """

    bias: Floats
    data: dict[Any, tuple[Rows, Floats]] = field(default_factory=dict)
    state: Indices | None = None
    weight: Floats | None = None
    reset: Indices | None = None


class _Probe:
    """What elements are made of at one probe."""

    def __init__(self, call: Call, arithmetic: Arithmetic, probe: int, places: Any) -> None:
        self._graph, self._arithmetic, self._elements = call.tracer.graph, arithmetic, arithmetic.elements
        self._probe, self._places = probe, places.reshape(-1)
        self._units = places.shape[-1] if places.ndim else 0
        if not places.size:
            raise _OtherError
        self._batch = places.size // self._units

    def cell(self) -> _Cell:
        """The cell. Raises _OtherError, as all of these."""
        terms = self._terms(self._places)
        kinds = sorted(tuple(kind for kind, _ in product) for product in terms)
        if kinds in ([("Relu",)], [("Tanh",)]):
            return self._rnn(terms)
        if kinds == [("Sigmoid", "Tanh")]:
            return self._lstm(terms)
        if len(kinds) == 3:
            return self._gru(terms)
        raise _OtherError

    def _rnn(self, terms: Terms) -> _Cell:
        ((kind, _),) = (atom,) = _only(terms)
        gate = self._gate(atom)
        return self._made(f"rnn_{kind.lower()}", [gate], [gate])

    def _lstm(self, terms: Terms) -> _Cell:
        output, cell_state = _only(terms)
        new = elements_of(cell_state)
        kept, added = None, None
        for product, by in self._terms(new).items():
            if [kind for kind, _ in product] == ["", "Sigmoid"]:
                kept = product
            elif [kind for kind, _ in product] == ["Sigmoid", "Tanh"]:
                added = product
            if (by != 1).any():
                raise _OtherError
        if kept is None or added is None or len(self._terms(new)) > 2:
            raise _OtherError
        old = elements_of(kept[0])
        if not isinstance(self._elements.origin(old)[0], State):
            raise _OtherError
        gates = [self._gate(atom) for atom in (added[0], kept[1], added[1], output)]
        shape = (self._batch, self._units)
        return self._made("lstm", gates, gates, [old.reshape(shape)], [new.reshape(shape)])

    def _gru(self, terms: Terms) -> _Cell:
        """n + z * (h - n), or z and 1 - z the other way round: of either sigmoid z is that of the negated."""
        by_kinds = {tuple(kind for kind, _ in product): (product, by) for product, by in terms.items()}
        negated = ("",) in by_kinds
        signs = {
            ("",) if negated else ("Tanh",): 1,
            ("", "Sigmoid"): 1 - 2 * negated,
            ("Sigmoid", "Tanh"): 2 * negated - 1,
        }
        if set(by_kinds) != set(signs) or any((by_kinds[kinds][1] != sign).any() for kinds, sign in signs.items()):
            raise _OtherError
        (state, update), (again, candidate) = (by_kinds[kinds][0] for kinds in (("", "Sigmoid"), ("Sigmoid", "Tanh")))
        alone = by_kinds[("",) if negated else ("Tanh",)][0][0]
        if update != again or alone != (state if negated else candidate):
            raise _OtherError
        plain, behind, reset = _behind_reset(self._terms(elements_of(candidate)))
        of_data = self._affine(plain)
        of_state = self._affine(behind) if behind else of_data
        if behind and (of_data.state is not None or of_state.data or of_state.reset is not None):
            raise _OtherError
        if not behind:
            if of_data.reset is None:
                raise _OtherError
            reset = ("Sigmoid", of_data.reset.tobytes())
        gates = [self._gate(reset), self._gate(update)]
        if negated:
            gates[1] = _negative(gates[1])
        old = elements_of(state).reshape(self._batch, self._units)
        kind = "gru_reset_after" if behind else "gru_reset_before"
        made = self._made(kind, [*gates, of_data], [*gates, of_state])
        if (made.old[0] != old).any():
            raise _OtherError
        return made

    def _made(
        self,
        kind: str,
        inputs: Sequence[_Affine],
        hidden: Sequence[_Affine],
        old: Sequence[Indices] = (),
        new: Sequence[Indices] = (),
    ) -> _Cell:
        """The cell of gates' functions of data, and those of the state."""
        states = [gate.state for gate in hidden if gate.state is not None]
        if not states or any(not np.array_equal(state, states[0]) for state in states):
            raise _OtherError
        if states[0].shape != (self._batch, self._units):
            raise _OtherError
        resets = [gate for gate in hidden if gate.reset is not None]
        if len(resets) != (kind == "gru_reset_before"):
            raise _OtherError
        sources: dict[Any, tuple[Rows, Floats]] = {key: each for gate in inputs for key, each in gate.data.items()}
        if not sources:
            raise _OtherError
        nothing = np.zeros((self._units, self._units))
        of_data = [
            np.concatenate(
                [gate.data[key][1] if key in gate.data else np.zeros_like(each) for key, (_, each) in sources.items()],
                1,
            )
            for gate in inputs
        ]
        of_state = [nothing if gate.weight is None else gate.weight for gate in hidden]
        arrays: dict[str, Any] = {
            "weight_ih": np.concatenate(of_data),
            "weight_hh": np.concatenate(of_state),
            "bias_ih": np.concatenate([gate.bias for gate in inputs]),
            "bias_hh": np.concatenate([np.zeros(self._units) if gate in inputs else gate.bias for gate in hidden]),
        }
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
        return _Cell(kind, arrays, {key: rows for key, (rows, _) in sources.items()}, (states[0], *old), tuple(new))

    def _terms(self, of: Indices) -> Terms:
        terms = self._arithmetic.terms(self._probe, of)
        if terms is None:
            raise _OtherError
        return terms

    def _gate(self, atom: Atom) -> _Affine:
        """Of what an activation is taken."""
        return self._affine(self._terms(elements_of(atom)))

    def _affine(self, terms: Terms) -> _Affine:
        made = _Affine(np.zeros(self._units))
        for product, by in terms.items():
            factors = by.reshape(self._batch, -1)
            if factors.shape[1] != self._units or (factors != factors[0]).any():
                raise _OtherError
            if not product:
                made.bias = made.bias + factors[0]
            elif len(product) == 1 and product[0][0] == "":
                self._add(made, elements_of(product[0]).reshape(factors.shape), factors[0])
            else:
                raise _OtherError
        return made

    def _add(self, made: _Affine, ids: Indices, by: Floats) -> None:
        """Elements (B, H), multiplied by a number each."""
        origin, offsets = self._elements.origin(ids)
        if not isinstance(origin, Product):
            self._arithmetic.spend(by.size**2)
            self._add_source(made, ids, np.diag(by), is_product=False)
            return
        rows, columns = np.divmod(offsets, origin.weight.shape[1])
        if (rows != rows[:, :1]).any() or (columns != columns[0]).any():
            raise _OtherError
        made.bias = made.bias + origin.bias[columns[0]] * by
        sources, matrix = origin.rows[self._probe][rows[:, 0]], origin.weight[:, columns[0]].T * by[:, None]
        for part in self._elements.runs(sources[0]):
            self._add_source(made, sources[:, part], matrix[:, part], is_product=True)

    def _add_source(self, made: _Affine, ids: Indices, matrix: Floats, *, is_product: bool) -> None:
        """What elements (B, I), all of one tensor, are by a matrix."""
        origin, offsets = self._elements.origin(ids)
        if isinstance(origin, Sum) and origin.rows is None:
            product = _only(self._terms(ids.reshape(-1)))
            if [kind for kind, _ in product] != ["", "Sigmoid"]:
                raise _OtherError
            made.reset = elements_of(product[1])
            ids = elements_of(product[0]).reshape(ids.shape)
            origin, offsets = self._elements.origin(ids)
            if not isinstance(origin, State):
                raise _OtherError
        if isinstance(origin, State):
            if made.state is not None and not np.array_equal(made.state, ids):
                raise _OtherError
            made.weight = matrix if made.weight is None else made.weight + matrix
            made.state = ids
            return
        if not isinstance(origin, (Data, Sum)):
            raise _OtherError
        rows, matrix, bias = self._data(origin.rows, offsets, matrix, is_product)
        made.bias = made.bias + bias
        key = (rows.parts, rows.indices.tobytes(), rows.constants, rows.axes)
        made.data[key] = (rows, made.data[key][1] + matrix if key in made.data else matrix)

    def _data(self, rows: Rows, offsets: Indices, matrix: Floats, is_product: bool) -> tuple[Rows, Floats, Floats]:
        """Data as (batch, features); where a matrix made it, what that was made of."""
        shape = rows.shapes[self._probe]
        places = np.unravel_index(offsets, shape)
        sizes, indices = [], []
        batch: tuple[Any, ...] = ()
        for axis, size, place in zip(rows.axes, shape, places, strict=True):
            if axis == BATCH:
                batch = (BATCH,)
                if (place != np.arange(self._batch)[:, None]).any():
                    raise _OtherError
            elif isinstance(axis, int):
                sizes.append(size)
                indices.append(place)
            else:
                raise _OtherError
        features = np.ravel_multi_index(tuple(indices), tuple(sizes)) if sizes else np.zeros_like(offsets)
        if (features != features[0]).any() or (not batch and self._batch > 1):
            raise _OtherError
        x = rows.with_grid((*batch, features.shape[1]), rows.indices[features[0]])
        bias = np.zeros(len(matrix))
        while not is_product and len(x.parts) == 1 and (x.indices >= 0).all():
            step = self._graph.step(x.parts[0])
            if step is None or step.exact is None or not (step.node is None or isinstance(step.node, nodes.Dense)):
                break
            weight, offset = step.exact
            bias = bias + matrix @ offset[x.indices]
            size = sum(self._graph.size(source) for source in step.sources)
            is_product = step.node is not None
            matrix = matrix @ weight[x.indices] if is_product else matrix * weight[x.indices]
            given = np.arange(size) if is_product else x.indices
            x = _like(x, (*batch, len(given)), step.sources, given)
        return x, matrix, bias


def _like(x: Rows, axes: Sequence[Any], parts: Sequence[str], indices: Indices) -> Rows:
    return x.with_grid(axes, indices, parts=tuple(parts), constants=())


def _only(terms: Terms) -> tuple[Atom, ...]:
    """The one product, once."""
    if len(terms) != 1:
        raise _OtherError
    ((product, by),) = terms.items()
    if (by != 1).any():
        raise _OtherError
    return product


def _behind_reset(terms: Terms) -> tuple[Terms, Terms, Atom]:
    """What is there of a candidate by itself, and what is multiplied by the sigmoid of one gate, and which."""
    plain: Terms = {}
    behind: Terms = {}
    gates = set()
    for product, by in terms.items():
        functions = [atom for atom in product if atom[0] == "Sigmoid"]
        gates.update(functions)
        rest = tuple(atom for atom in product if atom[0] != "Sigmoid")
        (behind if functions else plain)[rest] = by
        if len(functions) > 1:
            raise _OtherError
    if len(gates) > 1:
        raise _OtherError
    return plain, behind, next(iter(gates), ("", b""))


def _negative(gate: _Affine) -> _Affine:
    data = {key: (rows, -matrix) for key, (rows, matrix) in gate.data.items()}
    return _Affine(-gate.bias, data, gate.state, None if gate.weight is None else -gate.weight, gate.reset)
