"""Nodes over rows as a whole, and several nodes in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..layers import Layer
from .base import Node, Tensors, pair, whole


@dataclass(frozen=True, eq=False, repr=False)
class Rows(Node):
    """So many rows of zeros before the first and after the last; of negative numbers, rows that are left out.

    T rows become T + left + right, if that is more than 0.

    >>> from fusedcell import nodes
    >>> nodes.Rows(-1, 0)
    Rows(left=-1, right=0)
    """

    type = "rows"
    _keys = ("left", "right")

    left: int
    right: int

    def __post_init__(self) -> None:
        left, right = pair((self.left, self.right), "left, right")
        self._set(left=left, right=right)


@dataclass(frozen=True, eq=False, repr=False)
class Last(Node):
    """The last row of the sequence; in a stream every row, as if the sequence ended there.

    With num_directions=2, of a bidirectional layer, the second half of the features is that of the first row, where the
    reverse direction ends; it has no streams then.

    >>> from fusedcell import nodes
    >>> nodes.Last()
    Last()
    """

    type = "last"
    _keys = ("num_directions",)

    num_directions: int = 1

    def __post_init__(self) -> None:
        if whole(self.num_directions, "num_directions") > 2:
            raise ValueError(f"num_directions: expected 1 or 2, got {self.num_directions}")


@dataclass(frozen=True, eq=False, repr=False)
class Mean(Node):
    """The mean of each feature over all rows of the sequence; it has no streams.

    >>> from fusedcell import nodes
    >>> nodes.Mean()
    Mean()
    """

    type = "mean"


@dataclass(frozen=True, eq=False, repr=False)
class Max(Node):
    """The largest of each feature over all rows of the sequence; it has no streams.

    >>> from fusedcell import nodes
    >>> nodes.Max()
    Max()
    """

    type = "max"


@dataclass(frozen=True, eq=False, repr=False)
class Sum(Node):
    """The sum of each feature over all rows of the sequence; it has no streams.

    >>> from fusedcell import nodes
    >>> nodes.Sum()
    Sum()
    """

    type = "sum"


@dataclass(frozen=True, eq=False, repr=False)
class Inside(Node):
    """A recurrent layer along the positions inside each row, from its initial state in every row.

    A row is so many positions of the layer's features, and so is the result. As no state goes from row to row, it has
    streams in both directions.

    >>> import numpy as np, fusedcell as fc
    >>> from fusedcell import nodes
    >>> layer = fc.GRU.from_state_dict({"weight_ih_l0": np.ones((6, 3)), "weight_hh_l0": np.ones((6, 2))})
    >>> fc.Model([("bands", nodes.Inside(layer, positions=4), "x")]).sizes
    {'x': 12, 'bands': 8}
    """

    type = "layer"

    layer: Layer
    positions: int

    def __post_init__(self) -> None:
        if not isinstance(self.layer, Layer):
            raise TypeError(f"layer: expected an RNN, LSTM or GRU, got {type(self.layer).__name__}")
        self._set(positions=whole(self.positions, "positions"))

    def _input_size(self) -> int:
        return self.positions * self.layer.input_size

    def _output_size(self, size: int) -> int:
        return self.positions * self.layer.output_size

    def _same_size(self) -> bool:
        return False

    def _to_file(self) -> tuple[dict[str, Any], Tensors]:
        layer, arrays = self.layer._to_tensors()
        return {"layer": layer, "positions": self.positions}, arrays


class Chain(Node):
    """Nodes one after another under one name, each the source of the next.

    In a model's file those before the last have names of their own, NAME.0, NAME.1, ...

    >>> import numpy as np
    >>> from fusedcell import nodes
    >>> nodes.Chain([nodes.Dense(np.ones((2, 3))), nodes.L2Norm()])
    Chain([Dense(weight=(2, 3)), L2Norm()])
    """

    def __init__(self, nodes: list[Node] | tuple[Node, ...]) -> None:
        if not nodes or not all(isinstance(node, Node) for node in nodes):
            raise TypeError("nodes: expected a list of nodes, and not an empty one")
        self.nodes = tuple(nodes)

    def _expanded(self) -> list[tuple[str, Node]]:
        last = len(self.nodes) - 1
        named = [("" if index == last else f".{index}", node) for index, node in enumerate(self.nodes)]
        return [(name + suffix, step) for name, node in named for suffix, step in node._expanded()]

    def __repr__(self) -> str:
        return f"Chain({list(self.nodes)!r})"
