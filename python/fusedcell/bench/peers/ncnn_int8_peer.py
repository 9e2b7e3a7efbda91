"""ncnn with int8 weights, as its own tool stores them: a scale for each row, inputs quantised at each step."""

from __future__ import annotations

import numpy as np

from ..._base import FloatArray
from ..answers import PEER_INT8
from ..cases import Case
from .ncnn_peer import Ncnn, layer_arrays, raw
from .quantise import by_row

_INT8_TAG = 0x000D4B38


class NcnnInt8(Ncnn):
    """ncnn on one thread; what is not int8 is held to float32."""

    name = "ncnn int8"
    dtype = "int8"
    tolerance = PEER_INT8
    _parameters = " 8=2"

    def _model(self, case: Case) -> bytes:
        of_x, bias, of_h = layer_arrays(case)
        (x, x_scales), (h, h_scales) = _quantised(of_x), _quantised(of_h)
        return x + raw(bias) + h + x_scales + h_scales


def _quantised(weights: FloatArray) -> tuple[bytes, bytes]:
    """Integers after their tag, filled up to whole words, and the scales, which ncnn divides by."""
    integers, scales = by_row(weights)
    data = integers.tobytes()
    return np.array([_INT8_TAG], "<u4").tobytes() + data + bytes(-len(data) % 4), (1 / scales).astype("<f4").tobytes()
