"""OpenVINO's quantised sequence operators: scales fixed beforehand, one for x and h together, h rounded to a byte."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..answers import PEER_INT8
from ..cases import Case
from .base import Forms
from .openvino_peer import OPERATORS, OpenVino, runner


class OpenVinoInt8(OpenVino):
    """OpenVINO's CPU plugin on one thread, calibrated on the very inputs that it will get.

    Cells are not quantised, and PyTorch's form of the GRU does not compile.
    """

    name = "openvino int8"
    dtype = "int8"
    cells = frozenset({"lstm", "gru_reset_before"})
    tolerance = PEER_INT8

    def step_forms(self, case: Case) -> Forms:
        """The sequence operator of one step."""
        return {f"{OPERATORS[case.cell]}_sequence": partial(runner, self._compile(case, 1), case.rows)}

    def _data(self, node: Any, case: Case) -> Any:
        # |h| is 1 at most.
        largest = np.maximum(np.max(np.abs(case.inputs)), np.float32(1))
        return self._fake_quantize(node, largest.reshape(1, 1, 1), 256)

    def _matrix(self, node: Any) -> Any:
        return self._fake_quantize(node, np.max(np.abs(node.data), axis=-1, keepdims=True), 255)

    def _fake_quantize(self, node: Any, largest: Any, levels: int) -> Any:
        low, high = self._ops.constant(-largest), self._ops.constant(largest)
        return self._ops.fake_quantize(node, low, high, low, high, levels)
