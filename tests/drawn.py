"""Tests of drawn cases: how many they draw, and how far the answers are from what is expected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import settings, target


def examples(count: int) -> int:
    """So many cases in every run, and more by the profile "thorough" (conftest.py)."""
    return count * settings().max_examples // 100


def note_difference(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    """Has Hypothesis report the largest difference of all cases, absolute up to 1 and relative beyond.

    In a thorough run it also looks for cases that make it larger.
    """
    largest = 0.0
    for a, e in zip(actual, expected, strict=True):
        if a.shape == e.shape and a.size:  # else the test is about to fail
            e = e.astype(np.float64)
            with np.errstate(invalid="ignore"):
                difference = np.abs(a - e) / (1 + np.abs(e))
            largest = max(largest, float(np.nan_to_num(difference, nan=0.0, posinf=0.0).max()))
    target(largest, label="largest difference")
