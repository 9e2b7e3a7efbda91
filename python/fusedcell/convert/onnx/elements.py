"""The elements of a graph's states by number, and of what it computes of them.

What moves a state moves its numbers, so that at the end it is seen whether each comes out where it went in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from ...errors import UnsupportedError
from ..tracing.rows import Indices
from .file import Values

Shape: TypeAlias = tuple[int, ...]
Places: TypeAlias = "tuple[Values, ...]"  # numbers in the shape of a tensor, at each probe


@dataclass(frozen=True)
class _Carry:
    """Where a state goes on: at `new` what was at `old`, if the model has this layer."""

    old: Places
    new: Places
    layer: Any


class Elements:
    """Numbers of elements, what they are elements of, and which goes on from which."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._origins: list[Any] = []
        self._next = 0
        self._carries: list[_Carry] = []

    def number(self, shapes: Sequence[Shape], origin: Any = None) -> Places:
        """Numbers that no other elements have, for a tensor of these shapes."""
        sizes = [int(np.prod(shape)) for shape in shapes]
        made = tuple(self._next + np.arange(size).reshape(shape) for size, shape in zip(sizes, shapes, strict=True))
        self._starts.append(self._next)
        self._origins.append(origin)
        self._next += max(sizes)
        return made

    def origin(self, numbers: Indices) -> tuple[Any, Indices]:
        """What all of these are elements of, and which of it; None of several."""
        if not numbers.size:
            return None, numbers
        place = bisect_right(self._starts, int(numbers.min())) - 1
        if bisect_right(self._starts, int(numbers.max())) - 1 != place:
            return None, numbers
        return self._origins[place], numbers - self._starts[place]

    def runs(self, numbers: Indices) -> list[slice]:
        """The parts of a row of numbers that are of one origin each."""
        owners = np.searchsorted(self._starts, numbers, "right")
        ends = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(numbers)]
        return [slice(first, last) for first, last in pairwise(ends)]

    def carry(self, old: Places, new: Places, layer: Any = None) -> None:
        """A state goes on, at `new` what was at `old`; by a layer, if the model comes to have it."""
        self._carries.append(_Carry(old, new, layer))

    def go_on(self, old: Places, new: Places, layers: Collection[Any]) -> bool:
        """Whether each element of a state goes on as one of an output, in a model that has these layers.

        Of an element that no layer of the model reads, that may be another layer's answer, or the element itself.
        """
        live = {id(None), *map(id, layers)}
        for probe, (before, after) in enumerate(zip(old, new, strict=True)):
            if before.shape != after.shape:
                return False
            read: dict[int, int] = {}
            unread: dict[int, set[int]] = {}
            for carry in self._carries:
                for number, onward in zip(carry.old[probe].flat, carry.new[probe].flat, strict=True):
                    if id(carry.layer) not in live:
                        unread.setdefault(number, set()).add(onward)
                    elif read.setdefault(number, onward) != onward:
                        raise UnsupportedError("a state that two nodes start from")
            for number, onward in zip(before.flat, after.flat, strict=True):
                if onward not in ({read[number]} if number in read else unread.get(number, {number})):
                    return False
        return True
