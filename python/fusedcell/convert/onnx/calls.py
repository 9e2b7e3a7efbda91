"""A node as its operator is called: inputs and attributes, with errors that name the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...weights.floats import to_float32
from .attributes import OLDEST_OPSET
from .file import Values, import_onnx
from .graph import Node, Scope
from .operators import Operation
from .reader import AttributeReader
from .values import Value, constant_of

Shapes = list[tuple[int, ...]]
# Attributes of operators of other domains.
_CONTRIB: dict[str, tuple[str, ...]] = {"com.microsoft.Gelu": (), "com.microsoft.DynamicQuantizeLSTM": ()}


class Call:
    """One call of an operator.

    `places` of the walk, `tracer` and `place`, a name for nodes, are for who follows it.
    """

    def __init__(
        self, walk: Any, tracer: Any, scope: Scope, node: Node, op_type: str, inputs: Sequence[Value | None]
    ) -> None:
        self.walk, self.tracer, self.scope, self.node = walk, tracer, scope, node
        self.op_type, self.inputs = op_type, list(inputs)
        self.where, self.place = scope.describe(node), scope.address(node)
        self.opset = scope.opsets.get("", 0)
        self._operation: Operation | None = None

    @property
    def operation(self) -> Operation:
        """The operator by the package onnx."""
        if self._operation is None:
            newest = import_onnx().defs.onnx_opset_version()
            if not OLDEST_OPSET <= self.opset <= newest:
                raise UnsupportedError(
                    f"{self.where}: operator set {self.opset} is not supported; supported: {OLDEST_OPSET} to {newest}"
                )
            attributes = self.scope.attributes_of(self.node)
            self._operation = Operation(self.op_type, self.opset, attributes, len(self.node.output), self.where)
        return self._operation

    @property
    def attributes(self) -> AttributeReader:
        """The node's attributes."""
        if self.op_type in _CONTRIB:
            return AttributeReader(self.scope.attributes_of(self.node), _CONTRIB[self.op_type], self.where)
        return self.operation.attributes

    def number(self, name: str, default: float) -> float:
        """A FLOAT attribute, or its default."""
        value = self.attributes.number(name)
        return default if value is None else value

    def whole(self, name: str, default: int) -> int:
        """An INT attribute, or its default."""
        value = self.attributes.integer(name)
        return default if value is None else value

    def check(self) -> None:
        """Raises ValueError for another number of inputs than the operator takes."""
        if self.op_type not in _CONTRIB:
            self.operation.check_count([value is not None for value in self.inputs])

    def refused(self, text: str) -> UnsupportedError:
        """The error that the operator is not followed as it is called here."""
        return UnsupportedError(f"{self.where}: {text}")

    def has(self, index: int) -> bool:
        """Whether there is such an input."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """An input that must be there."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise ValueError(f"{self.where}: input {index} is missing")
        return value

    def rows(self, index: int = 0) -> Any:
        """An input that is data."""
        value = self.value(index)
        if value.state:
            raise self.refused(
                f"of {value.state!r}, a state; supported: that a recurrent node, or an RNN, GRU or LSTM cell made of "
                "operators, starts from it, or that Concat puts it in front of rows"
            )
        if value.rows is None:
            raise value.reason or self.refused(f"input {index} is fixed by the file")
        return value.rows

    def shape(self, index: int = 0) -> Shapes:
        """An input's shape at each probe."""
        value = self.value(index)
        if not value.is_known:
            raise value.reason or self.refused(f"input {index} is not known")
        return [value.shape(probe) for probe in range(self.probes)]

    @property
    def probes(self) -> int:
        """How many probes there are."""
        return len(self.tracer.batch)

    def constant(self, index: int) -> Values:
        """An input that the file fixes."""
        value = self.value(index)
        if not value.numbers:
            known = value.is_known
            raise (
                self.refused(f"input {index} is computed from the model's inputs")
                if known
                else (value.reason or self.refused(f"input {index} is not known"))
            )
        try:
            return constant_of(value)
        except UnsupportedError as error:
            raise self.refused(f"input {index}: {error}") from error

    def floats(self, index: int) -> Any:
        """An input that the file fixes, float32."""
        return to_float32(self.constant(index), f"{self.where}: input {index}")

    def scalar(self, index: int, default: float) -> float:
        """A number that the file fixes; the default where there is none."""
        if not self.has(index):
            return default
        array = self.constant(index)
        if array.size != 1:
            raise self.refused(f"input {index}: expected one number, got shape {array.shape}")
        return float(array.reshape(()))

    def integers(self, index: int) -> list[list[int]]:
        """An input of integers at each probe."""
        value = self.value(index)
        if not value.numbers:
            raise value.reason or self.refused(f"input {index} is computed from the model's inputs")
        arrays = [np.atleast_1d(array) for array in value.numbers]
        if any(array.dtype.kind not in "iu" or array.ndim != 1 or array.size > 64 for array in arrays):
            raise ValueError(f"{self.where}: input {index}: expected at most 64 integers")
        return [[int(number) for number in array] for array in arrays]

    def given(self, name: str, index: int) -> list[list[int]] | None:
        """Integers of an attribute, or in later operator sets of an input, at each probe."""
        if self.has(index):
            return self.integers(index)
        values = self.attributes.integers(name) if name in self.scope.attributes_of(self.node) else None
        return None if values is None else [values] * self.probes

    def axis(self, index: int, rank: int, name: str = "axis") -> int:
        """An axis as a number from 0 on."""
        if not -rank <= index < rank:
            raise ValueError(f"{self.where}: {name}: expected an axis of an array of {rank}, got {index}")
        return index % rank

    def axes(self, index: int, rank: int, name: str = "axes") -> list[int] | None:
        """Axes of an attribute or an input, as numbers from 0 on; None where there are none."""
        found = self.given(name, index)
        if found is None:
            return None
        if any(axes != found[0] for axes in found):
            raise self.refused("its axes depend on the sizes of the model's inputs")
        return sorted(self.axis(axis, rank, name) for axis in found[0])
