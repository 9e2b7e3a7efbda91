"""How far an answer is from what was expected, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Labels: TypeAlias = "tuple[str, ...]"

_LEAST_SIZE = 0.01  # beside which differences are measured where all of an answer is smaller


@dataclass(frozen=True)
class Difference:
    """One output beside what was expected of it.

    - shape, expected_shape: of both. Where they differ there are no numbers, and `problem` says what would fit.
    - largest: the largest magnitude of the difference; NaN beside a number counts as infinite
    - relative: that over the largest magnitude that was expected
    - at: where it is, by the names of the axes: {"step": 3, "sequence": 0, "feature": 7}
    - value, expected: both numbers there
    - begins: the first step, in any sequence, that differs by more than is allowed; None where none does, or where
      there are no steps
    - snr_db: 20 log10(rms of what was expected / rms of the difference), dB; inf where there is none
    - ok: whether no difference is more than is allowed
    """

    name: str
    shape: tuple[int, ...]
    expected_shape: tuple[int, ...]
    largest: float = float("inf")
    relative: float = float("inf")
    at: dict[str, int] | None = None
    value: float = float("nan")
    expected: float = float("nan")
    begins: int | None = None
    snr_db: float = -float("inf")
    ok: bool = False
    problem: str = ""


def distance(ours: Array, expected: Array) -> Array:
    """Magnitudes of the difference; what is not finite is no difference from itself, and infinite from all else."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(ours - expected)
    same = (ours == expected) | (np.isnan(ours) & np.isnan(expected))
    return np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf))


def allowed(expected: Array, tolerance: float) -> float:
    """The largest difference that is none."""
    return tolerance * max(_LEAST_SIZE, _largest(expected))


def fits(ours: Array, expected: Array, tolerance: float) -> bool:
    """Whether it is what was expected."""
    return ours.shape == expected.shape and bool((distance(ours, expected) <= allowed(expected, tolerance)).all())


def difference(name: str, labels: Labels, ours: Array, expected: Array, tolerance: float) -> Difference:
    """Both arrays are float64; `labels` name the axes of ours."""
    if ours.shape != expected.shape:
        return Difference(name, ours.shape, expected.shape, problem=_problem(name, labels, ours.shape, expected.shape))
    if not ours.size:
        return Difference(name, ours.shape, ours.shape, 0.0, 0.0, {}, snr_db=float("inf"), ok=True)
    apart, most = distance(ours, expected), allowed(expected, tolerance)
    place = np.unravel_index(int(apart.argmax()), apart.shape)
    largest = float(apart[place])
    wrong = apart > most
    begins = None
    if "step" in labels and wrong.any():
        begins = int(np.nonzero(wrong)[labels.index("step")].min())
    size = _largest(expected)
    return Difference(
        name,
        ours.shape,
        expected.shape,
        largest,
        largest / size if size else (float("inf") if largest else 0.0),
        {label: int(index) for label, index in zip(labels, place, strict=True)},
        float(ours[place]),
        float(expected[place]),
        begins,
        _decibels(expected, apart),
        not wrong.any(),
    )


def transpositions(shape: Sequence[int], wanted: Sequence[int]) -> list[tuple[int, ...]]:
    """The orders of axes that make one shape of the other, but for the order there is; none of more than 4 axes."""
    if sorted(shape) != sorted(wanted) or len(shape) > 4:
        return []
    orders = permutations(range(len(shape)))
    next(orders)
    return [order for order in orders if [shape[axis] for axis in order] == list(wanted)]


def _problem(name: str, labels: Labels, shape: tuple[int, ...], given: tuple[int, ...]) -> str:
    text = f"expected has shape {given} for {name}, which is {shape} ({', '.join(labels)})"
    orders = transpositions(given, shape)
    return text + (f"; expected.transpose{orders[0]} has that shape" if orders else "")


def _largest(array: Array) -> float:
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max(initial=0.0))


def _decibels(expected: Array, apart: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        noise, signal = float((apart**2).mean()), float((np.nan_to_num(expected) ** 2).mean())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal and np.isfinite(noise) else -float("inf")
