"""Padding that another framework left out by a mask: where it may be in x, and what is then compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from .differences import Array, Labels

_MOST_TRIED, _MOST_VALUES = 50, 2
_SHOWN = 8


@dataclass(frozen=True)
class Padding:
    """Steps of one value at the end of sequences, or in front of them.

    - steps: of each sequence with its padding
    - lengths: of each sequence without it
    """

    value: float
    in_front: bool
    steps: int
    lengths: tuple[int, ...]

    @property
    def mistake(self) -> str:
        """What may be wrong."""
        where = "in front of" if self.in_front else "behind"
        return f"steps of x that are all {self.value:g} {where} a sequence are padding, which a mask left out there"

    @property
    def advice(self) -> str:
        """What to do."""
        shown = ", ".join(map(str, self.lengths[:_SHOWN])) + ", ..." * (len(self.lengths) > _SHOWN)
        return f"{'move them behind it, and ' * self.in_front}give lengths=[{shown}] with the call"

    def moved(self, array: Array, axes: Sequence[str | int]) -> Array:
        """An input with the padding behind its sequences."""
        if not self.in_front or "time" not in axes:
            return array
        return self._rolled(array, axes.index("time"), axes.index("batch") if "batch" in axes else None, -1)

    def compared(self, ours: Array, expected: Array, labels: Labels, lengths: Sequence[int]) -> tuple[Array, Array]:
        """Both answers with zeros in place of padding; `lengths` are how many rows of the answer each sequence has."""
        if "step" not in labels or ours.shape != expected.shape:
            return ours, expected
        time, batch = labels.index("step"), labels.index("sequence") if "sequence" in labels else None
        steps = ours.shape[time]
        if self.in_front and steps == self.steps:
            ours = self._rolled(ours, time, batch, 1)
        shape = [1] * ours.ndim
        shape[time] = steps
        place = np.arange(steps).reshape(shape)
        ends = np.array(lengths)
        if batch is not None:
            shape = [1] * ours.ndim
            shape[batch] = len(ends)
            ends = ends.reshape(shape)
        is_row = place >= steps - ends if self.in_front else place < ends
        return np.where(is_row, ours, 0.0), np.where(is_row, expected, 0.0)

    def _rolled(self, array: Array, time: int, batch: int | None, sign: int) -> Array:
        shifts = [sign * (self.steps - length) for length in self.lengths]
        if batch is None:
            return np.roll(array, shifts[0], time)
        rows = np.moveaxis(array, (batch, time), (0, 1))
        moved = np.stack([np.roll(row, shift, 0) for row, shift in zip(rows, shifts, strict=True)])
        return np.moveaxis(moved, (0, 1), (batch, time))


def paddings(x: Array, axes: Sequence[str | int]) -> Iterator[Padding]:
    """Of an input that has time; likely values first, of which 0 is the likeliest."""
    time = axes.index("time")
    rows = np.moveaxis(x, (axes.index("batch"), time), (0, 1)) if "batch" in axes else np.moveaxis(x, time, 0)[None]
    flat = rows.reshape(*rows.shape[:2], -1)
    if not flat.size:
        return
    steps = flat.shape[1]
    for in_front in (False, True):
        turned = flat if in_front else flat[:, ::-1]
        found = []
        for value in np.unique(turned[:, 0]).tolist()[:_MOST_TRIED]:
            padded = np.logical_and.accumulate((turned == value).all(-1), 1).sum(1)
            if padded.sum() > (value != 0) and padded.min() < steps:  # one step of another value is there by chance
                lengths = tuple((steps - padded).tolist())
                found.append(((value != 0, sum(lengths)), Padding(value, in_front, steps, lengths)))
        yield from (padding for _, padding in sorted(found, key=itemgetter(0))[:_MOST_VALUES])
