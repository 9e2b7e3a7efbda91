"""Whether two measurements of the same cases differ, judged by their repeats.

Repeats are processes. If the files do not differ, then any other assignment of all the processes to the two files was
as likely as the true one. A case counts as changed if its t statistic is as large as hardly any assignment makes that
of any case: a permutation test, corrected for the number of cases by the distribution of the largest statistic, step
down (Westfall and Young, Resampling-Based Multiple Testing, 1993), with studentised differences, which hold up where
one file is noisier than the other (Janssen, Statistics & Probability Letters 36, 1997).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

ALPHA = 0.05
"""How likely it is that anything is reported where nothing changed."""

# Less than this is too little to matter, and more than the machine's state alone moves times between two files.
LEAST_DIFFERENCE = 0.05

# Of a mean, as a logarithm: a few repeats that agree by chance do not know theirs better.
_LEAST_ERROR = 0.005

_MOST_ASSIGNMENTS = 15_000

Name = TypeVar("Name")
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """New over old, by the medians of the repeats.

    `p` is how likely a difference like this, or a clearer one, is in any case where nothing changed, `detectable` the
    relative difference that would have had a p that counts, about; both are None if the repeats are too few to tell.
    A relative difference up to `drift` has other reasons.
    """

    ratio: float
    p: float | None = None
    detectable: float | None = None
    drift: float = 0.0

    @property
    def verdict(self) -> str:
        """A difference is one that neither chance nor drift explain, and that is not too small to matter."""
        if self.p is None:
            return "cannot tell"
        least = max(LEAST_DIFFERENCE, self.drift)
        if self.p <= ALPHA and self.ratio > 1 + least:
            return "slower"
        if self.p <= ALPHA and self.ratio < 1 / (1 + least):
            return "faster"
        return "no difference"

    @property
    def finds(self) -> float | None:
        """The relative difference that would have been called one, about."""
        return None if self.detectable is None else max(self.detectable, LEAST_DIFFERENCE, self.drift)


@dataclass(frozen=True)
class Changes(Generic[Name]):
    """By case; the numbers of repeats are those of cases that are in every repeat."""

    by_case: dict[Name, Change]
    old_repeats: int
    new_repeats: int

    @property
    def enough(self) -> bool:
        """Whether there are repeats enough to tell anything."""
        return least_p(self.old_repeats, self.new_repeats) <= ALPHA


def least_p(old: int, new: int) -> float:
    """The least that a test on so many repeats can give."""
    # With equal numbers, exchanging the files gives the same statistic.
    return 1.0 if min(old, new) < 2 else (2 if old == new else 1) / comb(old + new, old)


def repeats_needed() -> int:
    """In each of two files with as many."""
    return next(count for count in range(2, 100) if least_p(count, count) <= ALPHA)


def compare_repeats(
    old: Mapping[Name, Sequence[float]], new: Mapping[Name, Sequence[float]], drifts: Mapping[Name, float] | None = None
) -> Changes[Name]:
    """Compares the cases of both, each with the median time of every repeat; cases that lack a repeat are not told."""
    common = [name for name in old if name in new]
    counts = tuple(max(len(times[name]) for name in common) for times in (old, new))
    ratios = {name: float(np.median(new[name]) / np.median(old[name])) for name in common}
    whole = [name for name in common if (len(old[name]), len(new[name])) == counts]
    told: dict[Name, tuple[float | None, float | None]] = {}
    if whole and least_p(*counts) <= ALPHA:
        logs = np.log([[*old[name], *new[name]] for name in whole]).T
        told = {name: (float(p), float(least)) for name, p, least in zip(whole, *_test(logs, counts[0]), strict=True)}
    changes = {}
    for name, ratio in ratios.items():
        p, detectable = told.get(name, (None, None))
        changes[name] = Change(ratio, p, detectable, (drifts or {}).get(name, 0.0))
    return Changes(changes, *counts)


def _test(logs: Floats, first: int) -> tuple[Floats, Floats]:
    """Corrected p values, and relative differences that would have been found; `logs` are (repeats, cases)."""
    differences, errors = _differences(logs, _assignments(len(logs), first))
    statistics = np.abs(differences / errors)
    # The first assignment is the true one.
    order = np.argsort(-statistics[0], kind="stable")
    # For each place in that order, the largest statistic of it and all behind.
    largest = np.maximum.accumulate(statistics[:, order[::-1]], axis=1)[:, ::-1]
    # Assignments that exchange equal values must count as equal.
    as_large = np.mean(largest >= statistics[0, order] * (1 - 1e-9), axis=0)
    p = np.empty(len(order))
    p[order] = np.maximum.accumulate(as_large)

    rejected = min(int(np.count_nonzero(p <= ALPHA)), len(order) - 1)
    ranked = np.sort(largest[:, rejected])[::-1]
    critical = ranked[int(ALPHA * len(ranked))]
    return p, np.expm1(critical * errors[0])


def _assignments(count: int, first: int) -> Bools:
    """Which repeats belong to the first file, one assignment a row: the true one, then all others or many."""
    true = np.arange(count) < first
    if comb(count, first) <= _MOST_ASSIGNMENTS:
        # In lexicographic order, so that the true one is the first.
        return np.array([np.isin(np.arange(count), chosen) for chosen in combinations(range(count), first)])
    shuffled = np.random.default_rng(0).permuted(np.tile(true, (_MOST_ASSIGNMENTS - 1, 1)), axis=1)
    return np.vstack([true, shuffled])


def _differences(logs: Floats, in_first: Bools) -> tuple[Floats, Floats]:
    """Means of the second file minus those of the first, and their standard errors, by assignment and case."""
    centred = logs - logs.mean(axis=0)
    means, squares = [], np.full((), _LEAST_ERROR**2)
    for members in (in_first, ~in_first):
        count = int(members[0].sum())
        means.append(members @ centred / count)
        variance = (members @ centred**2 - count * means[-1] ** 2) / (count - 1)
        squares = squares + np.maximum(variance, 0) / count
    return means[1] - means[0], np.sqrt(squares)
