"""PyTorch's dynamic quantisation: nn.LSTM and nn.GRU with T = 1, or their cells, and for the RNN the cell alone."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

from ..._base import FloatArray
from ..answers import PEER_INT8
from ..cases import Case
from ..timing import Runner
from .base import Forms
from .torch_peer import Torch


class TorchInt8(Torch):
    """PyTorch on one thread, in inference mode, with the engine that it chooses for this machine."""

    name = "torch int8"
    dtype = "int8"
    tolerance = PEER_INT8
    # Modules of this kind take nothing without a batch.
    _batch = (1,)

    def step_forms(self, case: Case) -> Forms:
        """The layer with T = 1, or the cell."""
        forms = super().step_forms(case)
        return forms if case.cell != "rnn" else {"nn.RNNCell": forms["nn.RNNCell"]}

    def sequence_forms(self, case: Case) -> Forms:
        """The layer, or the cell in a loop."""
        return super().sequence_forms(case) if case.cell != "rnn" else {"nn.RNNCell, loop": partial(self._loop, case)}

    def many_forms(self, case: Case) -> Forms:
        """The layer with T = 1, or the cell, on states that are stacked before and split after."""
        forms = super().many_forms(case)
        return forms if case.cell != "rnn" else {"nn.RNNCell": forms["nn.RNNCell"]}

    def _module(self, case: Case, suffix: str) -> Any:
        module = super()._module(case, suffix)
        quantisation = self._torch.ao.quantization
        with warnings.catch_warnings():
            # It is to be removed, and there is nothing else that makes an int8 LSTM or GRU.
            warnings.filterwarnings(
                "ignore", message="torch.ao.quantization is deprecated", category=DeprecationWarning
            )
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
            # What is converted are the parts of a module, not the module itself.
            whole = quantisation.quantize_dynamic(
                self._torch.nn.Sequential(module), {type(module)}, dtype=self._torch.qint8
            )
        return whole[0]

    def _loop(self, case: Case) -> Runner:
        module = self._module(case, "Cell")
        state: Any = None

        def run(x: Any) -> list[Any]:
            nonlocal state
            y = []
            for row in x:
                state = module(row, state)
                y.append(state)
            return y

        def read(y: list[Any]) -> FloatArray:
            array: FloatArray = self._torch.cat(y).numpy().reshape(case.inputs.shape)
            return array

        return Runner(run, [(self._tensor(case.inputs),)], read)
