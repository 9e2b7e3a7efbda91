"""Models of JSON files as guitar amplifiers and their like come in: which kind a file is, and what it becomes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from ..._files import open_file
from ...errors import UnsupportedError
from ...weights.file_kinds import JSON, advice_of
from ..spec import ModelSpec
from . import nam, rtneural, state_dicts
from .values import LARGEST_FILE, Fields, listing, parse

_Found = TypeVar("_Found")

# By a key that every file of the kind has.
_READERS = {
    "architecture": nam.read,
    "layers": rtneural.read,
    "model_data": state_dicts.read_simple_rnn,
}


def read_model(path: str | os.PathLike[str]) -> ModelSpec:
    """What a file describes. Raises ValueError that names the file and the key, UnsupportedError likewise, OSError."""
    return _of_file(path, _read)


def sample_rate(path: str | os.PathLike[str]) -> float | None:
    """Samples a second of what a file's model was trained on, None where it does not say; errors as of `read_model`."""
    return _of_file(path, _rate)


def _of_file(path: str | os.PathLike[str], read: Callable[[dict[str, Any]], _Found]) -> _Found:
    with open_file(path) as file:
        data = file.read(LARGEST_FILE + 1)
    try:
        return read(parse(data))
    except ValueError as error:
        kind = UnsupportedError if isinstance(error, UnsupportedError) else ValueError
        raise kind(f"{os.fsdecode(path)}: {error}{advice_of(path, JSON)}") from error


def _rate(model: dict[str, Any]) -> float | None:
    metadata = model.get("metadata")
    for notes in (model, metadata if isinstance(metadata, dict) else {}):
        for key in ("sample_rate", "samplerate"):
            with suppress(TypeError, ValueError, OverflowError):
                rate = float(notes[key]) if key in notes else math.nan
                if 0 < rate < math.inf:
                    return rate
    return None


def _read(model: dict[str, Any]) -> ModelSpec:
    fields = Fields(model)
    kinds = [key for key in _READERS if key in fields]
    if len(kinds) == 1:
        return _READERS[kinds[0]](fields)
    if not kinds and any(state_dicts.is_weight(name) for name in fields):
        return state_dicts.read_state_dict(fields)
    keys = listing([key[:40] for key in list(model)[:8]])
    raise ValueError(
        "expected one of the keys 'architecture' (NAM), 'layers' (RTNeural, AIDA-X), 'model_data' (GuitarML), or the "
        f"names of a PyTorch state dictionary, got {keys or 'an empty object'}"
    )
