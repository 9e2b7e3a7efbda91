"""What weights, dtypes and kinds are called, and the types of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _core
from .errors import UnsupportedError

FloatArray: TypeAlias = npt.NDArray[np.float32]


class Kind(NamedTuple):
    """A kind of cell.

    - class_name: of its layers; that of its cells ends in Cell
    - gates: a letter for each, in the order of the rows of the weights
    - activations: as PyTorch has them, in the order of :class:`fusedcell.CellOptions`
    """

    class_name: str
    gates: str
    activations: tuple[str, ...]


_GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}
_CLASSES = {kind: kind.partition("_")[0].upper() for kind in _core.kinds()}

KINDS = {kind: Kind(_CLASSES[kind], _GATES[_CLASSES[kind]], usual) for kind, usual in _core.kinds().items()}

NONLINEARITIES = ("tanh", "relu")
_IN_WORDS = {1: "one gate", 3: "three gates", 4: "four gates"}
GATES = {name: (len(letters), _IN_WORDS[len(letters)]) for name, letters in _GATES.items()}
ARRAY_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole")


def check_nonlinearity(nonlinearity: str) -> str:
    """Returns the nonlinearity, or raises UnsupportedError that lists what there is."""
    if nonlinearity not in NONLINEARITIES:
        raise UnsupportedError(
            f"nonlinearity={nonlinearity!r} is not supported; supported: {', '.join(NONLINEARITIES)}"
        )
    return nonlinearity


def check_isa(isa: str | None) -> str:
    """The tier's name, "" for the best; TypeError for what is no name."""
    if isa is not None and not isinstance(isa, str):
        raise TypeError(f"isa: expected a string or None, got {type(isa).__name__}")
    return isa or ""


def class_of_gates(weight_hh: Any, weight_hr: Any = None) -> str:
    """The class whose number of gates an array has by its shape, "" where that is none's."""
    shape: tuple[int, ...] = tuple(getattr(weight_hh, "shape", ()))
    hidden = shape if weight_hr is None else tuple(getattr(weight_hr, "shape", ()))
    if len(shape) != 2 or len(hidden) != 2 or shape[0] < 1:
        return ""
    return next((name for name, (gates, _) in GATES.items() if shape[0] == gates * hidden[1]), "")


def check_gates(kind: str, arrays: Mapping[str, Any], suffix: str) -> None:
    """Raises ValueError for arrays of one of the other kinds of layer or cell, by the number of their gates."""
    asked, weight_hh = kind.partition("_")[0].upper(), arrays.get("weight_hh")
    found = class_of_gates(weight_hh, arrays.get("weight_hr"))
    if weight_hh is not None and found not in ("", asked):
        rows = f"{GATES[asked][0]} * hidden_size".removeprefix("1 * ")
        raise ValueError(
            f"weight_hh{suffix}: expected shape ({rows}, hidden_size), got {tuple(weight_hh.shape)}, which has "
            f"{GATES[found][1]}: use fusedcell.{found}{'' if suffix else 'Cell'}"
        )


def describe_as(cls: type, base: type) -> None:
    """What holds for all of a base's subclasses is written once, below the first line of its own, and shown of each."""
    cls.__doc__ = (cls.__doc__ or "") + "".join((base.__doc__ or "").partition("\n")[1:])
