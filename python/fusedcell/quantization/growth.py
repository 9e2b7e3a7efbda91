"""Whether an error stays as it is or grows with time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Before step 10 the state is still filling, and so is its error.
_START = 10
_LEAST_STEPS = 20
_STATIONARY = (0.67, 1.5)


def growth_of(mean_squares: npt.NDArray[np.float64]) -> float | None:
    """The rms over the last tenth of the steps divided by that over as many from step 10 on.

    inf if the early ones are 0, None if both are, or for fewer than 20 steps.
    """
    steps = len(mean_squares)
    if steps < _LEAST_STEPS:
        return None
    length = steps // 10
    early, last = float(mean_squares[_START : _START + length].mean()), float(mean_squares[-length:].mean())
    if early == 0:
        return None if last == 0 else float("inf")
    return float(np.sqrt(last / early))


def in_words(growth: float | None, steps: int) -> str:
    """Such as "is stationary (x1.02 from step 10 to 1000)"."""
    if steps < _LEAST_STEPS:
        return f"may grow or not: telling takes {_LEAST_STEPS} steps"
    if growth is None:
        return "is gone at the last steps"
    low, high = _STATIONARY
    word = "fades" if growth < low else "grows" if growth > high else "is stationary"
    return f"{word} (x{growth:.2f} from step {_START} to {steps})"
