"""What int8 weights cost, against float64 and float32: statistics over more steps than an emulated CPU has time for.
There, the same bits as everywhere (test_bits.py, test_int8.py) stand for it.
"""

from __future__ import annotations

import numpy as np
import pytest

from models import EVERY_KIND, KINDS, Kind, uniform


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_float32_adds_no_error_to_the_quantisation(kind: Kind) -> None:
    mapping = kind.weights(40, 100)
    x = uniform(24, 1000, 4, 40)
    exact, _ = kind.expected(x, mapping)
    error, modelled = (
        np.sqrt(((y - exact) ** 2).mean())
        for y in (kind.make(mapping, dtype="int8")(x)[0], kind.expected(x, mapping, int8=True)[0])
    )
    # Float rounding is 1e-6 of h at most in rms. It also tips some q over at their ties, where the error has the same
    # square on either side: expectations agree, and the chance in N squares, were they all drawn anew, is 1 / sqrt(N).
    # Of 400,000 values of h at least one in ten is independent, as the networks forget within ten steps.
    assert error == pytest.approx(modelled, rel=1 / np.sqrt(400_000 / 10), abs=1e-6)


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
@pytest.mark.parametrize("hidden_size", [32, 100])
def test_the_error_stays_small_and_does_not_grow(kind: Kind, hidden_size: int) -> None:
    mapping = kind.weights(40, hidden_size)
    layer = kind.make(mapping)
    x = uniform(24, 1000, 4, 40)
    error = layer.astype("int8")(x)[0].astype(np.float64) - layer(x)[0]
    rms = np.sqrt((error**2).mean(axis=(1, 2)))
    assert np.sqrt((rms**2).mean()) <= 5e-3
    assert rms[900:].mean() <= 1.5 * rms[10:110].mean()
