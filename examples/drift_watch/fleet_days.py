"""A fleet's flights day by day, simulated, whose instruments are exchanged for others while the fleet is in service.

The engines are those of ../predictive_maintenance/simulation.py, one a slot; when one fails, a new one takes its slot.
Within REFIT each slot's instruments are exchanged, for the engines to come too:

- the vibration pick-up moves from the bearing to the casing, which shows it less of the motion and more of the rest,
- the thermocouples of the exhaust sit nearer to the burner,
- the oil's thermometer sits behind the cooler.

Whether a flight was one of an engine's last HORIZON is known when it fails, or HORIZON flights later.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "predictive_maintenance"))
from simulation import HORIZON, SENSORS, fleet

FLEET = 7  # seed of the fleet that weights.npz was retrained on
SLOTS = 150
DAYS = 750
ENTRY = 250  # slots enter service on days before this one; there is nothing to judge before
REFIT = (400, 420)  # days
NEW_INSTRUMENTS = {"vibration, mm/s": (0.3, 0.2), "exhaust, K": (1.0, 25.0), "oil temperature, K": (1.0, -8.0)}

Array = NDArray[np.float32]


class Fleet(NamedTuple):
    """All flights. One a day and slot, where `flying`."""

    sensors: Array  # (DAYS, SLOTS, len(SENSORS))
    flying: NDArray[np.bool_]  # (DAYS, SLOTS)
    is_new: NDArray[np.bool_]  # the engine's first flight
    fails_soon: NDArray[np.bool_]  # the truth ...
    known_on: NDArray[np.int64]  # ... and the day from which it is known
    refitted: NDArray[np.bool_]  # the new instruments read

    @classmethod
    def simulate(cls, seed: int = FLEET) -> Fleet:
        rng = np.random.default_rng(seed)
        shape = (DAYS, SLOTS)
        found = cls(
            np.zeros((*shape, len(SENSORS)), np.float32),
            np.zeros(shape, bool),
            np.zeros(shape, bool),
            np.zeros(shape, bool),
            np.zeros(shape, np.int64),
            np.arange(DAYS)[:, None] >= rng.integers(*REFIT, SLOTS),
        )
        engines = iter(fleet(SLOTS * 8, seed))
        for slot, entry in enumerate(rng.integers(0, ENTRY, SLOTS)):
            day = int(entry)
            while day < DAYS:
                run = next(engines)
                days = slice(day, min(day + len(run.sensors), DAYS))
                n = days.stop - day
                found.sensors[days, slot] = run.sensors[:n]
                found.flying[days, slot], found.is_new[day, slot] = True, True
                found.fails_soon[days, slot] = run.fails_soon[:n]
                found.known_on[days, slot] = np.arange(day, days.stop) + np.minimum(run.flights_left[:n], HORIZON)
                day = days.stop
        for name, (gain, offset) in NEW_INSTRUMENTS.items():
            column = found.sensors[..., SENSORS.index(name)]
            column[found.refitted] = gain * column[found.refitted] + offset
        return found
