"""Files of layers and cells."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ._base import check_isa
from ._file_format import to_bytes
from ._files import open_file, write_file
from ._recurrent import Recurrent
from .errors import UnsupportedError
from .layers import Layer, layer_from_bytes
from .weights.file_kinds import SAFETENSORS, kind_of
from .weights.floats import array_of

_CLASSES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
_FRAMEWORKS = ("torch", "keras", "tensorflow")


def save(layer: Recurrent, path: str | os.PathLike[str]) -> None:
    """Writes a layer or cell to a safetensors file, replacing one that is there only once all is written.

    The same layer always gives the same bytes. A file that is replaced keeps its mode and, as far as may be, its owner,
    and after an error it is as it was.
    """
    if not isinstance(layer, Recurrent) or type(layer).__name__ not in _CLASSES:
        raise TypeError(f"layer: expected a layer or a cell, got {type(layer).__name__}{_advice(layer)}")
    write_file(path, to_bytes(*layer._to_tensors()))


def _advice(value: Any) -> str:
    """What to do with something else than a layer or a cell."""
    if isinstance(value, Mapping):
        return "; a file holds one layer: make it by LSTM.from_state_dict or its siblings, and save each to its own"
    if isinstance(getattr(value, "layer", None), Layer):
        return "; save its .layer"
    if type(value).__module__.split(".")[0] in _FRAMEWORKS or hasattr(value, "state_dict"):
        return "; make layers of its recurrent parts first, by fusedcell.from_torch or from_keras"
    return ""


def load(path: str | os.PathLike[str], *, isa: str | None = None) -> Any:
    """Reads a layer or cell that :func:`save` wrote; it gives the same bits as that one did.

    Raises ValueError for a file that is damaged or of another kind, or for a pipe or a device, UnsupportedError (a
    ValueError) for one of a newer format, and what opening a file raises.
    """
    tier = check_isa(isa)
    with open_file(path) as file:
        data = file.read()
    try:
        return layer_from_bytes(data, tier)
    except ValueError as error:
        kind = None if data.startswith(b"{", 8) else kind_of(path)  # as no safetensors file starts otherwise
        advice = f"; {kind.advice}" if kind is not None and kind != SAFETENSORS else ""
        kind_of_error = UnsupportedError if isinstance(error, UnsupportedError) else ValueError
        raise kind_of_error(f"{os.fspath(path)}: {error}{advice}") from error


def from_tensors(description: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """The layer or cell of an older pickle."""
    return layer_from_bytes(to_bytes(description, {name: array_of(tensor) for name, tensor in tensors.items()}))


from_picklable = from_tensors
