"""PyTorch: nn.LSTM, nn.GRU and nn.RNN with T = 1, or their cells, whichever is faster."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from ..._base import FloatArray
from ..._timing import Runner
from ..answers import PEER_INT8
from ..cases import Case
from .base import Forms, Peer

_CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


class Torch(Peer):
    """PyTorch on one thread, in inference mode."""

    name = "torch"
    cells = frozenset(_CLASSES)
    batches = True
    gathers = True
    _batch: ClassVar[tuple[int, ...]] = ()

    def __init__(self) -> None:
        self._torch: Any = importlib.import_module("torch")
        self.version = str(self._torch.__version__)

    @contextmanager
    def context(self) -> Iterator[None]:
        """One thread, inference mode."""
        threads = self._torch.get_num_threads()
        self._torch.set_num_threads(1)
        try:
            with self._torch.inference_mode():
                yield
        finally:
            self._torch.set_num_threads(threads)

    def step_forms(self, case: Case) -> Forms:
        """The layer with T = 1, or the cell."""
        blocks = [row[None] for row in case.rows]
        return {
            name: partial(self._cell, case) if suffix else partial(self._layer, case, blocks)
            for name, suffix in self._modules(case).items()
        }

    def sequence_forms(self, case: Case) -> Forms:
        """The layer."""
        return {f"nn.{_CLASSES[case.cell]}": partial(self._layer, case, [case.inputs])}

    def many_forms(self, case: Case) -> Forms:
        """The layer with T = 1, or the cell, on states that are stacked before and split after."""
        return {name: partial(self._many, case, suffix) for name, suffix in self._modules(case).items()}

    def _modules(self, case: Case) -> dict[str, str]:
        """Names of the classes that take a step, and how they end."""
        return {f"nn.{_CLASSES[case.cell]}{suffix}": suffix for suffix in ("", "Cell")}

    def _module(self, case: Case, suffix: str) -> Any:
        module = getattr(self._torch.nn, _CLASSES[case.cell] + suffix)(case.input_size, case.size).eval()
        names = {name: name.removesuffix("_l0") if suffix else name for name in case.weights}
        module.load_state_dict({names[k]: self._torch.from_numpy(v) for k, v in case.weights.items()})
        return module

    def _layer(self, case: Case, blocks: list[FloatArray]) -> Runner:
        module = self._module(case, "")
        state: Any = None

        def run(x: Any) -> Any:
            nonlocal state
            y, state = module(x, state)
            return y

        steps = len(blocks[0])
        shape = (steps, *case.step_shape) if steps > 1 or case.batch > 1 else case.step_shape
        return Runner(run, [(self._tensor(block),) for block in blocks], partial(_to_numpy, shape=shape))

    def _cell(self, case: Case) -> Runner:
        module = self._module(case, "Cell")
        lstm = case.cell == "lstm"
        state: Any = None

        def step(x: Any) -> Any:
            nonlocal state
            state = module(x, state)
            return state[0] if lstm else state

        return Runner(step, [(self._tensor(row),) for row in case.rows], partial(_to_numpy, shape=(case.size,)))

    def _many(self, case: Case, suffix: str) -> Runner:
        torch, lstm = self._torch, case.cell == "lstm"
        module = self._module(case, suffix)
        axis = 0 if suffix else 1
        shape = (1, case.size) if suffix else (1, 1, case.size)
        states = [[torch.zeros(shape) for _ in range(case.batch)] for _ in range(2 if lstm else 1)]

        def step(x: Any) -> Any:
            stacked = [torch.cat(parts, axis) for parts in states]
            found = module(x, tuple(stacked) if lstm else stacked[0])
            after = found if suffix else found[1]
            states[:] = [state.split(1, axis) for state in (after if lstm else (after,))]
            return (after[0] if lstm else after) if suffix else found[0]

        blocks = [torch.from_numpy(block if suffix else block[None]) for block in case.rows]
        return Runner(step, [(block,) for block in blocks], partial(_to_numpy, shape=(1, case.batch, case.size)))

    def _tensor(self, array: FloatArray) -> Any:
        batch = () if array.ndim == 3 else self._batch
        return self._torch.from_numpy(array.reshape(*array.shape[:-1], *batch, array.shape[-1]))


class TorchInt8(Torch):
    """Its dynamic quantisation, with the engine that it chooses for this machine; of the RNN it has the cell alone."""

    name = "torch int8"
    dtype = "int8"
    tolerance = PEER_INT8
    # Modules of this kind take nothing without a batch.
    _batch = (1,)

    def sequence_forms(self, case: Case) -> Forms:
        """The layer, or the cell in a loop."""
        return super().sequence_forms(case) if case.cell != "rnn" else {"nn.RNNCell, loop": partial(self._loop, case)}

    def _modules(self, case: Case) -> dict[str, str]:
        return super()._modules(case) if case.cell != "rnn" else {"nn.RNNCell": "Cell"}

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
            array: FloatArray = self._torch.cat(y).numpy().reshape(case.steps, *case.step_shape)
            return array

        return Runner(run, [(self._tensor(case.inputs),)], read)


def _to_numpy(tensor: Any, shape: tuple[int, ...]) -> FloatArray:
    array: FloatArray = tensor.numpy().reshape(shape).copy()
    return array
