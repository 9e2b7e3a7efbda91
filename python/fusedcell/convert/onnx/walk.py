"""A graph followed from its inputs to its outputs: numbers are evaluated, rows handed to the tracing core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ..tracing import RefusedError, Tracer
from .apart import cell
from .arithmetic import Arithmetic, State
from .calls import Call
from .constants import Constants
from .elements import Elements
from .file import OnnxFile
from .graph import Graph, Graphs, Node, Scope, opset_domain, outermost
from .layers import OPERATORS
from .values import MOVING, Budget, Value, can_fold, fold, settled

_OF_INTEGERS = frozenset((*MOVING, "Cast", "GRU", "LSTM", "OneHot", "RNN"))


class Walk:
    """One pass through a model's graph at the tracer's probes.

    What cannot be followed is an error only where it is read, as :meth:`value` does for a name.
    """

    def __init__(
        self, file: OnnxFile, tracer: Tracer, given: Mapping[str, Value], declared_steps: int | None = None
    ) -> None:
        self._file, self._tracer, self._probes = file, tracer, len(tracer.batch)
        self._graphs = Graphs(file)
        self._constants = Constants(file)
        self._budget = Budget()
        self._root = outermost(file.model)
        self._values = {(self._root, name): value for name, value in given.items()}
        self.progress = 0
        self.declared_steps = declared_steps
        self.elements = Elements()
        self._arithmetic = Arithmetic(self.elements, self._budget.spend)

    def run(self) -> None:
        """Follows the graph."""
        self._graph(self._file.model.graph, self._root, 0)

    @property
    def visited(self) -> int:
        """How many nodes were gone through."""
        return self._graphs.visited

    def value(self, name: str) -> Value:
        """What a name of the outermost graph is; raises why it is not known."""
        value = self._find(self._root, name)
        if not value.is_known:
            raise value.reason or UnsupportedError(f"{name!r} is not known")
        return value

    def carrier(self, name: str, shapes: Sequence[tuple[int, ...]]) -> None:
        """Makes an input of these shapes a state."""
        self._values[self._root, name] = Value(places=self.elements.number(shapes, State(name)), state=name)

    def check_carried(self, states: Mapping[str, str], layers: Sequence[Any]) -> None:
        """Raises UnsupportedError where an output is not what goes on from its state, in a model of these layers."""
        for name, onward in states.items():
            state, value = self._values[self._root, name], self.value(onward)
            if not value.places and value.reason is not None:
                raise value.reason
            if not value.places or not self.elements.go_on(state.places, value.places, layers):
                raise UnsupportedError(
                    f"states: output {onward!r} is not what the nodes that start from {name!r} end with"
                )

    def _graph(self, graph: Graph, scope: Scope, depth: int) -> None:
        for node in self._graphs.nodes(graph, scope, depth):
            values = self._outputs(node, scope, depth)
            self._values |= {(scope, name): value for name, value in zip(node.output, values, strict=True) if name}

    def _find(self, scope: Scope, name: str) -> Value:
        origin = scope.find(name)
        key = (origin.scope, origin.name)
        if key not in self._values:
            if origin.tensor is not None:
                self._values[key] = self._held(scope, name)
            elif origin.node is not None:
                raise ValueError(f"{origin.scope.describe(origin.node)} makes {name!r} after it is used")
            else:
                raise ValueError(f"the model uses {origin.description}")
        return self._values[key]

    def _held(self, scope: Scope, name: str) -> Value:
        values = self._budget.hold(self._constants.read(scope, name).known)
        return Value(numbers=(values,) * self._probes)

    def _outputs(self, node: Node, scope: Scope, depth: int) -> list[Value]:
        where = scope.describe(node)
        call: Call | None = None
        inputs = [None if scope.is_absent(name) else self._find(scope, name) for name in node.input]
        try:
            function = self._graphs.function(node)
            if function is not None:
                inner = self._graphs.call(function, node, scope)
                self._graph(function, inner, depth + 1)
                return [self._find(inner, name) for name in function.output[: len(node.output)]]
            domain = opset_domain(node.domain)
            op_type = f"{domain}.{node.op_type}" if domain else str(node.op_type)
            call = Call(self, self._tracer, scope, node, op_type, inputs)
            try:
                made = self._made(call, depth)
            except RefusedError as refused:
                raise UnsupportedError(f"{where}: {refused}") from refused
        except ValueError as error:
            if not isinstance(error, UnsupportedError) and where not in str(error):  # NumPy's, or of a node
                error = UnsupportedError(f"{where}: {error}")
            return [Value(reason=error, made_by=call)] * len(node.output)
        self.progress += 1
        made += [Value(reason=UnsupportedError(f"{where}: output {index} is not supported"))
                 for index in range(len(made), len(node.output))]  # fmt: skip
        return [value if value.made_by else replace(value, made_by=call) for value in made[: len(node.output)]]

    def _made(self, call: Call, depth: int) -> list[Value]:
        node, scope, op_type = call.node, call.scope, call.op_type
        if op_type == "Constant":
            return [self._held(scope, node.output[0])]
        if op_type == "If":
            return self._branch(call, depth)
        present = [value for value in call.inputs if value is not None]
        if present and op_type in ("Shape", "Size"):
            return [Value(numbers=settled([self._sizes(call, probe) for probe in range(self._probes)]))]
        if present and all(value.numbers for value in present) and can_fold(op_type):
            return [
                Value(numbers=arrays)
                for arrays in self._fold(call, [None if v is None else v.numbers for v in call.inputs])
            ]
        if op_type not in OPERATORS:
            for value in present:
                if value.reason is not None and not value.is_known:
                    raise value.reason
            raise UnsupportedError(
                f"{call.where}: operator {op_type} is not supported; supported: {', '.join(sorted(OPERATORS))}"
            )
        call.check()
        if any(value.tokens for value in present) and op_type not in _OF_INTEGERS:
            raise call.refused("of integers; supported: what moves them, tables, and Cast")
        moved = self._moved(call)
        try:
            made = OPERATORS[op_type](call)
        except (RefusedError, UnsupportedError) as error:
            reason = error if isinstance(error, UnsupportedError) else UnsupportedError(f"{call.where}: {error}")
            if moved:
                state = call.value(0).state if all(value.state or value.numbers for value in present) else ""
                return [Value(places=places, reason=reason, state=state) for places in moved]
            made_of_states = self._of_states(call, reason)
            if made_of_states is None:
                raise
            return [made_of_states]
        values = made if isinstance(made, list) else [made]
        values = [value if isinstance(value, Value) else Value(rows=value) for value in values]
        return [replace(value, places=places) for value, places in zip(values, moved, strict=True)] if moved else values

    def _of_states(self, call: Call, reason: Exception) -> Value | None:
        """What an operator computes of states, in elements; what a layer answers, where it makes a cell complete."""
        if not any(value is not None and value.places and value.rows is None for value in call.inputs):
            return None
        places = self._arithmetic.made(call)
        if places is None:
            return None
        return cell(call, self._arithmetic, places) or Value(places=places, reason=reason)

    def _moved(self, call: Call) -> list[tuple[Any, ...]]:
        """The places of the elements of states that an operator moves."""
        if call.op_type == "Add":  # of zeros to a state, by which exporters keep an input in use
            places, zero = (call.value(index) for index in (0, 1))
            nothing = bool(zero.numbers) and all(array.size == 1 and not array.any() for array in zero.numbers)
            return [places.places] if places.places and nothing else []
        if call.op_type not in MOVING:
            return []
        first = len(call.inputs) if call.op_type == "Concat" else 1
        arrays = [
            None if value is None else self._placed(call, value) if index < first else value.numbers
            for index, value in enumerate(call.inputs)
        ]
        return [] if any(array == () for array in arrays) else self._fold(call, arrays)

    def _placed(self, call: Call, value: Value) -> tuple[Any, ...]:
        """The places of a value; of data as well, where a row of them is joined to one of a state."""
        is_joined = any(other is not None and other.places and other.rows is None for other in call.inputs)
        if value.rows is None or value.places or not is_joined or self._tracer.graph.has_time:
            return value.places
        return self._arithmetic.places(value)

    def _fold(self, call: Call, arrays: Sequence[tuple[Any, ...] | None]) -> list[tuple[Any, ...]]:
        return fold(call.operation, arrays, call.operation.fill(self._file.array), self._budget)

    def _sizes(self, call: Call, probe: int) -> Any:
        value = call.value(0)
        if not value.is_known:
            raise value.reason or UnsupportedError(f"{call.where}: its input is not known")
        shape = value.shape(probe)
        if call.op_type == "Size":
            return np.array(int(np.prod(np.array(shape, object))), np.int64)
        start, end = call.attributes.integer("start") or 0, call.attributes.integer("end")
        return np.array(shape[start:end], np.int64)

    def _branch(self, call: Call, depth: int) -> list[Value]:
        condition = call.constant(0)
        if condition.size != 1:
            raise ValueError(f"{call.where}: expected one condition, got {condition.size}")
        name = "then_branch" if condition.all() else "else_branch"
        attribute = call.scope.attributes_of(call.node).get(name)
        if attribute is None or not attribute.HasField("g"):
            raise ValueError(f"{call.where}: {name} is missing")
        inner = self._graphs.subgraph(attribute.g, name, call.node, call.scope)
        self._graph(attribute.g, inner, depth + 1)
        return [self._find(inner, output.name) for output in attribute.g.output]
