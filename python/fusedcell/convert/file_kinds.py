"""Kinds of files by the ends of their names, and what reads each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class FileKind(NamedTuple):
    """The ends of its names, in lower case, what it is, and the call that reads it."""

    suffixes: tuple[str, ...]
    description: str
    reader: str


SAFETENSORS = FileKind(
    (".safetensors",), "named tensors", "fusedcell.LSTM.from_state_dict(path, prefix), or GRU or RNN"
)
PYTORCH = FileKind(
    (".pt", ".pth", ".ckpt", ".bin", ".tar"),
    "PyTorch's",
    "fusedcell.LSTM.from_state_dict(path, prefix), or GRU or RNN, where prefix is as in 'lstm.'",
)
KERAS = FileKind((".keras", ".h5", ".hdf5"), "Keras's", "fusedcell.from_keras(path)")
ONNX = FileKind((".onnx",), "an ONNX model", "fusedcell.from_onnx(path)")
_KINDS = (SAFETENSORS, PYTORCH, KERAS, ONNX)
SUFFIXES = tuple(suffix for kind in _KINDS for suffix in kind.suffixes)


def kind_of(path: str | os.PathLike[str]) -> FileKind | None:
    """What the end of the name says; None for another."""
    suffix = Path(path).suffix.lower()
    return next((kind for kind in _KINDS if suffix in kind.suffixes), None)


def other_reader(path: str | os.PathLike[str]) -> str:
    """For errors, of a file that somebody else reads: what it is by its name, and who; else nothing."""
    kind = kind_of(path)
    return f"is {kind.description} by its name, which {kind.reader} reads" if kind else ""
