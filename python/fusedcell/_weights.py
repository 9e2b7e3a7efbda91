"""Names and defaults that cells and layers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _core
from .errors import UnsupportedError

FloatArray: TypeAlias = npt.NDArray[np.float32]
Dtype: TypeAlias = Literal["float32"]

DTYPES: tuple[Dtype, ...] = ("float32",)
NONLINEARITIES = ("tanh", "relu")
ARRAY_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def check_dtype(dtype: str) -> Dtype:
    """Returns the dtype, or raises UnsupportedError that lists what there is."""
    for known in DTYPES:
        if dtype == known:
            return known
    raise UnsupportedError(f"dtype={dtype!r} is not supported; supported: {', '.join(DTYPES)}")


def check_nonlinearity(nonlinearity: str) -> str:
    """Returns the nonlinearity, or raises UnsupportedError that lists what there is."""
    if nonlinearity not in NONLINEARITIES:
        raise UnsupportedError(
            f"nonlinearity={nonlinearity!r} is not supported; supported: {', '.join(NONLINEARITIES)}"
        )
    return nonlinearity


def make_stack(
    kind: str,
    cells: Iterable[Mapping[str, Any]],
    suffixes: Sequence[str],
    num_directions: int,
    isa: str | None,
) -> _core.Stack:
    """Packs one mapping of arrays per layer and direction; `suffixes` complete their names in errors."""
    if isa is not None and not isinstance(isa, str):
        raise TypeError(f"isa: expected a string or None, got {type(isa).__name__}")
    return _core.Stack(kind, [dict(cell) for cell in cells], list(suffixes), num_directions, isa or "")
