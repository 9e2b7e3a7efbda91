"""Cells as exporters, or people, write them: of operators, in many forms of the same arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st

from whole_onnx import graph_of

UNITS, INPUTS = 5, 4


class _Cell:
    """One cell as it grows: operators in ONNX's text form, and constants."""

    def __init__(self, draw: st.DrawFn, rank: int, batch: str) -> None:
        self.draw, self.rank, self.batch = draw, rank, batch
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {"one": np.float32(1), "minus": np.float32(-1)}
        self.random = np.random.default_rng(draw(st.integers(0, 99)))

    def __call__(self, operator: str, *inputs: str) -> str:
        name = f"v{len(self.lines)}"
        head, _, attributes = operator.partition(" ")
        self.lines.append(f"{name} = {head} {attributes} ({', '.join(inputs)})")
        return name

    def pick(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def array(self, *shape: int) -> str:
        return self.constant(self.random.uniform(-0.7, 0.7, shape).astype(np.float32))

    def constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def add(self, a: str, b: str) -> str:
        return self(self.pick("Add", "Sum"), *self.pick((a, b), (b, a)))

    def multiply(self, a: str, b: str) -> str:
        return self("Mul", *self.pick((a, b), (b, a)))

    def matrix(self, x: str, inputs: int, outputs: int, *, bias: bool) -> str:
        """x by a matrix of weights."""
        if self.rank == 2 and self.pick(True, False):
            if self.pick(True, False):
                arrays = [x, self.array(outputs, inputs), *([self.array(outputs)] if bias else [])]
                return self("Gemm <transB=1>", *arrays)
            arrays = [x, self.array(inputs, outputs), *([self.array(1, outputs)] if bias else [])]
            return self("Gemm <alpha=0.5, beta=2.0>", *arrays)
        made = self("MatMul", x, self.array(inputs, outputs))
        return self.add(made, self.array(outputs)) if bias else made

    def several(self, x: str, gates: int) -> list[str]:
        """The equal parts of the last axis."""
        kind = self.pick("split", "slice", "gather")
        if kind == "split":
            names = [f"v{len(self.lines)}g{gate}" for gate in range(gates)]
            sizes = self.constant([UNITS] * gates)
            self.lines.append(f"{', '.join(names)} = Split <axis=-1> ({x}, {sizes})")
            return names
        made = []
        for gate in range(gates):
            first, last = gate * UNITS, gate * UNITS + UNITS
            if kind == "slice":
                made.append(self("Slice", x, *(self.constant([n]) for n in (first, last, -1))))
            else:
                made.append(self("Gather <axis=-1>", x, self.constant(np.arange(first, last))))
        return made

    def inputs_of_gates(self, x: str, h: str, size: int, gates: int) -> list[str]:
        """What each gate is a function of: of both together, or of each by itself, or gate by gate."""
        kind = self.pick("joined", "summed", "apart", "each")
        bias = self.pick(True, False)
        if kind == "joined":
            return self.several(
                self.matrix(self("Concat <axis=-1>", x, h), size + UNITS, gates * UNITS, bias=bias), gates
            )
        if kind == "each":
            parts = [[self.matrix(v, n, UNITS, bias=bias) for _ in range(gates)] for v, n in ((x, size), (h, UNITS))]
            return [self.add(*pair) for pair in zip(*parts, strict=True)]
        of_x, of_h = self.matrix(x, size, gates * UNITS, bias=bias), self.matrix(h, UNITS, gates * UNITS, bias=True)
        if kind == "summed":
            return self.several(self.add(of_x, of_h), gates)
        return [self.add(*pair) for pair in zip(self.several(of_x, gates), self.several(of_h, gates), strict=True)]

    def mixed(self, z: str, kept: str, other: str) -> str:
        """z * kept + (1 - z) * other."""
        kind = self.pick("difference", "complement", "negated", "expanded")
        if kind == "difference":
            return self.add(other, self.multiply(z, self("Sub", kept, other)))
        if kind == "expanded":
            return self("Sub", self.add(self.multiply(z, kept), other), self.multiply(other, z))
        rest = self("Sub", "one", z) if kind == "complement" else self.add("one", self("Neg", z))
        return self.add(self.multiply(kept, z), self.multiply(rest, other))

    def rnn(self, x: str, h: str, size: int) -> str:
        (gate,) = self.inputs_of_gates(x, h, size, 1)
        return self(self.pick("Tanh", "Relu"), gate)

    def lstm(self, x: str, h: str, c: str, size: int) -> tuple[str, str]:
        gates = self.inputs_of_gates(x, h, size, 4)
        i, f, o = (self("Sigmoid", gate) for gate in gates[:3])
        c = self.add(self.multiply(f, c), self.multiply(i, self("Tanh", gates[3])))
        return self.multiply(o, self("Tanh", c)), c

    def gru(self, x: str, h: str, size: int) -> str:
        r, z = (self("Sigmoid", gate) for gate in self.inputs_of_gates(x, h, size, 2))
        of_x = self.matrix(x, size, UNITS, bias=self.pick(True, False))
        if self.pick(True, False):
            behind = self.multiply(self.matrix(h, UNITS, UNITS, bias=self.pick(True, False)), r)
        else:
            behind = self.matrix(self.multiply(r, h), UNITS, UNITS, bias=False)
        n = self("Tanh", self.add(of_x, behind))
        return self.mixed(z, *self.pick((h, n), (n, h)))


@st.composite
def cells(draw: st.DrawFn) -> tuple[onnx.ModelProto, dict[str, str]]:
    """One or two cells, one on top of the other, that take their states and give them, and a matrix at the end."""
    rank, batch = draw(st.sampled_from([2, 3])), draw(st.sampled_from(["batch", "1"]))
    cell = _Cell(draw, rank, batch)
    middle = "1," if rank == 3 else ""
    inputs, outputs = [f"float[{batch},{middle}{INPUTS}] x"], ["float y"]
    states: dict[str, str] = {}
    x, size = "x", INPUTS
    for layer in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(["rnn", "gru", "lstm"]))
        names = [f"{name}{layer}" for name in ("hc" if kind == "lstm" else "h")]
        packed = len(names) == 2 and draw(st.booleans())
        given = ["s" + names[0]] if packed else names
        if packed:
            inputs.append(f"float[2,{batch},{middle}{UNITS}] {given[0]}")
            own = [cell("Gather <axis=0>", given[0], cell.constant(place)) for place in range(2)]
        else:
            inputs += [f"float[{batch},{middle}{UNITS}] {name}" for name in names]
            own = list(names)
        made = getattr(cell, kind)(x, *own, size)
        onward = list(made) if kind == "lstm" else [made]
        x, size = onward[0], UNITS
        if packed:
            axis = cell.constant([0])
            onward = [cell("Concat <axis=0>", *(cell("Unsqueeze", name, axis) for name in onward))]
        for name, last in zip(given, onward, strict=True):
            cell.lines.append(f"{name}N = Identity({last})")
            outputs.append(f"float {name}N")
            states[name] = f"{name}N"
    cell.lines.append(f"y = MatMul({x}, {cell.array(UNITS, 2)})")
    model = graph_of(" ".join(cell.lines), ", ".join(inputs), ", ".join(outputs), **cell.constants)
    return model, states
