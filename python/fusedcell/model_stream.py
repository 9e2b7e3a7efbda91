"""Streams of models, and their states as bytes, which docs/file_format.md describes."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

import numpy as np

from . import _core
from ._stream_bytes import CHECKSUM_BYTES, check_end, checked_start, checksum, short

if TYPE_CHECKING:
    from typing_extensions import Self

_MAGIC = b"\x89fcm\r\n\x1a\n"  # as PNG's: what a transfer in text mode would change
_VERSION = 1
_HEADER = struct.Struct("<8sHHIQ32s")  # magic, version, two zeros, rows, fingerprint

_files: WeakKeyDictionary[_core.Model, bytes] = WeakKeyDictionary()
_fingerprints: WeakKeyDictionary[_core.Model, bytes] = WeakKeyDictionary()


class _OfLayersAlone:
    """An attribute of layers' streams: reading or setting it says what there is instead."""

    def __init__(self, instead: str) -> None:
        self._instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, stream: object, owner: type) -> NoReturn:
        raise AttributeError(f"stream: {self._name!r} is of layers' streams; of a model's, {self._instead}")

    def __set__(self, stream: object, value: object) -> NoReturn:
        self.__get__(stream, type(stream))


class ModelStream(_core.ModelStream):
    """The state of one sequence, or of a batch of them, that goes through a model in any pieces.

    Made by :meth:`.Model.stream`. The inputs and answers of a stream of one row have no batch axis.
    """

    state = _OfLayersAlone("copy(), to_bytes() and model.stream_from_bytes(data) keep and set what is carried on")
    bind = _OfLayersAlone("step(x, out) writes in place")
    input_size = _OfLayersAlone("model.sizes has the features of each input")
    output_size = _OfLayersAlone("model.sizes has the features of each output")

    def decay(self, factor: float, rows: Any = None) -> None:
        """Takes what sequences carry on, s, towards what they begin with: s becomes factor * s + (1 - factor) * s_0.

        It is computed in float64 and rounded once. s is h and c of layers, and the rows that windows still need, which
        begin with zeros. `rows` are as for ``reset``; each counts once.

        Raises ValueError unless factor is from 0 to 1.
        """
        share = float(factor)
        if not 0 <= share <= 1:
            raise ValueError(f"factor: expected a number from 0 to 1, got {share!r}")
        numbers = np.arange(self.batch_size)
        chosen = numbers if rows is None else np.unique(numbers[np.asarray(rows)])
        ((_, start),) = type(self)(self._model)._snapshot()
        snapshot = self._snapshot()
        for row in chosen.tolist():
            rows_in, state = snapshot[row]
            begin = np.zeros(len(state))
            begin[len(state) - self._layer_floats :] = start[len(start) - self._layer_floats :]
            self._restore(row, rows_in, (share * state + (1 - share) * begin).astype(np.float32))

    def norm(self) -> Any:
        """The L2 norm of h and c of all layers together: a float, or float64 (batch_size,) of several rows."""
        layers = self._layer_floats
        norms = [np.linalg.norm(state[len(state) - layers :].astype(np.float64)) for _, state in self._snapshot()]
        return float(norms[0]) if len(norms) == 1 else np.array(norms)

    def is_finite(self) -> Any:
        """Whether all that sequences carry on is finite: a bool, or bools (batch_size,) of several rows."""
        finite = [bool(np.isfinite(state).all()) for _, state in self._snapshot()]
        return finite[0] if len(finite) == 1 else np.array(finite)

    def copy(self) -> Self:
        """A stream with the same state that goes on independently."""
        return type(self)(self)

    def to_bytes(self) -> bytes:
        """The state, as bytes for :meth:`.Model.stream_from_bytes`, also of another process or machine."""
        rows = self._snapshot()
        counts = np.array([rows_in for rows_in, _ in rows], "<i8")
        states = [state.astype("<f4", copy=False).tobytes() for _, state in rows]
        header = _HEADER.pack(_MAGIC, _VERSION, 0, 0, len(rows), _fingerprint(self._model))
        content = b"".join([header, counts.tobytes(), *states])
        return content + checksum(content)

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: Any, /) -> Self:
        return self.copy()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot pickle a ModelStream; send stream.to_bytes(), which model.stream_from_bytes(data) takes"
        )

    def __repr__(self) -> str:
        names = ", ".join(name for name, *_ in self._model.inputs)
        return f"ModelStream({names}; batch_size={self.batch_size})"


def set_file(model: _core.Model, data: bytes) -> None:
    """The file of a model, by which states know it."""
    _files[model] = data


def _fingerprint(model: _core.Model) -> bytes:
    """SHA-256 of all that decides an answer but the instruction-set tier: the same on every machine."""
    known = _fingerprints.get(model)
    if known is None:
        known = _fingerprints[model] = hashlib.sha256(_files[model]).digest()
    return known


def stream_from_bytes(
    make: Callable[..., ModelStream], model: _core.Model, data: bytes, num_threads: int
) -> ModelStream:
    """The stream whose `to_bytes` gave `data`, of this model; TypeError or ValueError that says what is wrong."""
    row = ModelStream(model)
    content = checked_start(data, _MAGIC, _HEADER.size)
    _, version, *zeros, batch, made_of = _HEADER.unpack_from(content)
    if version != _VERSION or any(zeros):
        raise ValueError(f"data: expected version {_VERSION} of the format, got {version}")
    start = _HEADER.size + 8 * batch
    if batch < 1 or start > len(content):
        raise ValueError(f"data: cut or altered: expected at least 1 row and the counts of all, got {batch} rows")
    fingerprint = _fingerprint(model)
    if made_of != fingerprint:
        raise ValueError(
            f"data: expected a state of this model, {short(fingerprint)}, got one of {short(made_of)}, which has other "
            "nodes, weights or dtypes"
        )
    counts = np.frombuffer(content, "<i8", batch, _HEADER.size).tolist()
    sizes = [row._state_floats(rows_in) for rows_in in counts]
    check_end(content, start + 4 * sum(sizes) + CHECKSUM_BYTES, "rows")
    stream = make(model, batch, num_threads)
    for place, (rows_in, floats) in enumerate(zip(counts, sizes, strict=True)):
        stream._restore(place, rows_in, np.frombuffer(content, "<f4", floats, start).astype(np.float32))
        start += 4 * floats
    return stream
