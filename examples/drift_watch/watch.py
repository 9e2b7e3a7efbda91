"""Scores a fleet day by day, and watches how well its scores tell which engines fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fleet_days import DAYS, ENTRY, SLOTS, Array, Fleet

import fusedcell as fc

try:
    from river import metrics
except ImportError:
    raise SystemExit("drift_watch needs river: pip install -r examples/requirements-drift.txt") from None

FOLDER = Path(__file__).parent
DEPLOYED = FOLDER.parent / "predictive_maintenance" / "weights.npz"
RETRAINED = FOLDER / "weights.npz"
WINDOW = 4000  # judged flights: a month's
FALL = 0.05  # of the AUC, below what it was at first, that gives the alert
GATHER = 60  # days from the alert until retrained weights are there

TakeOver = Callable[["Scorer", int], fc.Stream]  # the scorer, whose layer is the new one, and a slot


class Weights(NamedTuple):
    """The GRU's in PyTorch's layout, the head, and the scaling of the sensors."""

    gru: dict[str, Array]
    head: Array
    bias: float
    mean: Array
    std: Array
    day: int  # from which they may be used

    @classmethod
    def load(cls, path: Path) -> Weights:
        with np.load(path) as file:
            gru = {name.removeprefix("gru."): file[name] for name in file.files if name.startswith("gru.")}
            return cls(
                gru,
                file["head.weight"][0],
                float(file["head.bias"][0]),
                file["mean"],
                file["std"],
                int(file.get("day", 0)),
            )

    def scaled(self, sensors: Array) -> Array:
        return (sensors - self.mean) / self.std

    def logits(self, y: Array) -> Array:
        return y @ self.head + self.bias


class Scorer:
    """The fleet's streams, a call a day. `step_times` has the ns that each call's recurrent step took."""

    def __init__(self, weights: Weights, dtype: str) -> None:
        self.weights = weights
        self.layer = fc.GRU.from_state_dict(weights.gru, dtype=dtype)
        self.streams = [self.layer.stream() for _ in range(SLOTS)]
        self.at_exchange: dict[int, fc.Stream] = {}  # as they were when the slot's instruments were exchanged
        self.step_times: list[int] = []

    def swap(self, weights: Weights, take_over: TakeOver) -> None:
        """Other weights from now on; `take_over` makes each slot's stream on them from what there is."""
        self.weights = weights
        self.layer = fc.GRU.from_state_dict(weights.gru, dtype=self.layer.dtype)
        self.streams = [take_over(self, slot) for slot in range(SLOTS)]

    def __call__(self, fleet: Fleet, day: int) -> Array:
        """Logits of failing soon of the slots that fly that day."""
        for slot in np.flatnonzero(fleet.is_new[day]):
            self.streams[slot].reset()
        for slot in np.flatnonzero(fleet.refitted[day] & ~fleet.refitted[day - 1]):
            self.at_exchange[slot] = self.streams[slot].copy()
        flying = np.flatnonzero(fleet.flying[day])
        x = self.weights.scaled(fleet.sensors[day, flying])
        streams = [self.streams[slot] for slot in flying]
        start = time.perf_counter_ns()
        y = self.layer.step_many(streams, x)
        self.step_times.append(time.perf_counter_ns() - start)
        return self.weights.logits(y)


def auc_of(fleet: Fleet, logits: Array, days: slice) -> float:
    """Of all flights of these days of which it is known in the end whether they were right."""
    judged = fleet.flying[days] & (fleet.known_on[days] < DAYS)
    auc = metrics.RollingROCAUC(window_size=int(judged.sum()))
    for soon, logit in zip(fleet.fails_soon[days][judged], logits[days][judged], strict=True):
        auc.update(bool(soon), float(logit))
    return auc.get()


class Watch:
    """The AUC of the last WINDOW flights of which it is known whether they were right."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._auc = metrics.RollingROCAUC(window_size=WINDOW)
        self._judged = 0
        self.reference: float | None = None

    def __call__(self, day: int, logits: Array) -> float | None:
        """The AUC at the end of a day, given the logits (DAYS, SLOTS) of all days until then; None while too few."""
        fleet = self._fleet
        due = np.argwhere(fleet.flying[ENTRY : day + 1] & (fleet.known_on[ENTRY : day + 1] == day))
        for days, slot in due:
            when = ENTRY + days
            self._auc.update(bool(fleet.fails_soon[when, slot]), float(logits[when, slot]))
        self._judged += len(due)
        if self._judged < WINDOW:
            return None
        value = self._auc.get()
        self.reference = value if self.reference is None else self.reference
        return value

    def fallen(self, auc: float | None) -> bool:
        return auc is not None and self.reference is not None and auc < self.reference - FALL
