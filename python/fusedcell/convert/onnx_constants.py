"""Values that an ONNX model fixes: initialisers, Constant nodes, and what a few operators make of them.

What operators may make of a file is bounded by what the file holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from .onnx_file import OnnxFile, Values
from .onnx_graph import Node, Origin, Scope, opset_domain
from .onnx_operators import OPERATORS, Inputs, evaluate, result_size
from .onnx_reader import AttributeReader

# Of these the values are those of the first input, whatever becomes of the shape.
_REARRANGING = ("Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Slice", "Expand", "Tile")
_SHAPES = ("Shape", "Size")

_MAX_CHAIN = 100
# How many elements operators may make: so many for each that the file holds, and these besides.
_MAX_GROWTH = 32
_MAX_MADE = 2**20


class NotConstantError(Exception):
    """A value that the model computes as it runs; the text says from what."""


@dataclass(frozen=True)
class Constant:
    """A value, what the file holds of it, and the operators in between, nearest to the file first."""

    values: Values
    leaves: tuple[str, ...]
    types: tuple[str, ...]
    operators: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """For people: what the file holds, and the operators in between."""
        through = f" through {', '.join(self.operators)}" if self.operators else ""
        return " and ".join(self.leaves) + through


class Constants:
    """Reads constants of a file; each is computed once."""

    def __init__(self, file: OnnxFile) -> None:
        self._file = file
        self._known: dict[tuple[Scope, str], Constant] = {}
        self._left = _MAX_MADE
        self._fixed: set[tuple[Scope, str | int]] = set()  # what was seen not to depend on data
        # A model's own function takes the place of a standard operator of its name.
        self._replaced = {item.name for item in file.model.functions if opset_domain(item.domain) == ""}

    def read(self, scope: Scope, name: str) -> Constant:
        """The constant of this name.

        Raises NotConstantError where the value depends on what the model is given, UnsupportedError for an operator
        that is not followed, ValueError for a broken file.
        """
        return self._read(scope, name, 0)

    def uniform_value(self, scope: Scope, name: str) -> float | None:
        """The one number that all values of this name are, of whatever shape, if that can be seen; else None."""
        cast = False
        for _ in range(_MAX_CHAIN):
            origin = scope.find(name)
            op_type = self._standard_operator(origin.node)
            if op_type in _REARRANGING and origin.node.input:
                cast = cast or op_type == "Cast"
                scope, name = origin.scope, origin.node.input[0]
                continue
            if op_type == "ConstantOfShape":
                attribute = origin.scope.attributes_of(origin.node).get("value")
                values = np.zeros(1) if attribute is None else self._file.array(attribute.t)
            elif op_type == "Constant" or origin.tensor is not None:
                values = self._read(scope, name, 0).values
            else:
                return None
            numbers = np.unique(values)
            if len(numbers) != 1 or (cast and numbers[0] != 0):
                return None
            return float(numbers[0])
        return None

    def rows(self, scope: Scope, name: str, shape: Sequence[int]) -> Values | None:
        """A constant that Expand or Tile repeats for each row of a batch, as one row; None for anything else.

        `shape` is that of one row, and the result's.
        """
        repeated = False
        for _ in range(_MAX_CHAIN):
            origin = scope.find(name)
            op_type = self._standard_operator(origin.node)
            if op_type not in ("Identity", "Expand", "Tile") or not origin.node.input:
                break
            repeated = repeated or op_type != "Identity"
            scope, name = origin.scope, origin.node.input[0]
        if not repeated:
            return None
        try:
            values = self.read(scope, name).values
            return np.broadcast_to(values, shape)
        except (NotConstantError, ValueError):
            return None

    def depends_on_data(self, scope: Scope, name: str) -> bool:
        """Whether a value depends on more of the model's inputs than their shapes."""
        todo = [(scope, name)]
        seen: set[tuple[Scope, str | int]] = set()
        while todo:
            origin = todo[-1][0].find(todo.pop()[1])
            place = (origin.scope, origin.name if origin.node is None else id(origin.node))  # a node has many outputs
            if place in seen or place in self._fixed:
                continue
            seen.add(place)
            if origin.node is not None:
                if origin.node.op_type not in _SHAPES:
                    todo += [(origin.scope, used) for used in _used_names(origin.node) if used]
            elif origin.tensor is None and origin.name in origin.scope.inputs:
                return True
        self._fixed |= seen
        return False

    def _standard_operator(self, node: Node) -> str:
        """The node's operator if it is one of the default domain; else, and for no node, nothing."""
        if node is None or opset_domain(node.domain) != "" or node.op_type in self._replaced:
            return ""
        return str(node.op_type)

    def _read(self, scope: Scope, name: str, depth: int) -> Constant:
        if depth > _MAX_CHAIN:
            raise UnsupportedError(f"{name!r} is more than {_MAX_CHAIN} operators away from a constant, or a cycle")
        origin = scope.find(name)
        key = (origin.scope, origin.name)
        if key not in self._known:
            self._known[key] = self._evaluate(origin, depth)
        return self._known[key]

    def _evaluate(self, origin: Origin, depth: int) -> Constant:
        if origin.tensor is not None:
            external = {entry.key: entry.value for entry in origin.tensor.external_data}.get("location")
            within = f" in {external}" if external else ""
            return self._leaf(origin.tensor, f"initializer {origin.name!r}{within}")
        if origin.node is None:
            if origin.name in origin.scope.inputs:
                raise NotConstantError(origin.description)
            raise UnsupportedError(f"it is {origin.description}")
        if self._standard_operator(origin.node) == "Constant":
            return self._constant_node(origin)
        return self._apply(origin, depth)

    def _leaf(self, value: Any, source: str) -> Constant:
        values = value if isinstance(value, np.ndarray) else self._file.array(value)
        self._left += _MAX_GROWTH * values.size
        return Constant(values, (source,), (str(values.dtype),))

    def _constant_node(self, origin: Origin) -> Constant:
        source = f"Constant {origin.name!r}"
        attributes = origin.scope.attributes_of(origin.node)
        if len(attributes) == 1:
            ((name, attribute),) = attributes.items()
            if name == "value" and attribute.HasField("t"):
                return self._leaf(attribute.t, source)
            if name == "value_float":
                return self._leaf(np.array(attribute.f, np.float32), source)
            if name == "value_floats":
                return self._leaf(np.array(attribute.floats, np.float32), source)
            if name == "value_int":
                return self._leaf(np.array(attribute.i, np.int64), source)
            if name == "value_ints":
                return self._leaf(np.array(attribute.ints, np.int64), source)
        raise UnsupportedError(
            f"{origin.scope.describe(origin.node)}: attributes {', '.join(attributes) or 'none'} are not supported; "
            "supported: one of value, value_float, value_floats, value_int, value_ints"
        )

    def _apply(self, origin: Origin, depth: int) -> Constant:
        node, scope = origin.node, origin.scope
        if self._standard_operator(node) not in OPERATORS:
            if self.depends_on_data(scope, origin.name):
                raise NotConstantError(f"computed by {scope.describe(node)}")
            raise UnsupportedError(
                f"it comes from {scope.describe(node)}, and {node.op_type} of constants is not followed; "
                f"followed: Constant, {', '.join(OPERATORS)}"
            )
        inputs = [None if scope.is_absent(name) else self._read(scope, name, depth + 1) for name in node.input]
        arrays: Inputs = [None if constant is None else constant.values for constant in inputs]
        self._left -= result_size(node.op_type, arrays)
        if self._left < 0:
            raise UnsupportedError(
                f"{scope.describe(node)}: its result is too large for what the file holds; "
                f"supported: {_MAX_GROWTH} elements for each in the file, and {_MAX_MADE} besides"
            )
        values = self._run(node, scope, arrays)
        # Shapes, axes and zero points are not where weights come from.
        sources = [constant for constant in inputs[: None if node.op_type == "Concat" else 1] if constant is not None]
        return Constant(
            values,
            _unique(leaf for source in sources for leaf in source.leaves),
            _unique(name for source in sources for name in source.types),
            _unique((*(name for source in sources for name in source.operators), node.op_type)),
        )

    def _run(self, node: Node, scope: Scope, inputs: Inputs) -> Values:
        label = scope.describe(node)
        attributes = AttributeReader(scope.attributes_of(node), OPERATORS[node.op_type].attributes, label)
        try:
            return evaluate(node.op_type, inputs, attributes)
        except UnsupportedError as error:
            raise UnsupportedError(f"{label}: {error}") from error
        except (ValueError, TypeError, IndexError, OverflowError) as error:  # NumPy's, where sizes do not fit
            raise ValueError(f"{label}: its inputs do not fit: {error}") from error


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _used_names(node: Node) -> Iterator[str]:
    """A node's inputs, and all names that its subgraphs use, as some of them may be of the graph around it."""
    todo = [node]
    while todo:
        current = todo.pop()
        yield from current.input
        for attribute in current.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from (value.name for value in graph.output)
                todo.extend(graph.node)
