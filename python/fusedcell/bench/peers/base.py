"""What a library must offer to be measured."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import numpy as np

from ..._timing import Effort, Runner, measure
from ...errors import UnsupportedError
from ..answers import PEER_FLOAT32, Tolerance
from ..cases import GATES, Case, Kind

_CHOICE = Effort(turn_ns=200_000, seconds=0.05, min_rounds=3, max_rounds=15)


Forms = Mapping[str, Callable[[], Runner]]
"""Ways to put the same work to a library, each with what makes its runner."""


class Peer(abc.ABC):
    """A library's adapter. Every runner starts from state zero and keeps its state to itself.

    `batches` says that its sequences may be those of a batch; its single steps are of one sequence. `gathers` says that
    it has forms for a step of many streams.
    """

    name: ClassVar[str]
    dtype: ClassVar[str] = "float32"
    tolerance: ClassVar[Tolerance] = PEER_FLOAT32
    cells: ClassVar[frozenset[str]] = frozenset(GATES)
    batches: ClassVar[bool] = False
    gathers: ClassVar[bool] = False
    version: str

    def context(self) -> AbstractContextManager[object]:
        """What must be in force while its runners are made and run."""
        return nullcontext()

    @abc.abstractmethod
    def step_forms(self, case: Case) -> Forms:
        """One time step a call; the answer is h, (H,)."""

    @abc.abstractmethod
    def sequence_forms(self, case: Case) -> Forms:
        """The case's sequence a call, from the state the last call left; the answer is h of each step.

        It is (T, H), or (T, B, H) for a batch.
        """

    def many_forms(self, case: Case) -> Forms:
        """One time step of each of the batch's streams a call, whose states are arrays of their own; h, (1, B, H)."""
        raise UnsupportedError(f"{self.name} has none")

    def takes(self, case: Case) -> bool:
        """Whether it has such a cell, and batches if the case is one."""
        return case.cell in self.cells and (case.batch == 1 or self.batches)

    def tolerance_of(self, case: Case) -> Tolerance:
        """How far its answers may be off."""
        return self.tolerance

    def make(self, case: Case, kind: Kind) -> Runner:
        """The fastest of the forms."""
        forms = {"sequence": self.sequence_forms, "streams": self.many_forms}.get(kind, self.step_forms)
        return fastest(forms(case))


def fastest(forms: Forms) -> Runner:
    """Makes the runner of the form that a short trial finds fastest, anew, so that its state is zero."""
    if len(forms) > 1:
        rounds = measure({name: make() for name, make in forms.items()}, _CHOICE)
        best = min(rounds, key=lambda name: float(np.median(rounds[name])))
    else:
        (best,) = forms
    runner = forms[best]()
    runner.form = best
    return runner
