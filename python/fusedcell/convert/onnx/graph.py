"""Where the recurrent nodes of an ONNX model are, and what their inputs' names mean there.

Names follow ONNX's scopes: a subgraph (a branch of If, the body of Loop or Scan) sees the names of the graphs around
it; a function sees its own inputs and attributes only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...errors import UnsupportedError
from .file import OnnxFile

Node: TypeAlias = Any  # onnx.NodeProto
Attribute: TypeAlias = Any  # onnx.AttributeProto
Graph: TypeAlias = Any  # onnx.GraphProto or onnx.FunctionProto

# Far beyond real models: what a file may make us walk through, as functions can call functions twice over.
_MAX_DEPTH = 50
_MAX_NODES = 200_000
_MAX_NAMES = 1_000_000
_MAX_LABEL = 200

_FAMILIES = ("RNN", "GRU", "LSTM")


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: an initialiser, or an output of a node, or neither, as `description` says."""

    scope: Scope
    name: str
    tensor: Any = None
    node: Node = None
    description: str = ""


@dataclass(eq=False)
class Scope:
    """The names of one graph, subgraph or call of a function, and where it stands: its node in the scope `outer`."""

    label: str
    opsets: Mapping[str, int]
    outer: Scope | None = None
    parent: Scope | None = None
    inputs: set[str] = field(default_factory=set)
    initialisers: dict[str, Any] = field(default_factory=dict)
    sparse: set[str] = field(default_factory=set)
    producers: dict[str, Node] = field(default_factory=dict)
    bound: dict[str, tuple[Scope, str]] = field(default_factory=dict)
    types: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Attribute] | None = None

    @property
    def path(self) -> str:
        """What errors call it; nothing for the outermost graph. Made when asked for, as there may be many and deep."""
        labels = []
        scope: Scope | None = self
        while scope is not None and scope.label:
            labels.append(scope.label)
            scope = scope.outer
        return "/".join(reversed(labels))

    def add(self, kind: dict[str, Any], name: str, value: Any) -> None:
        """Defines a name of this graph; ValueError if it has one of that name."""
        if name in self.initialisers or name in self.producers:
            raise ValueError(f"{self.path or 'graph'}: {name!r} is defined twice")
        kind[name] = value

    def find(self, name: str) -> Origin:
        """What a name that is not empty means here."""
        scope: Scope | None = self
        for _ in range(_MAX_DEPTH * _MAX_DEPTH):
            if scope is None:
                return Origin(self, name, description=f"{name!r}, which the model does not define")
            if name in scope.bound:
                scope, name = scope.bound[name]
                if not name:
                    return Origin(scope, name, description="an absent input of a function")
            elif name in scope.initialisers:
                return Origin(scope, name, tensor=scope.initialisers[name])
            elif name in scope.sparse:
                return Origin(scope, name, description=f"the sparse initializer {name!r}")
            elif name in scope.producers:
                return Origin(scope, name, node=scope.producers[name])
            elif name in scope.inputs:
                return Origin(scope, name, description=f"{name!r}, an input of {scope.path or 'the graph'}")
            else:
                scope = scope.parent
        raise ValueError(f"{self.path}: functions are nested more than {_MAX_DEPTH} deep")

    def is_absent(self, name: str) -> bool:
        """Whether an optional input of this name is left out, here or by who calls the function."""
        return not name or not self.find(name).name

    def attributes_of(self, node: Node) -> dict[str, Attribute]:
        """A node's attributes by name; those that refer to an attribute of the function, as the call has it."""
        found: dict[str, Attribute] = {}
        for attribute in node.attribute:
            if attribute.name in found:
                raise ValueError(f"{self.describe(node)}: attribute {attribute.name} is given twice")
            value = attribute
            if attribute.ref_attr_name:
                value = self._function_attributes().get(attribute.ref_attr_name)
            if value is not None:
                found[attribute.name] = value
        return found

    def _function_attributes(self) -> dict[str, Attribute]:
        scope: Scope | None = self
        while scope is not None and scope.attributes is None:
            scope = scope.parent
        return {} if scope is None or scope.attributes is None else scope.attributes

    def describe(self, node: Node) -> str:
        """What errors call a node."""
        return f"{node.op_type} node {self.address(node)!r}"

    def address(self, node: Node) -> str:
        """Where a node of this scope is in the model."""
        return "/".join(part for part in (self.path, _label(node)) if part)


@dataclass(frozen=True)
class Occurrence:
    """A recurrent node where it stands. A function's node occurs once for each call."""

    node: Node
    scope: Scope

    @property
    def address(self) -> str:
        """Where it is in the model."""
        return self.scope.address(self.node)

    @property
    def description(self) -> str:
        """What errors call it."""
        return f"{self.node.op_type} node {self.address!r}"


def _label(node: Node) -> str:
    name: str = node.name or next((output for output in node.output if output), node.op_type)
    return name[:_MAX_LABEL]


def opset_domain(domain: str) -> str:
    """The default domain has two names."""
    return "" if domain == "ai.onnx" else domain


class Graphs:
    """A model's graphs and functions, and the scopes of their names, as far as the limits above allow."""

    def __init__(self, file: OnnxFile) -> None:
        model = file.model
        self.functions: dict[tuple[str, str, str], Any] = {}
        for function in model.functions:
            key = (opset_domain(function.domain), function.name, getattr(function, "overload", ""))
            if key in self.functions:
                raise ValueError(f"{file.name}: function {function.name!r} is defined twice")
            self.functions[key] = function
        self.visited = 0
        self.names = 0

    def _count(self, *named: Any) -> None:
        """Counts what takes time and memory anew in each call of a function."""
        self.names += sum(map(len, named))
        if self.names > _MAX_NAMES:
            raise UnsupportedError(f"the model's graphs have more than {_MAX_NAMES} names in all; that is the limit")

    def nodes(self, graph: Graph, scope: Scope, depth: int) -> Iterator[Node]:
        """The nodes of a graph, whose outputs are names of its scope from the first on."""
        if depth > _MAX_DEPTH:
            raise UnsupportedError(f"{scope.path[:200]}: graphs are nested more than {_MAX_DEPTH} deep")
        for node in graph.node:
            self._count(node.output)
            for output in node.output:
                if output:
                    scope.add(scope.producers, output, node)
        for node in graph.node:
            self.visited += 1
            if self.visited > _MAX_NODES:
                raise UnsupportedError(f"the model has more than {_MAX_NODES} nodes; that is the limit")
            yield node

    def function(self, node: Node) -> Any:
        """The function that a node calls; None where it is an operator's."""
        return self.functions.get((opset_domain(node.domain), node.op_type, getattr(node, "overload", "")))

    def recurrent(self, graph: Graph, scope: Scope, depth: int) -> Iterator[Occurrence]:
        """Every node of a graph, its subgraphs and functions that is called RNN, GRU or LSTM or something with that."""
        for node in self.nodes(graph, scope, depth):
            function = self.function(node)
            if function is not None:
                yield from self.recurrent(function, self.call(function, node, scope), depth + 1)
                continue
            if any(family in node.op_type.upper() for family in _FAMILIES):
                yield Occurrence(node, scope)
            for attribute in node.attribute:
                for subgraph in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                    yield from self.recurrent(subgraph, self.subgraph(subgraph, attribute.name, node, scope), depth + 1)

    def subgraph(self, graph: Graph, attribute: str, node: Node, scope: Scope) -> Scope:
        """The scope of the graph that is an attribute of a node of `scope`."""
        self._count(graph.input, graph.initializer, graph.value_info, graph.sparse_initializer)
        return _scope_of(graph, f"{_label(node)}.{attribute[:_MAX_LABEL]}", scope.opsets, scope)

    def call(self, function: Any, node: Node, caller: Scope) -> Scope:
        """The scope of a function as a node of `caller` calls it."""
        self._count(function.input, function.attribute_proto, function.opset_import, node.attribute)
        self._count(getattr(function, "value_info", ()))
        scope = Scope(_label(node), _opsets(function), caller)
        scope.types = {value.name: value.type for value in getattr(function, "value_info", ())}
        given = list(node.input)
        for index, name in enumerate(function.input):
            scope.bound[name] = (caller, given[index] if index < len(given) else "")
        scope.attributes = {attribute.name: attribute for attribute in function.attribute_proto}
        scope.attributes.update(caller.attributes_of(node))
        return scope


def _opsets(model: Any) -> dict[str, int]:
    return {opset_domain(entry.domain): entry.version for entry in model.opset_import}


def _scope_of(graph: Graph, label: str, opsets: Mapping[str, int], parent: Scope | None) -> Scope:
    scope = Scope(label, opsets, parent, parent, inputs={value.name for value in graph.input})
    for tensor in graph.initializer:
        # An initialiser is the default of an input, and those of a loop's body are always given.
        if parent is None or tensor.name not in scope.inputs:
            scope.add(scope.initialisers, tensor.name, tensor)
    scope.types = {value.name: value.type for value in (*graph.value_info, *graph.input)}
    scope.sparse = {tensor.values.name for tensor in graph.sparse_initializer}
    return scope


def outermost(model: Any) -> Scope:
    """The scope of a model's graph, without what its nodes make."""
    return _scope_of(model.graph, "", _opsets(model), None)


def recurrent_nodes(file: OnnxFile) -> list[Occurrence]:
    """Every node whose operator is called RNN, GRU or LSTM or something with that, in the order of the file.

    Raises ValueError for a graph that defines a name twice, UnsupportedError for one beyond the limits above.
    """
    return list(Graphs(file).recurrent(file.model.graph, outermost(file.model), 0))
