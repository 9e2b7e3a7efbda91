"""A model's time before and after the swap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from .._text import format_ratio
from .._timing import FULL, Runner, Summary, measure, ratio, summarise


@dataclass(frozen=True)
class Benchmark:
    """Nanoseconds a call before and after, and the quotients of the two, taken round by round.

    `torch_threads` is what torch.get_num_threads() said, which holds for all of the model but the swapped modules.
    """

    before: Summary
    after: Summary
    ratio: Summary
    torch_threads: int

    def __str__(self) -> str:
        return (
            f"{self.before.p50 / 1e3:.1f} us before, {self.after.p50 / 1e3:.1f} us after: "
            f"{format_ratio(self.ratio)} times as fast, median (p10..p90) of {self.ratio.count} rounds, "
            f"PyTorch on {self.torch_threads} thread{'s' if self.torch_threads > 1 else ''}"
        )


def compare(call: Callable[[bool], Any]) -> Benchmark:
    """Times a call with False, before, and True, after, in turns."""
    variants = {swapped: Runner(partial(call, swapped), [()], _nothing) for swapped in (False, True)}
    with torch.inference_mode():
        times = measure({str(swapped): runner for swapped, runner in variants.items()}, FULL)
    before, after = times["False"], times["True"]
    return Benchmark(summarise(before), summarise(after), ratio(before, after), torch.get_num_threads())


def _nothing(_: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.empty(0, np.float32)
