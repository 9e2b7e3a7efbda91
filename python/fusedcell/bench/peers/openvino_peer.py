"""OpenVINO: a cell or a sequence operator whose state stays inside the compiled model."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np

from ..._base import FloatArray
from ..cases import GATES, Case
from ..timing import Runner
from .base import Forms, Peer

# Blocks of PyTorch's order i f g o or r z n that make OpenVINO's f i c o or z r h.
_ORDER = {"lstm": (1, 0, 2, 3), "gru": (1, 0, 2), "gru_reset_before": (1, 0, 2), "rnn": (0,)}
OPERATORS = {"lstm": "lstm", "gru": "gru", "gru_reset_before": "gru", "rnn": "rnn"}


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
        operator = OPERATORS[case.cell]
        return {
            f"{operator}_cell": partial(runner, self._compile(case, None), case.rows),
            f"{operator}_sequence": partial(runner, self._compile(case, 1), case.rows),
        }

    def sequence_forms(self, case: Case) -> Forms:
        """The sequence operator of so many steps."""
        compiled = self._compile(case, case.steps)
        return {f"{OPERATORS[case.cell]}_sequence": partial(runner, compiled, [case.inputs])}

    def _compile(self, case: Case, steps: int | None) -> Any:
        """The cell where `steps` is None, else the sequence operator."""
        ops = self._ops
        operator = OPERATORS[case.cell]
        batch, size = case.batch, case.size
        sequence = steps is not None
        x = ops.parameter([batch, steps, size] if sequence else [batch, size], np.float32)
        state_shape = [batch, 1, size] if sequence else [batch, size]
        names = ["h", "c"] if operator == "lstm" else ["h"]
        zeros = np.zeros(state_shape, np.float32)
        states = [ops.read_value(ops.constant(zeros), name, np.float32, state_shape) for name in names]

        w, r, b = (ops.constant(array[None] if sequence else array) for array in _weights(case))
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


def runner(compiled: Any, blocks: list[FloatArray]) -> Runner:
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
            array: FloatArray = tensor.data.reshape(bound.shape).swapaxes(0, 1).copy()
            return array
        array = tensor.data.reshape(-1, bound.shape[-1]).copy()
        return array[0] if single else array

    def arranged(block: FloatArray) -> FloatArray:
        array: FloatArray = block.swapaxes(0, 1).copy() if batched else block.reshape(bound.shape)
        return array

    return Runner(run, [(arranged(block),) for block in blocks], read)


def _weights(case: Case) -> tuple[FloatArray, FloatArray, FloatArray]:
    size = case.size
    gates = GATES[case.cell]

    def reordered(name: str) -> FloatArray:
        array = case.weights[name]
        return array.reshape(gates, size, *array.shape[1:])[list(_ORDER[case.cell])].reshape(array.shape)

    of_x, of_h = reordered("bias_ih_l0"), reordered("bias_hh_l0")
    bias = of_x + of_h
    if case.cell == "gru":
        # The candidate keeps its two biases apart.
        bias = np.concatenate([bias[: 2 * size], of_x[2 * size :], of_h[2 * size :]])
    return reordered("weight_ih_l0"), reordered("weight_hh_l0"), bias
