"""Derives the polynomial of csrc/kernels/generic/activations.h: q(f) close to (2^f - 1) / f on [-1/2, 1/2].

Minimax in relative error by iteratively reweighted least squares (Lawson's method), first free, then with one
coefficient after the other rounded to float and the rest fitted again. Needs NumPy. Run: python tools/fit_exp2.py
"""

from __future__ import annotations

import numpy as np

DEGREE = 5
POINTS = 6000
ITERATIONS = 300

nodes = (np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS) / 2).astype(np.longdouble)
target = np.expm1(nodes * np.log(np.longdouble(2))) / nodes
powers = np.array([nodes**k for k in range(DEGREE + 1)]).T


def relative_error(coefficients: np.ndarray) -> np.ndarray:
    return np.abs(powers @ coefficients / target - 1)


def fit(fixed: dict[int, np.longdouble]) -> np.ndarray:
    """Best coefficients of those tried, with some of them given."""
    free = [k for k in range(DEGREE + 1) if k not in fixed]
    scale = np.array([np.longdouble(2) ** k for k in free])
    rest = target - sum((powers[:, k] * value for k, value in fixed.items()), np.zeros_like(target))
    weights = np.ones(POINTS) / POINTS
    best, best_error = np.zeros(DEGREE + 1, np.longdouble), np.inf
    for _ in range(ITERATIONS):
        row_scale = np.sqrt(weights).astype(np.longdouble) / target
        matrix = (powers[:, free] * row_scale[:, None] * scale).astype(np.float64)
        solution = np.linalg.lstsq(matrix, (rest * row_scale).astype(np.float64), rcond=None)[0].astype(np.longdouble)
        residual = rest * row_scale - matrix @ solution
        solution += np.linalg.lstsq(matrix, residual.astype(np.float64), rcond=None)[0]
        coefficients = np.zeros(DEGREE + 1, np.longdouble)
        for k, value in fixed.items():
            coefficients[k] = value
        coefficients[free] = solution * scale
        error = relative_error(coefficients)
        if error.max() < best_error:
            best, best_error = coefficients, error.max()
        weights = weights * (error / error.max()).astype(np.float64) + 1e-30
        weights /= weights.sum()
    return best


def main() -> None:
    print(f"unrounded: relative error {float(relative_error(fit({})).max()):.2e}")
    fixed: dict[int, np.longdouble] = {}
    for k in range(DEGREE + 1):
        fixed[k] = np.longdouble(np.float32(fit(fixed)[k]))
    coefficients = np.array([fixed[k] for k in range(DEGREE + 1)])
    print(f"rounded to float: relative error {float(relative_error(coefficients).max()):.2e}")
    for k, value in fixed.items():
        print(f"  f^{k}: {float(value).hex()}")


if __name__ == "__main__":
    main()
