"""What int8 weights cost, against float64: statistics over more steps of the reference than an emulated CPU has time
for. There, the same bits as everywhere (test_bits.py, test_int8.py) stand for it.
"""

from __future__ import annotations

import numpy as np
import pytest

from models import KINDS, Kind, uniform


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
