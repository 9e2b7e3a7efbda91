"""The kinds of recurrent cells and what Python says of each, by the names that the kernels give them."""

from __future__ import annotations

from typing import NamedTuple

from . import _core


class Kind(NamedTuple):
    """A kind of cell.

    - class_name: of its layers; that of its cells ends in Cell
    - gates: a letter for each, in the order of the rows of the weights
    - activations: as PyTorch has them, in the order of :class:`fusedcell.CellOptions`
    """

    class_name: str
    gates: str
    activations: tuple[str, ...]


_GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}
_CLASSES = {kind: kind.partition("_")[0].upper() for kind in _core.kinds()}

KINDS = {kind: Kind(_CLASSES[kind], _GATES[_CLASSES[kind]], usual) for kind, usual in _core.kinds().items()}
