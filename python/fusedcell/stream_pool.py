"""A fixed number of streams whose memory is all there from the start."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from . import _core
from ._core import Stream
from .layers import Layer
from .model import Model
from .model_stream import ModelStream

if TYPE_CHECKING:
    import numpy.typing as npt


class StreamPool(_core.StreamPool):
    """Streams of a layer or a model as slots of one block of memory, for servers: join, step, leave.

    All memory is allocated when the pool is made and :attr:`nbytes` says how much; joining, leaving and resetting touch
    the one slot alone. New slots start at the layer's ``initial_state``. One call at a time: a second thread gets a
    RuntimeError. `num_threads` is as in a call of the layer; a model's steps take one.

    ``step`` is that of :meth:`.Model.step_many` for a model, of whose slots ``state`` shows nothing.

    Raises ValueError for a capacity below 1, UnsupportedError for what has no streams.

    >>> import numpy as np, fusedcell as fc
    >>> rnn = fc.RNN.from_state_dict({"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.ones((2, 2))})
    >>> pool = fc.StreamPool(rnn, 100)
    >>> slots = [pool.join(), pool.join()]
    >>> pool.step(slots, np.ones((2, 3), np.float32)).shape
    (2, 2)
    """

    def __init__(self, layer: Layer | Model, capacity: int, *, num_threads: int = 1) -> None:
        if isinstance(layer, Model):
            if layer._arrangement is not None:
                self.__class__ = _ArrangedPool
                self._arrangement = layer._arrangement
            super().__init__(layer._core, capacity, num_threads)
        elif isinstance(layer, Layer):
            super().__init__(layer.stack, capacity, num_threads, *layer._stream_start(capacity, "capacity"))
        else:
            raise TypeError(f"layer: expected an RNN, LSTM, GRU or Model, got {type(layer).__name__}")
        self._layer = layer

    def join(self, data: bytes | None = None) -> int:
        """Takes a free slot and returns its number.

        Its state is that of a new stream, or where `data` is given, that of the stream or slot whose ``to_bytes`` gave
        it. :meth:`reset` takes it to that of a new stream in both cases.

        Raises RuntimeError if no slot is free, TypeError or ValueError for `data` as ``stream_from_bytes`` does, and
        for a state of more than one row; no slot is taken then.
        """
        if data is None:
            return super().join()
        stream = self._owner.stream_from_bytes(data)
        if stream.batch_size != 1:
            raise ValueError(f"data: expected the state of one row, got one of {stream.batch_size}")
        slot = super().join()
        _put(self, slot, stream)
        return slot

    def copy(self, slot: int) -> Stream | ModelStream:
        """A stream of one row with the state of a joined slot, which goes on independently."""
        stream = self._owner.stream()
        if isinstance(stream, ModelStream):
            stream._restore(0, *self._snapshot(slot))
        else:
            stream.state = self.state(slot)
        return stream

    def to_bytes(self, slot: int) -> bytes:
        """The state of a joined slot, as bytes for :meth:`join` of another pool or for ``stream_from_bytes``."""
        return self.copy(slot).to_bytes()

    def norm(self, slots: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
        """The L2 norm of h and c of all layers together: float64 (N,), of the given slots or all joined."""
        return np.array([self.copy(slot).norm() for slot in self._chosen(slots)], np.float64)

    def is_finite(self, slots: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_]:
        """Whether all that slots carry on is finite: bools (N,) of the given slots, or of all that have joined."""
        return np.array([self.copy(slot).is_finite() for slot in self._chosen(slots)], bool)

    def decay(self, factor: float, slots: npt.ArrayLike | None = None) -> None:
        """Takes the given slots, or all that have joined, towards what they started from, as a stream's ``decay``."""
        streams = {slot: self.copy(slot) for slot in self._chosen(slots)}
        for stream in streams.values():
            stream.decay(factor)
        for slot, stream in streams.items():
            _put(self, slot, stream)

    @property
    def _owner(self) -> Layer | Model:
        """The layer or model; TypeError where ``__init__`` has not run, as of all that is asked of such a pool."""
        _ = self.capacity
        return self._layer

    def _chosen(self, slots: npt.ArrayLike | None) -> list[int]:
        joined = self.slots
        if slots is None:
            return joined
        numbers = np.asarray(slots)
        if numbers.dtype == bool and numbers.shape != (self.capacity,):
            raise ValueError(f"slots: expected shape ({self.capacity},) for a mask, got {numbers.shape}")
        chosen: list[int] = np.ravel(np.flatnonzero(numbers) if numbers.dtype == bool else numbers).tolist()
        return chosen

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot pickle or copy a StreamPool; send pool.to_bytes(slot), which join(data) of another pool takes"
        )

    def __repr__(self) -> str:
        slots = f"{len(self)} of {self.capacity} slots, {self.nbytes} bytes"
        return f"StreamPool({self._layer!r}, {slots})"


def _put(pool: StreamPool, slot: int, stream: Any) -> None:
    """Sets a joined slot to the state of a stream of one row."""
    if isinstance(stream, ModelStream):
        pool._restore(slot, *stream._snapshot()[0])
        return
    parts, views = (given if isinstance(given, tuple) else (given,) for given in (stream.state, pool.state(slot)))
    for part, view in zip(parts, views, strict=True):
        view[:] = part[:, 0]


class _ArrangedPool(StreamPool):
    """Of a model whose arrays have axes of their own."""

    def step(self, slots: Any, x: Any, out: Any = None) -> Any:
        mask = np.asarray(slots)
        rows = int(mask.sum()) if mask.dtype == bool else mask.size
        run = super().step
        return self._arrangement.step_many(partial(run, slots), rows, x, out)
