"""Models of JSON files as guitar amplifiers and their like come in: which kind a file is, and what it becomes."""

from __future__ import annotations

import os
from typing import Any

from ..._files import open_file
from ...errors import UnsupportedError
from ..spec import ModelSpec
from . import nam, rtneural, state_dicts
from .values import LARGEST_FILE, Fields, listing, parse

# By a key that every file of the kind has.
_READERS = {
    "architecture": nam.read,
    "layers": rtneural.read,
    "model_data": state_dicts.read_simple_rnn,
}


def read_model(path: str | os.PathLike[str]) -> ModelSpec:
    """What a file describes. Raises ValueError that names the file and the key, UnsupportedError likewise, OSError."""
    with open_file(path) as file:
        data = file.read(LARGEST_FILE + 1)
    try:
        return _read(parse(data))
    except ValueError as error:
        kind = UnsupportedError if isinstance(error, UnsupportedError) else ValueError
        raise kind(f"{os.fsdecode(path)}: {error}") from error


def _read(model: dict[str, Any]) -> ModelSpec:
    kinds = [key for key in _READERS if key in model]
    if len(kinds) == 1:
        return _READERS[kinds[0]](Fields(model))
    if not kinds and any(state_dicts.is_weight(name) for name in model):
        return state_dicts.read_state_dict(Fields(model))
    keys = listing([key[:40] for key in list(model)[:8]])
    raise ValueError(
        "expected one of the keys 'architecture' (NAM), 'layers' (RTNeural, AIDA-X), 'model_data' (GuitarML), or the "
        f"names of a PyTorch state dictionary, got {keys or 'an empty object'}"
    )
