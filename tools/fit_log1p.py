"""Derives the polynomial of csrc/kernels/generic/general.h: p(u) close to log((1 + s) / (1 - s)) / s on [0, 1/9].

u = s^2, and s = t / (2 + t) makes it log1p(t) / s for t from 0 to 1. Run: python tools/fit_log1p.py
"""

from __future__ import annotations

import numpy as np
from minimax import Fit


def function(u: np.ndarray) -> np.ndarray:
    s = np.sqrt(u)
    return (np.log1p(s) - np.log1p(-s)) / s


if __name__ == "__main__":
    Fit(function, 0.0, 1 / 9, degree=4, reach=1 / 9).report("u")
