"""Whole models from ONNX graphs."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ..spec import Axes, ModelSpec
from ..tracing import BATCH, TIME, RefusedError, Tracer
from .file import OnnxFile, element_name
from .values import Value
from .walk import Walk

_ADVICE = (
    "; a module has more for a reader to go by than its graph: fc.Model.from_torch(module, example) or "
    "fc.Model.from_keras(model)"
)
# Sizes that a graph is followed at: rows of two sequences, and sequences; where rows are many for one answer, more.
_BATCHES = (2, 2, 3)
_STEPS = ((11, 14, 11), (96, 144, 96), (4800, 7200, 4800))
_MOST_TRIALS = 64
_MOST_WORK = 100_000  # nodes, by how many features there are: after so many in all trials no other begins
_MOST_ELEMENTS = 2**18  # of a state
_MOST_FEATURES = 2**18  # of inputs
_FLOATS, _TOKENS = ("FLOAT", "DOUBLE"), ("INT32", "INT64")
_NAMES = {
    BATCH: re.compile(r"batch|^(n|b|bs|bsz)$", re.IGNORECASE),
    TIME: re.compile(r"time|seq|step|frame|len|^(t|s|l)$", re.IGNORECASE),
}
# Which axes are batch and time, in the order in which they are tried.
_ROLES = ((0, 1), (1, 0), (0, 2), (0, 3), (0, None), (None, 0), (None, 1), (None, 2), (None, None))


@dataclass(frozen=True)
class _Input:
    name: str
    dims: tuple[int | str, ...]  # a number, or the name of a size that is free
    element: str


@dataclass(frozen=True)
class _Trial:
    """What the axes of inputs are taken to be, and at which sizes the graph is followed."""

    axes: dict[str, Axes]
    batch: tuple[int, ...]
    steps: tuple[int, ...]
    declared_steps: int | None


def read_model(
    model: Any,
    states: Mapping[str, str],
    axes: Mapping[str, Axes] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """The model that an ONNX graph is; see :meth:`fusedcell.Model.from_onnx`."""
    file = OnnxFile(model)
    fixed = {name: np.asarray(value) for name, value in (constants or {}).items()}
    inputs = _inputs(file)
    outputs = [output.name for output in file.model.graph.output]
    _check_names(file, inputs, outputs, states, axes or {}, fixed)
    data = [given for given in inputs if given.name not in states and given.name not in fixed]
    carriers = [given for given in inputs if given.name in states]
    best: tuple[int, Exception] | None = None
    work = 0
    for trial in itertools.islice(_trials(data, carriers, dict(axes or {})), _MOST_TRIALS):
        if work > _MOST_WORK:
            break
        follower = _Follower(file, trial, data, carriers, fixed)
        try:
            return follower.spec([name for name in outputs if name not in states.values()], states)
        except ValueError as error:
            work += follower.work
            if best is None or follower.progress > best[0]:
                best = follower.progress, error
    if best is None:
        raise UnsupportedError(f"{file.name}: no input is data with axes of known sizes; axes= says what they are")
    reason = best[1]
    raise (UnsupportedError(f"{reason}{_ADVICE}") if isinstance(reason, UnsupportedError) else reason) from reason


class _Follower:
    def __init__(
        self,
        file: OnnxFile,
        trial: _Trial,
        data: Sequence[_Input],
        carriers: Sequence[_Input],
        fixed: Mapping[str, Any],
    ) -> None:
        self._file, self._trial, self._data, self._carriers, self._fixed = file, trial, data, carriers, fixed
        self._walk: Walk | None = None

    @property
    def progress(self) -> int:
        """How many nodes could be followed."""
        return -1 if self._walk is None else self._walk.progress

    @property
    def work(self) -> int:
        """How many nodes were gone through, counted more often the more features there are."""
        size = sum(self._size(source) for source in self._data)
        return 0 if self._walk is None else self._walk.visited * (1 + size // 128)

    def _size(self, source: _Input) -> int:
        return math.prod(axis for axis in self._trial.axes[source.name] if isinstance(axis, int))

    def spec(self, outputs: Sequence[str], states: Mapping[str, str]) -> ModelSpec:
        """The model; ValueError for what cannot be followed so."""
        trial = self._trial
        tracer = Tracer(trial.batch, trial.steps)
        given = {name: Value(numbers=(array,) * len(trial.batch)) for name, array in self._fixed.items()}
        for source in self._data:
            if (size := self._size(source)) > _MOST_FEATURES:
                raise UnsupportedError(f"input {source.name!r}: {size} features; supported: up to {_MOST_FEATURES}")
            rows = tracer.input(source.name, trial.axes[source.name])
            given[source.name] = Value(rows=rows, tokens=source.name if source.element in _TOKENS else "")
        self._walk = walk = Walk(self._file, tracer, given, trial.declared_steps)
        for source in self._carriers:
            walk.carrier(source.name, self._state_shapes(source))
        walk.run()
        try:
            spec = tracer.finish([(name, _answer(walk, name)) for name in outputs])
        except RefusedError as refused:
            raise UnsupportedError(f"{self._file.name}: {refused}") from refused
        walk.check_carried(states, [node for _, node, _ in spec.nodes])
        return spec

    def _state_shapes(self, source: _Input) -> list[tuple[int, ...]]:
        roles = self._trial.axes[source.name]
        sizes = {BATCH: self._trial.batch, TIME: self._trial.steps}
        probes = range(len(self._trial.batch))
        shapes = [
            tuple(axis if isinstance(axis, int) else sizes[str(axis)][probe] for axis in roles) for probe in probes
        ]
        if any(math.prod(shape) > _MOST_ELEMENTS for shape in shapes):
            raise UnsupportedError(
                f"{source.name!r}: a state of shape {shapes[0]}; supported: {_MOST_ELEMENTS} elements"
            )
        return shapes


def _answer(walk: Walk, name: str) -> Any:
    value = walk.value(name)
    if value.rows is None:
        raise value.reason or UnsupportedError(f"output {name!r} does not depend on the model's inputs")
    return value.rows


def _inputs(file: OnnxFile) -> list[_Input]:
    held = {tensor.name for tensor in file.model.graph.initializer}
    found = []
    for value in file.model.graph.input:
        if value.name in held:
            continue
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise UnsupportedError(f"input {value.name!r}: the model does not say how many axes it has")
        kind = value.type.tensor_type
        dims = tuple(
            int(dim.dim_value) if dim.dim_value > 0 else dim.dim_param or f"{value.name}[{axis}]"
            for axis, dim in enumerate(kind.shape.dim)
        )
        found.append(_Input(value.name, dims, element_name(kind.elem_type)))
    return found


def _check_names(
    file: OnnxFile,
    inputs: Sequence[_Input],
    outputs: Sequence[str],
    states: Mapping[str, str],
    axes: Mapping[str, Axes],
    fixed: Mapping[str, Any],
) -> None:
    known = {given.name: given for given in inputs}
    for label, names in (("states", states), ("axes", axes), ("constants", fixed)):
        for name in names:
            if name not in known:
                raise ValueError(f"{label}: {name!r} is no input of the model; there are {', '.join(known) or 'none'}")
    for name in states.values():
        if name not in outputs:
            raise ValueError(f"states: {name!r} is no output of the model; there are {', '.join(outputs)}")
    if len(set(states.values())) < len(states) or set(states) & set(fixed):
        raise ValueError(f"states: expected an output of its own for each, and no constants, got {dict(states)}")
    for name, given in axes.items():
        rank = len(known[name].dims)
        if len(given) != rank or any(not isinstance(a, int) and a not in (BATCH, TIME) for a in given):
            raise ValueError(f'axes: {name}: expected {rank} of "batch", "time" and numbers of features, got {given!r}')
        sizes = [(a, dim) for a, dim in zip(given, known[name].dims, strict=True) if isinstance(a, int)]
        if any(a < 1 or (isinstance(dim, int) and a != dim) for a, dim in sizes):
            raise ValueError(f"axes: {name}: expected sizes as the model's, {known[name].dims}, got {given!r}")
    for name, array in fixed.items():
        if array.ndim != len(known[name].dims):
            raise ValueError(f"constants: {name}: expected {len(known[name].dims)} axes, got shape {array.shape}")
    for source in inputs:
        if source.name in fixed:
            continue
        if not source.dims:
            raise UnsupportedError(f"input {source.name!r} is one number; supported: a value for it in constants=")
        if source.element not in (*_FLOATS, *_TOKENS):
            raise UnsupportedError(
                f"{file.name}: input {source.name!r} of {source.element} is not supported; "
                f"supported: {', '.join((*_FLOATS, *_TOKENS))}, and constants="
            )


def _assignments(given: _Input) -> list[tuple[int, Axes]]:
    """What the axes of an input may be, and how unlikely that is, from the likeliest on."""
    found = []
    for rank, (batch, time) in enumerate(_ROLES):
        places = {batch: BATCH, time: TIME}
        if any(place is not None and place >= len(given.dims) for place in places):
            continue
        axes = tuple(places.get(axis, dim) for axis, dim in enumerate(given.dims))
        if any(isinstance(axis, str) and axis not in (BATCH, TIME) for axis in axes):
            continue
        if any(axis == dim and axis in (BATCH, TIME) and place not in places
               for place, (axis, dim) in enumerate(zip(axes, given.dims, strict=True))):  # fmt: skip
            continue
        if any(_is_against(str(role), dim) for role, dim in zip(axes, given.dims, strict=True) if isinstance(dim, str)):
            continue
        # A fixed last axis is features if there is no more of them, and one of a fixed number of tokens is time.
        last = time is not None and time == len(given.dims) - 1 and isinstance(given.dims[time], int)
        late = 10 * (last and given.element not in _TOKENS)
        found.append((late + rank, axes))
    return sorted(found, key=lambda each: each[0])


def _is_against(role: str, name: str) -> bool:
    """Whether the name of a size says that it is another role's."""
    return not _NAMES[role].search(name) and any(pattern.search(name) for pattern in _NAMES.values())


def _trials(data: Sequence[_Input], carriers: Sequence[_Input], axes: dict[str, Axes]) -> Iterator[_Trial]:
    choices = [[(0, axes[given.name])] if given.name in axes else _assignments(given) for given in data]
    for choice in choices:
        del choice[9:]
    combined: Iterator[tuple[tuple[int, Axes], ...]] = itertools.product(*choices)
    if len(choices) > 3:
        combined = iter(zip(*choices, strict=False))
    for chosen in sorted(itertools.islice(combined, 10_000), key=lambda each: sum(cost for cost, _ in each)):
        roles = {given.name: given_axes for given, (_, given_axes) in zip(data, chosen, strict=True)}
        named: dict[str, Any] = {}
        pairs = [
            (dim, role)
            for given in data
            for dim, role in zip(given.dims, roles[given.name], strict=True)
            if isinstance(dim, str)
        ]
        if any(named.setdefault(dim, role) != role for dim, role in pairs):
            continue
        declared = {
            role: {
                dim
                for given in data
                for dim, own in zip(given.dims, roles[given.name], strict=True)
                if own == role and isinstance(dim, int)
            }
            for role in (BATCH, TIME)
        }
        yield from _at_sizes(roles, carriers, axes, named, declared)


def _at_sizes(
    roles: dict[str, Axes],
    carriers: Sequence[_Input],
    axes: dict[str, Axes],
    named: dict[str, Any],
    declared: dict[str, set[int]],
) -> Iterator[_Trial]:
    """At free sizes, and where the graph fixes some at those."""
    batch, time = (next(iter(sizes)) if len(sizes) == 1 else None for sizes in (declared[BATCH], declared[TIME]))
    fixed = [_BATCHES] if batch is None else [_BATCHES, (batch,) * 3]
    modes = itertools.product(fixed, _STEPS)
    for batches, steps in (*modes, *((batches, (time,) * 3) for batches in fixed if time is not None)):
        free = batches == _BATCHES and batch is not None
        for order in (1, 0) if free and any(len(given.dims) > 1 for given in carriers) else (1,):
            carried = {
                given.name: axes.get(given.name) or _state_axes(given, named, batch if free else None, order)
                for given in carriers
            }
            yield _Trial({**roles, **carried}, batches, steps, time)


def _state_axes(given: _Input, named: dict[str, Any], batch: int | None, order: int) -> Axes:
    """A state's axes: sizes with names are those of the data, or the batch; one of the fixed ones is a free batch."""
    found: list[str | int] = [dim if isinstance(dim, int) else named.get(dim, BATCH) for dim in given.dims]
    if batch is not None and BATCH not in found:
        place = order if len(found) == 3 else 0
        if found and found[place] == batch:
            found[place] = BATCH
    return tuple(found)
