"""The package's interleaved timing, for the rooms of the bench."""

from .._timing import (
    FULL,
    QUICK,
    WARM_UP_CALLS,
    Clock,
    Effort,
    Runner,
    Summary,
    measure,
    no_garbage_collection,
    ratio,
    summarise,
)

__all__ = [
    "FULL",
    "QUICK",
    "WARM_UP_CALLS",
    "Clock",
    "Effort",
    "Runner",
    "Summary",
    "measure",
    "no_garbage_collection",
    "ratio",
    "summarise",
]
