"""What a target may do but return."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class FindingError(AssertionError):
    """Something that no documentation allows."""


class Refusal:
    """Whether the block raised a documented exception."""

    error: Exception | None = None

    def __bool__(self) -> bool:
        return self.error is not None


@contextmanager
def may_raise(*documented: type[Exception]) -> Iterator[Refusal]:
    """Swallows exceptions of exactly documented types and their subclasses; each must say something."""
    refusal = Refusal()
    try:
        yield refusal
    except documented as error:
        # UnicodeDecodeError and the like are ValueErrors that say nothing of the file.
        if not str(error) or (isinstance(error, UnicodeError) and UnicodeError not in documented):
            raise FindingError(f"{type(error).__name__} that tells a user nothing: {error}") from error
        refusal.error = error


def bits(result: Any) -> list[tuple[tuple[int, ...], bytes]]:
    """Shapes and bytes of the arrays of nested tuples."""
    if isinstance(result, tuple):
        return [item for part in result for item in bits(part)]
    return [] if result is None else [(result.shape, np.ascontiguousarray(result).tobytes())]


def same(actual: Any, expected: Any, what: str) -> None:
    if bits(actual) != bits(expected):
        raise FindingError(f"{what}: other bits than for plain arrays of the same values")


def check(condition: bool, what: str) -> None:
    if not condition:
        raise FindingError(what)


def shapes(result: Iterable[Any]) -> list[tuple[int, ...]]:
    return [shape for shape, _ in bits(tuple(result))]
