"""Minimax polynomials in relative error, with coefficients that are floats.

Iteratively reweighted least squares (Lawson's method), first free, then with one coefficient after the other rounded to
float and the rest fitted again. Needs NumPy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

POINTS = 6000
ITERATIONS = 300


class Fit:
    """A polynomial of some degree close to `function` on [low, high], which takes and returns longdoubles."""

    def __init__(
        self, function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int, reach: float
    ) -> None:
        angles = np.pi * (np.arange(POINTS) + 0.5) / POINTS
        nodes = (low + (high - low) * (1 + np.cos(angles)) / 2).astype(np.longdouble)
        self.degree = degree
        self.target = function(nodes)
        self.powers = np.array([nodes**k for k in range(degree + 1)]).T
        # Unknowns of about one size, for the sake of the linear algebra, which is in double.
        self.scales = np.array([np.longdouble(reach) ** -k for k in range(degree + 1)])

    def relative_error(self, coefficients: np.ndarray) -> np.ndarray:
        return np.abs(self.powers @ coefficients / self.target - 1)

    def solve(self, fixed: dict[int, np.longdouble]) -> np.ndarray:
        """Best coefficients of those tried, with some of them given."""
        free = [k for k in range(self.degree + 1) if k not in fixed]
        rest = self.target - sum((self.powers[:, k] * v for k, v in fixed.items()), np.zeros_like(self.target))
        weights = np.ones(POINTS) / POINTS
        best, best_error = np.zeros(self.degree + 1, np.longdouble), np.inf
        for _ in range(ITERATIONS):
            row_scale = np.sqrt(weights).astype(np.longdouble) / self.target
            matrix = (self.powers[:, free] * row_scale[:, None] * self.scales[free]).astype(np.float64)
            right = (rest * row_scale).astype(np.float64)
            solution = np.linalg.lstsq(matrix, right, rcond=None)[0].astype(np.longdouble)
            residual = rest * row_scale - matrix @ solution
            solution += np.linalg.lstsq(matrix, residual.astype(np.float64), rcond=None)[0]
            coefficients = np.zeros(self.degree + 1, np.longdouble)
            for k, value in fixed.items():
                coefficients[k] = value
            coefficients[free] = solution * self.scales[free]
            error = self.relative_error(coefficients)
            if error.max() < best_error:
                best, best_error = coefficients, error.max()
            weights = weights * (error / error.max()).astype(np.float64) + 1e-30
            weights /= weights.sum()
        return best

    def report(self, variable: str) -> None:
        """Prints the coefficients, rounded one by one from the constant on, and the errors before and after."""
        print(f"unrounded: relative error {float(self.relative_error(self.solve({})).max()):.2e}")
        fixed: dict[int, np.longdouble] = {}
        for k in range(self.degree + 1):
            fixed[k] = np.longdouble(np.float32(self.solve(fixed)[k]))
        coefficients = np.array([fixed[k] for k in range(self.degree + 1)])
        print(f"rounded to float: relative error {float(self.relative_error(coefficients).max()):.2e}")
        for k, value in fixed.items():
            print(f"  {variable}^{k}: {float(value).hex()}")
