"""How far an answer may be off the float64 specification on float32 weights, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._timing import Runner


@dataclass(frozen=True)
class Tolerance:
    """The largest error that is allowed, or the largest root mean square of the errors."""

    limit: float
    rms: bool = False

    def __str__(self) -> str:
        return f"{self.limit:g}{' rms' if self.rms else ''}"

    def error(self, difference: npt.NDArray[np.float64]) -> float:
        """What is compared with `limit`."""
        return float(np.sqrt(np.mean(difference**2)) if self.rms else np.max(np.abs(difference)))


PEER_FLOAT32 = Tolerance(1e-4)

# Scales are theirs to choose: of a step, of a sequence, or fixed beforehand; of x alone, or of x and h together.
PEER_INT8 = Tolerance(2e-2, rms=True)

_OURS = {
    "bfloat16": Tolerance(3e-3, rms=True),
    "float16": Tolerance(3e-4, rms=True),
    "int8": Tolerance(1e-2, rms=True),
    "int8_int16": Tolerance(1e-2, rms=True),
}


def our_tolerance(size: int, dtype: str = "float32") -> Tolerance:
    """What rounding explains; in float32 the order of each chain is promised, and its error grows with its length."""
    return _OURS.get(dtype) or Tolerance(2e-6 * max(1.0, size / 512))


def wrong_answer(runner: Runner, expected: npt.NDArray[np.float64], tolerance: Tolerance) -> str | None:
    """Runs calls from state zero until all of `expected` is seen; says how far off the answer is, if it is."""
    seen: list[npt.NDArray[Any]] = []
    while sum(map(len, seen)) < len(expected):
        seen.append(np.atleast_2d(runner.next()))
    answer = np.concatenate(seen)[: len(expected)]
    if answer.shape != expected.shape:
        return f"wrong answer: shape {answer.shape[1:]} of a step, not {expected.shape[1:]}"
    error = tolerance.error(answer - expected)
    # Written so that NaN is wrong.
    return None if error <= tolerance.limit else f"wrong answer: off by {error:.2g}{' rms' if tolerance.rms else ''}"


Makers = Mapping[str, tuple[Callable[[], Runner], Tolerance]]


def make_checked(makers: Makers, expected: npt.NDArray[np.float64]) -> tuple[dict[str, Runner], dict[str, str]]:
    """Makes each; returns the runners whose answers are right, and for each of the others what is wrong."""
    runners: dict[str, Runner] = {}
    failures: dict[str, str] = {}
    for name, (make, tolerance) in makers.items():
        try:
            runner = make()
            failure = wrong_answer(runner, expected, tolerance)
        except Exception as error:  # whatever another library may raise
            failure = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        if failure:
            failures[name] = failure
        else:
            runners[name] = runner
    return runners, failures
