"""The command line: `info`, and `bench` without a subcommand. No test here asserts a time."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.__main__ import main
from fusedcell.bench import command, peers, run
from fusedcell.bench.answers import Tolerance
from fusedcell.bench.peers import Peer
from fusedcell.bench.tiers import float_isas

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
    assert [phase["phase"] for phase in step["limit"]] == ["step"]
    assert [phase["phase"] for phase in sequence["limit"]] == ["projection", "recurrence"]
    for result in (step, sequence):
        longer = [max(phase["read_us"], phase["multiply_us"]) for phase in result["limit"]]
        assert min(longer) > 0
        assert result["limit_us"] == sum(longer)
        assert result["share_of_limit"] == result["limit_us"] / result["times"][best]["p50"]
        assert result["medians"] == {name: [summary["p50"]] for name, summary in result["times"].items()}
        assert len(result["rounds"]) == result["times"][best]["count"]
        assert np.median(result["rounds"]) == pytest.approx(result["times"][best]["p50"], rel=1e-3)
    assert [limit["gb_per_s"] > 0 for limit in document["read_limits"]] == [True] * len(document["read_limits"])
    assert [(rate["isa"], rate["dtype"]) for rate in document["multiply_rates"]] == [
        (isa, "float32") for isa in float_isas()
    ]
    assert all(rate["g_per_s"] > 0 for rate in document["multiply_rates"])
    assert document["tier"] == best
    asked = document["options"]
    assert (asked["study"], asked["cells"], asked["sizes"], asked["steps"]) == (None, ["lstm"], [16], 10)
    assert asked["quick"] is asked["no_peers"] is True


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
    for measured in (dtype, "float32"):
        assert f"multiply rate  10^9 multiply-adds/s, one thread, {measured}: " in out
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
    assert f"over the {isa} time." in capsys.readouterr().out


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
    path = tmp_path / "results.json"
    path.write_text("precious", encoding="utf-8")

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert main([*TINY, "--json", str(path)]) == 2
    out, err = capsys.readouterr()
    assert "One step" in out
    assert err == f"fusedcell: [Errno 13] Permission denied: '{path}'\n"
    assert [entry.read_text(encoding="utf-8") for entry in tmp_path.iterdir()] == ["precious"]


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
