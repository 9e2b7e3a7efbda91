"""The nodes of a model in the making, and what of them becomes part of others in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import nodes
from ...cell_options import Activation
from ..spec import ModelSpec
from .rows import BATCH, TIME, Axis, Floats, Indices, RefusedError, flat

_MOST_SOURCES = 1024  # of a node; of more it takes features one by one


@dataclass
class _Input:
    size: int
    tokens: int
    axes: tuple[Any, ...]
    is_state: bool = False


@dataclass
class _Step:
    """A node; `exact` has its weights before they are rounded: of an affine one its weight and bias."""

    name: str
    node: Any
    sources: tuple[str, ...]
    size: int
    exact: tuple[Floats, Floats] | None = None


class Graph:
    """Nodes in order, by unique names."""

    def __init__(self) -> None:
        self._inputs: dict[str, _Input] = {}
        self._steps: dict[str, _Step] = {}
        self._gathered: dict[Any, tuple[str, ...]] = {}
        self.has_time = False

    def add_input(self, name: str, size: int, tokens: int, axes: tuple[Axis, ...], *, held: bool) -> None:
        """An input of so many features, or of tokens."""
        self._inputs[name] = _Input(size, tokens, axes)
        self.has_time |= not held

    def has_tokens(self, name: str, tokens: int) -> None:
        """An input is of tokens, of which there are so many."""
        known = self._inputs[name]
        known.tokens = min(known.tokens or tokens, tokens)

    def tokens(self, name: str) -> int:
        """How many tokens there are of an input, or 0."""
        return self._inputs[name].tokens if name in self._inputs else 0

    def as_state(self, name: str) -> str:
        """Makes a state of an input, which calls then do not take; its name."""
        self._inputs[name].is_state = True
        return name

    def is_state(self, name: str) -> bool:
        """Whether it is an input that is a state."""
        return name in self._inputs and self._inputs[name].is_state

    def is_input(self, name: str) -> bool:
        """Whether it is one of the model's inputs."""
        return name in self._inputs

    def depend(self, parts: Iterable[str], name: str) -> bool:
        """Whether any of these is, or is computed of, an input."""
        return name in self._read(parts)

    def axes(self, name: str) -> tuple[Axis, ...]:
        """The axes of an input."""
        return self._inputs[name].axes

    def size(self, name: str) -> int:
        """Features of a row of an input or node."""
        return self._steps[name].size if name in self._steps else self._inputs[name].size

    def step(self, name: str) -> _Step | None:
        """How a node is made; None for an input."""
        return self._steps.get(name)

    def starts(self, parts: Sequence[str]) -> dict[str, int]:
        """Where each of different parts begins if they are beside each other."""
        ends = np.cumsum([self.size(part) for part in parts]).tolist()
        return dict(zip(parts, [0, *ends], strict=False))

    def add(
        self, place: str, node: Any, sources: Sequence[str], size: int, exact: tuple[Floats, Floats] | None = None
    ) -> str:
        """A node of rows of so many features, under a name that begins with `place`; the name."""
        name, count = place, 0
        while name in self._steps or name in self._inputs:
            count += 1
            name = f"{place}.{count}"
        self._steps[name] = _Step(name, node, tuple(sources), size, exact)
        return name

    def in_place_of(self, name: str, kind: type[Any], node: Any, place: str) -> str | None:
        """Another node of what a node of this kind reads, and as many features; None where it is of another kind."""
        step = self._steps.get(name)
        if step is None or not isinstance(step.node, kind):
            return None
        return self.add(place, node, step.sources, step.size)

    def add_matrix(
        self, place: str, node: Any, sources: Sequence[str], size: int, weight: Floats, bias: Floats | None
    ) -> str:
        """A node with a matrix, its rows before its other axes, which what follows may become part of."""
        exact = np.asarray(weight, np.float64)
        offset = np.zeros(len(exact)) if bias is None else np.asarray(bias, np.float64)
        return self.add(place, node, sources, size, (exact.reshape(len(exact), -1), offset))

    def add_affine(self, place: str, weight: Floats, bias: Floats, sources: Sequence[str]) -> str:
        """weight * x + bias of each feature."""
        exact = (np.asarray(weight, np.float64), np.asarray(bias, np.float64))
        return self.add(place, None, sources, len(weight), exact)

    def gathered(self, parts: Sequence[str], indices: Indices, constants: Floats, place: str) -> tuple[str, ...]:
        """Nodes whose features, beside each other, are those of `parts` by index, or constants."""
        key = (tuple(parts), indices.tobytes(), constants.tobytes())
        if key not in self._gathered:
            self._gathered[key] = self._gather(parts, indices, constants, place)
        return self._gathered[key]

    def _gather(self, parts: Sequence[str], indices: Indices, constants: Floats, place: str) -> tuple[str, ...]:
        sizes = np.array([self.size(part) for part in parts])
        starts = np.cumsum(sizes) - sizes
        owners = np.searchsorted(starts + sizes, np.maximum(indices, 0), "right")
        own = np.maximum(indices, 0) - starts[owners]
        begins = np.flatnonzero(own == 0)
        if 0 < len(begins) <= _MOST_SOURCES and begins[0] == 0 and (indices >= 0).all():
            lengths = np.diff([*begins, len(indices)])
            each = owners[begins]
            alike = [(lengths, sizes[each]), (owners, each.repeat(lengths)),
                     (own, np.arange(len(indices)) - begins.repeat(lengths))]  # fmt: skip
            if all(np.array_equal(*pair) for pair in alike):
                return tuple(parts[owner] for owner in each)
        used = np.unique(owners)
        moved = np.concatenate([[0], np.cumsum(sizes[used])])
        taken = own + moved[np.searchsorted(used, owners)]
        sources = tuple(parts[i] for i in used)
        if len(taken) != moved[-1] or (taken != np.arange(len(taken))).any():
            sources = (self.add(place, nodes.Take(taken), sources, len(taken)),)
        if (indices < 0).any():
            is_constant = indices < 0
            values = np.where(is_constant, constants[np.where(is_constant, -1 - indices, 0)], 0.0)
            sources = (self.add_affine(place, (~is_constant).astype(np.float64), values, sources),)
        return sources

    def finish(self, outputs: Sequence[tuple[str, str, tuple[Any, ...]]]) -> ModelSpec:
        """The model that answers with these nodes: each its name in the source or "", the node, and the axes."""
        answers = []
        for _, node, _ in outputs:
            size = self.size(node)
            answers.append(node if node not in answers else self.add(node, nodes.Take(np.arange(size)), (node,), size))
        steps = self._live(answers)
        for source in (source for step in steps for source in step.sources):
            if self.is_state(source):
                raise RefusedError(f"the state {source!r} is read otherwise than by the layer that begins with it")
        renamed = _merged(steps, answers)
        names = {step.name for step in steps} | set(self._inputs)
        answers = [renamed.get(answer, answer) for answer in answers]
        for place, (name, *_) in enumerate(outputs):
            if name and name not in names:
                _rename(steps, answers[place], name)
                answers[place] = name
                names.add(name)
        found = {name: given.axes for name, given in self._inputs.items() if not given.is_state}
        found |= {answer: given for answer, (*_, given) in zip(answers, outputs, strict=True)}
        batch_first = next((_begins_with_batch(given) for given in found.values() if TIME in given), True)
        usual = (BATCH, TIME) if batch_first else (TIME, BATCH)
        tokens = {name: given.tokens for name, given in self._inputs.items()}
        return ModelSpec(
            [(step.name, step.node, step.sources[0] if len(step.sources) == 1 else step.sources) for step in steps],
            {name: given.tokens or given.size for name, given in self._inputs.items() if not given.is_state},
            tuple(answers),
            batch_first,
            {
                name: given
                for name, given in found.items()
                if not (given[:-1] == usual and isinstance(given[-1], int))
                and not (given == usual and tokens.get(name))
                and not (name in answers and len(given) == 2 and given[0] == BATCH and isinstance(given[1], int))
            },
        )

    def _live(self, answers: Iterable[str]) -> list[_Step]:
        read = self._read(answers)
        return [step for name, step in self._steps.items() if name in read]

    def _read(self, names: Iterable[str]) -> set[str]:
        read: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in read:
                read.add(name)
                todo += self._steps[name].sources if name in self._steps else ()
        return read


def _begins_with_batch(axes: tuple[Axis, ...]) -> bool:
    return next(axis for axis in flat(axes) if axis in (BATCH, TIME)) == BATCH


def _rename(steps: Sequence[_Step], old: str, new: str) -> None:
    for step in steps:
        step.name = new if step.name == old else step.name
        step.sources = tuple(new if source == old else source for source in step.sources)


def _merged(steps: list[_Step], answers: Sequence[str]) -> dict[str, str]:
    """Makes one node of two where the second is the only one to read the first; the names that are gone, and of what.

    Weights are multiplied in float64 and rounded once.
    """
    known = {step.name: step for step in steps}
    reads = Counter(source for step in steps for source in step.sources)
    reads.update(answers)
    gone: dict[str, str] = {}
    for step in list(steps):
        step.sources = tuple(gone.get(source, source) for source in step.sources)
        before = known.get(step.sources[0]) if len(step.sources) == 1 else None
        if before is not None and reads[before.name] == 1 and _is_part(before, step):
            gone[step.name] = before.name
            reads[before.name] = reads[step.name]
        elif before is not None and reads[before.name] == 1 and _padded(before, step):
            gone[before.name] = step.name
        elif before is not None and reads[before.name] == 1 and _cropped(before, step):
            gone[step.name] = before.name
            reads[before.name] = reads[step.name]
        elif _is_nothing(step) and (before is not None or step.name not in answers):
            gone[step.name] = step.sources[0]
            reads[step.sources[0]] += reads[step.name] - 1
    steps[:] = [step for step in steps if step.name not in gone]
    for step in steps:
        step.sources = tuple(gone.get(source, source) for source in step.sources)
        if step.node is None and step.exact is not None:
            weight, bias = step.exact
            step.node = nodes.Scale(weight, bias if bias.any() else None)
    return gone


def _is_nothing(step: _Step) -> bool:
    """Whether a node gives what it gets."""
    if step.node is not None or step.exact is None or len(step.sources) > 1:
        return False
    weight, bias = step.exact
    return bool((weight == 1).all()) and not bias.any()


def _is_part(before: _Step, step: _Step) -> bool:
    """Makes a node part of the one before it, if it can be: an affine one, or an activation."""
    if isinstance(step.node, nodes.Activation):
        if not isinstance(before.node, (nodes.Window, nodes.Dense, nodes.Depthwise)) or before.node.activation:
            return False
        activation = Activation(step.node.name, step.node.alpha or 0.0, step.node.beta or 0.0)
        before.node = before.node._with(activation=activation)
        before.exact = None
        return True
    if step.node is not None or step.exact is None or before.exact is None:
        return False
    (weight, bias), (own, offset) = step.exact, before.exact
    if before.node is None:
        before.exact = (weight * own, weight * offset + bias)
        return True
    rows = len(own)
    factor, shift = weight.reshape(-1, rows)[0] if len(weight) % rows == 0 else None, bias.reshape(-1, rows)
    if factor is None or (weight.reshape(-1, rows) != factor).any() or (shift != shift[0]).any():
        return False
    matrix, vector = own * factor[:, None], offset * factor + shift[0]
    shape = before.node.weight.shape
    values = matrix.T.reshape(shape) if isinstance(before.node, nodes.Depthwise) else matrix.reshape(shape)
    before.node = before.node._with(
        weight=nodes.base.floats(values, "weight", 2), bias=nodes.base.floats(vector, "bias")
    )
    before.exact = (matrix, vector)
    return True


def _padded(before: _Step, step: _Step) -> bool:
    """Makes rows of zeros part of the window that follows."""
    node, rows = step.node, before.node
    if not isinstance(rows, nodes.Rows) or not isinstance(node, (nodes.Window, nodes.Depthwise)):
        return False
    left, right = nodes.base.pair(node.padding)
    if node.positions is not None or min(rows.left, rows.right, left, right) < 0:
        return False
    step.node = node._with(padding=(left + rows.left, right + rows.right))
    step.sources = before.sources
    return True


def _cropped(before: _Step, step: _Step) -> bool:
    """Makes rows that are left out rows that a window does not make."""
    window, rows = before.node, step.node
    if not isinstance(rows, nodes.Rows) or not isinstance(window, (nodes.Window, nodes.Depthwise)):
        return False
    repeat = window.repeat if isinstance(window, nodes.Window) else 1
    if window.positions is not None or repeat > 1 or max(rows.left, rows.right) > 0:
        return False
    left, right = nodes.base.pair(window.padding)
    before.node = window._with(padding=(left + rows.left * window.stride, right + rows.right * window.stride))
    return True
