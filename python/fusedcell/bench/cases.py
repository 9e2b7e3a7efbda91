"""What is measured: one layer with seeded weights and inputs that differ from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from .. import reference
from .._base import FloatArray

GATES = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "rnn": 1}
"""Cells and their gates; "gru" is PyTorch's form, "gru_reset_before" that of ONNX's default, "rnn" has tanh."""

Kind = Literal["step", "sequence", "streams", "tails"]
"""What one call does: a single step, a whole sequence, or a step of each of many streams; tails clock single steps."""

STEPS_TO_CHECK = 5
RING = 16


@dataclass(frozen=True)
class Case:
    """One layer of `size` units, float32; sequences have `steps` steps, and `batch` of them run at once.

    It has `input_size` inputs, or as many as units where that is 0.
    """

    cell: str
    size: int
    steps: int
    batch: int = 1
    seed: int = 0
    input_size: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", self.input_size or self.size)

    @cached_property
    def weights(self) -> dict[str, FloatArray]:
        """Arrays in PyTorch's layout under PyTorch's names, spread as PyTorch's initialisation spreads them."""
        rng = np.random.default_rng(self.seed)
        rows = GATES[self.cell] * self.size
        shapes = {
            "weight_ih": (rows, self.input_size),
            "weight_hh": (rows, self.size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        bound = np.float32(1 / np.sqrt(self.size))
        return {f"{name}_l0": (2 * rng.random(shape, np.float32) - 1) * bound for name, shape in shapes.items()}

    @cached_property
    def inputs(self) -> FloatArray:
        """A sequence, (steps, I) or, for more than one, (steps, batch, I); single steps take their inputs from it."""
        rng = np.random.default_rng(self.seed + 1)
        return rng.standard_normal((self.steps, *self.step_shape[:-1], self.input_size), np.float32)

    @property
    def step_shape(self) -> tuple[int, ...]:
        """Of h in one step: there is a batch axis where there is a batch."""
        return (self.size,) if self.batch == 1 else (self.batch, self.size)

    @property
    def rows(self) -> list[FloatArray]:
        """Inputs of single steps, to be used round and round: an even number, for those that alternate two buffers."""
        return [self.inputs[i % self.steps].copy() for i in range(RING)]

    @cached_property
    def expected_steps(self) -> npt.NDArray[np.float64]:
        """h of the first single steps from state zero, by the specification."""
        return self._run(np.stack(self.rows[:STEPS_TO_CHECK]))

    @cached_property
    def expected_sequences(self) -> npt.NDArray[np.float64]:
        """h of every step of a sequence from state zero, and of the first steps of the same sequence right after it."""
        return self._run(np.concatenate([self.inputs, self.inputs[:STEPS_TO_CHECK]]))

    def expected(self, kind: Kind) -> npt.NDArray[np.float64]:
        """The answers of the first calls."""
        return self.expected_sequences if kind == "sequence" else self.expected_steps

    def _run(self, x: FloatArray) -> npt.NDArray[np.float64]:
        if self.cell in ("lstm", "rnn"):
            y: npt.NDArray[np.float64] = getattr(reference, self.cell)(x, self.weights)[0]
            return y
        return reference.gru(x, self.weights, reset_after=self.cell == "gru")[0]
