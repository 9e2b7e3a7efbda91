"""What an ONNX model fixes before it runs: initialisers, Constant nodes, and what operators make of them and of sizes.

What operators may make of a file is bounded by what the file holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from .file import OnnxFile
from .graph import Node, Origin, Scope, opset_domain
from .operators import ELEMENTWISE, OTHERS, REDUCTIONS, Dims, Known, Operation
from .sizes import Size, product
from .tensors import RESHAPING, Tensor, apply, known, of_numbers, unknown

_SHAPES = ("Shape", "Size")
# What these make may be known although an input is not.
_SELECTING = (*RESHAPING, "Mul", "Where")
# These take sizes or axes as inputs, which their results' shapes need.
_PARAMETRIC = {"Expand", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Unsqueeze", *REDUCTIONS}
_FOLLOWED = {*ELEMENTWISE, *REDUCTIONS, *OTHERS, *_SHAPES, *RESHAPING}
# Weights come from all inputs of these, and from the first of others: shapes, axes and scales are no weights.
_JOINING = {*ELEMENTWISE, "Concat", "MatMul", "Gemm"}

_MAX_CHAIN = 100
# How many elements operators may make: so many for each that the file holds, and these besides.
_MAX_GROWTH = 32
_MAX_MADE = 2**20
_LEAST = 64  # as how many elements an operator counts that makes fewer


class NotConstantError(Exception):
    """A value that the model computes from its inputs as it runs; the text says from what."""


class Constants:
    """Reads a file's tensors; each is computed once."""

    def __init__(self, file: OnnxFile) -> None:
        self._file = file
        self._known: dict[tuple[Scope, str], Tensor] = {}
        self._shapes: dict[tuple[Scope, str], Dims | None] = {}
        self._names: dict[tuple[Scope, str], Size] = {}
        self._left = _MAX_MADE
        self._on_data: dict[tuple[Scope, str | int], bool] = {}
        # A model's own function takes the place of a standard operator of its name.
        self._replaced = {item.name for item in file.model.functions if opset_domain(item.domain) == ""}

    def read(self, scope: Scope, name: str) -> Tensor:
        """The tensor of this name, its values in full.

        Raises NotConstantError where they depend on what the model is given, UnsupportedError where on its inputs'
        sizes or on an operator that is not followed, ValueError for a broken file.
        """
        tensor = self.tensor(scope, name)
        values = tensor.spread(self._spend, repr(name))
        if tensor.dims != values.shape or tensor.depends_on_sizes:
            raise UnsupportedError(f"{name!r} depends on the sizes of the model's inputs")
        return replace(tensor, values=values)

    def tensor(self, scope: Scope, name: str) -> Tensor:
        """What is known of the tensor of this name. Raises ValueError for a broken file."""
        return self._tensor(scope, name, 0)

    def shape(self, scope: Scope, name: str, rank: int) -> Dims:
        """The shape of a tensor of so many axes."""
        dims = self._shape(scope, name, 0)
        if dims is None or len(dims) != rank:
            origin = scope.find(name)
            dims = self._shapes[origin.scope, origin.name] = self._new_sizes(origin, [""] * rank)
        return dims

    def _spend(self, elements: int, where: str) -> None:
        self._left -= elements
        if self._left < 0:
            raise UnsupportedError(
                f"{where}: its result is too large for what the file holds; "
                f"supported: {_MAX_GROWTH} elements for each in the file, and {_MAX_MADE} besides"
            )

    def depends_on_data(self, scope: Scope, name: str) -> bool:
        """Whether a value depends on more of the model's inputs than their shapes."""
        todo = [scope.find(name)]
        used: dict[tuple[Scope, str | int], list[Origin]] = {}
        while todo:
            origin = todo[-1]
            place = _place(origin)
            if place in self._on_data:
                todo.pop()
            elif place in used:
                self._on_data[place] = any(self._on_data.get(_place(source)) for source in used.pop(place))
            elif origin.node is None:
                self._on_data[place] = origin.tensor is None and origin.name in origin.scope.inputs
            else:
                names = () if origin.node.op_type in _SHAPES else filter(None, _used_names(origin.node))
                used[place] = [origin.scope.find(name) for name in names]
                todo += [source for source in used[place] if _place(source) not in used]
        return self._on_data[_place(scope.find(name))]

    def _standard_operator(self, node: Node) -> str:
        """The name of a node's operator in the default domain; "" for others and for no node."""
        if node is None or opset_domain(node.domain) != "" or node.op_type in self._replaced:
            return ""
        return str(node.op_type)

    def _tensor(self, scope: Scope, name: str, depth: int) -> Tensor:
        endless = f"{name!r} is more than {_MAX_CHAIN} operators away from a constant, or a cycle"
        if depth > _MAX_CHAIN:
            return unknown(UnsupportedError(endless))
        origin = scope.find(name)
        key = (origin.scope, origin.name)
        if key not in self._known:
            self._known[key] = unknown(UnsupportedError(endless))  # which a cycle meets
            names = [origin.name] if origin.node is None else list(origin.node.output)
            try:
                tensors = [self._leaf(origin)] if origin.node is None else self._outputs(origin, depth)
            except (NotConstantError, UnsupportedError) as error:
                tensors = [unknown(error)] * len(names)
            self._known |= {(origin.scope, name): tensor for name, tensor in zip(names, tensors, strict=True)}
        return self._known[key]

    def _leaf(self, origin: Origin) -> Tensor:
        if origin.tensor is not None:
            external = {entry.key: entry.value for entry in origin.tensor.external_data}.get("location")
            within = f" in {external}" if external else ""
            return self._held(origin.tensor, f"initializer {origin.name!r}{within}")
        if origin.name in origin.scope.inputs:
            raise NotConstantError(origin.description)
        raise UnsupportedError(f"it is {origin.description}")

    def _held(self, value: Any, source: str) -> Tensor:
        values = value if isinstance(value, np.ndarray) else self._file.array(value)
        self._left += _MAX_GROWTH * values.size
        return replace(known(values), leaves=(source,), types=(str(values.dtype),))

    def _constant_node(self, origin: Origin) -> Tensor:
        source = f"Constant {origin.name!r}"
        attributes = origin.scope.attributes_of(origin.node)
        if len(attributes) == 1:
            ((name, attribute),) = attributes.items()
            if name == "value" and attribute.HasField("t"):
                return self._held(attribute.t, source)
            fields: dict[str, tuple[str, type]] = {
                "value_float": ("f", np.float32),
                "value_floats": ("floats", np.float32),
                "value_int": ("i", np.int64),
                "value_ints": ("ints", np.int64),
            }
            if name in fields:
                field, dtype = fields[name]
                return self._held(np.array(getattr(attribute, field), dtype), source)
        raise UnsupportedError(
            f"{origin.scope.describe(origin.node)}: attributes {', '.join(attributes) or 'none'} are not supported; "
            "supported: one of value, value_float, value_floats, value_int, value_ints"
        )

    def _outputs(self, origin: Origin, depth: int) -> list[Tensor]:
        node, scope = origin.node, origin.scope
        where, op_type = scope.describe(node), self._standard_operator(node)
        if op_type == "Constant":
            return [self._constant_node(origin)]
        if op_type not in _FOLLOWED:
            if self.depends_on_data(scope, origin.name):
                raise NotConstantError(f"computed by {where}")
            raise UnsupportedError(
                f"it comes from {where}, and {node.op_type} of constants is not followed; run the model through "
                "ONNX Runtime's basic optimisation, which makes initializers of constants, and load what it writes"
            )
        self._spend(_LEAST, where)
        operation = self._operation(origin)
        if op_type in _SHAPES:
            return [self._of_shape(operation, scope, node, depth)]
        inputs: list[Tensor | None] = []
        for name in node.input:
            tensor = None if scope.is_absent(name) else self._tensor(scope, name, depth + 1)
            if tensor is not None and tensor.values is None:
                if op_type not in _SELECTING:
                    return [unknown(tensor.reason or UnsupportedError(where))] * len(node.output)
                tensor = replace(tensor, dims=self._shape(scope, name, depth + 1))
            inputs.append(tensor)
        operation.check_count([tensor is not None for tensor in inputs])
        fill = operation.fill(self._file.array)
        inputs = inputs if fill is None else [known(fill), *inputs]
        outputs = apply(operation, inputs, self._spend)
        sources = [tensor for tensor in inputs[: None if op_type in _JOINING else 1] if tensor is not None]
        return [
            replace(
                output,
                leaves=_unique(leaf for source in sources for leaf in source.leaves),
                types=_unique(name for source in sources for name in source.types),
                operators=_unique((*(name for source in sources for name in source.operators), op_type)),
            )
            for output in outputs
        ]

    def _operation(self, origin: Origin) -> Operation:
        node, scope = origin.node, origin.scope
        attributes, opset = scope.attributes_of(node), scope.opsets.get("", 0)
        return Operation(node.op_type, opset, attributes, len(node.output), scope.describe(node))

    def _of_shape(self, operation: Operation, scope: Scope, node: Node, depth: int) -> Tensor:
        if len(node.input) != 1 or scope.is_absent(node.input[0]):
            raise ValueError(f"{operation.where}: expected 1 input, got {len(node.input)}")
        dims = self._shape(scope, node.input[0], depth + 1)
        if dims is None:
            reason = UnsupportedError(f"{operation.where}: the model does not say how many axes {node.input[0]!r} has")
            return unknown(reason, (Size.new("a rank"),) if node.op_type == "Shape" else ())
        if node.op_type == "Shape":
            return of_numbers(dims[operation.attributes.integer("start") or 0 : operation.attributes.integer("end")])
        size = of_numbers([product(dims)])
        return replace(size, dims=(), values=size.known.reshape(()))

    def _shape(self, scope: Scope, name: str, depth: int) -> Dims | None:
        """A tensor's shape, as far as the shapes of the model's inputs tell; None where not even the rank is known."""
        origin = scope.find(name)
        key = (origin.scope, origin.name)
        if key not in self._shapes and depth <= _MAX_CHAIN:
            self._shapes[key] = None  # which a cycle meets
            if origin.tensor is not None:
                self._shapes[key] = tuple(origin.tensor.dims)
            elif origin.node is None:
                self._shapes[key] = self._declared(origin, None)
            else:
                known_dims = None if self.depends_on_data(scope, name) else self._tensor(scope, name, depth).dims
                made = self._inferred(origin, depth) if known_dims is None else [known_dims]
                names = [origin.name] if known_dims is not None else list(origin.node.output)
                for output, dims in zip(names, made, strict=True):
                    self._shapes[origin.scope, output] = self._declared(replace(origin, name=output), dims)
        return self._shapes.get(key)

    def _inferred(self, origin: Origin, depth: int) -> list[Dims | None]:
        node, scope = origin.node, origin.scope
        op_type = self._standard_operator(node)
        self._spend(_LEAST, scope.describe(node))
        inputs: list[Known | None] = []
        for index, name in enumerate(node.input if op_type else ()):
            if scope.is_absent(name):
                inputs.append(None)
                continue
            fixed = index and op_type in _PARAMETRIC and not self.depends_on_data(scope, name)
            tensor = self._tensor(scope, name, depth + 1) if fixed else unknown(UnsupportedError())
            values = None if tensor.depends_on_sizes else tensor.values
            inputs.append((self._shape(scope, name, depth + 1), values, tensor.dtype))
        try:
            return self._operation(origin).shapes(inputs) if op_type else [None] * len(node.output)
        except ValueError:
            return [None] * len(node.output)

    def _declared(self, origin: Origin, dims: Dims | None) -> Dims | None:
        """The shape with what the model declares of it."""
        declared = origin.scope.types.get(origin.name)
        if declared is None or not declared.tensor_type.HasField("shape"):
            return dims
        given = declared.tensor_type.shape.dim
        if dims is None:
            dims = self._new_sizes(origin, [dim.dim_param for dim in given])
        pairs = zip(dims, given, strict=False)
        sizes = tuple(dim.dim_value if isinstance(size, Size) and dim.dim_value > 0 else size for size, dim in pairs)
        return sizes if len(given) == len(dims) else dims

    def _new_sizes(self, origin: Origin, names: Sequence[str]) -> Dims:
        keys = [name or f"{origin.name}[{axis}]" for axis, name in enumerate(names)]
        return tuple(self._names.setdefault((origin.scope, key), Size.new(key)) for key in keys)


def _place(origin: Origin) -> tuple[Scope, str | int]:
    return origin.scope, origin.name if origin.node is None else id(origin.node)  # a node has many outputs


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
