"""What the machine itself allows: how fast one thread reads, from each level of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .. import _core
from ..runtime import caches
from .text import three_digits

UNKNOWN_CACHES = {"L1d": "32K", "L2": "1024K", "L3": "32768K"}
"""What is taken for this machine's where the system does not tell."""


@dataclass(frozen=True)
class ReadLimit:
    """Reading so many bytes again and again, in 10^9 bytes a second, at best."""

    nbytes: int
    gb_per_s: float


def read_us(nbytes: int, isa: str) -> float:
    """The least time in which one thread reads so many bytes in order, again and again."""
    repeats = max(5, min(200, 2**28 // max(nbytes, 1)))
    return _core.read_seconds(max(nbytes, 64), repeats, isa) * 1e6


def read_limits(isa: str) -> list[ReadLimit]:
    """One for each level of cache, and one for memory."""
    return [ReadLimit(nbytes, nbytes / read_us(nbytes, isa) / 1e3) for nbytes in level_bytes(caches())]


def level_bytes(levels: Mapping[str, str]) -> list[int]:
    """Sizes that a level of cache holds and the one before it does not, and at last one that no cache holds."""
    *inner, last = cache_bytes(levels)
    # The last cache is often shared with other cores.
    return [*(nbytes // 2 for nbytes in inner), last // 4, 2 * last]


def cache_bytes(levels: Mapping[str, str]) -> list[int]:
    """Of sizes like "48K", smallest first."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return sorted(int(size[:-1]) * units[size[-1]] for size in (levels or UNKNOWN_CACHES).values())


def limits_text(limits: Sequence[ReadLimit], isa: str) -> str:
    """One line, as those of the header are."""
    rates = ", ".join(f"{size_text(limit.nbytes)} {three_digits(limit.gb_per_s)}" for limit in limits)
    return f"{'read limit':<14} GB/s, one thread, {isa}: {rates}"


def size_text(nbytes: int) -> str:
    """In binary units."""
    return f"{nbytes >> 20} MB" if nbytes >= 2**20 else f"{nbytes >> 10} KB"
