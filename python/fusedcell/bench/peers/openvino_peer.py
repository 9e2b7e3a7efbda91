"""OpenVINO: a cell or a sequence operator whose state stays inside the compiled model."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np

from ..._base import FloatArray
from ..._timing import Runner
from ..answers import PEER_INT8
from ..cases import Case
from .base import Forms, Peer
from .weights import largest_integer, with_one_bias

# Blocks of PyTorch's order i f g o or r z n that make OpenVINO's f i c o or z r h.
_ORDER = {"lstm": (1, 0, 2, 3), "gru": (1, 0, 2), "gru_reset_before": (1, 0, 2), "rnn": (0,)}
_OPERATORS = {"lstm": "lstm", "gru": "gru", "gru_reset_before": "gru", "rnn": "rnn"}


class OpenVino(Peer):
    """OpenVINO's CPU plugin on one thread, with arithmetic held to float32."""

    name = "openvino"
    batches = True

    def __init__(self) -> None:
        self._openvino: Any = importlib.import_module("openvino")
        self._ops: Any = importlib.import_module("openvino.opset14")
        self._core: Any = self._openvino.Core()
        self.version = str(self._openvino.__version__).partition("-")[0]

    def step_forms(self, case: Case) -> Forms:
        """The cell, or the sequence operator of one step."""
        operator = _OPERATORS[case.cell]
        return {
            f"{operator}_cell": partial(_runner, self._compile(case, None), case.rows),
            f"{operator}_sequence": partial(_runner, self._compile(case, 1), case.rows),
        }

    def sequence_forms(self, case: Case) -> Forms:
        """The sequence operator of so many steps."""
        compiled = self._compile(case, case.steps)
        return {f"{_OPERATORS[case.cell]}_sequence": partial(_runner, compiled, [case.inputs])}

    def _compile(self, case: Case, steps: int | None) -> Any:
        """The cell where `steps` is None, else the sequence operator."""
        ops = self._ops
        operator = _OPERATORS[case.cell]
        batch, size, inputs = case.batch, case.size, case.input_size
        sequence = steps is not None
        x = ops.parameter([batch, steps, inputs] if sequence else [batch, inputs], np.float32)
        state_shape = [batch, 1, size] if sequence else [batch, size]
        names = ["h", "c"] if operator == "lstm" else ["h"]
        zeros = np.zeros(state_shape, np.float32)
        states = [ops.read_value(ops.constant(zeros), name, np.float32, state_shape) for name in names]

        w, r, b = (ops.constant(array[None] if sequence else array) for array in with_one_bias(case, _ORDER[case.cell]))
        h, *c = states
        data = [self._data(x, case), self._data(h, case), *c]
        w, r = self._matrix(w), self._matrix(r)
        options: dict[str, Any] = {"linear_before_reset": case.cell == "gru"} if operator == "gru" else {}
        if sequence:
            lengths = ops.constant(np.full(batch, steps, np.int32))
            node = getattr(ops, f"{operator}_sequence")(*data, lengths, w, r, b, size, "forward", **options)
        else:
            if operator == "rnn":
                options = {"activations": ["tanh"], "activations_alpha": [], "activations_beta": []}
            node = getattr(ops, f"{operator}_cell")(*data, w, r, b, size, **options)

        first_state = 1 if sequence else 0
        shape = ops.constant(np.array(state_shape, np.int64))
        # `assign` takes a node, not one of its outputs, so a reshape that changes nothing stands between.
        sinks = [
            ops.assign(ops.reshape(node.output(first_state + i), shape, False), name) for i, name in enumerate(names)
        ]
        model = self._openvino.Model(results=[ops.result(node.output(0))], sinks=sinks, parameters=[x], name="bench")
        hints = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        return self._core.compile_model(model, "CPU", hints)

    def _data(self, node: Any, case: Case) -> Any:
        """Makes of x or h what the operator takes."""
        return node

    def _matrix(self, node: Any) -> Any:
        """Makes of weights what the operator takes."""
        return node


class OpenVinoInt8(OpenVino):
    """The same with quantised sequence operators, calibrated on the very inputs that they will get.

    There is one scale for x and h together, and h is rounded to a byte. Cells are not quantised, and PyTorch's form of
    the GRU does not compile.
    """

    name = "openvino int8"
    dtype = "int8"
    cells = frozenset({"lstm", "gru_reset_before"})
    tolerance = PEER_INT8

    def step_forms(self, case: Case) -> Forms:
        """The sequence operator of one step."""
        return {f"{_OPERATORS[case.cell]}_sequence": partial(_runner, self._compile(case, 1), case.rows)}

    def _data(self, node: Any, case: Case) -> Any:
        # |h| is 1 at most.
        largest = np.maximum(np.max(np.abs(case.inputs)), np.float32(1))
        return self._fake_quantize(node, largest.reshape(1, 1, 1), 256)

    def _matrix(self, node: Any) -> Any:
        return self._fake_quantize(node, np.max(np.abs(node.data), axis=-1, keepdims=True), 2 * largest_integer() + 1)

    def _fake_quantize(self, node: Any, largest: Any, levels: int) -> Any:
        low, high = self._ops.constant(-largest), self._ops.constant(largest)
        return self._ops.fake_quantize(node, low, high, low, high, levels)


def _runner(compiled: Any, blocks: list[FloatArray]) -> Runner:
    """One inference a block."""
    # Each request has a state of its own, which starts at zero.
    request = compiled.create_infer_request()
    x_tensor = request.get_input_tensor(0)
    bound = x_tensor.data
    y_tensor = request.get_output_tensor(0)
    # A sequence's tensors begin with the batch.
    batched = len(bound.shape) == 3 and bound.shape[0] > 1
    single = not batched and bound.size == bound.shape[-1]

    def run(x: FloatArray) -> Any:
        bound[...] = x
        request.infer(share_outputs=True)
        return y_tensor

    def read(tensor: Any) -> FloatArray:
        if batched:
            array: FloatArray = tensor.data.reshape(*bound.shape[:2], -1).swapaxes(0, 1).copy()
            return array
        array = tensor.data.reshape(-1, tensor.data.shape[-1]).copy()
        return array[0] if single else array

    def arranged(block: FloatArray) -> FloatArray:
        array: FloatArray = block.swapaxes(0, 1).copy() if batched else block.reshape(bound.shape)
        return array

    return Runner(run, [(arranged(block),) for block in blocks], read)
