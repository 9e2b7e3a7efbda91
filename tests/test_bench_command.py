"""`bench` and its subcommands from the command line to the file of results. No test here asserts a time."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from cores import BIG_LITTLE
from fusedcell import _core
from fusedcell.__main__ import main
from fusedcell._dtypes import DTYPES, QUANTISED
from fusedcell._timing import Runner
from fusedcell.bench import command, options, peers, studies, tails, tiers
from fusedcell.bench.answers import Tolerance
from fusedcell.bench.cases import Case
from fusedcell.bench.machine import BEGINNING, Look
from fusedcell.bench.peers import NumPy, Peer
from fusedcell.bench.tiers import Tier, float_isas

BEST = float_isas()[0]
TINY = ["--quick", "--sizes", "16", "--cells", "lstm", "--no-peers"]
REPORT = ["report", "--sizes", "8", "--cells", "gru", "--no-peers"]

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in command.ONE_THREAD:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(tails, "evicting_bytes", lambda: 4096)


@pytest.fixture
def measured(tmp_path: Path) -> Run:
    def run(*arguments: str, status: int = 0) -> Any:
        path = tmp_path / "results.json"
        assert main(["bench", *arguments, "--json", str(path)]) == status
        return json.loads(path.read_text(encoding="utf-8"))

    return run


def test_bench(measured: Run, capsys: pytest.CaptureFixture[str]) -> None:
    document = measured(*TINY, "--steps", "10", "--details")
    out, err = capsys.readouterr()
    assert err == ""
    limits = ("read limit     GB/s, one thread", "multiply rate  10^9 multiply-adds/s, one thread: ")
    for text in ("One step, batch 1, float32", "Sequences of 10 steps", "Geometric mean of", *float_isas(), *limits):
        assert text in out
    assert document["runtime"] == fc.runtime_info()
    assert (document["schema"], document["dtype"], document["tier"]) == (2, "float32", BEST)
    assert document["peers"] == {"numpy": np.__version__}
    assert document["multiply_rates"].keys() == {f"{isa} float32" for isa in float_isas()}
    assert min(*document["read_limits"].values(), *document["multiply_rates"].values()) > 0
    asked = document["options"]
    assert [asked[name] for name in ("study", "cells", "sizes", "steps", "quick")] == [None, ["lstm"], [16], 10, True]
    step, sequence = document["results"]
    assert [(its["kind"], its["cell"], its["size"], its["steps"]) for its in (step, sequence)] == [
        ("step", "lstm", 16, 1),
        ("sequence", "lstm", 16, 10),
    ]
    assert set(step["times"]) == {"fusedcell", *float_isas()[1:], "numpy"}
    assert set(sequence["times"]) == {"fusedcell", "numpy"}
    for result in (step, sequence):
        assert (result["tier"], result["dtype"], result["best_other"], result["failures"]) == (
            BEST, "float32", "numpy", {},
        )  # fmt: skip
        assert set(result["ratios"]) == set(result["times"]) - {"fusedcell"}
        for summary in (*result["times"].values(), *result["ratios"].values()):
            assert 0 < summary["min"] <= summary["p10"] <= summary["p50"] <= summary["p90"]
        longer = [max(phase["read_us"], phase["multiply_us"]) for phase in result["limit"]]
        assert result["share_of_limit"] == sum(longer) / result["times"]["fusedcell"]["p50"] > 0
        assert result["medians"] == {name: [summary["p50"]] for name, summary in result["times"].items()}
        (rounds,) = result["rounds"]["fusedcell"]
        assert len(rounds) == result["times"]["fusedcell"]["count"]
        assert np.median(rounds) == pytest.approx(result["medians"]["fusedcell"][0], rel=1e-3)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_other_dtypes_are_beside_our_float32(dtype: str, measured: Run, capsys: pytest.CaptureFixture[str]) -> None:
    document = measured(*TINY, "--dtype", dtype, "--steps", "10", "--details")
    assert (
        f"checked        against float64, others' float32 within 0.0001, our {dtype} within " in capsys.readouterr().out
    )
    isas = fc.isas() if dtype in QUANTISED else float_isas()
    step, sequence = document["results"]
    assert set(step["times"]) == {"fusedcell", *isas[1:], "fusedcell float32", "numpy"}
    assert set(sequence["times"]) == {"fusedcell", "fusedcell float32", "numpy"}
    assert document["multiply_rates"].keys() == {f"{isa} {dtype}" for isa in isas} | {f"{isas[0]} float32"}
    for result in (step, sequence):
        assert (result["dtype"], result["tier"], result["failures"]) == (dtype, isas[0], {})
        assert result["dtypes"] == {
            name: "float32" if name.endswith(("32", "py")) else dtype for name in result["times"]
        }


def test_without_details_the_first_table_comes_after_two_lines(
    measured: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    html = tmp_path / "page.html"
    (result, _) = measured(*TINY, "--steps", "3", "--inputs", "5", "--html", str(html))["results"]
    assert (result["size"], result["input_size"], result["failures"]) == (16, 5, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"beside numpy {np.__version__}.")
    assert lines[3] == "One step, batch 1, float32: us per step."
    assert lines[4].split("  ")[-1] == "times faster"
    assert lines[6].endswith("times as fast as numpy.")
    assert lines[-1] == f"The page for a browser is {html.as_uri()}"
    text = html.read_text(encoding="utf-8")
    for part in ("times faster: higher is better", "lstm 16 of 5 inputs", "multiply rate", "Geometric mean of"):
        assert part in text


def test_step_has_tails_of_as_many_steps_as_were_asked_for(measured: Run, capsys: pytest.CaptureFixture[str]) -> None:
    document = measured("step", *TINY, "--isa", "scalar", "--steps-tail", "4321")
    assert "Single steps, float32, each clocked by itself, fusedcell with scalar" in capsys.readouterr().out
    step, tail = document["results"]
    assert (step["kind"], tail["kind"], tail["failures"]) == ("step", "tails", {})
    assert set(step["times"]) == {"fusedcell", "numpy"}
    assert [tail["times"][name]["count"] for name in ("warm", "cold")] == [4321, 43]
    assert sorted(tail["percentiles"]["warm"]) == tail["percentiles"]["warm"]
    assert tail["percentiles"]["cold"][1:] == [None, None]


def test_batches_are_beside_the_libraries_that_take_them(measured: Run) -> None:
    for module in ("onnxruntime", "onnx"):
        pytest.importorskip(module)
    document = measured("batch", *TINY[:-1], "--steps", "7", "--batches", "1,2")
    alone, two = document["results"]
    assert [(its["kind"], its["batch"], its["failures"]) for its in (alone, two)] == [
        ("sequence", 1, {}), ("sequence", 2, {}),
    ]  # fmt: skip
    assert "numpy" in alone["times"]
    assert "numpy" not in two["times"]
    assert two["ratios"]["onnxruntime"]["p50"] > 0


class WrongWithThree(Tier):
    """Right with any number of threads but three."""

    def make_step(self, case: Case) -> Runner:
        if self.threads != 3:
            return Tier(self.isa, self.dtype).make_step(case)
        return Runner(lambda: np.full(case.size, 9.0, np.float32), [()], np.copy)


def test_a_wrong_answer_with_more_threads_makes_the_command_fail(
    measured: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "Tier", WrongWithThree)
    document = measured("threads", *TINY, "--threads", "1,3", "--steps", "7", "--details", status=1)
    out = capsys.readouterr().out
    assert "3 threads, lstm 16, step, float32: wrong answer: off by" in out
    assert "each number of threads in turns" in out
    step, sequence = document["results"]
    assert ([*step["times"]], [*sequence["times"]]) == (["1 thread"], ["1 thread", "3 threads"])


def test_a_wrong_answer_of_many_streams_makes_the_command_fail(
    measured: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fc.LSTM, "step_many", lambda self, streams, X, out: np.full_like(out, 9))
    document = measured("many", *TINY, "--streams", "3,2", status=1)
    assert "step_many, lstm 16, batch 3, streams, float32: wrong answer: off by" in capsys.readouterr().out
    assert [(its["batch"], [*its["times"]]) for its in document["results"]] == [
        (3, ["step", "pool"]), (2, ["step", "pool"]),
    ]  # fmt: skip


def test_libraries_that_do_not_gather_streams_are_not_asked_to(measured: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Batches(NumPy):
        batches = True

    monkeypatch.setattr(studies, "load_peers", lambda dtype: ([Batches()], {}))
    (result,) = measured("many", *TINY[:-1], "--streams", "2")["results"]
    assert ([*result["dtypes"]], result["failures"]) == (["step_many", "step", "pool"], {})


def test_a_wrong_answer_of_ours_makes_the_command_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tiers, "our_tolerance", lambda size, dtype: Tolerance(0.0))
    assert main(["bench", *TINY]) == 1
    assert "fusedcell, lstm 16, step, float32: wrong answer: off by" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_peers_that_are_not_there_are_named(
    dtype: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load_peer(name: str, dtype: str) -> Peer:
        raise ImportError(f"{name} lacks\n a library")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "onnx") else object())
    monkeypatch.setattr(peers, "load_peer", load_peer)
    assert main(["bench", *TINY[:-1], "--isa", "scalar", "--dtype", dtype]) == 0
    reasons = ["torch not installed", "onnxruntime not measured, as it needs onnx"]
    for name in ("openvino", "ncnn"):
        labels = [name, f"{name} int8"] if dtype == "int8" else [name]
        reasons += [f"{label} failed: ImportError: {name} lacks a library" for label in labels]
    assert f"{', '.join(reasons)}.\n" in capsys.readouterr().out


def test_a_figure_is_refused_before_anything_is_measured_if_nothing_draws_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "step", "--plot", "figure.png"]) == 2
    assert "needs matplotlib: pip install fusedcell[plot]" in capsys.readouterr().err


def test_options_may_stand_before_the_subcommand(measured: Run) -> None:
    (result,) = measured("--quick", "--no-peers", "--sizes", "8", "--steps", "3", "sequence", "--cells", "rnn")[
        "results"
    ]
    assert [result[name] for name in ("kind", "cell", "size", "steps")] == ["sequence", "rnn", 8, 3]


@pytest.mark.parametrize(("cpus", "counts"), [(1, [1]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (20, [1, 2, 4, 8, 16, 20])])
def test_threads_are_doubled_up_to_all_cpus(cpus: int, counts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(_core, "available_cpus", lambda: cpus)
    monkeypatch.setattr(command, "run", lambda options, arguments: asked.extend(options.threads) or 0)
    assert main(["bench", "threads"]) == 0
    assert asked == counts


def test_one_cpu_is_said_to_have_nothing_to_compare_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = ["bench", "threads", *TINY, "--steps", "3"]
    for cpus, arguments, said in (
        (1, [], "; one CPU has nothing to compare with.\n"),
        (2, ["--threads", "1"], "; one number of threads has nothing to compare with.\n"),
        (2, [], f"{fc.runtime_info()['cpu']}.\n"),
    ):
        monkeypatch.setattr(_core, "available_cpus", lambda cpus=cpus: cpus)
        assert main([*threads, *arguments]) == 0
        head = capsys.readouterr().out.partition("Times are medians")[0]
        assert head.endswith(said)
        assert "one thread" not in head


def test_tables_without_a_column_of_inputs_come_after_a_line_that_says_how_many_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments, said in (([], True), (["--details"], True), (["--inputs", "5"], False)):
        assert main(["bench", "sequence", *TINY, "--steps", "3", *arguments]) == 0
        assert ("as many inputs as units (h)" in capsys.readouterr().out.lower()) == said


def test_a_file_that_cannot_be_written_is_an_error_after_the_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_text("precious", encoding="utf-8")

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert main(["bench", *TINY, "--json", str(path)]) == 2
    out, err = capsys.readouterr()
    assert "One step" in out
    assert err == f"fusedcell: [Errno 13] Permission denied: '{path}'\n"
    assert [entry.read_text(encoding="utf-8") for entry in tmp_path.iterdir()] == ["precious"]


# Processes


def test_bench_starts_anew_where_libraries_may_have_loaded_with_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(subprocess, "call", lambda arguments, env: calls.append((arguments, env)) or 7)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert main(["bench", *TINY]) == 7
    ((arguments, env),) = calls
    assert arguments[1:] == ["-m", "fusedcell", "bench", *TINY]
    assert env == {**os.environ, **command.ONE_THREAD}
    assert set(command.ONE_THREAD.values()) == {"1"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_a_run_on_chosen_cpus_is_a_process_that_has_no_others(measured: Run, capfd: pytest.CaptureFixture[str]) -> None:
    own = sorted(os.sched_getaffinity(0))
    if len(own) < 2:
        pytest.skip("one CPU, so nothing to choose")
    document = measured("threads", *TINY[:-1], "--steps", "3", "--details", "--cpu", str(own[-1]))
    assert sorted(os.sched_getaffinity(0)) == own
    assert f"run on         CPUs {own[-1]}, by --cpu\n" in capfd.readouterr().out
    assert (document["machine"]["cpus"], document["machine"]["cpus_by_choice"]) == ([own[-1]], True)
    # The numbers of threads follow from the CPUs.
    assert all([*result["times"]] == ["1 thread"] for result in document["results"])


def test_each_repeat_is_a_process(measured: Run, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = measured(*TINY, "--steps", "7", "--details", "--repeats", "2")
    out, err = capfd.readouterr()
    assert err == ""
    assert "median of 2 processes" in out
    for result in document["results"]:
        assert result["failures"] == {}
        assert [len(medians) for medians in result["medians"].values()] == [2] * len(result["times"])
        assert result["times"]["numpy"]["p50"] == pytest.approx(np.mean(result["medians"]["numpy"]))
    # Two repeats are too few to tell, and the file says how many there are.
    assert main(["bench", "compare", *[str(tmp_path / "results.json")] * 2]) == 0
    assert "by the medians of 2 and 2 repeats" in capfd.readouterr().out


def test_a_repeat_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(subprocess, "run", lambda arguments, **_: subprocess.CompletedProcess(arguments, -11))
    assert main(["bench", "sequence", *TINY, "--repeats", "3"]) == 2
    out, err = capsys.readouterr()
    assert "Sequences" not in out
    assert err == "fusedcell: repeat 1 of 3 ended with status -11\n"


@pytest.mark.skipif(os.name != "posix", reason="sends what a terminal sends for Ctrl-C")
def test_an_interrupt_ends_all_processes_quietly() -> None:
    asked = ["bench", "sequence", "--sizes", "64,128,256", "--no-peers", "--details", "--repeats", "100"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-m", "fusedcell", *asked], start_new_session=True, **pipes) as running:
        assert running.stdout is not None
        # The last line before the first repeat.
        while line := running.stdout.readline():
            if line.startswith("multiply rate"):
                break
        os.killpg(running.pid, signal.SIGINT)
        # Ends when nobody holds standard error any more, and the processes of repeats do.
        out, err = running.communicate()
    assert (running.returncode, out.strip(), err) == (130, "", "")


# Reports


def test_a_report_is_one_file_which_compare_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    speeds = iter([2.4, *[2.4] * 7, 1.2])
    for module in (command, studies):
        monkeypatch.setattr(module, "look", lambda after: Look(after, next(speeds), {}))
    monkeypatch.setattr(_core, "core_kinds", lambda: BIG_LITTLE)
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *REPORT]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Few rounds; --repeats measures more.\n" in out
    *_, results, page = out.splitlines()
    assert results.startswith(f"All results are in {tmp_path / 'fusedcell-report.json'}: times, board, CPU")
    assert page == f"The page for a browser is {(tmp_path / 'fusedcell-report.html').as_uri()}"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fusedcell-report.html", "fusedcell-report.json"]
    text = (tmp_path / "fusedcell-report.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    document = json.loads(text)
    assert (document["dtype"], document["tier"].split(", ")[0]) == ("float32, int8", BEST)
    cases = [("step", 1, 1), ("tails", 1, 1), ("sequence", 100, 1), ("sequence", 100, 4)]
    assert [(its["dtype"], its["kind"], its["steps"], its["batch"]) for its in document["results"]] == [
        (dtype, *case) for dtype in ("float32", "int8") for case in cases
    ]
    assert all(result["failures"] == {} for result in document["results"])

    # One look before the run, and one after each piece of work.
    works = ["gru 8, step", "gru 8, tails", "gru 8, sequence", "gru 8, batch 4, sequence"]
    expected = [f"{work}, {dtype}" for dtype in ("float32", "int8") for work in works]
    assert [each["after"] for each in document["looks"]] == [BEGINNING, *expected]
    mixed, fell, *disturbed = document["machine"]["warnings"]
    assert all(text.startswith("other programs, or the machine's host, disturbed") for text in disturbed)
    assert fell == "the clock fell from 2.40 to 1.20 GHz (after gru 8, batch 4, sequence, int8)"
    assert f"Warning: {fell}.\n" in out
    assert f"Warning: {mixed}.\n" in out

    assert main(["bench", "compare", *["fusedcell-report.json"] * 2]) == 0
    out = capsys.readouterr().out
    for what in ("step", "sequence of 100", "sequence of 100, batch 4"):
        for dtype in ("float32", "int8"):
            assert f"gru   8  {what}, {dtype}" in out
    assert "6 cannot tell" in out


def test_reports_of_other_cpus_do_not_overwrite_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "own_cpus", lambda: list(range(8)))
    asked: list[Path] = []
    monkeypatch.setattr(command, "run", lambda options, arguments: asked.append(options.json) or 0)
    for cpus in ("0-3", "4,6-7"):
        assert main(["bench", "report", "--cpu", cpus]) == 0
    assert asked == [Path("fusedcell-report-cpu0-3.json"), Path("fusedcell-report-cpu4,6-7.json")]


def test_bench_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    path, figure, page = (tmp_path / name for name in ("results.json", "figure.svg", "page.html"))
    quick = ["bench", "train", "--quick", "--sizes", "64", "--cells", "rnn"]
    assert main([*quick, "--json", str(path), "--plot", str(figure), "--html", str(page)]) == 0
    out, _ = capsys.readouterr()
    assert "A step of training" in out
    assert "as fast as torch" in out
    assert "Training, rnn" in figure.read_text(encoding="utf-8")
    html = page.read_text(encoding="utf-8")
    assert all(
        text in html for text in ("<h2>Training, rnn", '<th scope="row">8, 128, 64', "limit %", "as fast as torch")
    )
    found = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert [(its["cell"], its["batch"], its["steps"], its["units"]) for its in found] == [
        ("rnn", 1, 100, 64), ("rnn", 8, 128, 64), ("rnn", 32, 100, 64),
    ]  # fmt: skip
    assert all({"fusedcell", "torch"} <= set(its["ms"]) and min(its["ms"].values()) > 0 for its in found)
    # The limit's own time, of which a batch and a step have as much each as all others.
    least = [its["limit"] * its["ms"]["fusedcell"] for its in found]
    assert least == pytest.approx([least[0], 8 * 1.28 * least[0], 32 * least[0]])
    assert main(["bench", "train", "--cells", "gru_reset_before"]) == 2
    assert "argument --cells: bench train has lstm, gru, rnn, got gru_reset_before" in capsys.readouterr().err
    assert main(["bench", "--sizes", "100", "train"]) == 2
    assert "argument --sizes: bench train has 64, 256, 512, got 100" in capsys.readouterr().err
