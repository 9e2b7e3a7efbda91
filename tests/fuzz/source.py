"""Draws from bytes, so that whoever changes the bytes changes the case: a fuzzer, or nobody for a known case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """Reads bytes from the front, and zeros at the end; zero draws the first, plainest choice everywhere."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._data)

    def below(self, end: int) -> int:
        """A number from 0 to end - 1, of at most 256."""
        self._at += 1
        return 0 if self._at > len(self._data) else self._data[self._at - 1] % end

    def chance(self, end: int) -> bool:
        """Once in so many times, never for a byte of zero."""
        return self.below(end) == end - 1

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]
