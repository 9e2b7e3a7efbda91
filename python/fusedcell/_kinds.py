"""The kinds of recurrent cells, once: what the kernels call them, and what Python says of each."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of cell.

    - class_name: of its layers; that of its cells ends in Cell
    - gates: a letter for each, in the order of the rows of the weights
    - activations: as PyTorch has them, in the order of :class:`fusedcell.CellOptions`
    """

    class_name: str
    gates: str
    activations: tuple[str, ...]


KINDS = {
    "lstm": Kind("LSTM", "ifgo", ("Sigmoid", "Tanh", "Tanh")),
    "gru_reset_after": Kind("GRU", "rzn", ("Sigmoid", "Tanh")),
    "gru_reset_before": Kind("GRU", "rzn", ("Sigmoid", "Tanh")),
    "rnn_tanh": Kind("RNN", "h", ("Tanh",)),
    "rnn_relu": Kind("RNN", "h", ("Relu",)),
}
