"""What a conversion finds, in PyTorch's layout, before it is packed into a layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .._base import FloatArray
from .._dtypes import QUANTISED, check_dtype
from .._recurrent import make_stack
from ..cell_options import CellOptions
from ..errors import UnsupportedError
from ..layers import Layer, layer_of
from ..weights.state_names import layer_suffixes

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
Axes: TypeAlias = "tuple[str | int, ...]"
_Model = TypeVar("_Model")


@dataclass(frozen=True)
class ModelSpec:
    """A whole model as ``fc.Model`` takes it.

    - nodes: (name, node or layer, source or tuple of sources) in order
    - inputs: name -> features of a row, or number of tokens
    - outputs: the nodes that answer
    - axes: of inputs and outputs whose arrays are not (batch, time, features), what each axis is: "batch", "time" or a
      number of features; a row's features are in C order of those
    - notes: what whoever calls the model has to know
    """

    nodes: list[tuple[str, Any, Any]]
    inputs: dict[str, int]
    outputs: tuple[str, ...]
    batch_first: bool = False
    axes: dict[str, Axes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def make(self, cls: type[_Model], *, isa: str | None = None) -> _Model:
        """The model of that class. Raises UnsupportedError that names the node for what a model cannot be."""
        given: dict[str, Any] = {"axes": self.axes} if self.axes else {}
        make: Any = cls
        try:
            model: _Model = make(self.nodes, self.inputs, self.outputs, self.batch_first, isa=isa, **given)
        except ValueError as error:  # as of rows of different rates, which nothing is wrong with where they come from
            raise UnsupportedError(str(error)) from error
        return model


@dataclass(frozen=True)
class RecurrentSpec:
    """One layer of one or two directions, or several stacked.

    - kind: "rnn_tanh", "lstm", "gru_reset_after" or "gru_reset_before"
    - cells: for each layer and direction weight_ih (G*H, I), weight_hh (G*H, H), bias_ih and bias_hh (G*H,), and
      perhaps weight_peephole (3*H,), blocks r z n, i f g o and, of the peepholes, i f o
    - options: one for each of the cells, or none
    - int8_cells: where a file holds such, the same with integers from -127 to 127 for weights, and with their
      weight_ih_scale and weight_hh_scale (G*H,)
    - num_layers: how many are stacked
    - reverse: a single direction that runs from the last step to the first
    - initial_state: h, or h and c, (D, 1 or B, H): what a call without a state starts from
    """

    kind: str
    cells: tuple[Arrays, ...]
    options: tuple[CellOptions, ...] = ()
    int8_cells: tuple[Arrays, ...] | None = None
    num_layers: int = 1
    reverse: bool = False
    batch_first: bool = False
    initial_state: tuple[FloatArray, ...] | None = None


def build(spec: RecurrentSpec, *, dtype: str, isa: str | None) -> Layer:
    """Packs the layer. Raises UnsupportedError for another dtype, ValueError for what does not fit."""
    cells = spec.int8_cells if dtype in QUANTISED and spec.int8_cells is not None else spec.cells
    directions = len(spec.cells) // spec.num_layers
    suffixes = list(islice(layer_suffixes(directions), len(cells)))
    known = check_dtype(dtype)
    stack = make_stack(spec.kind, cells, suffixes, directions, known, isa, options=spec.options, reverse=spec.reverse)
    layer = layer_of(stack, spec.batch_first)
    return layer if spec.initial_state is None else layer.with_initial_state(*spec.initial_state)


def reordered(array: FloatArray, blocks: tuple[int, ...]) -> FloatArray:
    """The rows' blocks in another order: which of the array's comes first, second, ..."""
    parts = np.split(array, len(blocks))
    return np.concatenate([parts[block] for block in blocks])
