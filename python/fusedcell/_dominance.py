"""Rows of weights that a few values dominate, of which int8 with one scale a row leaves the others few levels.

A row is dominated where its largest magnitude is more than 21 times its median one, zeros aside: then half of its
weights are at most 6 of the scale's 127 steps. A matrix is where a tenth of its rows are. Of what is no recurrent
layer's each column is first divided by its rms, as features that a rectifier leaves unused have columns of next to
nothing. The ratio that a tenth of the rows exceed is, measured on trained networks, at most 13.3 for the matrices of 31
recurrent layers that keep 30 dB or more in int8, and 35 for the one that keeps 6 dB; for 41 matrices of other nodes it
is at most 13.1, and 31 for a convolution that alone leaves its network 29 dB.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from ._dtypes import QUANTISED
from .errors import QuantizationWarning

LARGEST_RATIO = 21
LEAST_SHARE = 0.1
LEAST_WEIGHTS = 8  # of a row, below which a small median is chance
MOST_ROWS = 512  # are looked at, evenly spaced, so that astype takes little longer

_node: ContextVar[str] = ContextVar("node", default="")


@contextmanager
def of_node(name: str) -> Iterator[None]:
    """Warnings from within name the node of a model whose matrices are rounded."""
    token = _node.set(name)
    try:
        yield
    finally:
        _node.reset(token)


def ratios(matrix: npt.NDArray[np.floating], *, recurrent: bool = True) -> npt.NDArray[np.float64]:
    """Of each row, its largest magnitude over the median one of those that are not zero; 1 where these are few."""
    sizes = np.abs(matrix.astype(np.float32))
    if not recurrent:
        rms = np.sqrt(np.square(sizes, dtype=np.float64).mean(axis=0)).astype(np.float32)
        sizes /= np.where(rms > 0, rms, 1)
    sizes.sort(axis=1)
    zeros = np.count_nonzero(sizes == 0, axis=1)
    count = sizes.shape[1] - zeros
    medians = sizes[np.arange(len(sizes)), np.minimum(zeros + count // 2, sizes.shape[1] - 1)]
    # float64 has room for the largest float32 over the least.
    found: npt.NDArray[np.float64] = np.divide(
        sizes[:, -1], medians, out=np.ones(len(sizes)), where=count >= LEAST_WEIGHTS, dtype=np.float64
    )
    return found


def warn_where_dominated(name: str, matrix: npt.NDArray[np.floating], *, recurrent: bool = True) -> None:
    """Gives a QuantizationWarning if int8 will hold the matrix badly."""
    step = -(-len(matrix) // MOST_ROWS)
    found = ratios(matrix[::step], recurrent=recurrent)
    rows = np.flatnonzero(found > LARGEST_RATIO)
    if len(rows) < LEAST_SHARE * len(found):
        return
    worst, times = int(found.argmax()) * step, float(found.max())
    looked_at = "" if step == 1 else " that were looked at"
    node = _node.get()
    kept = f"{{{name!r}: 'float16', ...}}" if recurrent else "'float16'"
    changes = f"{{{node!r}: {kept}, ...}}" if node else kept
    warnings.warn(
        f"{node}{'.' if node else ''}{name}: a few weights take the int8 scale of {len(rows)} of {len(found)} rows"
        f"{looked_at}, whose largest is more than {LARGEST_RATIO} times their median one (in row {worst} {times:.4g} "
        f"times), so that half of their weights have {127 // LARGEST_RATIO} levels or fewer. Leave this matrix wider "
        f"by astype({changes}), or let fusedcell.quantization.calibrate choose; fusedcell.quantization.compare says "
        "what it costs on your data",
        QuantizationWarning,
        stacklevel=outside(),
    )


def warn_of_cells(
    before: Sequence[Mapping[str, Any]], dtypes: Sequence[Mapping[str, str]], suffixes: Sequence[str]
) -> None:
    """Of each cell's float matrices that become int8; those that have scales are int8 already."""
    for cell, types, suffix in zip(before, dtypes, suffixes, strict=True):
        for name, dtype in types.items():
            matrix = cell.get(name)
            if dtype in QUANTISED and name + "_scale" not in cell and isinstance(matrix, np.ndarray):
                warn_where_dominated(name + suffix, matrix)


def outside() -> int:
    """The stacklevel of whoever called the package."""
    level, frame = 2, sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(__package__ + "."):
        level, frame = level + 1, frame.f_back
    return level
