"""Our own layers in the peers' interface: one tier and dtype each."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from .. import _core
from ..layers import GRU, LSTM, RNN
from ..runtime import isas
from .cases import Case
from .timing import Runner


def float_isas() -> list[str]:
    """The tiers of this machine, best first, without those that equal another one in all but int8."""
    alike = _core.int8_isas()
    return [isa for isa in isas() if isa not in alike]


class Tier:
    """One instruction-set tier of this library with weights of one dtype, on so many threads."""

    def __init__(self, isa: str, dtype: str = "float32", name: str = "", threads: int = 1) -> None:
        self.isa = isa
        self.dtype = dtype
        self.name = name or isa
        self.threads = threads

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
        step = self._stream(case).step
        return Runner(step, [(row, out) for row in case.rows], np.copy, "step(x, out)")

    def make_sequence(self, case: Case) -> Runner:
        """One `stream.process` a call."""
        return Runner(self._stream(case).process, [(case.inputs,)], np.copy, "process(block)")

    def _stream(self, case: Case) -> Any:
        threads = {"num_threads": self.threads} if self.threads > 1 else {}
        return cast(Any, self.make_layer(case)).stream(case.batch, **threads)
