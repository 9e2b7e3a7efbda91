"""What a cell does other than PyTorch's formulas: activations, clip and coupled gates, as ONNX's operators define them.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html and the texts of GRU and RNN beside it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Activation:
    """One activation by its ONNX name, such as "HardSigmoid"; alpha and beta are 0 where it takes none."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


@dataclass(frozen=True)
class CellOptions:
    """Of one layer and direction. The defaults are PyTorch's formulas.

    - activations: f (RNN), f g (GRU) or f g h (LSTM); None for the usual ones
    - clip: bounds the input of every activation to [-clip, clip]
    - clip_before_h: whether that holds for the c' that enters h() too, as the ONNX text says and ONNX Runtime does not
    - input_forget: the forget gate is 1 - i
    """

    activations: tuple[Activation, ...] | None = None
    clip: float | None = None
    clip_before_h: bool = True
    input_forget: bool = False
