"""Derives the polynomial of csrc/kernels/generic/activations.h: q(f) close to (2^f - 1) / f on [-1/2, 1/2].

Run: python tools/fit_exp2.py
"""

from __future__ import annotations

import numpy as np
from minimax import Fit


def function(f: np.ndarray) -> np.ndarray:
    return np.expm1(f * np.log(np.longdouble(2))) / f


if __name__ == "__main__":
    Fit(function, -0.5, 0.5, degree=5, reach=0.5).report("f")
