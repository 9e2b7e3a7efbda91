"""Whole models: nodes in order, each of what came before, of one whole sequence at a time, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import nodes, windows
from .arrays import Array, as_float64
from .layers import gru, lstm, rnn

_LAYERS: Mapping[str, Callable[..., Any]] = {"rnn": rnn, "gru": gru, "lstm": lstm}


def layer(
    x: ArrayLike,
    *,
    kind: str,
    layers: Any,
    state: Any = None,
    reverse: bool = False,
    positions: int | None = None,
    **options: Any,
) -> Array:
    """Returns y of recurrent layers, "rnn", "gru" or "lstm", as `layers.py` has it; `reverse` goes backward in time.

    With `positions`, a row is a sequence of so many, by itself.
    """
    rows = as_float64("x", x)
    if positions is not None:
        options |= {"kind": kind, "layers": layers, "state": state, "reverse": reverse}
        every = np.vstack((rows, np.zeros((1, rows.shape[1]))))  # one more, so that there is one
        return np.array([layer(row.reshape(positions, -1), **options).reshape(-1) for row in every])[:-1]
    y: Array = _LAYERS[kind](rows[::-1] if reverse else rows, layers, state, **options)[0]
    return y[::-1] if reverse else y


_NAMED: tuple[Callable[..., Array], ...] = (
    *(windows.window, windows.transposed, windows.depthwise, windows.max_pool, windows.mean_pool, windows.rows),
    *(nodes.embedding, nodes.add, nodes.multiply, nodes.scale, nodes.prelu, nodes.glu, nodes.softmax),
    *(nodes.log_softmax, nodes.layer_norm, nodes.rms_norm, nodes.l2_norm, nodes.take, nodes.last),
)
NODES: Mapping[str, Callable[..., Array]] = {function.__name__: function for function in _NAMED} | {
    "layer": layer,
    "activation": nodes.elementwise,
    "mean": partial(nodes.of_rows, np.mean),
    "max": partial(nodes.of_rows, np.max),
    "sum": partial(nodes.of_rows, np.sum),
}
_OF_SEPARATE_SOURCES = ("add", "multiply")


@dataclass(frozen=True)
class ModelNode:
    """One node: a name for its value, one of `NODES`, the names of what it reads, and that function's arguments.

    What reads several values sees their rows beside each other, but for "add" and "multiply".
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def value(self, values: Mapping[str, ArrayLike]) -> Array:
        """Returns this node's rows, (T', O), for the rows of what it reads. All these have as many rows."""
        rows = [as_float64(source, values[source]) for source in self.sources]
        rows = [row[:, None] if row.ndim == 1 else row for row in rows]
        if len({len(row) for row in rows}) != 1:
            counts = ", ".join(f"{source} {len(row)}" for source, row in zip(self.sources, rows, strict=True))
            raise ValueError(f"{self.name}: expected sources with as many rows, got {counts}")
        if self.kind not in _OF_SEPARATE_SOURCES:
            rows = [np.concatenate(rows, axis=1)]
        return NODES[self.kind](*rows, **self.arguments)


def model(nodes: Sequence[ModelNode], inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Returns the rows of every value, inputs and nodes, by name.

    inputs are one sequence each, (T, size), or tokens, (T,). Of a "transposed" node, and of any other, the arguments
    are those of its function.
    """
    values = {name: as_float64(name, rows) for name, rows in inputs.items()}
    for node in nodes:
        values[node.name] = node.value(values)
    return values
