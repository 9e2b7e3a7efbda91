"""What a drawn model is: nodes as fusedcell takes them, and as the specification does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fusedcell as fc
from fusedcell import reference
from fusedcell.reference import ModelNode
from models import uniform

UNUSUAL = np.array([np.nan, np.inf, -np.inf, -0.0, 1e30, -1e30, 1e-40, 3e38], np.float32)

# Of how many rows a sequence has, which tells how many each value has.
LENGTHS = np.arange(200)


@dataclass(frozen=True)
class Value:
    """An input or a node's rows."""

    name: str
    size: int
    rows: tuple[int, ...] = field(repr=False)  # for each of LENGTHS
    pooled: bool = False  # one row a sequence
    about_one: bool = False  # in size
    tokens: int = 0


@dataclass(frozen=True)
class Entry:
    """A node of fusedcell's, and what the specification calls it."""

    name: str
    node: Any
    sources: tuple[str, ...]
    description: tuple[ModelNode, ...]

    def expected(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Its float64 rows, given those of its sources."""
        read = {name: values[name] for name in self.sources}
        return reference.model(self.description, read)[self.name]


@dataclass(frozen=True, repr=False)
class DrawnModel:
    """Nodes in order, what they read, and what comes out."""

    inputs: tuple[Value, ...]
    entries: tuple[Entry, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value]
    has_streams: bool

    def __repr__(self) -> str:
        lines = [f"inputs {', '.join(f'{v.name}[{v.tokens or v.size}]' for v in self.inputs)}"]
        lines += [f"{e.name} = {e.node!r} of {', '.join(e.sources)}" for e in self.entries]
        return "\n".join([*lines, f"outputs {', '.join(self.outputs)}"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # what Hypothesis prints
        printer.text(repr(self))

    def build(self, **options: Any) -> Any:
        """The model."""
        return self.with_outputs(self.outputs, **options)

    def with_outputs(self, outputs: Sequence[str], **options: Any) -> Any:
        """The same with these values as outputs."""
        listed = [(e.name, e.node, e.sources if len(e.sources) > 1 else e.sources[0]) for e in self.entries]
        inputs = {value.name: value.tokens or value.size for value in self.inputs}
        return fc.Model(listed, inputs, tuple(outputs), **options)

    def draw_inputs(self, rows: int, *batch: int, seed: int = 1, unusual: bool = False) -> list[np.ndarray]:
        """Rows of each input, (rows, *batch, size) or tokens (rows, *batch); `unusual`: some are not as floats are."""
        found = []
        for i, value in enumerate(self.inputs):
            generator = np.random.default_rng(seed + i)
            if value.tokens:
                found.append(generator.integers(0, value.tokens, (rows, *batch)))
                continue
            x = uniform(seed + i, rows, *batch, value.size)
            if unusual and x.size:
                x.reshape(-1)[generator.integers(0, x.size, 3)] = generator.choice(UNUSUAL, 3)
            found.append(x)
        return found

    def rows(self, name: str, steps: int) -> int:
        """How many rows of this value `steps` rows of the inputs give."""
        return self.values[name].rows[steps]

    def expected(self, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Every value in float64, of one sequence."""
        given = {value.name: rows for value, rows in zip(self.inputs, inputs, strict=True)}
        return reference.model([node for e in self.entries for node in e.description], given)
