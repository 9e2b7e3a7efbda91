"""Times of our own layers for developers, over the cases of `fusedcell bench`: run by `make bench-suite`, and no test.

Choose with -k, as in `make bench-suite ARGS='-k "step and lstm and int8"'`; keep and compare runs with
--benchmark-autosave and --benchmark-compare of pytest-benchmark.
"""

from __future__ import annotations

from typing import Any

import pytest

import fusedcell as fc
from fusedcell._dtypes import DTYPES
from fusedcell._timing import WARM_UP_CALLS
from fusedcell.bench.answers import wrong_answer
from fusedcell.bench.cases import GATES, Case, Kind
from fusedcell.bench.tiers import Tier

SIZES = [16, 64, 256, 512, 1024]
STEPS = 100
BATCH = 8
WORK: dict[str, tuple[Kind, int]] = {"step": ("step", 1), "sequence": ("sequence", 1), "batch": ("sequence", BATCH)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("work", WORK)
def test_latency(benchmark: Any, work: str, dtype: str, cell: str, size: int) -> None:
    kind, batch = WORK[work]
    case = Case(cell, size, STEPS, batch)
    tier = Tier(fc.isas()[0], dtype)
    benchmark.group = f"{work}, {cell}, {size}"
    assert wrong_answer(tier.make(case, kind), case.expected(kind), tier.tolerance_of(case)) is None
    runner = tier.make(case, kind)
    for _ in range(WARM_UP_CALLS):
        runner.next()
    benchmark(lambda: runner.call(*next(runner.inputs)))
