"""What operators compute of states: sums of products, of which a cell is made where they are those of one.

Exporters write a cell as the operators that it consists of. A state may be moved on the way, and so may all that is
computed of it, so that gates are told apart by their elements and not by the operators between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..tracing.rows import Floats, Indices
from .calls import Call
from .elements import Elements, Places
from .file import element_name
from .values import Value

# An element of another tensor, or a function of it: the function's name or "", and the numbers of the elements.
Atom: TypeAlias = tuple[str, bytes]
# What each atom of a product is, and by what the product is multiplied at each element.
Terms: TypeAlias = "dict[tuple[Atom, ...], Floats]"

_FUNCTIONS = ("Relu", "Sigmoid", "Tanh")
_MOST_TERMS = 16
_MOST_ATOMS = 3


@dataclass(frozen=True, eq=False)
class State:
    """An input that carries a state."""

    name: str


@dataclass(frozen=True, eq=False)
class Data:
    """What is computed of the model's inputs alone, or what a layer answers."""

    rows: Any


@dataclass(frozen=True, eq=False)
class Product:
    """Rows of numbers by a matrix (I, O), and a bias: element k is of row k // O."""

    rows: Places
    weight: Floats
    bias: Floats


@dataclass(eq=False)
class Sum:
    """A sum of products at each probe; `rows` is what a layer answers with it, if it is a cell's."""

    terms: tuple[Terms, ...]
    rows: Any = None


def elements_of(atom: Atom) -> Indices:
    """Which elements an atom is made of."""
    return np.frombuffer(atom[1], np.int64)


class Arithmetic:
    """What elements are made of."""

    def __init__(self, elements: Elements, spend: Callable[[int, str], None]) -> None:
        self.elements, self._spend_elements = elements, spend
        self._numbered: dict[int, tuple[Any, Places]] = {}

    def places(self, value: Value) -> Places:
        """The numbers of a tensor's elements; of data as well."""
        if value.places and (value.rows is None or self._is_computed(value)):
            return value.places
        if id(value.rows) not in self._numbered:
            self.spend(sum(math.prod(shape) for shape in value.rows.shapes))
            made = self.elements.number(value.rows.shapes, Data(value.rows))
            self._numbered[id(value.rows)] = (value.rows, made)  # the rows have to stay, as they are known by address
        return self._numbered[id(value.rows)][1]

    def spend(self, elements: int) -> None:
        """Raises UnsupportedError where too many elements are made."""
        self._spend_elements(elements, "what is computed of a state")

    def _is_computed(self, value: Value) -> bool:
        return isinstance(self.elements.origin(value.places[0].reshape(-1))[0], Sum)

    def terms(self, probe: int, of: Indices) -> Terms | None:
        """What elements are, as sums of products; None of elements of several tensors."""
        origin, offsets = self.elements.origin(of)
        if origin is None:
            return None
        if not isinstance(origin, Sum):
            return {(("", of.tobytes()),): np.ones(of.size)}
        return {
            tuple(sorted((kind, elements_of((kind, ids))[offsets].tobytes()) for kind, ids in product)): by[offsets]
            for product, by in origin.terms[probe].items()
        }

    def answered(self, places: Places, rows: Any) -> None:
        """Sums that are what a layer answers."""
        self.elements.origin(places[0].reshape(-1))[0].rows = rows

    def made(self, call: Call) -> Places | None:
        """The elements of what an operator makes of states; None where it is none of those that cells consist of."""
        op_type, values = call.op_type, [value for value in call.inputs if value is not None]
        if any(not value.is_known for value in values):
            return None
        if op_type in _FUNCTIONS:
            places = self.places(values[0])
            return self._sum(
                places, [{((op_type, each.astype(np.int64).tobytes()),): np.ones(each.size)} for each in places]
            )
        if op_type in ("MatMul", "Gemm"):
            return self._product(call)
        if op_type in ("Add", "Sub", "Sum", "Mul", "Neg", "Cast"):
            if op_type == "Cast" and element_name(call.whole("to", 0)) not in ("FLOAT", "DOUBLE"):
                return None
            return self._pointwise(op_type, values, call.probes)
        return None

    def _sum(self, like: Sequence[Any], terms: Sequence[Terms | None]) -> Places | None:
        if any(each is None or len(each) > _MOST_TERMS or any(len(p) > _MOST_ATOMS for p in each) for each in terms):
            return None
        for each, array in zip(terms, like, strict=True):
            self.spend(array.size * (1 + len(each or ())))
        return self.elements.number([array.shape for array in like], Sum(tuple(each or {} for each in terms)))

    def _product(self, call: Call) -> Places | None:
        """A matrix of constants after rows of numbers."""
        if not call.value(1).numbers or call.floats(1).ndim != 2:
            return None
        weight, bias = call.floats(1), np.zeros(())
        if call.op_type == "Gemm":
            alpha = call.number("alpha", 1.0)
            weight = weight.T if call.attributes.integer("transB") else weight
            weight = weight if alpha == 1 else weight * np.float64(alpha)
            if call.attributes.integer("transA") or (call.has(2) and not call.value(2).numbers):
                return None
            bias = call.floats(2) * np.float64(call.number("beta", 1.0)) if call.has(2) else bias
        places = self.places(call.value(0))
        if bias.ndim > 1 and bias.shape[:-1] != (1,) * (bias.ndim - 1):
            return None
        if any(array.ndim < 1 or array.shape[-1] != len(weight) for array in places):
            return None
        rows = tuple(array.reshape(-1, len(weight)) for array in places)
        self.spend(sum(map(len, rows)) * weight.shape[1])
        origin = Product(rows, weight, np.broadcast_to(bias.reshape(bias.shape[-1:]), weight.shape[1:]))
        return self.elements.number([(*array.shape[:-1], weight.shape[1]) for array in places], origin)

    def _pointwise(self, op_type: str, values: Sequence[Value], probes: int) -> Places | None:
        made, shapes = [], []
        for probe in range(probes):
            arrays = [value.numbers[probe] if value.numbers else self.places(value)[probe] for value in values]
            shape = np.broadcast_shapes(*(array.shape for array in arrays))
            if np.prod(shape) > sum(array.size for array in arrays):
                return None
            operands: list[Terms | None] = []
            for value, array in zip(values, np.broadcast_arrays(*arrays), strict=True):
                flat = np.ascontiguousarray(array).reshape(-1)
                operands.append({(): flat.astype(np.float64)} if value.numbers else self.terms(probe, flat))
            made.append(_combined(op_type, operands))
            shapes.append(np.empty(shape, bool))
        return self._sum(shapes, made)


def _combined(op_type: str, operands: Sequence[Terms | None]) -> Terms | None:
    given = [operand for operand in operands if operand is not None]
    if len(given) < len(operands):
        return None
    if op_type == "Neg":
        return {product: -by for product, by in given[0].items()}
    first, *others = given
    for other in others:
        if len(first) * len(other) > _MOST_TERMS:
            return None
        pairs = [(product, -by if op_type == "Sub" else by) for product, by in other.items()]
        if op_type == "Mul":
            pairs = [(tuple(sorted(p + q)), by * more) for p, by in first.items() for q, more in other.items()]
            first = {}
        first = dict(first)
        for product, by in pairs:
            first[product] = first.get(product, 0.0) + by
    return {product: by for product, by in first.items() if np.any(by)}
