"""fusedcell: trained recurrent networks (RNN, LSTM, GRU) on a CPU, one step at a time or a whole sequence.

>>> import numpy as np, fusedcell as fc
>>> weights = {"weight_ih_l0": np.ones((4, 1)), "weight_hh_l0": np.zeros((4, 1))}
>>> lstm = fc.LSTM.from_state_dict(weights)
>>> stream = lstm.stream()
>>> y = stream.step(np.zeros(1, np.float32))
"""

from __future__ import annotations

from . import _core, quantization, reference  # _core first: where it cannot be, it says so before NumPy loads
from .cells import GRUCell, LSTMCell, RNNCell
from .convert.keras_layers import from_keras
from .convert.onnx_read import from_onnx
from .convert.onnx_write import to_onnx
from .convert.torch_modules import from_torch
from .errors import UnsupportedError
from .layers import GRU, LSTM, RNN
from .runtime import isas, runtime_info, show_runtime
from .storage import load, save
from .stream_pool import StreamPool

Stream = _core.Stream
__version__ = _core.__version__

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Stream",
    "StreamPool",
    "UnsupportedError",
    "__version__",
    "from_keras",
    "from_onnx",
    "from_torch",
    "isas",
    "load",
    "quantization",
    "reference",
    "runtime_info",
    "save",
    "show_runtime",
    "to_onnx",
]
