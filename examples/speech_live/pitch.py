"""The pitch of speech, as RNNoise (BSD-3) and the Opus codec before it find it: the lag that correlates best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SHORTEST, LONGEST = 60, 768  # samples of 48 kHz: 800 Hz to 62.5 Hz
WINDOW = 960
HISTORY = LONGEST + WINDOW
# Everything below is at half the rate, whose lags are numbered from the longest on: row i has the lag TOP - i.
TOP, HALF = LONGEST // 2, WINDOW // 2
SEARCHED = (LONGEST - 3 * SHORTEST) // 2
# Where a pitch k times as high is tried, whose multiple by this over k should correlate as well.
SECOND = (0, 0, 3, 2, 3, 2, 5, 2, 3, 2, 3, 2, 5, 2, 3, 2)


def whitened_half_rate(samples: Array) -> Array:
    """Every other sample after a short low-pass, and that less what four samples predict of the next."""
    half = np.float32(0.5) * samples[::2]
    half += np.float32(0.25) * samples[1::2]
    half[1:] += np.float32(0.25) * samples[1:-1:2]
    correlation = [float(half[lag:] @ half[: len(half) - lag]) for lag in range(5)]
    correlation[0] *= 1.0001
    correlation = [value * (1 - (0.008 * lag) ** 2) for lag, value in enumerate(correlation)]
    a = [value * 0.9 ** (i + 1) for i, value in enumerate(levinson(correlation))]
    taps = np.convolve([1.0, *a], [1.0, 0.8]).astype(np.float32)
    return np.convolve(half, taps)[: len(half)]


def levinson(correlation: list[float]) -> list[float]:
    """Coefficients of the linear prediction's error filter, by Levinson and Durbin; the rest is 0 from 30 dB on."""
    order = len(correlation) - 1
    a = [0.0] * order
    error = correlation[0]
    if error == 0:
        return a
    for i in range(order):
        k = -(sum(a[j] * correlation[i - j] for j in range(i)) + correlation[i + 1]) / error
        a[:i] = [a[j] + k * a[i - 1 - j] for j in range(i)]
        a[i] = k
        error -= k * k * error
        if error < 0.001 * correlation[0]:
            break
    return a


def two_best(correlation: Array, energy: NDArray[np.float64]) -> tuple[int, int]:
    score = np.where(correlation > 0, np.square(correlation, dtype=np.float64) / np.maximum(1 + energy, 1), -1.0)
    first = int(score.argmax())
    score[first] = -2.0
    return first, int(score.argmax())


def between(left: float, middle: float, right: float) -> int:
    """Towards which neighbour a peak leans."""
    if right - left > 0.7 * (middle - left):
        return 1
    return -1 if left - right > 0.7 * (middle - right) else 0


def energies(samples: Array, length: int) -> NDArray[np.float64]:
    """Of each stretch of so many samples."""
    total = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    return total[length:] - total[:-length]


class Pitch:
    """The period of each frame, which prefers to be near that of the frame before."""

    def __init__(self) -> None:
        self.samples = np.zeros(HISTORY, np.float32)
        self._period, self._gain = 0, 0.0

    def __call__(self, frame: Array) -> int:
        """The period in samples, once the frame has joined `samples`."""
        self.samples[: -len(frame)] = self.samples[len(frame) :]
        self.samples[-len(frame) :] = frame
        half = whitened_half_rate(self.samples)
        rows = np.lib.stride_tricks.sliding_window_view(half, HALF)  # (TOP + 1, HALF)
        energy = energies(half, HALF)
        self._period, self._gain = self._fundamental(rows, energy, self._search(half, rows, energy) // 2)
        return self._period

    @staticmethod
    def _search(half: Array, rows: Array, energy: NDArray[np.float64]) -> int:
        """The best lag, first among every other one at a quarter of the rate, then around the two best of these."""
        coarse = half[::2]
        length, lags = HALF // 2, SEARCHED // 2
        stretch = coarse[: length + lags - 1]
        correlation = np.correlate(stretch, coarse[TOP // 2 :], "valid")
        candidates = sorted(
            {i for best in two_best(correlation, energies(stretch, length)) for i in range(2 * best - 2, 2 * best + 3)}
        )
        candidates = [i for i in candidates if 0 <= i < SEARCHED]
        correlation = np.zeros(SEARCHED, np.float32)
        correlation[candidates] = np.maximum(rows[candidates] @ rows[TOP], -1)
        best, _ = two_best(correlation, energy[:SEARCHED])
        lean = between(*correlation[best - 1 : best + 2].tolist()) if 0 < best < SEARCHED - 1 else 0
        return LONGEST - (2 * best - lean)

    def _fundamental(self, rows: Array, energy: NDArray[np.float64], lag: int) -> tuple[int, float]:
        """A shorter period, if it does nearly as well as `lag`: the best lag may be a multiple of the period."""
        lag = min(lag, TOP - 1)
        shortest, before = SHORTEST // 2, self._period // 2
        tried = []
        for k in range(2, len(SECOND)):
            shorter = (2 * lag + k) // (2 * k)
            if shorter < shortest:
                break
            other = (2 * SECOND[k] * lag + k) // (2 * k)
            if k == 2:
                other = lag if shorter + lag > TOP else lag + shorter
            tried.append((k, shorter, other))
        lags = [0, lag, *(lag for _, *both in tried for lag in both)]
        correlation = (rows[[TOP - lag for lag in lags]] @ rows[TOP]).tolist()
        zero, best_correlation = correlation[:2]
        best_energy = max(energy[TOP - lag], 0.0)

        def gain_of(product: float, energy: float) -> float:
            return product / (1 + zero * energy) ** 0.5

        best = lag
        gain = at_lag = gain_of(best_correlation, best_energy)
        for (k, shorter, other), one, two in zip(tried, correlation[2::2], correlation[3::2], strict=True):
            product = 0.5 * (one + two)
            both = 0.5 * max(energy[TOP - shorter], 0.0) + 0.5 * max(energy[TOP - other], 0.0)
            here = gain_of(product, both)
            near = abs(shorter - before)
            continued = self._gain if near <= 1 else 0.5 * self._gain if near == 2 and 5 * k * k < lag else 0.0
            # Very short periods have to do better, since neighbouring samples correlate anyway.
            least, share = (0.4, 0.85) if shorter < 3 * shortest else (0.3, 0.7)
            if here > max(least, share * at_lag - continued):
                best, gain, best_correlation, best_energy = shorter, here, product, both
        best_correlation = max(best_correlation, 0.0)
        share_explained = 1.0 if best_energy <= best_correlation else best_correlation / (best_energy + 1)
        around = (rows[[TOP - best + 1, TOP - best, TOP - best - 1]] @ rows[TOP]).tolist()
        return max(2 * best + between(*around), SHORTEST), float(min(share_explained, gain))
