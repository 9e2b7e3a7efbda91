"""What models are made of, beside the recurrent layers: nodes over rows, which hold trained weights and options.

A row is the features of one time step. A node with several sources sees their rows beside each other. Arrays are
anything NumPy can view, or tensors; they are kept as read-only float32. Where a node takes an `activation`, it is an
ONNX name in any case ("relu", "leaky_relu", "HardSigmoid"), Gelu (by erf), GeluTanh, Silu, Clip (alpha = least, beta =
most), Abs, Square, Sqrt, Exp or Log, or a tuple with alpha and beta, ("leaky_relu", 0.2); the numbers that ONNX has
defaults for may be left out.

>>> import numpy as np
>>> from fusedcell import nodes
>>> nodes.Dense(np.ones((2, 3)), activation=("leaky_relu", 0.2))
Dense(weight=(2, 3), activation=('LeakyRelu', 0.2))
"""

from __future__ import annotations

from typing import Any

from .base import Node, Tensors
from .features import (
    GLU,
    Activation,
    Add,
    L2Norm,
    LayerNorm,
    LogSoftmax,
    Multiply,
    PReLU,
    RMSNorm,
    Scale,
    Softmax,
    Take,
)
from .sequences import Chain, Inside, Last, Max, Mean, Rows, Sum
from .windows import PLAIN, Dense, Depthwise, Embedding, MaxPool, MeanPool, Window

_CLASSES: dict[str, type[Node]] = {
    cls.type: cls
    for cls in (
        Window, Depthwise, MaxPool, MeanPool, Embedding, Activation, Add, Multiply, Scale, PReLU, GLU, Softmax,
        LogSoftmax, LayerNorm, RMSNorm, L2Norm, Take, Rows, Last, Mean, Max, Sum,
    )
}  # fmt: skip

__all__ = [
    "GLU",
    "Activation",
    "Add",
    "Chain",
    "Dense",
    "Depthwise",
    "Embedding",
    "Inside",
    "L2Norm",
    "Last",
    "LayerNorm",
    "LogSoftmax",
    "Max",
    "MaxPool",
    "Mean",
    "MeanPool",
    "Multiply",
    "Node",
    "PReLU",
    "RMSNorm",
    "Rows",
    "Scale",
    "Softmax",
    "Sum",
    "Take",
    "Window",
]


def node_of(kind: str, options: dict[str, Any], tensors: Tensors) -> Node:
    """The node that a checked file has in these terms."""
    is_dense = kind == "window" and all(options[key] == value for key, value in PLAIN.items())
    return (Dense if is_dense else _CLASSES[kind])._of_file(options, tensors)
