"""Repeats: processes of their own, and what is made of their results. No test here asserts a time."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench_results import exactly, made_up
from fusedcell.__main__ import main
from fusedcell.bench import command, repeats
from fusedcell.bench.limits import PhaseLimit
from fusedcell.bench.many import ManyStreams
from fusedcell.bench.progress import Part
from fusedcell.bench.run import Result
from fusedcell.bench.tails import Distribution, Tail
from fusedcell.bench.threads import Scaling
from fusedcell.bench.tiers import float_isas
from fusedcell.bench.timing import Summary
from fusedcell.bench.work import Findings


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in command.ONE_THREAD:
        monkeypatch.setenv(name, "1")


def test_each_repeat_is_a_process(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    asked = ["--quick", "--sizes", "16", "--cells", "gru", "--no-peers", "--steps-sequence", "7"]
    assert main(["bench", *asked, "--repeats", "2", "--json", str(path)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "median of 2 processes" in out
    assert "One step, batch 1, float32" in out
    document = json.loads(path.read_text(encoding="utf-8"))
    best = float_isas()[0]
    step, sequence = document["results"]
    for result in (step, sequence):
        assert result["failures"] == {}
        assert result["share_of_limit"] > 0
        for name, summary in result["times"].items():
            first, second = result["medians"][name]
            assert summary["p50"] == pytest.approx((first + second) / 2)
        assert len(result["rounds"]) == result["times"][best]["count"]
    assert document["options"]["repeats"] == 2
    # Two repeats are too few to tell, and the file says how many there are.
    assert main(["bench", "compare", str(path), str(path)]) == 0
    assert "by the medians of 2 and 2 repeats" in capfd.readouterr().out


def process(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    monkeypatch.setattr(subprocess, "run", run)


def test_a_repeat_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    process(monkeypatch, lambda arguments, **_: subprocess.CompletedProcess(arguments, -11))
    assert main(["bench", "sequence", "--sizes", "8", "--no-peers", "--repeats", "3"]) == 2
    out, err = capsys.readouterr()
    assert "Sequences" not in out
    assert err == "fusedcell: repeat 1 of 3 ended with status -11\n"


def test_an_interrupt_ends_the_command_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    process(monkeypatch, interrupt)
    assert main(["bench", "step", "--sizes", "8", "--no-peers", "--repeats", "3"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name != "posix", reason="sends what a terminal sends for Ctrl-C")
def test_an_interrupt_ends_all_processes_quietly() -> None:
    asked = ["bench", "sequence", "--sizes", "64,128,256", "--no-peers", "--repeats", "100"]
    with subprocess.Popen(
        [sys.executable, "-m", "fusedcell", *asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        # The last line before the first repeat.
        while line := running.stdout.readline():
            if line.startswith("multiply rate"):
                break
        os.killpg(running.pid, signal.SIGINT)
        # Ends when nobody holds standard error any more, and the processes of repeats do.
        out, err = running.communicate()
    assert (running.returncode, out.strip(), err) == (130, "", "")


def merged(monkeypatch: pytest.MonkeyPatch, parts: list[Findings]) -> Findings:
    def give(options: argparse.Namespace, part: Part) -> Findings:
        assert part.count == len(parts)
        return parts[part.index]

    monkeypatch.setattr(repeats, "_in_process_of_its_own", give)
    findings = Findings()
    repeats.measure_repeats(argparse.Namespace(repeats=len(parts)), findings)
    return findings


def result(p50: float, numpy: float, read_us: float, multiply_us: float) -> Result:
    return made_up(
        limit=[PhaseLimit("step", read_us, multiply_us)],
        times={"avx2": Summary(p50 - 0.5, p50 - 0.25, p50, p50 + 4, 7), "numpy": exactly(numpy)},
        ratios={"numpy": exactly(numpy / p50)},
        gain=exactly(p50),
        rounds=[p50] * 2,
        medians={"avx2": [p50], "numpy": [numpy]},
    )


def test_each_figure_is_the_median_of_the_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [result(2.0, 8.0, 1.5, 0.5), result(8.0, 16.0, 1.6, 0.4), result(4.0, 12.0, 1.4, 0.6)]
    (found,) = merged(monkeypatch, [Findings(results=[part]) for part in parts]).results
    assert found.times == {"avx2": Summary(1.5, 3.75, 4.0, 8.0, 21), "numpy": Summary(8.0, 12.0, 12.0, 12.0, 27)}
    assert found.ratios["numpy"] == Summary(2.0, 3.0, 3.0, 3.0, 27)
    assert found.gain == Summary(2.0, 4.0, 4.0, 4.0, 27)
    assert found.limit == [PhaseLimit("step", 1.4, 0.4)]
    assert found.rounds == [2.0, 2.0, 8.0, 8.0, 4.0, 4.0]
    assert found.medians == {"avx2": [2.0, 8.0, 4.0], "numpy": [8.0, 16.0, 12.0]}


def test_what_failed_in_one_repeat_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = result(2.0, 8.0, 1.5, 0.5)
    times, medians = {"avx2": right.times["avx2"]}, {"avx2": [2.0]}
    wrong = replace(right, times=times, ratios={}, gain=None, medians=medians, failures={"numpy": "failed: no"})
    findings = merged(monkeypatch, [Findings(results=[wrong]), Findings(results=[right])])
    assert findings.failures == [("numpy", "lstm 64, step", "failed: no")]
    (found,) = findings.results
    assert list(found.times) == ["avx2", "numpy"]
    assert found.medians == {"avx2": [2.0, 2.0], "numpy": [8.0]}
    assert found.gain == right.gain


def test_tails_and_threads_are_merged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def tail(us: float, p999: float | None, failures: dict[str, str]) -> Tail:
        steps = Distribution(us, us + 1, us + 2, us + 3, us + 4, p999, 1000)
        return Tail("int8", "gru", 8, "avx2", steps, None if failures else steps, failures)

    def scaling(us: float) -> Scaling:
        return Scaling(
            kind="step",
            dtype="int8",
            cell="gru",
            size=8,
            steps=1,
            batch=1,
            tier="avx2",
            times={1: exactly(us), 2: exactly(us / 2)},
            gains={1: exactly(1.0), 2: exactly(us)},
            rounds={1: [us], 2: [us / 2]},
            medians={1: [us], 2: [us / 2]},
            failures={},
        )

    tails = [tail(1.0, 10.0, {}), tail(3.0, 30.0, {}), tail(2.0, None, {"avx2": "wrong answer: off by 1"})]
    found = merged(
        monkeypatch,
        [Findings(tails=[part], scalings=[scaling(us)]) for part, us in zip(tails, (4.0, 8.0, 6.0), strict=True)],
    )
    assert found.tails == [
        Tail(
            "int8",
            "gru",
            8,
            "avx2",
            warm=Distribution(1.0, 3.0, 4.0, 5.0, 6.0, None, 3000),
            cold=Distribution(1.0, 3.0, 4.0, 5.0, 6.0, 20.0, 2000),
            failures={"avx2": "wrong answer: off by 1"},
        )
    ]
    (threads,) = found.scalings
    assert threads.times == {1: Summary(4.0, 6.0, 6.0, 6.0, 27), 2: Summary(2.0, 3.0, 3.0, 3.0, 27)}
    assert threads.gains[2] == Summary(4.0, 6.0, 6.0, 6.0, 27)
    assert threads.medians == {1: [4.0, 8.0, 6.0], 2: [2.0, 4.0, 3.0]}


def test_many_streams_are_merged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def streams(us: float) -> ManyStreams:
        return ManyStreams(
            dtype="int8",
            cell="gru",
            size=8,
            batch=3,
            tier="avx2",
            times={"step_many": exactly(us), "torch": exactly(2 * us)},
            ratios={"torch": exactly(us)},
            rounds={"step_many": [us]},
            medians={"step_many": [us]},
            forms={"torch": "nn.GRU"},
            failures={"step": "failed: no"} if us == 6 else {},
        )

    (found,) = merged(monkeypatch, [Findings(many=[streams(us)]) for us in (4.0, 8.0, 6.0)]).many
    assert found.times == {"step_many": Summary(4.0, 6.0, 6.0, 6.0, 27), "torch": Summary(8.0, 12.0, 12.0, 12.0, 27)}
    assert found.ratios == {"torch": Summary(4.0, 6.0, 6.0, 6.0, 27)}
    assert (found.rounds, found.medians) == ({"step_many": [4.0, 8.0, 6.0]}, {"step_many": [4.0, 8.0, 6.0]})
    assert (found.forms, found.failures) == ({"torch": "nn.GRU"}, {"step": "failed: no"})
