"""A fixed number of streams whose memory is all there from the start."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from . import _core
from .layers import Layer
from .model import Model


class StreamPool(_core.StreamPool):
    """Streams of a layer or a model as slots of one block of memory, for servers: join, step, leave.

    All memory is allocated when the pool is made and :attr:`nbytes` says how much; joining, leaving and resetting touch
    the one slot alone. New slots start at the layer's ``initial_state``. One call at a time: a second thread gets a
    RuntimeError. `num_threads` is as in a call of the layer; a model's steps take one.

    ``step`` is that of :meth:`.Model.step_many` for a model, of whose slots ``state`` shows nothing.

    Raises ValueError for a capacity below 1, UnsupportedError for what has no streams.
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

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot pickle or copy a StreamPool; set the state of a stream, or of a slot of another pool, from "
            "pool.state(slot)"
        )

    def __repr__(self) -> str:
        slots = f"{len(self)} of {self.capacity} slots, {self.nbytes} bytes"
        return f"StreamPool({self._layer!r}, {slots})"


class _ArrangedPool(StreamPool):
    """Of a model whose arrays have axes of their own."""

    def step(self, slots: Any, X: Any, out: Any = None) -> Any:
        mask = np.asarray(slots)
        rows = int(mask.sum()) if mask.dtype == bool else mask.size
        run = super().step
        return self._arrangement.step_many(lambda x: run(slots, x), rows, X, out)
