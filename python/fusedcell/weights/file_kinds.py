"""Kinds of files by the ends of their names, and what reads each."""

from __future__ import annotations

import os
from typing import NamedTuple

from .._files import open_file


class FileKind(NamedTuple):
    """The ends of its names, in lower case, and what reads it, for errors."""

    suffixes: tuple[str, ...]
    advice: str


_STATE_DICTIONARY = "with fusedcell.LSTM.from_state_dict(path, 'lstm.'), or GRU or RNN, and the prefix of its names"
_WHOLE_OR_LAYER = "fusedcell.Model.{0}(path), or a recurrent layer of it with fusedcell.{0}(path)"
SAFETENSORS = FileKind((".safetensors",), f"read a state dictionary {_STATE_DICTIONARY}")
PYTORCH = FileKind(
    (".pt", ".pth", ".ckpt", ".bin", ".tar"), f"read a state dictionary of PyTorch's {_STATE_DICTIONARY}"
)
KERAS = FileKind((".keras", ".h5", ".hdf5"), f"read a model of Keras with {_WHOLE_OR_LAYER.format('from_keras')}")
ONNX = FileKind((".onnx",), f"read an ONNX model with {_WHOLE_OR_LAYER.format('from_onnx')}")
JSON = FileKind((".nam", ".json", ".aidax"), "read a model of an amplifier with fusedcell.Model.from_json(path)")
_KINDS = (SAFETENSORS, PYTORCH, KERAS, ONNX, JSON)
SUFFIXES = tuple(suffix for kind in _KINDS for suffix in kind.suffixes)


def advice_of(path: str | os.PathLike[str], reader: FileKind) -> str:
    """For errors of a reader: who reads a file that ends as those of another; "" for one of its own, or of none."""
    kind = kind_of(path)
    return "" if kind is None or kind == reader else f"; {kind.advice}"


def kind_of(path: str | os.PathLike[str]) -> FileKind | None:
    """What the end of the name says; None for another."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    return next((kind for kind in _KINDS if suffix in kind.suffixes), None)


def known_kind(path: str | os.PathLike[str]) -> FileKind:
    """The kind of a file that is there; OSError where there is none, ValueError for another name."""
    kind = kind_of(path)
    if kind is None:
        open_file(path).close()
        raise ValueError(f"expected a file ending in {', '.join(SUFFIXES)}, got {os.path.basename(path)!r}")
    return kind
