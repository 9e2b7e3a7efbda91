"""What nodes of a graph are beside the tracer's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...tracing import Rows

OTHERWISE = "fusedcell.torch.accelerate(model, example=...) runs the recurrent parts, and PyTorch the rest"
ATTENTION = f"attention, in which rows of a sequence are weighed by each other, is not supported; {OTHERWISE}"


@dataclass(frozen=True, eq=False)
class Final:
    """What a layer ends with, or the last rows of a sequence.

    - value: makes the tensor
    - carried: where the layer began with an input of the module, what this input is after the call: its features, by
      a name of their own
    """

    value: Callable[[], Any]
    carried: Rows | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One row of a sequence, in a loop over time.

    - rows: the sequence, without its axis of time
    - at: which row, from the first on
    - direction: 1 if what it is made of goes forwards in time, -1 if backwards, 0 if no cell is before it
    """

    rows: Rows
    at: int
    direction: int = 0

    @property
    def is_end(self) -> bool:
        """Whether it is where a loop with a cell ends."""
        return bool(self.direction) and self.at == (self.rows.steps[0] - 1 if self.direction > 0 else 0)


@dataclass(frozen=True, eq=False)
class StateStep:
    """A state after one row that is no value of its own: "h" or "c" of a chain of cells."""

    chain: Any
    name: str
    at: int


@dataclass(frozen=True, eq=False)
class Lengths:
    """The sequences' lengths and `more`."""

    more: int = 0


@dataclass(frozen=True, eq=False)
class Opaque:
    """An order of sequences that is made of their lengths."""


_Symbols = Rows | Final | Step | StateStep | Lengths | Opaque


def has_symbols(value: Any, kinds: Any = _Symbols) -> bool:
    """Whether it is, or has in it, a symbolic value."""
    if isinstance(value, kinds):
        return True
    if isinstance(value, dict):
        return any(has_symbols(item, kinds) for item in value.values())
    return isinstance(value, list | tuple) and any(has_symbols(item, kinds) for item in value)


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Lists and dictionaries with each value in them replaced."""
    if isinstance(value, dict):
        return {name: mapped(item, function) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [mapped(item, function) for item in value]
    return function(value)


def name_of(node: Any) -> str:
    """The operation of a graph's node, without its overload."""
    return getattr(getattr(node, "target", None), "__name__", "").partition(".")[0]
