"""Published hashes of results: golden.json, written from models of the arithmetic and not by any kernel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).with_name("golden.json")


def digest(arrays: Iterable[np.ndarray | None]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays if array is not None)).hexdigest()


def published(name: str) -> str:
    hashes: dict[str, str] = json.loads(PATH.read_text())
    return hashes[name]


def assert_published(
    name: str, arrays: Sequence[np.ndarray | None], modelled: Callable[[], Iterable[np.ndarray | None]]
) -> None:
    """Holds arrays against their hash; where they differ, against the model, which is slow, to show where."""
    if digest(arrays) == published(name):
        return
    for array, expected in zip(arrays, modelled(), strict=True):
        if array is not None:
            np.testing.assert_array_equal(array, expected)
    pytest.fail(f"the model and golden.json differ in {name}")
