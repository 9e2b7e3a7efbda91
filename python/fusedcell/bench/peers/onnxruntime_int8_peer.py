"""ONNX Runtime's quantised LSTM; there is no other quantised recurrent operator."""

from __future__ import annotations

from ..answers import PEER_INT8
from ..cases import Case
from .onnx_model import make_int8_model
from .onnxruntime_peer import OnnxRuntime
from .quantise import by_matrix, by_row


class OnnxRuntimeInt8(OnnxRuntime):
    """ONNX Runtime's CPU provider on one thread, with a scale a matrix or a row, as its quantiser offers."""

    name = "onnxruntime int8"
    dtype = "int8"
    cells = frozenset({"lstm"})
    tolerance = PEER_INT8

    def _models(self, case: Case, steps: int) -> dict[str, bytes]:
        choices = {", scale a matrix": by_matrix, ", scale a row": by_row}
        return {name: make_int8_model(case, steps, quantise) for name, quantise in choices.items()}
