"""Which axes of a graph's inputs may be batch and time, and at which sizes the graph is followed to see it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import UnsupportedError
from ..spec import Axes
from ..tracing import BATCH, TIME
from .file import OnnxFile, element_name

TOKENS = ("INT32", "INT64")
# Sizes that a graph is followed at: rows of two sequences, and sequences; where rows are many for one answer, more.
_BATCHES = (2, 2, 3)
_STEPS = ((11, 14, 11), (96, 144, 96), (4800, 7200, 4800))
_NAMES = {
    BATCH: re.compile(r"batch|^(n|b|bs|bsz)$", re.IGNORECASE),
    TIME: re.compile(r"time|seq|step|frame|len|^(t|s|l)$", re.IGNORECASE),
}
# Which axes are batch and time, in the order in which they are tried.
_ROLES = ((0, 1), (1, 0), (0, 2), (0, 3), (0, None), (None, 0), (None, 1), (None, 2), (None, None))


@dataclass(frozen=True)
class Input:
    """An input as the file declares it."""

    name: str
    dims: tuple[int | str, ...]  # a number, or the name of a size that is free
    element: str


@dataclass(frozen=True)
class Trial:
    """What the axes of inputs are taken to be, and at which sizes the graph is followed.

    - is_guess: whether time is behind the usual axes without a name that says so
    """

    axes: dict[str, Axes]
    batch: tuple[int, ...]
    steps: tuple[int, ...]
    declared_steps: int | None
    is_guess: bool = False

    @property
    def is_free(self) -> bool:
        """Whether it is followed at several numbers of rows."""
        return len(set(self.steps)) > 1


def axes_text(axes: Mapping[str, Axes]) -> str:
    """Axes as the argument that they are given by."""
    each = [f'"{name}": ({", ".join(map(_quoted, given))}{"," * (len(given) == 1)})' for name, given in axes.items()]
    return f"axes={{{', '.join(each)}}}"


def states_text(states: Mapping[str, str]) -> str:
    """States likewise."""
    return f"states={{{', '.join(f'{_quoted(name)}: {_quoted(onward)}' for name, onward in states.items())}}}"


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def declared_axes(inputs: Sequence[Input]) -> dict[str, Axes]:
    """Of inputs of which no reading could be tried: what the first two axes usually are, and the others' sizes."""
    usual = (BATCH, TIME)
    return {given.name: (*usual[: len(given.dims)], *given.dims[2:]) for given in inputs}


def inputs_of(file: OnnxFile) -> list[Input]:
    """The inputs that the file has no values for."""
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
        found.append(Input(value.name, dims, element_name(kind.elem_type)))
    return found


def _assignments(given: Input) -> list[tuple[int, Axes]]:
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
        # Of two axes a fixed last one is features, and one of a fixed number of tokens is time.
        last = time == 1 and len(given.dims) == 2 and isinstance(given.dims[1], int)
        late = 10 * (last and given.element not in TOKENS)
        found.append((late + rank, axes))
    return sorted(found, key=lambda each: each[0])


def _is_against(role: str, name: str) -> bool:
    """Whether the name of a size says that it is another role's."""
    return not _NAMES[role].search(name) and any(pattern.search(name) for pattern in _NAMES.values())


def trials(data: Sequence[Input], carriers: Sequence[Input], axes: Mapping[str, Axes]) -> Iterator[Trial]:
    """What the axes may be, the likeliest first."""
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
        is_guess = any(
            TIME in roles[given.name][2:] and isinstance(given.dims[roles[given.name].index(TIME)], int)
            for given in data
            if given.name not in axes
        )
        for trial in _at_sizes(roles, carriers, axes, named, declared):
            yield replace(trial, is_guess=is_guess)


def _at_sizes(
    roles: dict[str, Axes],
    carriers: Sequence[Input],
    axes: Mapping[str, Axes],
    named: dict[str, Any],
    declared: dict[str, set[int]],
) -> Iterator[Trial]:
    """At free sizes, and where the graph fixes some at those."""
    batch, time = (next(iter(sizes)) if len(sizes) == 1 else None for sizes in (declared[BATCH], declared[TIME]))
    fixed = [_BATCHES] if batch is None else [_BATCHES, (batch,) * 3]
    modes = itertools.product(fixed, _STEPS if any(TIME in given for given in roles.values()) else _STEPS[:1])
    for batches, steps in (*modes, *((batches, (time,) * 3) for batches in fixed if time is not None)):
        free = batches == _BATCHES and batch is not None
        for order in (1, 0) if free and any(len(given.dims) > 1 for given in carriers) else (1,):
            carried = {
                given.name: axes.get(given.name) or _state_axes(given, named, batch if free else None, order)
                for given in carriers
            }
            yield Trial({**roles, **carried}, batches, steps, time)


def _state_axes(given: Input, named: dict[str, Any], batch: int | None, order: int) -> Axes:
    """A state's axes: sizes with names are those of the data, or the batch; one of the fixed ones is a free batch."""
    found: list[str | int] = [dim if isinstance(dim, int) else named.get(dim, BATCH) for dim in given.dims]
    if batch is not None and BATCH not in found:
        place = order if len(found) == 3 else 0
        if found and found[place] == batch:
            found[place] = BATCH
    return tuple(found)
