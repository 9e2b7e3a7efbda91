"""`bench report`: one command, one file, which `compare` reads. No test here asserts a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fusedcell as fc
from fusedcell.__main__ import main
from fusedcell.bench import command, tails, values
from fusedcell.bench.document import SCHEMA
from fusedcell.bench.looks import BEGINNING
from fusedcell.bench.tiers import float_isas

TINY = ["bench", "report", "--sizes", "8", "--cells", "gru", "--no-peers"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in command.ONE_THREAD:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(tails, "evicting_bytes", lambda: 4096)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.json"
    with pytest.MonkeyPatch.context() as patch:
        for name in command.ONE_THREAD:
            patch.setenv(name, "1")
        patch.setattr(tails, "evicting_bytes", lambda: 4096)
        assert main([*TINY, "--json", str(path)]) == 0
    return path


def test_a_report_has_steps_sequences_and_batches_in_float32_and_int8(report: Path) -> None:
    document = json.loads(report.read_text(encoding="utf-8"))
    assert document["schema"] == SCHEMA == 1
    assert document["dtype"] == "float32, int8"
    cases = [(each["dtype"], each["kind"], each["steps"], each["batch"]) for each in document["results"]]
    kinds = [("step", 1, 1), ("sequence", 100, 1), ("sequence", 100, 4)]
    assert cases == [(dtype, *kind) for dtype in ("float32", "int8") for kind in kinds]
    assert all(each["failures"] == {} and each["share_of_limit"] > 0 for each in document["results"])
    assert [(tail["dtype"], tail["failures"]) for tail in document["tails"]] == [("float32", {}), ("int8", {})]
    assert document["tier"].split(", ")[0] == float_isas()[0]
    assert document["tier"].split(", ")[-1] == fc.isas()[0]


def test_a_report_says_on_what_it_was_measured(report: Path) -> None:
    document = json.loads(report.read_text(encoding="utf-8"))
    machine = document["machine"]
    assert {"board", "soc", "kernel", "libc", "cores", "cpus", "cpus_by_choice", "clocks", "warnings"} == set(machine)
    assert document["runtime"]["cores"] == fc.runtime_info()["cores"]
    # One look before the run, and one after each piece of work.
    works = ["gru 8, step", "gru 8, tails", "gru 8, sequence", "gru 8, batch 4, sequence"]
    expected = [f"{work}, {dtype}" for dtype in ("float32", "int8") for work in works]
    assert [look["after"] for look in document["looks"]] == [BEGINNING, *expected]
    assert all(look["ghz"] > 0 for look in document["looks"])


def test_reports_are_compared_case_by_case(report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", str(report), str(report)]) == 0
    out = capsys.readouterr().out
    for what in ("step", "sequence of 100", "sequence of 100, batch 4"):
        for dtype in ("float32", "int8"):
            assert f"gru   8  {what}, {dtype}" in out
    assert "6 cannot tell" in out

    document = json.loads(report.read_text(encoding="utf-8"))
    document["runtime"]["cores"] = ["1 x Cortex-A53 (in order)"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document), encoding="utf-8")
    assert main(["bench", "compare", str(report), str(other)]) == 2
    assert "cores: ['" in capsys.readouterr().err


@pytest.mark.parametrize("schema", [2, 0, "1", None])
def test_a_file_of_another_schema_is_refused(
    schema: object, report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) | {"schema": schema}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document), encoding="utf-8")
    assert main(["bench", "compare", str(report), str(other)]) == 2
    message = f"fusedcell: {other}: its schema is {schema!r}, and this version of fusedcell reads 1\n"
    assert capsys.readouterr().err == message


def test_a_report_is_written_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, "--isa", "scalar"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("One step, batch 1, float32", "One step, batch 1, int8", "Single steps of scalar in int8"):
        assert text in out
    assert out.count("Sequences of 100 steps in batches") == 2
    assert out.splitlines()[-1] == "The file to send in is fusedcell-report.json."
    assert list(tmp_path.iterdir()) == [tmp_path / "fusedcell-report.json"]


def test_reports_of_other_cpus_do_not_overwrite_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "own_cpus", lambda: list(range(8)))
    asked = []
    monkeypatch.setattr("fusedcell.__main__.bench.run", lambda options, arguments: asked.append(options.json) or 0)
    for cpus in ("0-3", "4,6-7"):
        assert main(["bench", "report", "--cpu", cpus]) == 0
    assert asked == [Path("fusedcell-report-cpu0-3.json"), Path("fusedcell-report-cpu4,6-7.json")]


@pytest.mark.parametrize("option", [["--dtype", "int8"], ["--plot", "report.svg"], ["--quick"]])
def test_a_report_is_always_of_the_same_kind(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["bench", *option, "report"], ["bench", "report", *option]):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert f"argument {option[0]}: bench report does not have it" in err


def test_repeats_of_a_report_are_processes_of_each_dtype(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    assert main([*TINY, "--isa", "scalar", "--repeats", "2", "--json", str(path)]) == 0
    assert capfd.readouterr().err == ""
    document = json.loads(path.read_text(encoding="utf-8"))
    assert len(document["results"]) == 6
    assert all(len(each["medians"]["scalar"]) == 2 for each in document["results"])
    # As many again in the second process.
    assert len(document["looks"]) == 1 + 2 * 2 * 4
