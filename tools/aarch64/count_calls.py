"""Counts the instructions of our calls and of other libraries', while QEMU runs this with the plugin insn_count.so.

tools/aarch64/count_peers.py starts it. It prints records, JSON, one a line; one whose answer is wrong has a "failure"
in place of "instructions".
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any, TextIO

import fusedcell
from fusedcell._timing import Runner, no_garbage_collection
from fusedcell.bench.answers import Tolerance, our_tolerance, wrong_answer
from fusedcell.bench.cases import Case
from fusedcell.bench.peers import Forms, load_peer
from fusedcell.bench.tiers import Tier, float_isas

# Even, as kernels may go through the weights forwards and backwards in turns.
SEQUENCE_STEPS = 32
SINGLE_STEPS = 16
REPEATS = 3

DTYPES = ("float32", "int8")


@dataclass(frozen=True)
class Subject:
    """A library with weights of one dtype, the ways to put the work to it, and how far off it may be."""

    name: str
    dtype: str
    version: str
    takes: Callable[[Case], bool]
    tolerance: Callable[[Case], Tolerance]
    sequences: Callable[[Case], Forms]
    steps: Callable[[Case], Forms]


def ours(dtype: str) -> Subject:
    # The tiers with loads of 64 bits take more instructions for less time; docs/arm.md says how many more.
    isas = [isa for isa in (float_isas() if dtype == "float32" else fusedcell.isas()) if not isa.endswith("_ld64")]
    tier = Tier(isas[0], dtype)
    return Subject(
        "fusedcell",
        dtype,
        fusedcell.__version__,
        lambda _: True,
        lambda case: our_tolerance(case.size, dtype),
        lambda case: {f"process, {tier.isa}": partial(tier.make_sequence, case)},
        lambda case: {f"step, {tier.isa}": partial(tier.make_step, case)},
    )


def theirs(name: str, dtype: str) -> Subject:
    peer = load_peer(name, dtype)
    return Subject(
        name, dtype, peer.version, peer.takes, lambda _: peer.tolerance, peer.sequence_forms, peer.step_forms
    )


class Counter:
    """Reads the plugin's file, in which each call of getppid leaves the count thus far."""

    def __init__(self, counts: TextIO) -> None:
        self._counts = counts

    def spent(self, work: Callable[[], object]) -> int:
        """Instructions of `work` and of Python's way to it and back."""
        os.getppid()
        work()
        os.getppid()
        before, after = (int(self._counts.readline()) for _ in range(2))
        return after - before


def make_calls(runner: Runner, number: int) -> None:
    call = runner.call
    for arguments in islice(runner.inputs, number):
        call(*arguments)


def per_step(counter: Counter, short: Callable[[], object], long: Callable[[], object], steps: int) -> list[float]:
    """What `long` takes more than `short`, for each of the `steps` that it makes more; repeated."""
    for work in (short, long):
        work()  # the first call may set things up
    return [(counter.spent(long) - counter.spent(short)) / steps for _ in range(REPEATS)]


def sequence(counter: Counter, runners: Sequence[Runner], case: Case, tolerance: Tolerance) -> dict[str, Any]:
    """One call of so many steps against one of twice as many; `case` is of the longer."""
    for runner, steps in zip(runners, (SEQUENCE_STEPS, 2 * SEQUENCE_STEPS), strict=True):
        if failure := wrong_answer(runner, case.expected_sequences[:steps], tolerance):
            return {"failure": failure}
    short, long = (partial(make_calls, runner, 1) for runner in runners)
    return {"instructions": per_step(counter, short, long, SEQUENCE_STEPS)}


def step(counter: Counter, runner: Runner, case: Case, tolerance: Tolerance) -> dict[str, Any]:
    """So many calls of one step against twice as many; what Python takes for a call is in the difference."""
    if failure := wrong_answer(runner, case.expected_sequences[:SINGLE_STEPS], tolerance):
        return {"failure": failure}
    short, long = (partial(make_calls, runner, number) for number in (SINGLE_STEPS, 2 * SINGLE_STEPS))
    return {"instructions": per_step(counter, short, long, SINGLE_STEPS)}


def count(counter: Counter, subject: Subject, short: Case, long: Case) -> Iterator[dict[str, Any]]:
    """A record for each way to put the work to the library."""
    tolerance = subject.tolerance(long)
    longer = subject.sequences(long)
    for form, make in subject.sequences(short).items():
        yield {"kind": "sequence", "form": form} | sequence(counter, (make(), longer[form]()), long, tolerance)
    for form, make in subject.steps(long).items():
        yield {"kind": "step", "form": form} | step(counter, make(), long, tolerance)


def main() -> None:
    counts, peers, cells, sizes = sys.argv[1:]
    subjects = [ours(dtype) for dtype in DTYPES]
    subjects += [theirs(name, dtype) for name in peers.split(",") for dtype in DTYPES]
    with Path(counts).open(encoding="ascii") as marks, no_garbage_collection():
        counter = Counter(marks)
        for cell, size in product(cells.split(","), map(int, sizes.split(","))):
            short, long = Case(cell, size, SEQUENCE_STEPS), Case(cell, size, 2 * SEQUENCE_STEPS)
            for subject in filter(lambda subject: subject.takes(long), subjects):
                named = {"library": subject.name, "version": subject.version, "dtype": subject.dtype}
                for record in count(counter, subject, short, long):
                    print(json.dumps(named | {"cell": cell, "size": size} | record), flush=True)


if __name__ == "__main__":
    main()
