from . import quantization as quantization
from . import reference as reference
from ._core import Stream as Stream
from ._core import __version__ as __version__
from .cells import GRUCell as GRUCell
from .cells import LSTMCell as LSTMCell
from .cells import RNNCell as RNNCell
from .convert.keras_layers import from_keras as from_keras
from .convert.onnx_read import from_onnx as from_onnx
from .convert.onnx_write import to_onnx as to_onnx
from .convert.torch_modules import from_torch as from_torch
from .errors import UnsupportedError as UnsupportedError
from .layers import GRU as GRU
from .layers import LSTM as LSTM
from .layers import RNN as RNN
from .runtime import isas as isas
from .runtime import runtime_info as runtime_info
from .runtime import show_runtime as show_runtime
from .storage import load as load
from .storage import save as save
from .stream_pool import StreamPool as StreamPool

__all__: list[str]
