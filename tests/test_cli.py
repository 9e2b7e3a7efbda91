"""The command line, and the arithmetic behind `bench`. No test here asserts a time."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.__main__ import main
from fusedcell.bench import command, peers, ratios, run, table
from fusedcell.bench.answers import Tolerance
from fusedcell.bench.peers import Peer
from fusedcell.bench.run import Result
from fusedcell.bench.tiers import float_isas
from fusedcell.bench.timing import Effort, Runner, Summary, measure, ratio, summarise

TINY = ["bench", "--quick", "--sizes", "16", "--cells", "lstm", "--no-peers"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in command.ONE_THREAD:
        monkeypatch.setenv(name, "1")


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for isa in fc.isas():
        assert isa in printed
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fc.runtime_info()


def test_bench(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert main([*TINY, "--steps-sequence", "10", "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in (
        "One step, batch 1, float32",
        "Sequences of 10 steps",
        "Geometric mean over H",
        "numpy",
        *float_isas(),
    ):
        assert word in out

    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["runtime"] == fc.runtime_info()
    assert document["peers"] == "not asked for"
    assert document["dtype"] == "float32"
    step, sequence = document["results"]
    assert (step["kind"], step["cell"], step["size"], step["steps"]) == ("step", "lstm", 16, 1)
    assert (sequence["kind"], sequence["steps"]) == ("sequence", 10)
    best = float_isas()[0]
    assert set(step["times"]) == {*float_isas(), "numpy"}
    assert set(sequence["times"]) == {best, "numpy"}
    for result in (step, sequence):
        assert (result["tier"], result["dtype"]) == (best, "float32")
        assert result["best_other"] == result["best_other_of_dtype"] == "numpy"
        assert result["gain"] is None
        assert result["failures"] == {}
        for summary in (*result["times"].values(), *result["ratios"].values()):
            assert set(summary) == {"min", "p10", "p50", "p90", "count"}
            assert 0 < summary["min"] <= summary["p10"] <= summary["p50"] <= summary["p90"]
    assert step["share_of_read_limit"] == step["read_us"] / step["times"][step["tier"]]["p50"]
    assert sequence["share_of_read_limit"] is None


def test_bench_of_chosen_tiers_and_without_sequences(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    arguments = ["--isa", "scalar", "--steps-sequence", "0", "--json", str(path), "--cells", "rnn,gru_reset_before"]
    assert main([*TINY, *arguments]) == 0
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert [result["cell"] for result in results] == ["rnn", "gru_reset_before"]
    assert [set(result["times"]) for result in results] == [{"scalar", "numpy"}] * 2
    assert "Sequences" not in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_bench_of_other_dtypes(dtype: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert main([*TINY, "--dtype", dtype, "--steps-sequence", "10", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    for text in (f"One step, batch 1, {dtype}", f"Sequences of 10 steps, batch 1, {dtype}", "our float32"):
        assert text in out
    assert f"checked        against float64, others' float32 within 0.0001, our {dtype} within " in out
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["dtype"] == dtype
    tiers = fc.isas() if dtype == "int8" else float_isas()
    step, sequence = document["results"]
    assert set(step["times"]) == {*tiers, f"{tiers[0]} float32", "numpy"}
    assert set(sequence["times"]) == {tiers[0], f"{tiers[0]} float32", "numpy"}
    for result in (step, sequence):
        assert (result["dtype"], result["tier"], result["failures"]) == (dtype, tiers[0], {})
        assert set(result["ratios"]) == {"numpy"}
        assert result["other_dtypes"] == {"numpy": "float32"}
        assert result["best_other_of_dtype"] is None
        assert result["gain"]["p50"] > 0


def test_a_tier_asked_for_runs_in_any_dtype(capsys: pytest.CaptureFixture[str], isa: str) -> None:
    assert main([*TINY, "--isa", isa, "--steps-sequence", "0"]) == 0
    assert f"time of the {isa} step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command"),
        (["measure"], "'measure'"),
        (["bench", "--cells", "lstm,transformer"], "'transformer' is not a cell; there are: lstm, gru"),
        (["bench", "--sizes", "16,none"], "'none' is not a whole number from 1 to 8192"),
        (["bench", "--sizes", "0"], "'0' is not a whole number from 1 to 8192"),
        (["bench", "--sizes", ""], "'' is not a whole number"),
        (["bench", "--steps-sequence", "-1"], "'-1' is not a whole number from 0"),
        (["bench", "--isa", "sse9"], "'sse9' is not a tier that this machine runs; there are: "),
        (["bench", "--dtype", "int4"], "'int4' is not a dtype; there are: float32, bfloat16, float16, int8"),
        (["bench", "--dtype", "int8,float32"], "'int8,float32' is not a dtype"),
        (["bench", "--json", "no such folder/results.json"], "is not a file in a folder that exists"),
        (["bench", "--json", "."], "is not a file in a folder that exists"),
        (["bench", "--fast"], "--fast"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["info"], ["info", "--json"], TINY])
def test_an_unknown_tier_in_the_environment_is_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FUSEDCELL_ISA", "sse9")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fusedcell: FUSEDCELL_ISA")
    assert len(err.splitlines()) == 1


def test_a_file_that_cannot_be_written_is_an_error_after_the_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "results.json")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert main([*TINY, "--json", str(tmp_path / "results.json")]) == 2
    out, err = capsys.readouterr()
    assert "One step" in out
    assert err == "fusedcell: [Errno 13] Permission denied: 'results.json'\n"


def test_bench_starts_anew_where_libraries_may_have_loaded_with_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def call(arguments: list[str], env: dict[str, str]) -> int:
        calls.append((arguments, env))
        return 7

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert main(TINY) == 7
    ((arguments, env),) = calls
    assert arguments[1:] == ["-m", "fusedcell", *TINY]
    assert env == {**os.environ, **command.ONE_THREAD}
    assert set(command.ONE_THREAD.values()) == {"1"}


def test_a_wrong_answer_of_ours_makes_the_command_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "our_tolerance", lambda size, dtype: Tolerance(0.0))
    assert main(TINY) == 1
    assert f"{float_isas()[0]}, lstm 16, step: wrong answer: off by" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_peers_that_are_not_there_are_named(
    dtype: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find_spec(name: str) -> object:
        return None if name in ("torch", "onnx") else object()

    def load_peer(name: str, dtype: str) -> Peer:
        raise ImportError(f"{name} lacks\n a library")

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(peers, "load_peer", load_peer)
    assert main([argument for argument in [*TINY, "--dtype", dtype] if argument != "--no-peers"]) == 0
    reasons = ["torch not installed", "onnxruntime not measured, as it needs onnx"]
    for name in ("openvino", "ncnn"):
        labels = [name, f"{name} int8"] if dtype == "int8" else [name]
        reasons += [f"{label} failed: ImportError: {name} lacks a library" for label in labels]
    assert f"{', '.join(reasons)}\n" in capsys.readouterr().out


class Clock:
    """Stands still but for what the variants take, and remembers who was called with what."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[tuple[str, int]] = []

    def __call__(self) -> int:
        return self.now

    def variant(self, name: str, cost_us: int, *, interrupted_call: int = 0) -> Runner:
        """Takes so many microseconds a call, and once 100 milliseconds."""
        numbers = count(1)

        def call(x: int) -> None:
            self.calls.append((name, x))
            self.now += 100_000_000 if next(numbers) == interrupted_call else 1000 * cost_us

        return Runner(call, [(0,), (1,), (2,)], lambda _: np.zeros(0, np.float32))


def test_variants_take_turns_and_each_goes_on_where_it_was() -> None:
    clock = Clock()
    # To fill a turn of 100 us; to warm up for a millisecond, 16 calls, or no more than 20 milliseconds.
    costs_us = {"quick": 30, "slow": 250, "slower": 2000, "long": 50_000}
    timed = {"quick": 4, "slow": 1, "slower": 1, "long": 1}
    warm_up = {"quick": 34, "slow": 16, "slower": 10, "long": 1}
    variants = {name: clock.variant(name, cost) for name, cost in costs_us.items()}
    rounds = measure(variants, Effort(turn_ns=100_000, seconds=0, min_rounds=3, max_rounds=9), clock)
    assert rounds == {name: [1000.0 * cost] * 3 for name, cost in costs_us.items()}

    turns = [name for name in variants for _ in range(warm_up[name] + timed[name])] * 3
    assert [name for name, _ in clock.calls][-len(turns) :] == turns
    for name in variants:
        inputs = [x for caller, x in clock.calls if caller == name]
        assert inputs == [i % 3 for i in range(len(inputs))]


def test_one_interruption_does_not_shorten_the_turns() -> None:
    clock = Clock()
    # The first call sets things up; the second is the first to be timed.
    variant = clock.variant("a", 10, interrupted_call=2)
    rounds = measure({"a": variant}, Effort(turn_ns=1_000_000, seconds=0, min_rounds=1, max_rounds=1), clock)
    assert rounds == {"a": [10_000.0]}
    # Calibration tries 1, 2, 4 up to 128 calls, twice each; 100 calls make a millisecond to warm up.
    assert len(clock.calls) == 1 + 2 * 255 + 100 + 128


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 4), (0.028, 10), (1.0, 20)])
def test_the_number_of_rounds_follows_from_the_time_allowed(seconds: float, rounds: int) -> None:
    clock = Clock()
    # Turns of 38 * 30 and 17 * 250 us, 5390 together, while two variants are allowed twice `seconds`.
    variants = {"a": clock.variant("a", 30), "b": clock.variant("b", 250)}
    measured = measure(variants, Effort(turn_ns=100_000, seconds=seconds, min_rounds=4, max_rounds=20), clock)
    assert [len(values) for values in measured.values()] == [rounds, rounds]


def test_no_garbage_is_collected_while_timing() -> None:
    seen = []
    runner = Runner(lambda: seen.append(gc.isenabled()), [()], lambda _: np.zeros(0, np.float32))
    assert gc.isenabled()
    measure({"a": runner}, Effort(turn_ns=1, seconds=0, min_rounds=1, max_rounds=1))
    assert not any(seen)
    assert gc.isenabled()


def test_percentiles() -> None:
    assert summarise([4, 11, 2, 9, 6, 1, 8, 3, 10, 5, 7]) == Summary(min=1, p10=2, p50=6, p90=10, count=11)
    assert summarise([20, 10]) == Summary(min=10, p10=11, p50=15, p90=19, count=2)
    assert summarise([3]) == Summary(min=3, p10=3, p50=3, p90=3, count=1)


def test_ratios_are_taken_round_by_round() -> None:
    found = ratio([10, 20, 60], [5, 5, 20])  # 2, 4 and 3; the medians' quotient would be 4
    assert (found.min, found.p50, found.count) == (2, 3, 3)
    assert found.p10 == pytest.approx(2.2)
    assert found.p90 == pytest.approx(3.8)
    with pytest.raises(ValueError, match="shorter"):
        ratio([1, 2], [1])


def exactly(value: float) -> Summary:
    return Summary(value, value, value, value, 9)


def made_up(kind: run.Kind = "step", **changes: Any) -> Result:
    values: dict[str, Any] = {
        "kind": kind,
        "dtype": "float32",
        "cell": "lstm",
        "size": 64,
        "steps": 1 if kind == "step" else 100,
        "tier": "avx2",
        "weight_bytes": 131072,
        "read_us": 1.5,
        "times": {"avx2": exactly(2.0), "scalar": exactly(99.96), "numpy": exactly(12.34), "torch": exactly(8.0)},
        "ratios": {"numpy": exactly(6.17), "torch": Summary(3.8, 3.9, 4.0, 12.345, 9)},
        "gain": None,
        "other_dtypes": {"numpy": "float32", "torch": "float32"},
        "forms": {},
        "failures": {},
    }
    return Result(**values | changes)


def test_step_table() -> None:
    without_torch = made_up(
        cell="rnn",
        size=1024,
        times={"avx2": Summary(0.09, 0.1, 0.1234, 0.2, 9), "numpy": exactly(12345.6)},
        ratios={"numpy": exactly(100047.0)},
        failures={"torch": "wrong answer: off by 0.5", "scalar": "failed: RuntimeError: no"},
        read_us=0.1234,
    )
    text = table.step_table([made_up(), without_torch], ["avx2", "scalar"], ["numpy", "torch"])
    assert text.splitlines()[1:] == [
        "cell     H   avx2  scalar  limit %  numpy         torch  best other / avx2 (p10..p90)",
        "lstm    64   2.00     100       75   12.3          8.00  4.00 (3.90..12.3) torch",
        "rnn   1024  0.123  failed      100  12346  wrong answer  100047 (100047..100047) numpy",
        "Geometric mean over H, best other / avx2: lstm 4.00, rnn 100047, all 633.",
    ]


def test_sequence_table() -> None:
    text = table.sequence_table([made_up("sequence")], ["avx2"], ["numpy", "torch", "ncnn"])
    assert text.splitlines() == [
        "Sequences of 100 steps, batch 1, float32: us per sequence, median of rounds.",
        "cell   H  avx2  numpy  torch  ncnn  best other / avx2 (p10..p90)",
        "lstm  64  2.00   12.3   8.00     -  4.00 (3.90..12.3) torch",
        "Geometric mean over H, best other / avx2: lstm 4.00.",
    ]


def made_up_int8(**changes: Any) -> Result:
    values: dict[str, Any] = {
        "dtype": "int8",
        "times": {
            "avx2": exactly(2.0),
            "avx2 float32": exactly(5.0),
            "torch": exactly(8.0),
            "torch int8": exactly(9.0),
            "ncnn int8": exactly(12.0),
        },
        "ratios": {"torch": Summary(3.8, 3.9, 4.0, 4.2, 9), "torch int8": exactly(4.5), "ncnn int8": exactly(6.0)},
        "gain": Summary(2, 2.4, 2.5, 2.75, 9),
        "other_dtypes": {"torch": "float32", "torch int8": "int8", "ncnn int8": "int8"},
    }
    return made_up(**values | changes)


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
        "One step, batch 1, int8: us per step, median of rounds. "
        "limit %: time to read the weights once over time of the avx2 step.",
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
    assert result.share_of_read_limit is None
    assert table.step_table([result], ["avx2"], ["numpy"]).splitlines()[-2:] == [
        "lstm  64  wrong answer        -   1.00  -",
        "Geometric mean over H, best other / avx2: lstm -.",
    ]
    assert table.spread([result]) == ""
    assert table.failures([result]) == "avx2, lstm 64, step: wrong answer: off by 1"


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
    assert table.header(environment).splitlines() == [
        "date           today",
        "isas           avx2, scalar",
        "caches         L1d 48K",
        "cpu features   none",
        "cpus           2",
        "peers          torch 2, ncnn not installed",
    ]
