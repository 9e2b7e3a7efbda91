"""State dictionaries in files: safetensors, and what torch.save wrote, read without running anything in it.

Formats: https://huggingface.co/docs/safetensors and https://docs.pytorch.org/docs/stable/notes/serialization.html.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._files import open_file
from ..errors import UnsupportedError
from ..storage import import_safetensors
from .torch_tensors import is_tensor

# safetensors' names of float types, with NumPy types of the same width. NumPy has no bfloat16.
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_PYTORCH = (".pt", ".pth")


def read_state_dict(path: str | os.PathLike[str], prefix: str) -> dict[str, Any]:
    """The arrays or tensors of a file whose names start with `prefix`; of the others no values are read.

    Raises UnsupportedError for a file of another kind, ValueError for one that is damaged, what opening a file raises,
    and ImportError, naming the extra, where the package that reads it is not installed.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path, prefix)
    if path.suffix in _PYTORCH:
        return _read_pytorch(path, prefix)
    raise UnsupportedError(
        f"mapping: {os.fspath(path)!r} is a file of an unknown kind; supported: .safetensors, {', '.join(_PYTORCH)}"
    )


def _read_safetensors(path: Path, prefix: str) -> dict[str, Any]:
    safetensors = import_safetensors()
    with open_file(path) as file:
        try:
            with safetensors.safe_open(path, framework="numpy"):
                pass  # has checked all of the header's sizes and offsets
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file: {error}") from error
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if "fusedcell" in (header.get("__metadata__") or {}):
            raise UnsupportedError(
                f"{path}: fusedcell.save wrote it, and options of the layer are not among its names; read it with "
                "fusedcell.load"
            )
        arrays = {}
        for name, entry in header.items():
            if name != "__metadata__" and name.startswith(prefix):
                file.seek(8 + size + entry["data_offsets"][0])
                arrays[name] = _read_array(file, f"{path}: {name}", entry)
        return arrays


def _read_array(file: Any, name: str, entry: Mapping[str, Any]) -> Any:
    code = entry["dtype"]
    if code not in _FLOATS:
        raise TypeError(f"{name}: expected a dtype of {', '.join(_FLOATS)}, got {code}")
    shape = entry["shape"]
    first, last = entry["data_offsets"]
    # Checked once more, as another name of the same key could have been what the library saw.
    if last - first != math.prod(shape) * np.dtype(_FLOATS[code]).itemsize:
        raise ValueError(f"{name}: shape {shape} does not fit {last - first} bytes")
    data = file.read(last - first)
    if len(data) != last - first:
        raise ValueError(f"{name}: the file ends before its values do")
    array = np.frombuffer(data, _FLOATS[code]).reshape(shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if code == "BF16" else array


def _read_pytorch(path: Path, prefix: str) -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{path}: reading it needs PyTorch: pip install fusedcell[torch]") from error
    _check_archive(path)
    try:
        # Maps the file, so that what is never looked at is never read.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of a dozen kinds, by where the file is damaged
        raise ValueError(f"{path}: not a file of weights alone, or damaged: {_first_line(error)}") from error
    if not isinstance(content, Mapping):
        raise UnsupportedError(f"{path}: expected a state dictionary, got {type(content).__name__}")
    found = {name: value for name, value in content.items() if isinstance(name, str) and name.startswith(prefix)}
    for name, value in found.items():
        if is_tensor(value):
            _check_extent(path, name, value)
        elif isinstance(value, Mapping):
            raise UnsupportedError(
                f"{path}: {name!r} is a dictionary in it, not a tensor; where that holds the weights, pass "
                f"torch.load(path, weights_only=True)[{name!r}]"
            )
    return found


def _check_archive(path: Path) -> None:
    """Refuses what torch.load would read, but not within the bounds of the file's size."""
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
            raise ValueError(
                f"{path}: not an archive that torch.save writes since PyTorch 1.6, or damaged: {error}"
            ) from error
    if any(entry.filename.rpartition("/")[2] == "constants.pkl" for entry in entries):
        raise UnsupportedError(
            f"{path}: is a TorchScript archive; supported: state dictionaries. Load it with torch.jit.load, and pass "
            "the recurrent module in it to fusedcell.from_torch"
        )
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{path}: {entry.filename!r} in it is compressed, which torch.save does not do")


def _check_extent(path: Path, name: str, tensor: Any) -> None:
    """A few bytes can be the storage of a tensor of any size, by strides of zero."""
    if str(tensor.layout) == "torch.strided" and tensor.numel() > tensor.untyped_storage().nbytes():
        raise ValueError(
            f"{path}: {name} of shape {tuple(tensor.shape)} is stored in {tensor.untyped_storage().nbytes()} bytes"
        )


def _first_line(error: Exception) -> str:
    # What follows in PyTorch's messages is advice to load without that safety.
    return f"{type(error).__name__}: {str(error).partition('. ')[0].splitlines()[0] if str(error) else ''}"
