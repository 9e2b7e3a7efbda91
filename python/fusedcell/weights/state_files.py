"""State dictionaries in files: safetensors, and what torch.save wrote, read without running anything in it.

Formats: https://huggingface.co/docs/safetensors and https://docs.pytorch.org/docs/stable/notes/serialization.html.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from .._core import safetensors_header
from .._files import open_file
from ..errors import UnsupportedError
from .file_kinds import PYTORCH, SAFETENSORS, kind_of
from .state_names import StateDict, StateDictionary
from .tensors import Stored, is_tensor

# safetensors' names of float types, with NumPy types of the same width. NumPy has no bfloat16.
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_MOST_HEADER_BYTES = 100_000_000  # that safetensors allows
_Entry: TypeAlias = tuple[str, str, tuple[int, ...], int, int]  # name, dtype, shape, where its bytes begin and end
_OBJECT = re.compile(r"GLOBAL (\S+)")  # in what PyTorch says of a class that is not of weights


@contextmanager
def open_state_dict(source: StateDict) -> Iterator[StateDictionary]:
    """The arrays or tensors of a mapping, or of a file, of which only what is asked for is read, while it is open.

    Raises UnsupportedError for a file of another kind, ValueError for one that is damaged, what opening a file raises,
    and ImportError, naming the extra, where the package that reads it is not installed.
    """
    if not isinstance(source, (str, os.PathLike)):
        yield StateDictionary(source)
        return
    path = Path(source)
    kind = kind_of(path)
    if kind == SAFETENSORS:
        with open_file(path) as file:
            yield _safetensors(path, file)
    elif kind == PYTORCH:
        yield _pytorch(path)
    else:
        open_file(path).close()  # which says so where there is none
        suffixes = ", ".join((*SAFETENSORS.suffixes, *PYTORCH.suffixes))
        raise UnsupportedError(
            f"mapping: {os.fspath(path)!r} is not a kind of file that has a state dictionary; supported: {suffixes}"
            + (f"; {kind.advice}" if kind else "")
        )


def is_own_file(path: Path) -> bool:
    """Whether fusedcell.save wrote a safetensors file. Errors as for `open_state_dict`."""
    with open_file(path) as file:
        return _header(path, file)[1]


def _header(path: Path, file: BinaryIO) -> tuple[list[_Entry], bool]:
    """The entries, and whether fusedcell.save wrote the file."""
    start = file.read(8)
    start += file.read(min(int.from_bytes(start, "little"), _MOST_HEADER_BYTES))
    try:
        return safetensors_header(start, os.fstat(file.fileno()).st_size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _safetensors(path: Path, file: BinaryIO) -> StateDictionary:
    entries, is_own = _header(path, file)
    if is_own:
        raise UnsupportedError(
            f"{path}: fusedcell.save wrote it, and options of the layer are not among its names; read it with "
            "fusedcell.load"
        )
    return StateDictionary({entry[0]: Stored(partial(_read_array, path, file, entry)) for entry in entries})


def _read_array(path: Path, file: BinaryIO, entry: _Entry) -> Any:
    name, code, shape, begin, end = entry
    if code not in _FLOATS:
        raise TypeError(f"{path}: {name}: expected a dtype of {', '.join(_FLOATS)}, got {code}")
    file.seek(begin)
    data = file.read(end - begin)
    if len(data) != end - begin:
        raise ValueError(f"{path}: {name}: the file ends before its values do")
    array = np.frombuffer(data, _FLOATS[code]).reshape(shape)
    return (array.astype(np.uint32) << 16).view(np.float32) if code == "BF16" else array


def _pytorch(path: Path) -> StateDictionary:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{path}: reading it needs PyTorch: pip install fusedcell[torch]") from error
    _check_archive(path)
    try:
        # Maps the file, so that what is never looked at is never read.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of a dozen kinds, by where the file is damaged
        found = _OBJECT.search(str(error))
        if found:
            raise UnsupportedError(
                f"{path}: not a file of weights alone: it holds objects, of {found[1][:100]!r} for one, and to make "
                "them would run code; supported: state dictionaries. Where those classes are known, load it and pass "
                "the model to fusedcell.Model.from_torch(module, example), or its recurrent module to "
                "fusedcell.from_torch, or save the weights alone, torch.save(model.state_dict(), path)"
            ) from error
        raise ValueError(f"{path}: not a file of weights alone, or damaged: {_first_line(error)}") from error
    if not isinstance(content, Mapping):
        raise UnsupportedError(f"{path}: expected a state dictionary, got {type(content).__name__}")
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    return StateDictionary(
        named, lambda name, value: Stored(partial(_checked_extent, path, name, value)) if is_tensor(value) else value
    )


def _check_archive(path: Path) -> None:
    """Refuses what torch.load would read, but not within the bounds of the file's size."""
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
            raise ValueError(
                f"{path}: not an archive that torch.save writes since PyTorch 1.6, or damaged: {error}; a file of an "
                "older version becomes one where PyTorch loads it and saves it again"
            ) from error
    if any(entry.filename.rpartition("/")[2] == "constants.pkl" for entry in entries):
        raise UnsupportedError(
            f"{path}: is a TorchScript archive; supported: state dictionaries. Load it with torch.jit.load, and pass "
            "it to fusedcell.Model.from_torch(module, example), or the recurrent module in it to fusedcell.from_torch"
        )
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{path}: {entry.filename!r} in it is compressed, which torch.save does not do")


def _checked_extent(path: Path, name: str, value: Any) -> Any:
    """A few bytes can be the storage of a tensor of any size, by strides of zero."""
    if str(value.layout) == "torch.strided":
        size = value.untyped_storage().nbytes()
        if value.numel() > size:
            raise ValueError(f"{path}: {name} of shape {tuple(value.shape)} is stored in {size} bytes")
    return value


def _first_line(error: Exception) -> str:
    # What follows in PyTorch's messages is advice to load without that safety.
    return f"{type(error).__name__}: {str(error).partition('. ')[0].splitlines()[0] if str(error) else ''}"
