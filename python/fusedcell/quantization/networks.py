"""Layers and models alike: matrices by name that can be exchanged, answers to data, and what the matrices multiply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from .._base import FloatArray
from .._dtypes import QUANTISED
from .._recurrent import make_stack
from ..layers import Layer
from ..model import Model
from ..nodes import Embedding, Scale
from ..nodes.base import MatrixNode
from ..weights.floats import rounded
from .operands import Products, of_layer, of_node
from .products import Array

Call: TypeAlias = "tuple[Any, ...]"
Nodes: TypeAlias = "tuple[tuple[str, Any, str | Sequence[str]], ...]"

_SEEN = " sees"  # ends the name of a node that answers what another one sees


@dataclass(frozen=True)
class Matrix:
    """Weights as they are stored: in int8 whole numbers, and a scale for each row."""

    weights: FloatArray
    dtype: str
    scales: FloatArray | None = None

    @property
    def values(self) -> FloatArray:
        """What it stands for."""
        return self.weights if self.scales is None else self.weights * self.scales[:, None]

    @property
    def bytes_of_weight(self) -> int:
        """Bytes of one of the weights."""
        return 1 if self.scales is not None else 4 if self.dtype == "float32" else 2

    @property
    def nbytes(self) -> int:
        """Bytes of the weights alone."""
        return self.weights.size * self.bytes_of_weight

    def astype(self, dtype: str, name: str) -> Matrix:
        """Rounded as a layer's `astype` rounds; ValueError for a weight that the dtype cannot hold."""
        if dtype == self.dtype:
            return self
        if self.scales is not None and dtype in QUANTISED:
            return replace(self, dtype=dtype)
        values, scales = rounded(self.values, dtype, name)
        if scales is None:
            return Matrix(values, dtype)
        return Matrix(np.rint(values / np.where(scales == 0, np.float32(1), scales)[:, None]), dtype, scales)


class Network:
    """A layer, or a model as its file has it, in which names of nodes may go on where one was several.

    Matrices are named as in files: weight_ih_l0, and of a model's node encoder that is encoder.weight_ih_l0.
    """

    def __init__(self, network: Layer | Model) -> None:
        self.whole = network
        self.nodes: Nodes = (("", network, "x"),)
        if isinstance(network, Model):
            self.nodes = Model._from_bytes(network._to_bytes(), network.isa).nodes
        self.matrices: dict[str, Matrix] = {}
        for name, node, _ in self.nodes:
            self.matrices |= {full(name, label): matrix for label, matrix in _matrices_of(node).items()}

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self.whole.nbytes

    def with_nodes(self, nodes: Nodes) -> Network:
        """Of other nodes in the same places."""
        if not isinstance(self.whole, Model):
            return Network(nodes[0][1])
        return Network(self._model(nodes, self.whole.outputs, self.whole._core.axes))

    def with_matrices(self, matrices: Mapping[str, Matrix]) -> Network:
        """These instead of those of the same names, as they are."""
        nodes = []
        for name, node, source in self.nodes:
            own = {label: matrices[full(name, label)] for label in _matrices_of(node) if full(name, label) in matrices}
            nodes.append((name, _exchanged(node, own) if own else node, source))
        return self.with_nodes(tuple(nodes))

    def answers(self, calls: Sequence[Call]) -> list[list[Array]]:
        """Of each output, its arrays call by call."""
        run: Any = self.whole
        found = []
        for call in calls:
            answer = run(*call) if isinstance(run, Model) else run(*call)[0]
            found.append([part.astype(np.float64) for part in (answer if isinstance(answer, tuple) else (answer,))])
        return [list(parts) for parts in zip(*found, strict=True)]

    def products(self, call: Call) -> Iterator[dict[str, Products]]:
        """What each matrix but an embedding's multiplies in one call, by its name; some names at a time."""
        for (name, node, _), x in self._seen(call):
            if isinstance(node, MatrixNode):
                yield {full(name, node._matrix): of_node(node, x)}
            else:
                for suffix, products in zip(node._suffixes(), of_layer(node, x), strict=True):
                    yield {full(name, label + suffix): product for label, product in products.items()}

    def inputs(self, name: str, call: Call) -> FloatArray:
        """What the node sees, (T, B, features)."""
        return next(x for (node, *_), x in self._seen(call) if node == name)

    def _seen(self, call: Call) -> Iterator[tuple[tuple[str, Any, Any], FloatArray]]:
        """Nodes with matrices, and what they see, (T, B, features)."""
        if isinstance(self.whole, Layer):
            yield self.nodes[0], _by_steps(call[0], self.whole.batch_first)
            return
        asked = [item for item in self.nodes if isinstance(item[1], Layer | MatrixNode)]
        asked = [item for item in asked if not isinstance(item[1], Embedding)]
        if not asked:
            return
        taken = [(name + _SEEN, Scale(np.ones(_input_size(node))), source) for name, node, source in asked]
        axes = {name: axes for name, axes in self.whole._core.axes.items() if name in self.whole.inputs}
        model = self._model((*self.nodes, *taken), [name for name, *_ in taken], axes)
        answer = model(*call)
        answers = answer if isinstance(answer, tuple) else (answer,)
        for item, x in zip(asked, answers, strict=True):
            yield item, _by_steps(x, self.whole.batch_first)

    def _model(self, nodes: Any, outputs: Any, axes: Any) -> Model:
        assert isinstance(self.whole, Model)
        inputs = {name: tokens or size for name, size, tokens in self.whole._core.inputs}
        return Model(nodes, inputs, outputs, self.whole.batch_first, axes=axes, isa=self.whole.isa)


def wider_inputs(name: str) -> tuple[str, ...]:
    """The types of int8 weights with wider inputs, of which an embedding's table has none."""
    return () if name.endswith(f".{Embedding._matrix}") else QUANTISED[1:]


def full(node: str, label: str) -> str:
    """A matrix's name in the whole."""
    return f"{node}.{label}" if node else label


def _by_steps(x: Any, batch_first: bool) -> FloatArray:
    """As (T, B, features); what has no time, (B, features), counts as steps."""
    array = np.asarray(x, np.float32)
    if array.ndim < 3:
        array = array.reshape(-1, 1, array.shape[-1])
    return np.ascontiguousarray(array.swapaxes(0, 1) if batch_first and array.ndim == np.ndim(x) else array)


def _input_size(node: Any) -> int:
    size: int = node.input_size if isinstance(node, Layer) else node._input_size()
    return size


def _matrices_of(node: Any) -> dict[str, Matrix]:
    if isinstance(node, MatrixNode):
        values = getattr(node, node._matrix)
        if node.scales is not None:
            values = np.rint(values / np.where(node.scales == 0, np.float32(1), node.scales)[:, None])
        return {node._matrix: Matrix(values, node.dtype, node.scales)}
    if not isinstance(node, Layer):
        return {}
    cells = zip(node._suffixes(), node.stack.arrays(), node.stack.dtypes, strict=True)
    return {
        name + suffix: Matrix(arrays[name], dtype, arrays.get(name + "_scale"))
        for suffix, arrays, dtypes in cells
        for name, dtype in dtypes.items()
    }


def _exchanged(node: Any, matrices: Mapping[str, Matrix]) -> Any:
    if isinstance(node, MatrixNode):
        ((name, matrix),) = matrices.items()
        return node._with(**{name: matrix.values, "dtype": matrix.dtype, "scales": matrix.scales})
    cells, dtypes = [], []
    for suffix, arrays, types in zip(node._suffixes(), node.stack.arrays(), node.stack.dtypes, strict=True):
        cell, kinds = dict(arrays), dict(types)
        for name in types:
            if name + suffix in matrices:
                other = matrices[name + suffix]
                cell |= {name: other.weights, name + "_scale": other.scales}
                kinds[name] = other.dtype
        cells.append({name: array for name, array in cell.items() if array is not None})
        dtypes.append(kinds)
    return _with_arrays(node, cells, dtypes)


def _with_arrays(layer: Layer, cells: Sequence[Mapping[str, Any]], dtypes: Sequence[Mapping[str, str]]) -> Layer:
    """The layer of other arrays, one mapping for each layer and direction; fixed input scales stay where int8 does."""
    stack = layer.stack
    scales = stack.input_scales if all(types["weight_ih"] in QUANTISED for types in dtypes) else ()
    suffixes, options = layer._suffixes(), layer.cell_options
    return layer._with_stack(
        make_stack(stack.kind, cells, suffixes, stack.num_directions, dtypes, stack.isa, scales, options, stack.reverse)
    )


def decibels(signals: Sequence[Sequence[Array]], answers: Sequence[Sequence[Array]]) -> float:
    """The SNR of the output that has the lowest, dB; inf without an error, -inf where one is not finite."""
    lowest = float("inf")
    for wanted, got in zip(signals, answers, strict=True):
        with np.errstate(all="ignore"):
            signal = sum(float((part**2).sum()) for part in wanted)
            error = sum(float(((a - b) ** 2).sum()) for a, b in zip(wanted, got, strict=True))
            snr = float("inf") if error == 0 else float(10 * np.log10(signal / error)) if signal > 0 else -float("inf")
        lowest = min(lowest, snr if snr == snr else -float("inf"))
    return lowest
