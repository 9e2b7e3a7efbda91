"""The NumPy float64 specification of every cell, layer and model's node: readable, slow, and the oracle of every test.

It needs nothing but NumPy and computes in float64 whatever comes in. One step of each cell with its formulas and their
sources is in `cells.py`, the activations are in `activations.py`, the rules of lengths, masks and directions in
`sequences.py`, PyTorch's stacked layers in `layers.py`, their derivatives in
`gradients.py`, what dropout and zoneout draw in `draws.py`, and the ONNX operators in `onnx.py`. Whole models are in
`models.py`: their nodes are `windows.py`, what is made of several rows, and `nodes.py`, all others. `int8.py` defines
int8 weights and inputs, bit for bit: only there does anything round to float32.
"""

from .activations import ACTIVATIONS, Activation, activation
from .cells import LSTMGates, LSTMStep, gru_step, lstm_step, rnn_step
from .draws import philox4x32, taken
from .gradients import Gradients, gradients
from .int8 import Int8Matrix, int8_linear, quantise_input, quantise_weights
from .layers import gru, lstm, rnn
from .models import NODES, ModelNode, model
from .nodes import NODE_ACTIVATIONS, node_activation
from .onnx import onnx_gru, onnx_lstm, onnx_rnn
from .onnxruntime import ort_dynamic_quantize_lstm
from .weights import Weights, from_state_dict

__all__ = [
    "ACTIVATIONS",
    "NODES",
    "NODE_ACTIVATIONS",
    "Activation",
    "Gradients",
    "Int8Matrix",
    "LSTMGates",
    "LSTMStep",
    "ModelNode",
    "Weights",
    "activation",
    "from_state_dict",
    "gradients",
    "gru",
    "gru_step",
    "int8_linear",
    "lstm",
    "lstm_step",
    "model",
    "node_activation",
    "onnx_gru",
    "onnx_lstm",
    "onnx_rnn",
    "ort_dynamic_quantize_lstm",
    "philox4x32",
    "quantise_input",
    "quantise_weights",
    "rnn",
    "rnn_step",
    "taken",
]
