"""RNNoise frame by frame: the spectrum and its bands in NumPy, and the network that reads them as a fusedcell model.

What is computed is what RNNoise computes (src/denoise.c and src/rnn.c of https://github.com/xiph/rnnoise, BSD-3;
J.-M. Valin, "A Hybrid DSP/Deep Learning Approach to Real-Time Full-Band Speech Enhancement", 2018): gains for 32 bands,
from the energies in the bands and how they correlate with the sound one pitch period before.
"""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
from numpy.typing import NDArray
from pitch import Pitch
from rnnoise import BANDS, FEATURES, FRAME

import fusedcell as fc

Array = NDArray[np.float32]

WINDOW = 2 * FRAME
BINS = FRAME + 1
DELAY = 2 * FRAME  # samples from a sound to itself: the overlap, and a frame that the network sees ahead
# Edges of the bands in bins of 50 Hz, ERB-like; each band is a triangle on three of them.
EDGES = (
    0,
    2,
    4,
    6,
    8,
    10,
    12,
    15,
    18,
    21,
    24,
    28,
    32,
    36,
    41,
    47,
    53,
    60,
    68,
    77,
    87,
    98,
    110,
    124,
    140,
    157,
    176,
    198,
)
EDGES += (223, 251, 282, 317, 356, 400)
FULL_SCALE = np.float32(32768)  # RNNoise counts in steps of 16-bit samples
SILENCE = 0.04


def window() -> Array:
    rise = np.sin(0.5 * np.pi * np.sin(0.5 * np.pi * (np.arange(FRAME) + 0.5) / FRAME) ** 2)
    return np.concatenate([rise, rise[::-1]]).astype(np.float32)


def triangles() -> Array:
    """(BINS, BANDS): each bin's share in the bands beside it; the outermost bands are flat to the outside."""
    shares = np.zeros((BINS, BANDS + 2))
    for band, (low, high) in enumerate(itertools.pairwise(EDGES)):
        rising = np.arange(high - low) / (high - low)
        shares[low:high, band], shares[low:high, band + 1] = 1 - rising, rising
    shares[:, 1] += shares[:, 0]
    shares[:, BANDS] += shares[:, BANDS + 1]
    return shares[:, 1:-1].astype(np.float32)


def cosines() -> Array:
    """The DCT of RNNoise, (BANDS, BANDS), whose scale is that of 22 bands."""
    table = np.cos((np.arange(BANDS)[:, None] + 0.5) * np.arange(BANDS) * np.pi / BANDS)
    table[:, 0] *= math.sqrt(0.5)
    return (table * math.sqrt(2 / 22)).astype(np.float32)


def high_pass() -> Array:
    """The matrix that takes a frame and the filter's two states to the filtered frame and its states.

    y = x (1 - 2 z^-1 + z^-2) / (1 - 1.99599 z^-1 + 0.996 z^-2), which is linear, so that a frame is one product.
    """
    inputs = np.eye(FRAME + 2)
    outputs = np.empty((FRAME + 2, FRAME + 2))
    one, two = inputs[FRAME:]
    for n in range(FRAME):
        outputs[n] = inputs[n] + one
        one, two = two - 2 * inputs[n] + 1.99599 * outputs[n], inputs[n] - 0.996 * outputs[n]
    outputs[FRAME:] = one, two
    return outputs.astype(np.float32)


def floored(energy: list[float]) -> list[float]:
    """Logarithms, at most 7 below the largest so far and falling by at most 1.5 a band."""
    largest = falling = -2.0
    levels = []
    for value in energy:
        level = max(largest - 7, falling - 1.5, math.log10(0.01 + value))
        largest, falling = max(largest, level), max(falling - 1.5, level)
        levels.append(level)
    return levels


class Spectrum:
    """A frame's bins, those of the sound one pitch period before, and their energies and correlation in the bands."""

    def __init__(self, x: Array, p: Array, shares: Array) -> None:
        self.bins, self.pitch_bins = np.fft.rfft(x) / WINDOW, np.fft.rfft(p) / WINDOW
        self.energy, self.pitch_energy = band_energy(self.bins, shares), band_energy(self.pitch_bins, shares)
        product = self.bins.real * self.pitch_bins.real + self.bins.imag * self.pitch_bins.imag
        self.correlation = product @ shares / np.sqrt(0.001 + self.energy * self.pitch_energy)


def band_energy(bins: NDArray[np.complexfloating], shares: Array) -> Array:
    return (np.square(bins.real) + np.square(bins.imag)) @ shares


class Suppressor:
    """One channel of 48 kHz sound: 480 samples in [-1, 1) in, as many out, DELAY samples later.

    `step_times` has the ns that each step of the network took.
    """

    def __init__(self, model: fc.Model) -> None:
        self._network = model.stream()
        self._answers = np.empty(BANDS, np.float32), np.empty(1, np.float32)
        self.step_times: list[int] = []
        self._window, self._cosines, self._high_pass = window(), cosines(), high_pass()
        self._interpolate = triangles()
        self._shares = self._interpolate.copy()
        self._shares[:, [0, -1]] *= np.float32(2 / 3)
        self._filtered = np.zeros(FRAME + 2, np.float32)  # a frame, and the two states of the high-pass
        self._pitch = Pitch()
        self._overlap = np.zeros(FRAME, np.float32)
        self._floor = np.zeros(BANDS, np.float32)
        silence = np.zeros(WINDOW, np.float32)
        self._delayed = Spectrum(silence, silence, self._shares)

    def __call__(self, frame: Array) -> tuple[Array, float]:
        """What is left of the sound, and the probability that the frame has speech in it."""
        self._filtered[:FRAME] = frame * FULL_SCALE
        self._filtered = self._high_pass @ self._filtered
        period = self._pitch(self._filtered[:FRAME])
        samples = self._pitch.samples
        spectrum = Spectrum(
            samples[-WINDOW:] * self._window, samples[-WINDOW - period : -period] * self._window, self._shares
        )
        bins, speech = self._delayed.bins, 0.0
        if float(spectrum.energy.sum()) >= SILENCE:
            features = self._features(spectrum, period)
            begin = time.perf_counter_ns()
            self._network.step(features, out=self._answers)
            self.step_times.append(time.perf_counter_ns() - begin)
            gains, speech = self._answers[0], float(self._answers[1][0])
            bins = self._filter(gains, spectrum.energy)
        self._delayed = spectrum
        out = np.fft.irfft(bins * WINDOW).astype(np.float32) * self._window
        result = (out[:FRAME] + self._overlap) / FULL_SCALE
        self._overlap = out[FRAME:]
        return result, speech

    def _features(self, spectrum: Spectrum, period: int) -> Array:
        features = np.empty(FEATURES, np.float32)
        features[:BANDS] = np.array(floored(spectrum.energy.tolist()), np.float32) @ self._cosines
        features[0] -= 12
        features[1] -= 4
        features[BANDS : 2 * BANDS] = spectrum.correlation @ self._cosines
        features[-1] = 0.01 * (period - 300)
        return features

    def _filter(self, gains: Array, energy: Array) -> NDArray[np.complexfloating]:
        """The frame before, with the noise between its harmonics replaced by what was there a period ago, and then
        each band by its gain."""
        delayed, correlation = self._delayed, self._delayed.correlation
        c, g = np.square(correlation), np.square(gains)
        mixed = np.sqrt(np.clip(c * (1 - g) / (0.001 + g * (1 - c)), 0, 1))
        mixed[correlation > gains] = 1
        mixed *= np.sqrt(delayed.energy / (1e-8 + delayed.pitch_energy))
        bins = delayed.bins + (self._interpolate @ mixed) * delayed.pitch_bins
        norm = np.sqrt(delayed.energy / (1e-8 + band_energy(bins, self._shares)))
        # A band falls by at most 0.6 a frame, but for what its sound falls by itself.
        gains = np.maximum(gains, np.float32(0.6) * self._floor)
        self._floor = np.minimum(gains * (delayed.energy + 0.001) / (energy + 0.001), 1)
        return bins * (self._interpolate @ norm) * (self._interpolate @ gains)
