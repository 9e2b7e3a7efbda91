"""A network that int8 loses: three LSTMs of 256 units on raw power, as speaker encoders are that take no logarithm.

Its first W is as training leaves one that reads powers over many decades: a few weights are a hundred times as large as
most, where a channel is quiet. Seeded, and not trained.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import fusedcell as fc

CHANNELS, UNITS, LAYERS = 40, 256, 3

Array = npt.NDArray[np.float32]


def speaker_encoder(units: int = UNITS, layers: int = LAYERS) -> fc.LSTM:
    """(T, B, 40) powers in, and the embedding is the last y."""
    rng = np.random.default_rng(61)
    arrays: dict[str, npt.NDArray[np.float64]] = {}
    for layer in range(layers):
        size = units if layer else CHANNELS
        weights = rng.normal(0, 0.2, (4 * units, size))
        if layer == 0:  # of median 0.28, nine in ten below 2, and a few up to 61
            weights = np.exp(rng.normal(np.log(0.09), 1.4, weights.shape)) * np.sign(weights)
            weights = np.clip(weights * loudness()[None] ** -0.2, -61, 61)
        arrays[f"weight_ih_l{layer}"] = weights
        arrays[f"weight_hh_l{layer}"] = rng.normal(0, 0.8 / np.sqrt(units), (4 * units, units))
        arrays[f"bias_ih_l{layer}"] = rng.normal(0, 0.1, 4 * units)
    return fc.LSTM.from_state_dict({name: array.astype(np.float32) for name, array in arrays.items()})


def loudness() -> npt.NDArray[np.float64]:
    """Of each channel: high ones are quiet."""
    return 10 ** -(5 * np.arange(CHANNELS) / CHANNELS)


def powers(steps: int = 160, rows: int = 8, seed: int = 0) -> Array:
    """(T, B, 40): each channel rises and falls over decades, and all of them somewhat together."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (steps + 20, rows, CHANNELS)) + 1.5 * rng.normal(0, 1, (steps + 20, rows, 1))
    smooth = np.apply_along_axis(np.convolve, 0, noise, np.ones(9) / 3, "valid")[:steps]
    return (loudness() * np.exp(1.2 * smooth)).astype(np.float32)
