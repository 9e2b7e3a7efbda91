"""What is known of a tensor while a graph is followed at a few sizes of its inputs at once, the probes.

Numbers are what the file fixes or the probes' sizes give, an array for each probe. Rows are data, as the tracing core
has them. Places are the elements of states by number: what moves a state moves its places, so at the end it is seen
whether each state comes out where it went in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from .file import Values
from .operators import ELEMENTWISE, OTHERS, REDUCTIONS, Operation
from .tensors import RESHAPING, apply, known

_MAX_GROWTH = 32
_MAX_MADE = 2**22
_LEAST = 64
# These only move elements.
MOVING = frozenset(
    (
        "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile",
        "Transpose", "Unsqueeze",
    )
)  # fmt: skip
_FOLDED = frozenset((*ELEMENTWISE, *REDUCTIONS, *OTHERS, *RESHAPING))
# Made of sizes that differ between the probes, a result of these differs too, or is the same at all sizes.
_FAITHFUL = frozenset(("Add", "Identity", "Mul", "Neg", "ReduceProd", "ReduceSum", "Sub"))
# These compare numbers, and may decide otherwise at other sizes, whatever they do at the probes.
_COMPARING = frozenset(
    ("And", "Clip", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Not", "Or", "Relu",
     "Sign", "Where", "Xor")
)  # fmt: skip


@dataclass(frozen=True)
class Value:
    """One of numbers, rows and places, or rows and places of what is both; else the reason why not.

    - carried: of a state that stands before rows: its axis, how many of them it is, and the places of the last so many
    - tokens: the input that the rows are tokens of
    - state: the input that carries the state whose places these are
    - made_by: the call of the operator that gives it
    """

    numbers: tuple[Values, ...] = ()
    rows: Any = None
    places: tuple[Values, ...] = ()
    reason: Exception | None = None
    carried: tuple[int, int, tuple[Values, ...]] | None = None
    tokens: str = ""
    state: str = ""
    made_by: Any = None

    @property
    def is_fixed(self) -> bool:
        """Whether these are numbers that no size of the inputs changes."""
        return bool(self.numbers) and all(array is self.numbers[0] for array in self.numbers)

    @property
    def is_known(self) -> bool:
        """Whether there is anything but a reason."""
        return bool(self.numbers or self.places) or self.rows is not None

    def shape(self, probe: int) -> tuple[int, ...]:
        """The shape at one probe."""
        arrays = self.numbers or self.places
        return tuple(arrays[probe].shape if arrays else self.rows.shapes[probe])


class Budget:
    """How many elements may be made of what a file holds: so many for each, and some besides."""

    def __init__(self) -> None:
        self._left = _MAX_MADE

    def hold(self, values: Values) -> Values:
        """Counts what the file holds."""
        self._left += _MAX_GROWTH * values.size
        return values

    def spend(self, elements: int, where: str) -> None:
        """Raises UnsupportedError where too many are made."""
        self._left -= max(elements, _LEAST)
        if self._left < 0:
            raise UnsupportedError(
                f"{where}: what the model makes of constants is too large for what the file holds; "
                f"supported: {_MAX_GROWTH} elements for each in the file, and {_MAX_MADE} besides"
            )


def settled(arrays: Sequence[Values]) -> tuple[Values, ...]:
    """The same array for every probe where all are equal."""
    first = arrays[0]
    alike = all(a is first or (a.shape == first.shape and np.array_equal(a, first)) for a in arrays)
    return (first,) * len(arrays) if alike else tuple(arrays)


def fold(
    operation: Operation, inputs: Sequence[tuple[Values, ...] | None], fill: Values | None, budget: Budget
) -> list[tuple[Values, ...]]:
    """What an operator makes of numbers, at every probe. `fill` is the value of ConstantOfShape."""
    probes = max(len(arrays) for arrays in inputs if arrays is not None)
    fixed = all(arrays is None or all(a is arrays[0] for a in arrays) for arrays in inputs)
    made: list[list[Values]] = []
    for probe in range(1 if fixed else probes):
        given = [None if arrays is None else arrays[probe] for arrays in inputs]
        made.append(_evaluate(operation, given, fill, budget.spend))
    if fixed:
        return [(array,) * probes for array in made[0]]
    outputs = [settled(arrays) for arrays in zip(*made, strict=True)]
    if operation.op_type in (ELEMENTWISE | REDUCTIONS) - _FAITHFUL:
        for arrays in outputs:
            _check_decided(operation, [given for given in inputs if given is not None], arrays)
    return outputs


def _evaluate(
    operation: Operation,
    given: Sequence[Values | None],
    fill: Values | None,
    spend: Callable[[int, str], None],
) -> list[Values]:
    where = operation.where
    spend(0, where)
    operation.check_count([array is not None for array in given])
    if operation.op_type == "Concat" and any(array is None for array in given):
        raise ValueError(f"{where}: one of its inputs is missing")
    tensors = [None if array is None else known(array) for array in (*([] if fill is None else [fill]), *given)]
    return [tensor.spread(spend, where) for tensor in apply(operation, tensors, spend)]


def _check_decided(operation: Operation, inputs: Sequence[tuple[Values, ...]], outputs: Sequence[Values]) -> None:
    """Refuses a number that is made of sizes and does not follow them: it may be another at sizes not probed."""
    if operation.op_type == "Where":  # which takes what its condition says
        inputs = inputs[:1]
    elif operation.op_type == "Equal" and _never_equal(*inputs):
        return
    follows = np.zeros((), bool) if operation.op_type in _COMPARING else _varies(outputs)
    for arrays in inputs:
        varies = _varies(arrays)
        try:
            undecided = varies & ~follows
        except ValueError:  # a reduction
            undecided = np.asarray(varies.any() and not follows.all())
        if undecided.any():
            raise UnsupportedError(
                f"{operation.where}: {operation.op_type} of numbers that depend on the sizes of the model's inputs is "
                "not followed"
            )


def _varies(arrays: Sequence[Values]) -> Any:
    """Which elements differ between the probes; none where the shapes do, as then each is another one."""
    first = arrays[0]
    if any(array.shape != first.shape for array in arrays):
        return np.zeros((), bool)
    return np.any([array != first for array in arrays], axis=0)


def _never_equal(a: Sequence[Values], b: Sequence[Values]) -> bool:
    """Whether one side is negative where the other is a size: exporters ask so which sizes are to be kept."""
    for these, those in ((a, b), (b, a)):
        varies = _varies(these)
        pairs = zip(these, those, strict=True)
        if varies.any() and not all((sizes[varies] > 0).all() and (other < 0).all() for sizes, other in pairs):
            return False
    return True


def can_fold(op_type: str) -> bool:
    """Whether an operator of numbers is evaluated."""
    return op_type in _FOLDED


def constant_of(value: Value) -> Values:
    """Numbers as one constant: those that differ between probes, once along axes where all are the same.

    Raises UnsupportedError where they depend on the sizes otherwise.
    """
    if value.is_fixed:
        return value.numbers[0]
    arrays = list(value.numbers)
    if any(array.ndim != arrays[0].ndim for array in arrays):
        raise UnsupportedError("numbers that depend on the sizes of the model's inputs")
    for axis in range(arrays[0].ndim):
        if len({array.shape[axis] for array in arrays}) > 1:
            once = [array[(slice(None),) * axis + (slice(0, 1),)] for array in arrays]
            if any(0 in array.shape or (array != one).any() for array, one in zip(arrays, once, strict=True)):
                raise UnsupportedError("numbers that depend on the sizes of the model's inputs")
            arrays = once
    if any(not np.array_equal(array, arrays[0]) for array in arrays):
        raise UnsupportedError("numbers that depend on the sizes of the model's inputs")
    return arrays[0]
