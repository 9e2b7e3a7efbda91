"""PyTorch models with fusedcell inside: :func:`accelerate` swaps recurrent modules in place.

:class:`LSTM`, :class:`GRU`, :class:`RNN`, their cells and :class:`Linear` are trained as PyTorch's are.

:func:`quantize` prepares a model in place for training that ends in int8, and :func:`unquantize` gives it back.
:func:`prune` makes most blocks of its recurrent matrices zero as it trains.

Importing this module registers the operators that exported programs need to run. Needs PyTorch
(``pip install fusedcell[torch]``).
"""

from __future__ import annotations

from importlib import import_module

try:
    import_module("torch")  # only to say what is missing
except ImportError as error:
    raise ImportError("fusedcell.torch needs PyTorch: pip install fusedcell[torch]") from error

from .acceleration import accelerate
from .benchmark import Benchmark
from .cells import GRUCell, LSTMCell, RNNCell
from .linear import Linear
from .pruning import Pruning, prune
from .quantization import quantize, unquantize
from .report import Entry, Report
from .training import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Benchmark",
    "Entry",
    "GRUCell",
    "LSTMCell",
    "Linear",
    "Pruning",
    "RNNCell",
    "Report",
    "accelerate",
    "prune",
    "quantize",
    "unquantize",
]
