"""Derives the polynomial of csrc/kernels/generic/functions.h: p(u) close to (z + 4) e^(z^2 / 2) Q(z), z from 0 to 14.

Q(z) is the normal distribution's upper tail, and u = (z - 4) / (z + 4). Run: python tools/fit_normal_tail.py
"""

from __future__ import annotations

import numpy as np
from minimax import Fit

MIDDLE = 4.0
LAST = 14.0


def scaled_tail(z: np.ndarray) -> np.ndarray:
    """e^(z^2 / 2) Q(z), which is an integral of e^(-s^2 - sqrt(2) z s) over s, by Gauss's rule."""
    points, weights = np.polynomial.legendre.leggauss(120)
    s = 3.5 * (points + 1)  # from 0 to 7, where e^(-s^2) is below 1e-21
    return np.exp(-(s**2) - np.sqrt(2) * np.outer(z, s)) @ (3.5 * weights) / np.sqrt(np.pi)


def function(u: np.ndarray) -> np.ndarray:
    z = (MIDDLE * (1 + u) / (1 - u)).astype(np.float64)
    return (scaled_tail(z) * (z + MIDDLE)).astype(np.longdouble)


if __name__ == "__main__":
    Fit(function, -1.0, (LAST - MIDDLE) / (LAST + MIDDLE), degree=9, reach=1.0).report("u")
