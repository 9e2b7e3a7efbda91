"""Our own layers in the peers' interface: one tier and dtype each."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from .. import _core
from .._base import FloatArray
from .._timing import Runner
from ..layers import GRU, LSTM, RNN
from ..runtime import isas
from ..stream_pool import StreamPool
from .answers import Tolerance, our_tolerance
from .cases import Case, Kind

OURS = "fusedcell"
"""The variant that others are compared with, but where variants are numbers of threads or ways to step streams."""


def float_isas() -> list[str]:
    """The tiers of this machine, best first, without those that equal another one in all but int8."""
    alike = _core.int8_isas()
    return [isa for isa in isas() if isa not in alike]


class Tier:
    """One instruction-set tier of this library with weights of one dtype, on so many threads."""

    def __init__(self, isa: str, dtype: str = "float32", name: str = OURS, threads: int = 1) -> None:
        self.isa = isa
        self.dtype = dtype
        self.name = name
        self.threads = threads

    def tolerance_of(self, case: Case) -> Tolerance:
        """How far its answers may be off."""
        return our_tolerance(case.size, self.dtype)

    def make(self, case: Case, kind: Kind) -> Runner:
        """A runner from state zero."""
        return self.make_sequence(case) if kind == "sequence" else self.make_step(case)

    def make_layer(self, case: Case) -> LSTM | GRU | RNN:
        """The layer alone."""
        weights, dtype, isa = case.weights, self.dtype, self.isa
        if case.cell == "lstm":
            return LSTM.from_state_dict(weights, dtype=dtype, isa=isa)
        if case.cell == "rnn":
            return RNN.from_state_dict(weights, dtype=dtype, isa=isa)
        return GRU.from_state_dict(weights, reset_after=case.cell == "gru", dtype=dtype, isa=isa)

    def make_step(self, case: Case) -> Runner:
        """One `stream.step` a call, into an array that is there already."""
        out = np.empty(case.step_shape, np.float32)
        return Runner(self._stream(case).step, [(row, out) for row in case.rows], np.copy, "step(x, out)")

    def make_sequence(self, case: Case) -> Runner:
        """One `stream.process` a call."""
        return Runner(self._stream(case).process, [(case.inputs,)], np.copy, "process(block)")

    def _stream(self, case: Case) -> Any:
        threads = {"num_threads": self.threads} if self.threads > 1 else {}
        return cast(Any, self.make_layer(case)).stream(case.batch, **threads)


class StreamsTier(Tier):
    """One step of many scattered streams a call, in the way that the name says; the answer is (1, B, H)."""

    WAYS = ("step_many", "step", "pool")

    def make_step(self, case: Case) -> Runner:
        """All get their inputs in one array but for the streams that step one after the other, which get its rows."""
        layer = self.make_layer(case)
        out = np.empty(case.step_shape, np.float32)
        if self.name == "pool":
            pool = StreamPool(layer, case.batch)
            slots = [pool.join() for _ in range(case.batch)]
            return Runner(pool.step, [(slots, block, out) for block in case.rows], _as_one_step)
        streams = [layer.stream() for _ in range(case.batch)]
        if self.name == "step_many":
            return Runner(layer.step_many, [(streams, block, out) for block in case.rows], _as_one_step)
        steps = [(stream.step, y) for stream, y in zip(streams, out, strict=True)]

        def one_by_one(rows: list[FloatArray]) -> FloatArray:
            for (step, y), x in zip(steps, rows, strict=True):
                step(x, y)
            return out

        return Runner(one_by_one, [(list(block),) for block in case.rows], _as_one_step)


def _as_one_step(y: FloatArray) -> FloatArray:
    h: FloatArray = y[None].copy()
    return h
