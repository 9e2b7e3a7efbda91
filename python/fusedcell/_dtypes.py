"""The types in which weights are stored: of a whole layer, or of each of its matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from .errors import UnsupportedError

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16", "int8", "int8_int16"]
DtypeByName: TypeAlias = dict[str, str]

# int8_int16 are weights in int8 that multiply inputs in int16.
DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "float16", "int8", "int8_int16")
QUANTISED = ("int8", "int8_int16")
MIXED: Literal["mixed"] = "mixed"


def check_dtype(dtype: Any) -> Dtype:
    """Returns the dtype, of a name or a NumPy dtype, or raises UnsupportedError that lists what there is."""
    name = dtype.name if isinstance(dtype, np.dtype) else dtype
    for known in DTYPES:
        if isinstance(name, str) and name == known:
            return known
    raise UnsupportedError(f"dtype={dtype!r} is not supported; supported: {', '.join(DTYPES)}")


def with_inputs(dtype: Any, inputs: str | None) -> Any:
    """The dtypes, one or by name and perhaps node, in which int8 weights take inputs in `inputs`; None: as they say.

    Raises UnsupportedError for other inputs than int8 and int16, ValueError where there are no int8 weights.
    """
    if inputs is None:
        return dtype
    if inputs not in ("int8", "int16"):
        raise UnsupportedError(f"inputs={inputs!r} is not supported; supported: int8, int16")
    found = False

    def changed(given: Any) -> Any:
        nonlocal found
        if isinstance(given, Mapping):
            return {name: changed(item) for name, item in given.items()}
        name = given.name if isinstance(given, np.dtype) else given
        if name not in QUANTISED:
            return given
        found = True
        return "int8" if inputs == "int8" else "int8_int16"

    result = changed(dtype)
    if not found:
        raise ValueError(f"inputs: expected None, as dtype={dtype!r} has no int8 weights to take them, got {inputs!r}")
    return result


def common_dtype(dtypes: Sequence[Mapping[str, str]]) -> Dtype | Literal["mixed"]:
    """The dtype of all matrices, or "mixed"."""
    found = {dtype for cell in dtypes for dtype in cell.values()}
    return check_dtype(found.pop()) if len(found) == 1 else MIXED


def with_changes(
    dtypes: Sequence[Mapping[str, str]], changes: str | Mapping[str, str], suffixes: Sequence[str]
) -> list[DtypeByName]:
    """The dtypes of each layer's and direction's matrices, which are `dtypes`, after `changes`.

    `changes` is a dtype for all, or dtypes by name. A name with a suffix (weight_hh_l0) is that matrix; one without
    (weight_hh) is that of every layer and direction whose own name is not there; the rest stays.

    Raises UnsupportedError for an unknown dtype, ValueError for a name that is no matrix of the layer's.
    """
    if not isinstance(changes, Mapping):
        return [dict.fromkeys(cell, str(check_dtype(changes))) for cell in dtypes]
    names = list(dtypes[0])
    known = names + [name + suffix for suffix in suffixes if suffix for name in names]
    checked: dict[str, Dtype] = {}
    for name, dtype in changes.items():
        if name not in known:
            raise ValueError(f"dtype: {name!r} is not one of the matrices; expected {', '.join(known)}")
        try:
            checked[name] = check_dtype(dtype)
        except UnsupportedError as error:
            raise UnsupportedError(f"{name}: {error}") from None
    return [
        {name: checked.get(name + suffix, checked.get(name, before)) for name, before in cell.items()}
        for cell, suffix in zip(dtypes, suffixes, strict=True)
    ]
