"""Streams of models, and their states as bytes, which docs/file_format.md describes."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

import numpy as np

from . import _core
from ._stream_bytes import CHECKSUM_BYTES, check_end, checked_start, checksum, short

if TYPE_CHECKING:
    import numpy.typing as npt
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

    bind = _OfLayersAlone("step(x, out) writes in place")
    input_size = _OfLayersAlone("model.sizes has the features of each input")
    output_size = _OfLayersAlone("model.sizes has the features of each output")

    # Any, here and in norm and is_finite: an array or a pair, a number or an array follow from the model and the batch
    # size and not from the type, and a union would need a cast wherever that is known.
    @property
    def state(self) -> dict[str, Any]:
        """h, or (h, c) of an LSTM, of each layer by its node's name: copies, (num_layers, batch_size, size).

        Assigning such a mapping sets the state of the layers in it, of a decoder for example to what an encoder ended
        with; for a stream of one row arrays may be (num_layers, size). Other layers, and the rows that windows still
        need, stay as they are. All of it together is in :meth:`copy` and :meth:`to_bytes`.

        Raises TypeError or ValueError that names the layer for what is not so, and changes nothing then.
        """
        rows = [state for _, state in self._snapshot()]
        found: dict[str, Any] = {}
        for name, parts in self._layer_parts().items():
            arrays = [
                np.stack([row[len(row) + at :][: layers * size].reshape(layers, size) for row in rows], axis=1)
                for at, layers, size in parts
            ]
            found[name] = arrays[0] if len(arrays) == 1 else tuple(arrays)
        return found

    @state.setter
    def state(self, states: Mapping[str, Any]) -> None:
        if not isinstance(states, Mapping):
            raise TypeError(f"state: expected a mapping of layers' names to states, got {type(states).__name__}")
        known = self._layer_parts()
        given: list[tuple[int, npt.NDArray[np.float32]]] = []
        for name, value in states.items():
            if name not in known:
                names = ", ".join(map(repr, known)) or "none"
                raise ValueError(f"state: {name!r:.100} is no layer of this model; its layers: {names}")
            parts = known[name]
            if len(parts) == 2 and not (isinstance(value, tuple | list) and len(value) == 2):
                raise TypeError(f"state of {name!r}: expected a pair (h, c), got {type(value).__name__}")
            arrays = value if len(parts) == 2 else (value,)
            for label, (at, layers, size), array in zip("hc", parts, arrays, strict=False):
                given.append((at, self._state_array(f"state {label} of {name!r}", array, layers, size)))
        for row, (rows_in, state) in enumerate(self._snapshot()):
            for at, array in given:
                state[len(state) + at :][: array[:, row].size] = array[:, row].ravel()
            self._restore(row, rows_in, state)

    def _state_array(self, what: str, value: Any, layers: int, size: int) -> npt.NDArray[np.float32]:
        try:
            array = np.asarray(value)
        except ValueError as error:  # a ragged list
            raise TypeError(f"{what}: expected an array of floats, got {type(value).__name__}") from error
        if array.dtype.kind != "f":
            raise TypeError(f"{what}: expected an array of floats, got dtype {array.dtype}")
        expected = (layers, self.batch_size, size)
        if array.shape != expected and not (self.batch_size == 1 and array.shape == (layers, size)):
            raise ValueError(f"{what}: expected shape {expected}, got {array.shape}")
        with np.errstate(all="ignore"):
            return array.astype(np.float32).reshape(expected)

    def _layer_parts(self) -> dict[str, list[tuple[int, int, int]]]:
        """Of h, and of c where there is one, of each layer: where it is from the end of a row's state, layers, size."""
        parts: dict[str, list[tuple[int, int, int]]] = {}
        at = -self._layer_floats
        for name, layers, *sizes in self._model.states:
            parts[name] = []
            for size in filter(None, sizes):
                parts[name].append((at, layers, size))
                at += layers * size
        return parts

    def decay(self, factor: float, rows: npt.ArrayLike | None = None) -> None:
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
