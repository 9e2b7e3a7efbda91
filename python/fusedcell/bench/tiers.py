"""Our own layers in the peers' interface: one tier each."""

from __future__ import annotations

import numpy as np

from ..layers import GRU, LSTM, RNN
from .cases import Case
from .timing import Runner


class Tier:
    """One instruction-set tier of this library, on the calling thread."""

    def __init__(self, isa: str) -> None:
        self.name = isa

    def make_layer(self, case: Case) -> LSTM | GRU | RNN:
        """The layer alone."""
        if case.cell == "lstm":
            return LSTM.from_state_dict(case.weights, isa=self.name)
        if case.cell == "rnn":
            return RNN.from_state_dict(case.weights, isa=self.name)
        return GRU.from_state_dict(case.weights, reset_after=case.cell == "gru", isa=self.name)

    def make_step(self, case: Case) -> Runner:
        """One `stream.step` a call, into an array that is there already."""
        out = np.empty(case.size, np.float32)
        step = self.make_layer(case).stream().step
        return Runner(step, [(row, out) for row in case.rows], np.copy, "step(x, out)")

    def make_sequence(self, case: Case) -> Runner:
        """One `stream.process` a call."""
        return Runner(self.make_layer(case).stream().process, [(case.inputs,)], np.copy, "process(block)")
