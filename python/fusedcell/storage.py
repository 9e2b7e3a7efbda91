"""Files of layers, cells and whole models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._base import check_isa
from ._core import holds_model
from ._file_format import to_bytes
from ._files import open_file, write_file
from ._recurrent import Recurrent
from .cells import Cell
from .errors import UnsupportedError
from .layers import Layer, layer_from_bytes
from .weights.file_kinds import ONNX, SAFETENSORS, advice_of, kind_of
from .weights.floats import array_of

if TYPE_CHECKING:
    from .model import Model

_CLASSES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
_FRAMEWORKS = ("torch", "keras", "tensorflow")


def save(layer: Recurrent | Model, path: str | os.PathLike[str]) -> None:
    """Writes a layer, a cell or a model to a safetensors file, replacing one that is there only once all is written.

    The same layer always gives the same bytes. A file that is replaced keeps its mode and, as far as may be, its owner,
    and after an error it is as it was.

    Raises TypeError for what is none of these, ValueError for a path that ends as files of others do, such as .onnx.

    >>> import numpy as np, fusedcell as fc
    >>> rnn = fc.RNN.from_state_dict({"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.ones((2, 2))})
    >>> fc.save(rnn, "rnn.safetensors")
    >>> fc.load("rnn.safetensors", isa="scalar")
    RNN(3, 2, dtype='float32', isa='scalar')
    """
    data = _bytes_of(layer)
    kind = kind_of(path)
    if kind not in (None, SAFETENSORS):
        call = "fusedcell.to_onnx(layer, path)" if isinstance(layer, Layer) else "model.to_onnx(path)"
        advice = f"; {call} writes an ONNX model" if kind == ONNX and not isinstance(layer, Cell) else ""
        raise ValueError(
            f"path: expected a name ending in .safetensors, got {os.fspath(path)!r}, which is how files of others end"
            f"{advice}"
        )
    write_file(path, data)


def _bytes_of(layer: Any) -> bytes:
    if isinstance(layer, Recurrent) and type(layer).__name__ in _CLASSES:
        return to_bytes(*layer._to_tensors())
    from .model import Model  # which who has layers alone need not load

    if isinstance(layer, Model):
        return layer._to_bytes()
    raise TypeError(f"layer: expected a layer, a cell or a Model, got {type(layer).__name__}{_advice(layer)}")


def _advice(value: Any) -> str:
    """What to do with something else."""
    if isinstance(value, Mapping):
        return "; a file holds one layer: make it by LSTM.from_state_dict or its siblings, and save each to its own"
    if isinstance(getattr(value, "layer", None), Layer):
        return "; save its .layer"
    if type(value).__module__.split(".")[0] in _FRAMEWORKS or hasattr(value, "state_dict"):
        return (
            "; make a model of it first, by fusedcell.Model.from_torch(module, example) or Model.from_keras(model), or "
            "layers of its recurrent parts, by fusedcell.from_torch or from_keras"
        )
    return ""


# Any: which class it is, is in the file, and a union would need a cast in every program that knows its files.
def load(path: str | os.PathLike[str], *, isa: str | None = None) -> Any:
    """Reads a layer, a cell or a model that :func:`save` wrote; it gives the same bits as that one did.

    Raises ValueError for a file that is damaged or of another kind, or for a pipe or a device, UnsupportedError (a
    ValueError) for one of a newer format, and what opening a file raises.
    """
    tier = check_isa(isa)
    with open_file(path) as file:
        data = file.read()
    try:
        return _from_bytes(data, tier)
    except ValueError as error:
        # As no safetensors file starts otherwise.
        advice = "" if data.startswith(b"{", 8) else advice_of(path, SAFETENSORS)
        kind_of_error = UnsupportedError if isinstance(error, UnsupportedError) else ValueError
        raise kind_of_error(f"{os.fspath(path)}: {error}{advice}") from error


def _from_bytes(data: bytes, tier: str) -> Any:
    if not holds_model(data):
        return layer_from_bytes(data, tier)
    from .model import Model

    return Model._from_bytes(data, tier)


def from_tensors(description: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """The layer or cell of an older pickle."""
    return layer_from_bytes(to_bytes(description, {name: array_of(tensor) for name, tensor in tensors.items()}))


from_picklable = from_tensors
