"""Whether two measurements of one case differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, log
from typing import Any

import numpy as np

# Where memory lies differs from run to run, which alone moves times by some percent.
LEAST_DIFFERENCE = 0.05
_RESAMPLES = 2000


@dataclass(frozen=True)
class Times:
    """Microseconds of one case in one file; files of earlier versions have no rounds."""

    p10: float
    p50: float
    p90: float
    rounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Change:
    """New over old: the ratio of medians and its interval."""

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """A difference is one that the interval leaves no doubt about, and that is not too small to matter."""
        if self.low > 1 and self.ratio > 1 + LEAST_DIFFERENCE:
            return "slower"
        if self.high < 1 and self.ratio < 1 - LEAST_DIFFERENCE:
            return "faster"
        return "no difference"

    def widened(self, drift: float) -> Change:
        """With an interval that also allows for so much, as a logarithm, between one run and another."""
        below, above = log(self.ratio / self.low), log(self.high / self.ratio)
        return Change(self.ratio, self.ratio / exp(hypot(below, drift)), self.ratio * exp(hypot(above, drift)))


def change(old: Times, new: Times) -> Change:
    """With rounds, the middle 95 % of what resampling gives; else the medians' ratio between those of p10 and p90."""
    found = new.p50 / old.p50
    if not old.rounds or not new.rounds:
        return Change(found, new.p10 / old.p90, new.p90 / old.p10)
    rng = np.random.default_rng(0)
    medians = [_resampled_medians(times.rounds, rng) for times in (old, new)]
    low, high = np.percentile(medians[1] / medians[0], (2.5, 97.5))
    # The median of the resampled need not lie where that of the rounds does.
    return Change(found, min(found, float(low)), max(found, float(high)))


def _resampled_medians(rounds: Sequence[float], rng: np.random.Generator) -> Any:
    """Of rounds drawn anew, in blocks, because what disturbs one round disturbs its neighbours too."""
    values = np.asarray(rounds)
    length = max(1, int(np.sqrt(len(values))))
    starts = rng.integers(0, len(values) - length + 1, (_RESAMPLES, -(-len(values) // length)))
    drawn = values[starts[..., None] + np.arange(length)].reshape(_RESAMPLES, -1)
    return np.median(drawn[:, : len(values)], axis=1)
