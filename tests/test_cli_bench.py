"""The subcommands of `bench` that measure. No test here asserts a time."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.__main__ import main
from fusedcell.bench import command, tails, threads
from fusedcell.bench.cases import Case
from fusedcell.bench.progress import Part, Progress, bar
from fusedcell.bench.threads import measure_threads, thread_counts, tiers_by_threads
from fusedcell.bench.tiers import Tier, float_isas
from fusedcell.bench.timing import Effort, Runner

BEST = float_isas()[0]
TINY = ["--quick", "--sizes", "16", "--cells", "lstm"]
ONE_ROUND = Effort(turn_ns=1, seconds=0, min_rounds=1, max_rounds=1)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in command.ONE_THREAD:
        monkeypatch.setenv(name, "1")


def measured(arguments: list[str], path: Path) -> Any:
    assert main(["bench", *arguments, "--json", str(path)]) == 0
    return json.loads(path.read_text(encoding="utf-8"))


def test_step(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "evicting_bytes", lambda: 4096)
    document = measured(["step", *TINY, "--no-peers"], tmp_path / "results.json")
    out = capsys.readouterr().out
    limits = ("read limit     GB/s", "multiply rate  10^9 multiply-adds/s, one thread, float32: ")
    for text in ("One step, batch 1, float32", f"Single steps of {BEST} in float32", *limits):
        assert text in out
    assert "Sequences" not in out
    (result,) = document["results"]
    (tail,) = document["tails"]
    assert result["kind"] == "step"
    assert (tail["cell"], tail["size"], tail["tier"], tail["failures"]) == ("lstm", 16, BEST, {})
    for steps in (tail["warm"], tail["cold"]):
        assert 0 < steps["min"] <= steps["p10"] <= steps["p50"] <= steps["p90"]
    assert document["options"]["study"] == "step"


def test_as_many_steps_as_were_asked_for_are_clocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "evicting_bytes", lambda: 4096)
    document = measured(["step", *TINY, "--no-peers", "--steps-tail", "4321"], tmp_path / "results.json")
    (tail,) = document["tails"]
    assert (tail["warm"]["count"], tail["cold"]["count"]) == (4321, 43)
    assert document["options"]["steps_tail"] == 4321


def test_sequence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = measured(["sequence", *TINY, "--no-peers", "--steps", "7"], tmp_path / "results.json")
    out = capsys.readouterr().out
    assert "Sequences of 7 steps, batch 1, float32" in out
    assert "One step" not in out
    assert [(result["kind"], result["steps"]) for result in document["results"]] == [("sequence", 7)]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_batch(dtype: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["batch", *TINY, "--no-peers", "--steps", "7", "--batches", "1,3", "--dtype", dtype]
    document = measured(arguments, tmp_path / "results.json")
    assert f"Sequences of 7 steps in batches, {dtype}" in capsys.readouterr().out
    alone, three = document["results"]
    assert [result["batch"] for result in (alone, three)] == [1, 3]
    # NumPy is written for one sequence, and is left out.
    assert not {"numpy"} & (alone["times"].keys() | three["times"].keys())
    assert alone["share_of_limit"] > 0
    assert three["share_of_limit"] > 0


def test_batch_beside_a_library(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for module in ("onnxruntime", "onnx"):
        pytest.importorskip(module)
    document = measured(["batch", *TINY, "--steps", "7", "--batches", "2"], tmp_path / "results.json")
    (result,) = document["results"]
    assert result["failures"] == {}
    assert result["ratios"]["onnxruntime"]["p50"] > 0
    if importlib.util.find_spec("ncnn"):
        assert "ncnn takes no batches" in capsys.readouterr().out


class FakeTier(Tier):
    """Right with any number of threads but three."""

    def make_step(self, case: Case) -> Runner:
        return Tier(self.isa, self.dtype).make_step(case) if self.threads != 3 else _unlike(case)

    def make_sequence(self, case: Case) -> Runner:
        return Tier(self.isa, self.dtype).make_sequence(case)


def _unlike(case: Case) -> Runner:
    return Runner(lambda: np.full(case.size, 9.0, np.float32), [()], np.copy)


def test_threads(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "Tier", FakeTier)
    document = measured(["threads", *TINY, "--threads", "1,2", "--steps", "7"], tmp_path / "results.json")
    out = capsys.readouterr().out
    assert f"One step, batch 1, float32, {BEST}: us by number of threads" in out
    assert "Sequences of 7 steps" in out
    assert [scaling["kind"] for scaling in document["threads"]] == ["step", "sequence"]
    for scaling in document["threads"]:
        assert scaling["times"].keys() == scaling["gains"].keys() == scaling["rounds"].keys() == {"1", "2"}
        assert scaling["gains"]["1"]["p50"] == 1


def test_a_wrong_answer_with_more_threads_makes_the_command_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "Tier", FakeTier)
    assert main(["bench", "threads", *TINY, "--threads", "1,3", "--steps", "7"]) == 1
    assert "3 threads, lstm 16, step: wrong answer: off by" in capsys.readouterr().out


def test_many(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = measured(["many", *TINY, "--streams", "3,2", "--no-peers"], tmp_path / "results.json")
    assert f"One step of each of many streams, float32, {BEST}: us for all of them" in capsys.readouterr().out
    assert [streams["batch"] for streams in document["many"]] == [3, 2]
    for streams in document["many"]:
        assert list(streams["times"]) == ["step", "step_many", "pool"]
        assert list(streams["ratios"]) == ["step", "pool"]
        assert (streams["failures"], streams["best_other"]) == ({}, None)


def test_a_wrong_answer_of_many_streams_makes_the_command_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fc.LSTM, "step_many", lambda self, streams, X, out: np.full_like(out, 9))
    assert main(["bench", "many", *TINY, "--streams", "3", "--no-peers"]) == 1
    out = capsys.readouterr().out
    assert "step_many, lstm 16, batch 3, streams: wrong answer: off by" in out


def test_layers_are_asked_for_threads_only_where_there_are_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, dict[str, int]]] = []
    stream = fc.LSTM.stream

    def record(self: fc.LSTM, batch_size: int = 1, **options: int) -> Any:
        asked.append((batch_size, options))
        return stream(self, batch_size)

    monkeypatch.setattr(fc.LSTM, "stream", record)
    tiers = tiers_by_threads("scalar", "float32", [1, 2])
    found = measure_threads(Case("lstm", 4, 6, batch=3), "sequence", tiers, ONE_ROUND)
    assert asked == [(3, {}), (3, {"num_threads": 2})]
    assert found.failures == {}
    assert found.gains[2].p50 == pytest.approx(found.times[1].p50 / found.times[2].p50)


@pytest.mark.parametrize(
    ("cpus", "counts"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 3, 4, 6]), (8, [1, 2, 3, 4, 8]), (20, [1, 2, 3, 4, 8, 16, 20])],
)
def test_numbers_of_threads(cpus: int, counts: list[int]) -> None:
    assert thread_counts(cpus) == counts


@pytest.mark.parametrize(
    ("done", "line"),
    [
        (0, "[........................] 0/12 lstm 16, step"),
        (5, "[##########..............] 5/12 lstm 16, step"),
        (12, "[########################] 12/12 lstm 16, step"),
    ],
)
def test_bar(done: int, line: str) -> None:
    assert bar(done, 12, "lstm 16, step") == line
    assert len(bar(done, 12, "x" * 200)) == 76


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_on_a_terminal_and_wiped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(2)
    for what in ("a", "b"):
        progress.show(what)
    progress.close()
    _, first, second, wiped, end = terminal.getvalue().split("\r")
    assert first.rstrip() == "[........................] 0/2 a"
    assert second.rstrip() == "[############............] 1/2 b"
    assert len(first) == len(second) == len(wiped)
    assert wiped.strip() == end == ""


def test_the_bar_goes_on_from_repeat_to_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Progress(2, Part(2, 4)).show("a")
    assert terminal.getvalue().strip() == "[############............] 4/8 a, repeat 3 of 4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["guess"], "invalid choice: 'guess'"),
        (["sequence", "--steps", "0"], "'0' is not a whole number from 1 to 100000"),
        (["step", "--steps", "5"], "--steps"),
        (["step", "--steps-tail", "99"], "'99' is not a whole number from 100 to 10000000"),
        (["sequence", "--steps-tail", "1000"], "--steps-tail"),
        (["step", "--repeats", "0"], "'0' is not a whole number from 1 to 100"),
        (["--repeats", "3", "compare", __file__, __file__], "--repeats: bench compare does not have it"),
        (["step", "--steps-sequence", "5"], "--steps-sequence"),
        (["--steps-sequence", "5", "sequence"], "--steps-sequence: bench sequence does not have it"),
        (["--quick", "compare", __file__, __file__], "--quick: bench compare does not have it"),
        (["batch", "--batches", "1,0"], "'0' is not a whole number from 1 to 1024"),
        (["many", "--streams", "1"], "'1' is not a whole number from 2 to 1024"),
        (["many", "--plot", "figure.png"], "--plot: bench many does not have it"),
        (["many", "--steps", "5"], "--steps"),
        (["threads", "--threads", "two"], "'two' is not a whole number from 1 to 1024"),
        (["step", "--sizes", "0"], "'0' is not a whole number from 1 to 8192"),
        (["step", "--plot", "figure.pdf"], "'figure.pdf' ends neither in .png nor in .svg"),
        (["step", "--plot", "no such folder/figure.png"], "is not a file in a folder that exists"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_a_figure_is_refused_before_anything_is_measured_if_nothing_draws_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "step", "--plot", "figure.png"]) == 2
    assert "needs matplotlib: pip install fusedcell[plot]" in capsys.readouterr().err


def test_options_may_stand_before_the_subcommand(tmp_path: Path) -> None:
    document = measured(["--quick", "--no-peers", "--sizes", "8", "sequence", "--cells", "rnn"], tmp_path / "a.json")
    (result,) = document["results"]
    assert (result["kind"], result["cell"], result["size"], result["steps"]) == ("sequence", "rnn", 8, 100)
