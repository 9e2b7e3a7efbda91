"""ONNX Runtime: one recurrent node, with plain `run` or with bound memory, whichever is faster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..._base import FloatArray
from ..._timing import Runner
from ..answers import PEER_INT8
from ..cases import Case
from .base import Forms, Peer
from .onnx_model import make_int8_model, make_model
from .weights import by_matrix, by_row, largest_integer


class OnnxRuntime(Peer):
    """ONNX Runtime's CPU provider on one thread."""

    name = "onnxruntime"
    batches = True
    gathers = True

    def __init__(self) -> None:
        # From 1.31 on it starts a thread for telemetry, which would run beside what is measured, and call home.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        self._ort: Any = importlib.import_module("onnxruntime")
        self.version = str(self._ort.__version__)

    def step_forms(self, case: Case) -> Forms:
        """A model for one step, its states fed back."""
        return self._forms(case, [row[None] for row in case.rows])

    def sequence_forms(self, case: Case) -> Forms:
        """A model for so many steps."""
        # Twice, as bound memory alternates two buffers of states.
        return self._forms(case, [case.inputs, case.inputs])

    def many_forms(self, case: Case) -> Forms:
        """A model for one step of a batch, on states that are stacked before and split after."""
        return {
            f"run{suffix}": partial(_many, self._session(model), case)
            for suffix, model in self._models(case, 1).items()
        }

    def _forms(self, case: Case, blocks: list[FloatArray]) -> Forms:
        forms: dict[str, Callable[[], Runner]] = {}
        for suffix, model in self._models(case, len(blocks[0])).items():
            session = self._session(model)
            forms[f"run{suffix}"] = partial(_plain, session, case, blocks)
            forms[f"IOBinding{suffix}"] = partial(self._bound, session, case, blocks)
        return forms

    def _models(self, case: Case, steps: int) -> dict[str, bytes]:
        """By what is added to the names of their forms."""
        return {"": make_model(case, steps)}

    def _session(self, model: bytes) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = self._ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        return self._ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _bound(self, session: Any, case: Case, blocks: list[FloatArray]) -> Runner:
        states = ["h", "c"] if case.cell == "lstm" else ["h"]

        def value(array: FloatArray) -> Any:
            return self._ort.OrtValue.ortvalue_from_numpy(array)

        steps = len(blocks[0])
        y = value(np.zeros((steps, 1, case.batch, case.size), np.float32))
        buffers = [[value(_zeros(case)) for _ in states] for _ in range(2)]
        inputs = [value(_with_batch(block, case)) for block in blocks]
        bindings = []
        # One binding a block, so that nothing is copied or bound anew between calls.
        for i, x in enumerate(inputs):
            binding = session.io_binding()
            binding.bind_ortvalue_input("X", x)
            binding.bind_ortvalue_output("Y", y)
            for name, before, after in zip(states, buffers[i % 2], buffers[(i + 1) % 2], strict=True):
                binding.bind_ortvalue_input(name, before)
                binding.bind_ortvalue_output(f"{name}_n", after)
            bindings.append((binding,))

        def read(_: None) -> FloatArray:
            return np.copy(_without_unit_axes(y.numpy(), case))

        # A binding does not keep the values bound to it alive.
        return Runner(session.run_with_iobinding, bindings, read, keep=(inputs, buffers, y))


class OnnxRuntimeInt8(OnnxRuntime):
    """Its quantised LSTM, of which it has no other cell, with a scale a matrix or a row, as its quantiser offers."""

    name = "onnxruntime int8"
    dtype = "int8"
    cells = frozenset({"lstm"})
    tolerance = PEER_INT8

    def _models(self, case: Case, steps: int) -> dict[str, bytes]:
        choices = {", scale a matrix": by_matrix, ", scale a row": by_row}
        largest = largest_integer()
        return {
            name: make_int8_model(case, steps, partial(quantise, largest=largest)) for name, quantise in choices.items()
        }


def _plain(session: Any, case: Case, blocks: list[FloatArray]) -> Runner:
    states = ["h", "c"] if case.cell == "lstm" else ["h"]
    names = ["Y", *(f"{name}_n" for name in states)]
    feed = {name: _zeros(case) for name in states}

    def run(x: FloatArray) -> Any:
        feed["X"] = x
        y, *after = session.run(names, feed)
        feed.update(zip(states, after, strict=True))
        return y

    return Runner(run, [(_with_batch(block, case),) for block in blocks], lambda y: _without_unit_axes(y, case))


def _many(session: Any, case: Case) -> Runner:
    names = ["h", "c"] if case.cell == "lstm" else ["h"]
    zeros = np.zeros((1, 1, case.size), np.float32)
    states = {name: [zeros] * case.batch for name in names}
    outputs = ["Y", *(f"{name}_n" for name in names)]

    def run(x: FloatArray) -> Any:
        feed = {name: np.concatenate(parts, axis=1) for name, parts in states.items()}
        y, *after = session.run(outputs, feed | {"X": x})
        for name, state in zip(names, after, strict=True):
            states[name] = [state[:, i : i + 1] for i in range(case.batch)]
        return y

    return Runner(run, [(block[None],) for block in case.rows], lambda y: y.reshape(1, case.batch, case.size).copy())


def _zeros(case: Case) -> FloatArray:
    return np.zeros((1, case.batch, case.size), np.float32)


def _with_batch(block: FloatArray, case: Case) -> FloatArray:
    x: FloatArray = block.reshape(len(block), case.batch, case.input_size).copy()
    return x


def _without_unit_axes(y: FloatArray, case: Case) -> FloatArray:
    single = len(y) == case.batch == 1
    h: FloatArray = y.reshape(case.step_shape if single else (len(y), *case.step_shape))
    return h
