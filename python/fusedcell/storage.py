"""Layers and cells as named tensors, in memory for pickle and in safetensors files. docs/file_format.md has the names.

What is stored is what the kernels see: the weights in their own type, int8 with its scales, and the biases as they
are added. So a loaded layer gives the same bits. The instruction-set tier is a matter of the machine and not stored.

The C++ library has the same rules in csrc/load; tests/test_cpp_library.py holds the two against each other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pickle import PickleBuffer
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _options
from ._base import ARRAY_NAMES, MATRIX_NAMES
from ._dtypes import check_dtype
from ._files import import_safetensors, open_file, write_file
from ._recurrent import Recurrent, make_stack
from .cell_options import CellOptions
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .errors import UnsupportedError
from .layers import GRU, LSTM, RNN, Layer
from .weights.file_kinds import SAFETENSORS, kind_of
from .weights.floats import narrowed
from .weights.state_names import cells_by_layer, layer_suffixes

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]
PlainArray: TypeAlias = tuple[str, tuple[int, ...], Any]

# The first version knows neither options nor the reverse direction, and is written where there are none.
_KEYS = {
    1: {"format_version", "class", "kind", "dtype", "batch_first"},
    2: {"format_version", "class", "kind", "dtype", "batch_first", "options", "reverse"},
}

_CLASSES: dict[str, type[Recurrent]] = {c.__name__: c for c in (RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell)}
_KINDS = {
    "RNN": ("rnn_tanh", "rnn_relu"),
    "LSTM": ("lstm",),
    "GRU": ("gru_reset_after", "gru_reset_before"),
}
_INITIAL_STATE = ("initial_h", "initial_c")
_FRAMEWORKS = ("torch", "keras", "tensorflow")
_SCALES = tuple(f"{name}_scale" for name in MATRIX_NAMES)

# How a weight type is stored: its name in safetensors files, and the NumPy type that holds its bits, as NumPy has no
# bfloat16.
_STORED = {
    "float32": ("F32", np.float32),
    "bfloat16": ("BF16", np.uint16),
    "float16": ("F16", np.float16),
    "int8": ("I8", np.int8),
}


def to_tensors(layer: Recurrent) -> tuple[dict[str, Any], Tensors]:
    """What `from_tensors` makes an equal layer or cell of: a description, and NumPy arrays by name."""
    stack = layer._stack
    description: dict[str, Any] = {
        "format_version": 1,
        "class": type(layer).__name__,
        "kind": stack.kind,
        "dtype": layer.dtype,
    }
    suffixes = layer_suffixes(stack.num_directions)
    if isinstance(layer, Layer):
        description["batch_first"] = layer.batch_first
    if stack.reverse or stack.has_peepholes or any(item != CellOptions() for item in layer.cell_options):
        description |= {"format_version": 2, "options": _options.to_json(layer.cell_options), "reverse": stack.reverse}
    tensors: Tensors = {}
    for cell, dtypes in zip(stack.arrays(), stack.dtypes, strict=True):
        suffix = next(suffixes) if isinstance(layer, Layer) else ""
        for name, array in cell.items():
            tensors[name + suffix] = narrowed(array, dtypes[name]) if name in MATRIX_NAMES else array
    if isinstance(layer, Layer) and layer._initial_state is not None:
        tensors.update(zip(_INITIAL_STATE, layer._initial_state, strict=False))
    if stack.input_scales:
        tensors["input_scales"] = np.array(stack.input_scales, np.float32)
    return description, tensors


def from_tensors(
    description: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], isa: str | None = None
) -> Any:
    """The layer or cell that `to_tensors` was given.

    Raises UnsupportedError for what this version does not know, ValueError or TypeError for what does not fit.
    """
    version = description.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version not in _KEYS:
        raise UnsupportedError(f"format_version={version!r} is not supported; supported: {', '.join(map(str, _KEYS))}")
    unknown_keys = sorted(set(description) - _KEYS[version])
    if unknown_keys:
        raise UnsupportedError(f"{unknown_keys[0]!r} is not a key of format version {version}")
    class_name, kind = str(description.get("class")), str(description.get("kind"))
    if class_name not in _CLASSES or kind not in _KINDS[class_name.removesuffix("Cell")]:
        raise UnsupportedError(f"class={class_name!r} of kind={kind!r} is not supported")
    dtype = check_dtype(str(description.get("dtype")))
    batch_first = description.get("batch_first", False)
    if not isinstance(batch_first, bool):
        raise ValueError(f"batch_first: expected a bool, got {batch_first!r}")
    reverse = description.get("reverse", False)
    if not isinstance(reverse, bool):
        raise ValueError(f"reverse: expected a bool, got {reverse!r}")
    options = _options.from_json(description.get("options", []))

    _, stored = _STORED[dtype]
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, tensor in tensors.items():
        expected = np.dtype(stored if name.startswith(MATRIX_NAMES) and not name.startswith(_SCALES) else np.float32)
        if tensor.dtype != expected:
            raise ValueError(f"{name}: expected dtype {expected}, got {tensor.dtype}")
        arrays[name] = _widened(tensor, dtype) if expected != np.float32 else tensor
    input_scales = arrays.pop("input_scales", np.empty(0, np.float32))
    if input_scales.ndim != 1:
        raise ValueError(f"input_scales: expected shape (num_layers,), got {input_scales.shape}")

    cls = _CLASSES[class_name]
    allowed = tuple(name for name in ARRAY_NAMES if version > 1 or name != "weight_peephole")
    allowed += _SCALES if dtype == "int8" else ()
    if issubclass(cls, Cell):
        unknown = sorted(set(arrays) - set(allowed))
        if unknown:
            raise UnsupportedError(f"{unknown[0]!r} is not an array of a cell; supported: {', '.join(allowed)}")
        cells = {"": arrays}
        if reverse:
            raise ValueError("reverse: expected False, as a cell has no direction, got True")
    else:
        if "initial_c" in arrays and "initial_h" not in arrays:
            raise ValueError("'initial_c' is not there without 'initial_h'")
        initial_state = [arrays.pop(name) for name in _INITIAL_STATE if name in arrays]
        cells = cells_by_layer(arrays, "", allowed)
    if dtype == "int8" and not all("weight_ih_scale" in cell for cell in cells.values()):
        raise ValueError("weight_ih_scale: missing; int8 weights need their scales")
    directions = 1 + any("_reverse" in suffix for suffix in cells)
    stack = make_stack(
        kind, cells.values(), list(cells), directions, dtype, isa, input_scales.tolist(), options, reverse
    )
    if not issubclass(cls, Layer):
        return cls._of(stack)
    layer = cls._of(stack, batch_first=batch_first)
    return layer.with_initial_state(*initial_state) if initial_state else layer


def to_picklable(layer: Recurrent, protocol: int) -> tuple[dict[str, Any], dict[str, PlainArray]]:
    """What `from_picklable` makes an equal layer or cell of, with nothing of NumPy's, whose pickles differ by version.

    From protocol 5 on the bytes are buffers, which whoever pickles may carry beside the pickle.
    """
    description, tensors = to_tensors(layer)
    return description, {name: to_plain(tensor, protocol) for name, tensor in tensors.items()}


def from_picklable(description: Mapping[str, Any], tensors: Mapping[str, PlainArray]) -> Any:
    """The layer or cell that `to_picklable` was given. Errors as for `from_tensors`."""
    return from_tensors(description, {name: from_plain(plain) for name, plain in tensors.items()})


def to_plain(array: npt.NDArray[Any], protocol: int = 0) -> PlainArray:
    """The array as its dtype's code, shape and bytes."""
    contiguous: Any = np.ascontiguousarray(array)  # for a checker that does not see a buffer in it
    data = PickleBuffer(contiguous) if protocol >= 5 else contiguous.tobytes()
    return array.dtype.str, array.shape, data


def from_plain(plain: PlainArray) -> npt.NDArray[Any]:
    """The array that `to_plain` was given."""
    code, shape, data = plain
    return np.frombuffer(data, code).reshape(shape)


def save(layer: Recurrent, path: str | os.PathLike[str]) -> None:
    """Writes a layer or cell to a safetensors file, replacing one that is there only once all is written.

    The same layer always gives the same bytes. A file that is replaced keeps its mode and, as far as may be, its owner,
    and after an error it is as it was. Needs the package safetensors (``pip install fusedcell[safetensors]``).
    """
    if not isinstance(layer, Recurrent) or type(layer).__name__ not in _CLASSES:
        raise TypeError(f"layer: expected a layer or a cell, got {type(layer).__name__}{_advice(layer)}")
    safetensors = import_safetensors()
    description, tensors = to_tensors(layer)
    specs = {}
    for name, tensor in tensors.items():
        dtype = "bfloat16" if tensor.dtype == np.uint16 else tensor.dtype.name
        specs[name] = safetensors.TensorSpec(
            dtype=dtype, shape=tensor.shape, data_ptr=tensor.ctypes.data, data_len=tensor.nbytes
        )
    # One entry, because the order of several is not defined.
    metadata = {"fusedcell": json.dumps(description, sort_keys=True)}
    write_file(path, bytes(safetensors.serialize(specs, metadata)))


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
    ValueError) for one of a newer format, and what opening a file raises. Needs the package safetensors
    (``pip install fusedcell[safetensors]``).
    """
    safetensors = import_safetensors()
    with open_file(path) as file:
        data = file.read()
    try:
        found = safetensors.deserialize(data)  # checks all of the header's offsets and sizes
    except safetensors.SafetensorError as error:
        kind = kind_of(path)
        advice = f"; {kind.advice}" if kind is not None and kind != SAFETENSORS else ""
        raise ValueError(f"{os.fspath(path)}: not a safetensors file: {error}{advice}") from error
    try:
        return from_tensors(_description(data), {name: _as_array(name, entry) for name, entry in found}, isa)
    except (ValueError, TypeError) as error:
        raise (UnsupportedError if isinstance(error, UnsupportedError) else ValueError)(
            f"{os.fspath(path)}: {error}"
        ) from error


def _description(data: bytes) -> Mapping[str, Any]:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = (header.get("__metadata__") or {}).get("fusedcell")
    if text is None:
        raise ValueError(
            "not written by fusedcell.save: its header has no entry 'fusedcell'; of a state dictionary, `fusedcell "
            "convert` makes such a file, and in Python fusedcell.LSTM.from_state_dict(path, 'lstm.') a layer"
        )
    try:
        description = json.loads(text)
    except RecursionError as error:
        raise ValueError("the header's entry 'fusedcell' is nested too deeply") from error
    if not isinstance(description, dict):
        raise ValueError("the header's entry 'fusedcell' is not an object")
    return description


def _as_array(name: str, entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    for code, stored in _STORED.values():
        if entry["dtype"] == code:
            shape: tuple[int, ...] = tuple(entry["shape"])
            return np.frombuffer(entry["data"], stored).reshape(shape)
    raise ValueError(f"{name}: dtype {entry['dtype']} is not one of a layer's")


def _widened(array: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)
