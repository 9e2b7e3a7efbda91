"""The texts that `bench` prints, from made-up results."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench_results import exactly, made_up, made_up_int8
from fusedcell.bench import ratios, study_tables, table
from fusedcell.bench.environment import header
from fusedcell.bench.limits import MultiplyRate, PhaseLimit, ReadLimit, level_bytes, limits_text, rates_text
from fusedcell.bench.many import ManyStreams
from fusedcell.bench.run import Kind
from fusedcell.bench.tails import Distribution, Tail
from fusedcell.bench.threads import Scaling
from fusedcell.bench.timing import Summary
from fusedcell.bench.work import Findings


def test_step_table() -> None:
    without_torch = made_up(
        cell="rnn",
        size=1024,
        times={"avx2": Summary(0.09, 0.1, 0.1234, 0.2, 9), "numpy": exactly(12345.6)},
        ratios={"numpy": exactly(100047.0)},
        failures={"torch": "wrong answer: off by 0.5", "scalar": "failed: RuntimeError: no"},
        limit=[PhaseLimit("step", 0.1234, 0.1)],
    )
    text = table.step_table([made_up(), without_torch], ["avx2", "scalar"], ["numpy", "torch"])
    assert text.splitlines()[2:] == [
        "cell     H   avx2  scalar  limit %  numpy         torch  best other / avx2 (p10..p90)",
        "lstm    64   2.00     100       75   12.3          8.00  4.00 (3.90..12.3) torch",
        "rnn   1024  0.123  failed      100  12346  wrong answer  100047 (100047..100047) numpy",
        "Geometric mean over H, best other / avx2: lstm 4.00, rnn 100047, all 633.",
    ]


def test_sequence_table() -> None:
    # The projection is limited by multiplications, the recurrence by reading: 0.2 + 1.3 of 2 us.
    phases = [PhaseLimit("projection", 0.1, 0.2), PhaseLimit("recurrence", 1.3, 0.2)]
    result = made_up("sequence", limit=phases)
    assert table.sequence_table([result], ["avx2"], ["numpy", "torch", "ncnn"]).splitlines() == [
        "Sequences of 100 steps, batch 1, float32: us per sequence, median of rounds.",
        "limit %: the least time for W x of many steps at once and then for R h step by step, over the avx2 time.",
        "cell   H  avx2  limit %  numpy  torch  ncnn  best other / avx2 (p10..p90)",
        "lstm  64  2.00       75   12.3   8.00     -  4.00 (3.90..12.3) torch",
        "Geometric mean over H, best other / avx2: lstm 4.00.",
    ]


def test_int8_is_compared_with_int8_with_all_and_with_our_float32() -> None:
    others = ["torch", "torch int8", "ncnn int8"]
    with_float32_alone = made_up_int8(
        size=1024,
        times={"avx2": exactly(2.0), "avx2 float32": exactly(20.0), "torch": exactly(18.0)},
        ratios={"torch": exactly(9.0)},
        gain=exactly(10.0),
        failures={"torch int8": "wrong answer: off by 0.5 rms"},
    )
    text = table.step_table([made_up_int8(), with_float32_alone], ["avx2"], ["avx2 float32", *others])
    assert text.splitlines() == [
        "One step, batch 1, int8: us per step, median of rounds.",
        "limit %: the least time to read the weights and to multiply by them, over the avx2 time.",
        "cell     H  avx2  limit %  avx2 float32  torch    torch int8  ncnn int8",
        "lstm    64  2.00       75          5.00   8.00          9.00       12.0",
        "lstm  1024  2.00       75          20.0   18.0  wrong answer          -",
        "",
        "Times over those of avx2 in int8, median of rounds (p10..p90).",
        "cell     H  our float32        best other in int8            best other of any dtype",
        "lstm    64  2.50 (2.40..2.75)  4.50 (4.50..4.50) torch int8  4.00 (3.90..4.20) torch",
        "lstm  1024  10.0 (10.0..10.0)  -                             9.00 (9.00..9.00) torch",
        "Geometric mean over H, our float32: lstm 5.00.",
        "Geometric mean over H, best other in int8: lstm 4.50 (1 of 2).",
        "Geometric mean over H, best other of any dtype: lstm 6.00.",
    ]


def test_a_dtype_that_no_other_library_has_is_compared_with_float32() -> None:
    result = made_up_int8(dtype="float16")
    assert [comparison.heading for comparison in ratios.comparisons([result])] == [
        "our float32",
        "best other of any dtype",
    ]
    assert result.best_other_of_dtype is None


def test_a_table_without_times_of_ours() -> None:
    result = made_up(times={"numpy": exactly(1.0)}, ratios={}, failures={"avx2": "wrong answer: off by 1"})
    assert result.share_of_limit is None
    assert table.step_table([result], ["avx2"], ["numpy"]).splitlines()[-2:] == [
        "lstm  64  wrong answer        -   1.00  -",
        "Geometric mean over H, best other / avx2: lstm -.",
    ]
    assert table.spread([result]) == ""
    failed = Findings([], results=[result]).failures
    assert table.failures(failed) == "avx2, lstm 64, step: wrong answer: off by 1"


def test_spread() -> None:
    results = [made_up(times={"avx2": Summary(1, 1.0, 2.0, 1.0 + wide, 9)}, size=wide) for wide in (1, 4, 2)]
    assert table.spread(results) == (
        "Spread of avx2's rounds, (p90 - p10) / median: 100 % in the middle case, 200 % in the worst (lstm 4, step)."
    )


def test_header() -> None:
    environment = {
        "date": "today",
        "runtime": {"isas": ["avx2", "scalar"], "caches": {"L1d": "48K"}, "cpu_features": [], "isa": "avx2", "cpus": 2},
        "peers": {"torch": "2", "ncnn": "not installed"},
    }
    assert header(environment).splitlines() == [
        "date           today",
        "isas           avx2, scalar",
        "caches         L1d 48K",
        "cpu features   none",
        "cpus           2",
        "peers          torch 2, ncnn not installed",
    ]


def test_nothing_to_compare_with() -> None:
    result = made_up(times={"avx2": exactly(2.0)}, ratios={}, other_dtypes={})
    assert table.step_table([result], ["avx2"], []).splitlines()[2:] == [
        "cell   H  avx2  limit %",
        "lstm  64  2.00       75",
    ]


def test_batch_table() -> None:
    limit = [PhaseLimit("projection", 50.0, 40.0), PhaseLimit("recurrence", 20.0, 100.0)]
    alone = made_up(
        "sequence",
        limit=limit,
        times={"avx2": exactly(200.0), "torch": exactly(500.0)},
        ratios={"torch": exactly(2.5)},
    )
    four = made_up(
        "sequence",
        batch=4,
        limit=limit,
        times={"avx2": exactly(400.0), "torch": exactly(600.0)},
        ratios={"torch": exactly(1.5)},
    )
    lonely = made_up("sequence", batch=8, size=32, times={}, ratios={}, failures={"avx2": "wrong answer: off by 1"})
    assert study_tables.batch_table([alone, four, lonely], ["avx2"], ["torch"]).splitlines() == [
        "Sequences of 100 steps in batches, float32: us per step of the whole batch, median of rounds.",
        "limit %: the least time for W x of many steps at once and then for R h step by step, over the avx2 time.",
        "cost %: of one sequence, with avx2, over its cost alone.",
        "cell   H  batch          avx2  limit %  cost %  torch  best other / avx2 (p10..p90)",
        "lstm  64      1          2.00       75     100   5.00  2.50 (2.50..2.50) torch",
        "lstm  64      4          4.00       38      50   6.00  1.50 (1.50..1.50) torch",
        "lstm  32      8  wrong answer        -       -      -  -",
        "Geometric mean over H and batch, best other / avx2: lstm 1.94 (2 of 3).",
    ]


def test_tail_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_tables, "evicting_bytes", lambda: 2**26)
    warm = Distribution(min=1.0, p10=1.5, p50=2.0, p90=2.5, p99=4.0, p999=50.0, count=20000)
    cold = Distribution(min=5.0, p10=6.0, p50=8.0, p90=10.0, p99=None, p999=None, count=40)
    found = Tail("float32", "lstm", 64, "avx2", warm, cold, {})
    wrong = Tail("float32", "gru", 512, "avx2", None, None, {"avx2": "wrong answer: off by 1"})
    assert study_tables.tail_table([found, wrong]).splitlines() == [
        "Single steps of avx2 in float32, us, the clock's own time in each.",
        "spread: (p90 - p10) / p50. cold: after 64 MB of other data were read.",
        "cell    H   min   p50   p99  p99.9  p99.9/p50  spread %  steps"
        "  cold min  cold p50  cold p99  cold spread %  cold steps",
        "lstm   64  1.00  2.00  4.00   50.0       25.0        50  20000"
        "      5.00      8.00         -             50          40",
        "gru   512     -     -     -      -          -         -      -"
        "         -         -         -              -           -",
    ]
    many = replace(cold, p99=11.0, p999=20.0, count=1000)
    headings, row = study_tables.tail_table([replace(found, cold=many)]).splitlines()[2:]
    assert headings.split("steps", 1)[1] == "  cold min  cold p50  cold p99  cold p99.9  cold spread %  cold steps"
    assert row.split()[9:] == ["5.00", "8.00", "11.0", "20.0", "50", "1000"]


def test_threads_table() -> None:
    def scaling(kind: Kind, size: int, times: dict[int, float], failures: dict[str, str]) -> Scaling:
        return Scaling(
            kind=kind,
            dtype="int8",
            cell="gru",
            size=size,
            steps=1 if kind == "step" else 100,
            batch=1,
            tier="avx2",
            times={count: exactly(us) for count, us in times.items()},
            gains={count: exactly(times[1] / us) for count, us in times.items()},
            rounds={},
            medians={},
            failures=failures,
        )

    both = scaling("sequence", 64, {1: 20.0, 2: 16.0}, {})
    one = scaling("sequence", 512, {1: 300.0}, {"2 threads": "failed: TypeError: no"})
    assert study_tables.threads_table([both, one], "sequence").splitlines() == [
        "Sequences of 100 steps, batch 1, int8, avx2: us by number of threads, median of rounds, "
        "and how many times quicker than with 1.",
        "cell    H     1       2  2 / 1 (p10..p90)",
        "gru    64  20.0    16.0  1.25 (1.25..1.25)",
        "gru   512   300  failed  -",
    ]
    assert study_tables.threads_table([both], "step") == ""


def test_many_table() -> None:
    found = ManyStreams(
        dtype="float32",
        cell="lstm",
        size=256,
        batch=64,
        tier="avx2",
        times={"step": exactly(1200.0), "step_many": exactly(300.0), "pool": exactly(290.0), "torch": exactly(660.0)},
        ratios={"step": Summary(3.5, 3.9, 4.0, 4.1, 9), "pool": exactly(0.97), "torch": exactly(2.2)},
        rounds={},
        medians={},
        forms={},
        failures={"onnxruntime": "wrong answer: off by 1"},
    )
    alone = replace(found, size=64, times={"step_many": exactly(20.0)}, ratios={}, failures={"step": "failed: no"})
    assert study_tables.many_table([found, alone], ["torch", "onnxruntime"]).splitlines() == [
        "One step of each of many streams, float32, avx2: us for all of them, median of rounds.",
        "step: one after the other. The others stack the streams' states, run a batch, and split them again.",
        "cell    H  streams    step  step_many  pool  torch   onnxruntime  step / step_many (p10..p90)  "
        "best other / step_many (p10..p90)",
        "lstm  256       64    1200        300   290    660  wrong answer  4.00 (3.90..4.10)            "
        "2.20 (2.20..2.20) torch",
        "lstm   64       64  failed       20.0     -      -             -  -                            -",
    ]
    assert study_tables.many_table([], []) == ""


def test_read_limits() -> None:
    assert level_bytes({"L1d": "48K", "L2": "1024K", "L3": "32768K"}) == [24 << 10, 512 << 10, 8 << 20, 64 << 20]
    assert level_bytes({"L1d": "64K", "L2": "4M"}) == [32 << 10, 1 << 20, 8 << 20]
    assert level_bytes({}) == [16 << 10, 512 << 10, 8 << 20, 64 << 20]
    limits = [ReadLimit(24 << 10, 312.34), ReadLimit(64 << 20, 9.876)]
    assert limits_text(limits, "avx2") == "read limit     GB/s, one thread, avx2: 24 KB 312, 64 MB 9.88"


def test_multiply_rates() -> None:
    rates = [MultiplyRate("avx2", "int8", 212.3), MultiplyRate("scalar", "int8", 5.678)]
    assert rates_text([*rates, MultiplyRate("avx2", "float32", 63.21)]).splitlines() == [
        "multiply rate  10^9 multiply-adds/s, one thread, int8: avx2 212, scalar 5.68",
        "multiply rate  10^9 multiply-adds/s, one thread, float32: avx2 63.2",
    ]
