"""Whole models from ONNX graphs."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ..spec import Axes, ModelSpec
from ..tracing import BATCH, TIME, RefusedError, Tracer
from .file import OnnxFile, element_name
from .readings import TOKENS, Input, Trial, axes_text, declared_axes, inputs_of, states_text, trials
from .values import Value
from .walk import Walk

_ADVICE = (
    "; a module has more for a reader to go by than its graph: fc.Model.from_torch(module, example) or "
    "fc.Model.from_keras(model)"
)
_MOST_TRIALS = 96
_MOST_WORK = 100_000  # nodes, by how many features there are: after so many in all trials no other begins
_MOST_PAIRS = 12  # of inputs and outputs that may be states
_MOST_STATES = 8  # among which these are looked for
_FEW_TRIALS = 12  # of each of these
_MOST_ELEMENTS = 2**18  # of a state
_MOST_FEATURES = 2**18  # of inputs
_FLOATS = ("FLOAT", "DOUBLE")


def read_model(
    model: Any,
    states: Mapping[str, str],
    axes: Mapping[str, Axes] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """The model that an ONNX graph is; see :meth:`fusedcell.Model.from_onnx`."""
    file = OnnxFile(model)
    fixed = {name: np.asarray(value) for name, value in (constants or {}).items()}
    inputs = inputs_of(file)
    outputs = [output.name for output in file.model.graph.output]
    _check_names(file, inputs, outputs, states, axes or {}, fixed)
    search = _Search(file, [given for given in inputs if given.name not in fixed], fixed)
    try:
        spec = search.read(states, _MOST_TRIALS, axes or {})
    except UnsupportedError as refused:
        found, advice = {} if states else search.states(), search.advice
        if found:
            rest = {name: taken for name, taken in search.taken.items() if name not in found}
            advice = f"; read it with {states_text(found)}, {axes_text(rest)}"
        raise UnsupportedError(f"{refused}{advice}") from refused
    if not states and (found := search.states()):
        inputs_text = " and ".join(map(repr, found))
        note = f"{file.name}: calls take {inputs_text}; to have streams keep them, read it with {states_text(found)}"
        return replace(spec, notes=(*spec.notes, note))
    return spec


class _Search:
    """Readings of a graph that are tried one after the other."""

    def __init__(self, file: OnnxFile, inputs: Sequence[Input], fixed: Mapping[str, Any]) -> None:
        self._file, self._inputs, self._fixed = file, inputs, fixed
        self._outputs = list(file.model.graph.output)
        self._work = 0
        self.advice = ""
        self.taken: dict[str, Axes] = {}  # by the reading that went best

    def read(self, states: Mapping[str, str], most: int, axes: Mapping[str, Axes]) -> ModelSpec:
        """The model by the first reading that can be followed; by a guess if it is the only one."""
        data = [given for given in self._inputs if given.name not in states]
        carriers = [given for given in self._inputs if given.name in states]
        outputs = [output.name for output in self._outputs if output.name not in states.values()]
        guesses: dict[tuple[int, ...], tuple[Trial, ModelSpec]] = {}  # by where time is in each input
        best: tuple[int, ValueError, Trial] | None = None
        for trial in itertools.islice(trials(data, carriers, axes), most):
            if self._work > _MOST_WORK:
                break
            times = tuple(own.index(TIME) if TIME in (own := trial.axes[given.name]) else -1 for given in data)
            if guesses and (not trial.is_guess or times in guesses):
                continue
            follower = _Follower(self._file, trial, data, carriers, self._fixed)
            try:
                spec = follower.spec(outputs, states)
            except ValueError as error:
                self._work += follower.work
                if best is None or follower.progress > best[0]:
                    best = follower.progress, error, trial
                continue
            if not trial.is_guess:
                self.taken = trial.axes
                return spec
            guesses[times] = trial, spec
        if guesses:
            return self._chosen(list(guesses.values()))
        self.taken = declared_axes(self._inputs) if best is None else best[2].axes
        self.advice = (
            f'{_ADVICE}; if its axes are others, give them ("batch", "time" or numbers): {axes_text(self.taken)}'
        )
        if best is None:
            raise UnsupportedError(f"{self._file.name}: no input is data with axes of known sizes")
        raise best[1]

    def _chosen(self, guesses: Sequence[tuple[Trial, ModelSpec]]) -> ModelSpec:
        """The one that was followed at several numbers of rows, or the one."""
        left = [guess for guess in guesses if guess[0].is_free] or guesses
        if len(left) > 1:
            self.advice = f": {' or '.join(axes_text(trial.axes) for trial, _ in left)}"
            raise UnsupportedError(f"{self._file.name}: several axes may be time, and sizes do not tell which; say it")
        self.taken = left[0][0].axes
        return left[0][1]

    def states(self) -> dict[str, str]:
        """Inputs that carry states, each with the output that it goes on with, if the graph can be read with such."""
        kept = self.advice, self.taken
        self._work = _MOST_WORK // 2
        for pairs in itertools.islice(self._pairings(), _MOST_PAIRS):
            with contextlib.suppress(ValueError):
                self.read(pairs, _FEW_TRIALS, {name: own for name, own in kept[1].items() if name not in pairs})
                return pairs
        self.advice, self.taken = kept
        return {}

    def _pairings(self) -> Iterator[dict[str, str]]:
        """Which inputs and outputs may go together: as many as can be first, and those whose names begin alike."""
        able = {
            given.name: [output.name for output in self._outputs if _may_go_on(given, output)] for given in self._inputs
        }
        names = [name for name, onward in able.items() if onward][-_MOST_STATES:]
        for count in range(min(len(names), len(self._inputs) - 1, len(self._outputs) - 1), 0, -1):
            for chosen in list(itertools.combinations(names, count))[::-1]:
                every = itertools.islice(itertools.product(*(able[name] for name in chosen)), 1000)
                paired = [dict(zip(chosen, onward, strict=True)) for onward in every if len(set(onward)) == count]
                yield from sorted(paired, key=lambda pairs: -sum(len(os.path.commonprefix(p)) for p in pairs.items()))


def _may_go_on(given: Input, output: Any) -> bool:
    """Whether an output may have the shape of an input of floats."""
    kind = output.type.tensor_type
    if given.element not in _FLOATS or not output.type.HasField("tensor_type"):
        return False
    if element_name(kind.elem_type) != given.element or not given.dims:
        return False
    if not kind.HasField("shape"):
        return True
    dims = [dim.dim_value for dim in kind.shape.dim]
    return len(dims) == len(given.dims) and all(
        own in (0, size) for own, size in zip(dims, given.dims, strict=True) if isinstance(size, int)
    )


class _Follower:
    def __init__(
        self,
        file: OnnxFile,
        trial: Trial,
        data: Sequence[Input],
        carriers: Sequence[Input],
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

    def _size(self, source: Input) -> int:
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
            given[source.name] = Value(rows=rows, tokens=source.name if source.element in TOKENS else "")
        self._walk = walk = Walk(self._file, tracer, given, trial.declared_steps)
        for source in self._carriers:
            walk.carrier(source.name, self._state_shapes(source))
        walk.run()
        try:
            spec = tracer.finish([(name, _answer(walk, name)) for name in outputs])
        except RefusedError as refused:
            what = "" if refused.answer is None else f"output {list(outputs)[refused.answer]!r}: "
            raise UnsupportedError(f"{self._file.name}: {what}{refused}") from refused
        walk.check_carried(states, [node for _, node, _ in spec.nodes])
        return spec

    def _state_shapes(self, source: Input) -> list[tuple[int, ...]]:
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


def _check_names(
    file: OnnxFile,
    inputs: Sequence[Input],
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
        if source.element not in (*_FLOATS, *TOKENS):
            raise UnsupportedError(
                f"{file.name}: input {source.name!r} of {source.element} is not supported; "
                f"supported: {', '.join((*_FLOATS, *TOKENS))}, and constants="
            )
