"""Layers from ONNX models."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from ...layers import GRU, LSTM, RNN
from ..spec import build
from .attributes import OPERATORS, opset_of
from .constants import Constants
from .file import OnnxFile
from .graph import Occurrence, opset_domain, recurrent_nodes
from .node import IGNORABLE, NodeReading, read_node

if TYPE_CHECKING:
    from onnx import ModelProto

OnnxSource: TypeAlias = "str | os.PathLike[str] | bytes | ModelProto"


def from_onnx(
    model: OnnxSource,
    node: str | int | None = None,
    *,
    dtype: str = "float32",
    isa: str | None = None,
    clip_before_h: bool = True,
    ignore: Collection[str] = (),
) -> RNN | GRU | LSTM:
    """Makes a layer of a recurrent node of an ONNX model: exactly what the node does, or an error.

    `model` is a path, the bytes of a file, or an ``onnx.ModelProto``. Nodes are RNN, GRU and LSTM of operator sets 7
    and later and ``com.microsoft.DynamicQuantizeLSTM``, in the graph, its subgraphs and its functions. A model with
    several needs `node`: a node's name, its address as errors and ``fusedcell inspect`` list it, or its index there.

    The layer is called as any other: x (T, B, I), or (B, T, I) where the node has layout=1, and y (T, B, D * H).
    Initial states that the file fixes are its :attr:`~fusedcell.layers.Layer.initial_state`; those that the model
    computes from its inputs, and lengths, are the call's `state` and `lengths`. Of length 0 the final state is the
    initial one, where ONNX Runtime has zeros. States and lengths that the model makes by itself in a way that is not
    understood are an error, unless `ignore` holds "initial_state" or "lengths": then the layer starts from zeros, or
    runs all steps of every row, and a UserWarning says so.
    `clip_before_h=False` leaves the LSTM's cell state unclipped where it enters h(), as ONNX Runtime does and the
    operator's text does not. Weights of the quantised LSTM become floats, (q - zero_point) * scale, and then `dtype`;
    activations are not quantised as ONNX Runtime does.

    Raises UnsupportedError naming the attribute, input or operator that cannot be honoured, ValueError for a broken
    file, shapes that do not fit, a node that is not there or another name in `ignore`, and ImportError without the
    package onnx (``pip install fusedcell[onnx]``).

    >>> import numpy as np, fusedcell as fc
    >>> rnn = fc.RNN.from_state_dict({"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.ones((2, 2))})
    >>> fc.from_onnx(fc.to_onnx(rnn), isa="scalar")
    RNN(3, 2, dtype='float32', isa='scalar')
    """
    ignored = checked_ignore(ignore)
    file = OnnxFile(model)
    occurrence = choose(recurrent_nodes(file), node, file.name)
    reading = read_node(occurrence, Constants(file), clip_before_h=clip_before_h, ignore=ignored)
    for text in reading.ignored:
        warnings.warn(f"{occurrence.description}: ignored: {text}", UserWarning, stacklevel=2)
    return cast("RNN | GRU | LSTM", build(reading.spec, dtype=dtype, isa=isa))


def checked_ignore(ignore: Collection[str]) -> Collection[str]:
    """The same; ValueError for a name that is not one of those that can be ignored."""
    if isinstance(ignore, str) or not isinstance(ignore, Collection) or any(name not in IGNORABLE for name in ignore):
        raise ValueError(f"ignore: expected a tuple of {' and '.join(map(repr, IGNORABLE))}, got {ignore!r}")
    return ignore


def choose(found: list[Occurrence], node: str | int | None, where: str) -> Occurrence:
    """The one node, or the named one; ValueError that lists what there is."""
    listing = ", ".join(f"{index}: {occurrence.description}" for index, occurrence in enumerate(found[:50]))
    if not found:
        raise ValueError(f"{where}: there is no recurrent node (RNN, GRU, LSTM)")
    if node is None:
        if len(found) > 1:
            raise ValueError(f"{where}: there are {len(found)} recurrent nodes; name one of them: {listing}")
        return found[0]
    if isinstance(node, bool) or not isinstance(node, (str, int)):
        raise TypeError(f"node: expected a name, an index or None, got {type(node).__name__}")
    if isinstance(node, int):
        if not 0 <= node < len(found):
            raise ValueError(f"node: expected an index from 0 to {len(found) - 1}, got {node}; there are: {listing}")
        return found[node]
    named = [occurrence for occurrence in found if node in (occurrence.node.name, occurrence.address)]
    exact = [occurrence for occurrence in named if occurrence.address == node]
    if len(exact or named) != 1:
        count = len(exact or named) or "no"
        raise ValueError(f"node: {count} recurrent nodes are called {node!r}; there are: {listing}")
    return (exact or named)[0]


@dataclass(frozen=True)
class NodeReport:
    """One recurrent node: what it is, and either what it becomes or why it cannot be loaded."""

    occurrence: Occurrence
    opset: int | None
    reading: NodeReading | None
    refusal: str

    @property
    def connections(self) -> list[tuple[str, str]]:
        """For people: the node's inputs and outputs by the model's names, and the order of X's axes."""
        node, scope = self.occurrence.node, self.occurrence.scope
        operator = OPERATORS.get((opset_domain(node.domain), node.op_type))
        rows = []
        for kind, given in (("inputs", node.input), ("outputs", node.output)):
            roles = list(getattr(operator, kind, ())) + [""] * len(given)
            named = [f"{role}={name}" if role else name for role, name in zip(roles, given, strict=False) if name]
            rows.append((kind, ", ".join(named) or "none"))
        if operator is not None:
            layout = scope.attributes_of(node).get("layout")
            axes = "batch, steps, inputs" if layout is not None and layout.i == 1 else "steps, batch, inputs"
            origin = scope.find(node.input[0]) if node.input and node.input[0] else None
            if origin is not None and origin.node is not None and origin.node.op_type == "Transpose":
                axes += f"; the model makes it by Transpose of {', '.join(origin.node.input)}"
            rows.append(("axes of X", axes))
        return rows


def report(model: OnnxSource, *, dtype: str = "float32", ignore: Collection[str] = ()) -> list[NodeReport]:
    """Every recurrent node of a model, each read as :func:`from_onnx` reads it. Errors as there, but of nodes."""
    file = OnnxFile(model)
    constants = Constants(file)
    reports = []
    for occurrence in recurrent_nodes(file):
        reading, refusal = None, ""
        try:
            reading = read_node(occurrence, constants, ignore=checked_ignore(ignore))
            build(reading.spec, dtype=dtype, isa=None)
        except ValueError as error:
            refusal = str(error)
        reports.append(NodeReport(occurrence, opset_of(occurrence), reading, refusal))
    return reports
