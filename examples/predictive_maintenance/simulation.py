"""Runs to failure of a small gas turbine, simulated: no package ships measured ones.

One row a flight, taken in cruise. Two faults grow, at rates that differ from engine to engine:

- Fouling and erosion lower the compressor's efficiency. It falls steadily, and a wash gives some of it back. The
  temperature rise of compressing by a ratio r at efficiency e is T ((r^0.286 - 1) / e) (an ideal gas, gamma = 1.4), and
  holding the power takes more fuel and a hotter exhaust. An engine is taken out when its exhaust passes a limit.
- A spall on a bearing grows as a crack does (Paris's law: da/dn = C a^m, here with m = 1.5), slowly for most of its
  life and then fast. Vibration grows with its size and with the speed squared, friction warms the oil. An engine is
  taken out at a size of 1.

What the sensors read depends on load, altitude and weather at least as much as on health, each engine has offsets of
its own, and all have noise; so no single reading says how long an engine has left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SENSORS = (
    "outside air, K",
    "pressure altitude, kPa",
    "power, 0 to 1",
    "shaft speed, 0 to 1",
    "compressor exit, K",
    "compressor exit, kPa",
    "exhaust, K",
    "fuel flow, kg/s",
    "oil temperature, K",
    "oil pressure, kPa",
    "vibration, mm/s",
    "flights since wash",
)
HORIZON = 30  # flights: a warning is right if the engine fails within so many
EXHAUST_LIMIT = 1085.0  # K, corrected to a standard day at full power
MOST_FLIGHTS = 420

NOISE = np.array([0.4, 0.15, 0.004, 0.002, 1.2, 2.5, 2.5, 0.002, 0.7, 3.0, 0.08, 0.0])
OFFSET = np.array([0.0, 0.0, 0.0, 0.003, 1.5, 4.0, 5.0, 0.003, 1.5, 8.0, 0.15, 0.0])  # of one engine, for good


class Run(NamedTuple):
    """One engine, from new until it is taken out."""

    sensors: NDArray[np.float32]  # (flights, len(SENSORS))
    flights_left: NDArray[np.int64]  # (flights,), 0 in the last

    @property
    def fails_soon(self) -> NDArray[np.bool_]:
        return self.flights_left < HORIZON


def exhaust_temperature(efficiency: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    """K on a standard day: what the compressor wastes is made up with fuel."""
    return 640.0 + 330.0 * power + 700.0 * (0.86 / efficiency - 1.0)


def simulate(rng: np.random.Generator) -> Run:
    n = np.arange(MOST_FLIGHTS)
    # Weather comes in spells, and so does the work an engine is given.
    spell = np.convolve(rng.standard_normal(MOST_FLIGHTS + 10), np.ones(11) / np.sqrt(11.0), "valid")
    ambient = 262.0 + 9.0 * spell + 4.0 * rng.standard_normal(MOST_FLIGHTS)
    pressure = rng.uniform(40.0, 75.0, MOST_FLIGHTS)
    power = np.clip(0.8 + 0.12 * rng.standard_normal(MOST_FLIGHTS), 0.5, 1.0)
    speed = 0.62 + 0.38 * np.sqrt(power)

    wash_interval = int(rng.integers(50, 90))
    since_wash = n % wash_interval
    erosion = rng.uniform(1.2e-4, 4.2e-4) * n * (1.0 + n / 600.0)
    fouling = rng.uniform(1.5e-4, 4.0e-4) * since_wash
    efficiency = 0.86 - erosion - fouling

    # da/dn = C a^1.5 has the solution a = (a0^-0.5 - C n / 2)^-2, infinite at a finite n. It begins at a first flight.
    start = int(rng.integers(20, 260))
    inverse_root = rng.uniform(0.02, 0.05) ** -0.5 - rng.uniform(0.03, 0.12) / 2.0 * np.maximum(n - start, 0)
    spall = np.where(n < start, 0.0, np.maximum(inverse_root, 0.9) ** -2.0)

    exhaust = exhaust_temperature(efficiency, power)
    worn_out = (spall >= 1.0) | (exhaust_temperature(efficiency, np.ones(MOST_FLIGHTS)) > EXHAUST_LIMIT)
    flights = int(np.argmax(worn_out)) + 1 if worn_out.any() else MOST_FLIGHTS

    ratio = 4.0 + 9.0 * power
    rise = ambient * (ratio**0.286 - 1.0) / efficiency
    warmth = exhaust * (1.0 + (ambient - 262.0) / 500.0)
    fuel = 0.035 + 0.165 * power * (0.86 / efficiency) ** 1.4
    friction = spall * speed**2
    sensors = np.stack(
        [
            ambient,
            pressure,
            power,
            speed,
            ambient + rise,
            pressure * ratio,
            warmth,
            fuel,
            345.0 + 22.0 * speed + 0.15 * (ambient - 262.0) + 16.0 * friction,
            420.0 * speed - 24.0 * friction,
            1.1 * speed**2 + 2.6 * friction**0.7,
            since_wash.astype(np.float64),
        ],
        axis=1,
    )
    sensors += NOISE * rng.standard_normal(sensors.shape) + OFFSET * rng.standard_normal(len(SENSORS))
    return Run(sensors[:flights].astype(np.float32), np.arange(flights)[::-1].copy())


def fleet(engines: int, seed: int) -> list[Run]:
    """Engines that failed before the records ended: the others tell nothing of how far they were from failing."""
    rng = np.random.default_rng(seed)
    runs: list[Run] = []
    while len(runs) < engines:
        run = simulate(rng)
        if len(run.sensors) < MOST_FLIGHTS:
            runs.append(run)
    return runs
