"""Half-hourly demand for electricity, what a network reads of it, and the origins that its forecasts start from.

Demand repeats itself from week to week and drifts from day to day, so it is differenced twice. What has changed since a
week ago is d[t] = y[t] - y[t - WEEK]; the network reads how far it is from its mean over the last day, and forecasts
d[t + k] - d[t]. Neither depends on the level, which the weeks to come may take where no week was before.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DAY = 48  # readings
WEEK = 7 * DAY
HORIZON = DAY  # half-hours that are forecast at each reading
START = WEEK + DAY - 1  # the first reading whose features are known
FEATURES = 3  # d less its mean over the last day, and the time of day as sine and cosine
ORIGINS = (6, 8, 10)  # weeks that are past when a network is trained; it forecasts the two weeks that follow
WEEKS_FORECAST = 2

Array = NDArray[np.float32]


def load() -> Array:
    """Demand in MW, (4032,), from a Monday's first half-hour on."""
    return np.loadtxt(Path(__file__).parent / "demand.txt", dtype=np.float32).ravel()


def differences(demand: Array) -> Array:
    """d at each reading from the second week on, (len(demand) - WEEK,)."""
    return demand[WEEK:] - demand[:-WEEK]


def scale_of(past: Array) -> float:
    """What the network's d is divided by: its standard deviation in the past."""
    return float(differences(past).std())


def time_of_day(start: int, end: int) -> Array:
    """As sine and cosine, (end - start, 2), of the readings from `start` to before `end`."""
    phase = 2.0 * np.pi * np.arange(start, end) / DAY
    return np.stack([np.sin(phase), np.cos(phase)], axis=1).astype(np.float32)


def features(demand: Array, scale: float, *, centred: bool = True) -> Array:
    """What the network reads at each reading from START on, (len(demand) - START, FEATURES).

    Without `centred` it reads d itself, which train.py --validate compares with.
    """
    d = differences(demand)
    means = np.lib.stride_tricks.sliding_window_view(d, DAY).mean(axis=1) if centred else 0.0
    of_d = ((d[DAY - 1 :] - means) / scale).astype(np.float32)
    return np.column_stack([of_d, time_of_day(START, len(demand))])
