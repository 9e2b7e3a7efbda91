"""tools/aarch64/count_peers.py and what it runs: how counts become instructions a step, and a table."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fusedcell._timing import Runner
from fusedcell.bench.answers import Tolerance
from fusedcell.bench.cases import Case

TOOLS = Path(__file__).parent.parent / "tools" / "aarch64"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the module that they are in
    spec.loader.exec_module(module)
    return module


peers = load("count_peers")
calls = load("count_calls")
Point = peers.Point


def record(library: str, instructions: list[float], form: str = "run", **changes: object) -> dict[str, object]:
    point = {"kind": "sequence", "cpu": "neoverse-n1", "cell": "lstm", "dtype": "float32", "size": 32}
    return {"library": library, "form": form, "instructions": instructions} | point | changes


class TestCounts:
    POINT = Point("sequence", "neoverse-n1", "lstm", "float32", 32)

    def test_are_the_median_of_repeats_in_the_best_form(self) -> None:
        records = [
            record("onnxruntime", [700.0, 900.0, 720.0]),
            record("onnxruntime", [650.0, 640.0, 990.0], "IOBinding"),
            record("fusedcell", [400.0, 401.0, 402.0]),
        ]
        assert peers.least(records) == {self.POINT: {"onnxruntime": 650.0, "fusedcell": 401.0}}

    def test_of_int8_are_held_against_float32_too(self) -> None:
        int8 = self.POINT._replace(dtype="int8")
        counts = {
            self.POINT: {"fusedcell": 1.0, "onnxruntime": 600.0, "ncnn": 900.0},
            int8: {"fusedcell": 300.0, "onnxruntime": 650.0, "ncnn": 620.0},
        }
        assert peers.best_other(counts, int8) == 600.0
        assert peers.best_other(counts, self.POINT) == 600.0

    def test_of_float32_are_not_held_against_int8(self) -> None:
        counts = {self.POINT: {"ncnn": 900.0}, self.POINT._replace(dtype="int8"): {"ncnn": 500.0}}
        assert peers.best_other(counts, self.POINT) == 900.0

    def test_spread_is_that_of_the_worst_case_of_a_library(self) -> None:
        records = [
            record("ncnn", [100.0, 100.0, 101.0]),
            record("ncnn", [200.0, 190.0, 202.0]),
            record("fusedcell", [1.0, 9.0, 2.0]),
        ]
        assert peers.spread(records, "ncnn") == 0.06

    def test_that_failed_are_named(self) -> None:
        failed = {"failure": "wrong answer: off by 0.1"}
        assert peers.failures([record("fusedcell", [1.0]), record("ncnn", [1.0], "Extractor") | failed]) == [
            "sequence, neoverse-n1, lstm, float32, 32, ncnn, Extractor: wrong answer: off by 0.1"
        ]


@pytest.mark.parametrize(
    ("cpu", "cell", "dtype", "size", "instructions"),
    [
        ("cortex-a53", "lstm", "float32", 32, 2048),  # 4 x 32 x 64 products, 4 at a time
        ("cortex-a53", "gru", "int8", 64, 3072),  # 3 x 64 x 128, 8 at a time
        ("neoverse-n1", "gru", "int8", 64, 1536),  # 16 at a time
        ("neoverse-v1", "gru", "int8", 64, 1152),  # those with x 32 at a time
    ],
)
def test_the_fewest_multiply_adds_are_those_of_full_vectors(
    cpu: str, cell: str, dtype: str, size: int, instructions: int
) -> None:
    assert peers.multiply_adds(Point("sequence", cpu, cell, dtype, size)) == instructions


def test_geometric_mean() -> None:
    assert peers.geometric_mean([0.25, 1.0]) == pytest.approx(0.5)


@pytest.mark.parametrize(("count", "text"), [(6162.8, "6.16"), (19268, "19.3"), (268_123, "268"), (1_234_567, "1235")])
def test_thousands_have_three_digits(count: float, text: str) -> None:
    assert peers.thousands(count) == text


def test_tables_have_a_row_for_each_cpu_cell_and_dtype() -> None:
    counts = {
        Point("sequence", "neoverse-n1", "lstm", "float32", size): {"fusedcell": ours, "onnxruntime": theirs}
        for size, ours, theirs in ((32, 2048.0, 8192.0), (512, 800_000.0, 1_000_000.0))
    }
    ratios, thousands = peers.tables(counts, "sequence").split("\n\n")[1::2]
    assert ratios.splitlines() == [
        "| I = H | 32 | 512 | mean of 32 to 32 | products alone |",
        "| -- | -- | -- | -- | -- |",
        "| neoverse-n1, LSTM, float32 | 0.25 | 0.80 | 0.25 | 0.25 |",
    ]
    assert thousands.splitlines()[2] == "| neoverse-n1, LSTM, float32 | 2.05, 8.19, -- | 800, 1000, -- |"


@pytest.mark.parametrize(
    ("index", "features", "missing"),
    [(0, {"asimd"}, {"asimddp", "i8mm"}), (1, {"asimddp"}, {"i8mm"}), (2, {"asimddp", "sve", "i8mm"}, {"sme"})],
)
def test_cpuinfo_tells_of_the_cpu_that_is_emulated(index: int, features: set[str], missing: set[str]) -> None:
    cpu = peers.CPUS[index]
    fields = [line.split("\t: ") for line in peers.cpuinfo(cpu, 2).splitlines() if "\t: " in line]
    assert [value for name, value in fields if name == "processor"] == ["0", "1"]
    part = {"cortex-a53": "0xd03", "neoverse-n1": "0xd0c", "neoverse-v1": "0xd40"}[cpu.name]
    assert [value for name, value in fields if name == "CPU part"] == [part, part]
    has = set(dict(fields)["Features"].split())
    assert features <= has
    assert not missing & has


class TestCounter:
    def test_takes_the_difference_of_two_marks(self) -> None:
        counter = calls.Counter(io.StringIO("100\n250\n300\n900\n"))
        assert [counter.spent(lambda: None), counter.spent(lambda: None)] == [150, 600]

    def test_makes_a_mark_before_the_work_and_one_after(self, monkeypatch: pytest.MonkeyPatch) -> None:
        events = []
        monkeypatch.setattr(calls.os, "getppid", lambda: events.append("mark"))
        calls.Counter(io.StringIO("1\n2\n")).spent(lambda: events.append("work"))
        assert events == ["mark", "work", "mark"]

    def test_refuses_counts_of_several_threads(self) -> None:
        with pytest.raises(ValueError, match="2 threads"):
            calls.Counter(io.StringIO("1\n2 threads\n")).spent(lambda: None)


class FakeCounter:
    """A call costs 50, and each of its steps 10 more."""

    def __init__(self) -> None:
        self.steps = 0

    def spent(self, work: Callable[[], object]) -> int:
        before = self.steps
        work()
        return 50 + 10 * (self.steps - before)


def runner(counter: FakeCounter, case: Case, steps: int) -> Runner:
    """Gives the reference's answers, from state zero."""
    answers = case.expected_sequences
    position = 0

    def call() -> np.ndarray:
        nonlocal position
        counter.steps += steps
        position += steps
        return answers[position - steps : position]

    return Runner(call, [()], lambda answer: answer)


CASE = Case("gru", 3, 2 * calls.SEQUENCE_STEPS)
EXACT = Tolerance(1e-12)


def test_a_step_of_a_sequence_is_counted_without_its_call() -> None:
    counter = FakeCounter()
    runners = [runner(counter, CASE, steps) for steps in (calls.SEQUENCE_STEPS, 2 * calls.SEQUENCE_STEPS)]
    assert calls.sequence(counter, runners, CASE, EXACT) == {"instructions": [10.0] * calls.REPEATS}


def test_a_single_step_is_counted_without_the_loop_around_it() -> None:
    counter = FakeCounter()
    assert calls.step(counter, runner(counter, CASE, 1), CASE, EXACT) == {"instructions": [10.0] * calls.REPEATS}


def test_a_wrong_answer_is_not_counted() -> None:
    counter = FakeCounter()
    other = runner(counter, Case("gru", 3, CASE.steps, seed=1), 1)
    assert calls.step(counter, other, CASE, EXACT)["failure"].startswith("wrong answer: off by")


def test_a_sequence_that_stops_early_is_not_counted() -> None:
    counter = FakeCounter()
    short, long = (runner(counter, CASE, calls.SEQUENCE_STEPS) for _ in range(2))
    long.call = lambda: CASE.expected_sequences[: calls.SEQUENCE_STEPS]
    assert "failure" in calls.sequence(counter, (short, long), CASE, EXACT)
