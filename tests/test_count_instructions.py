"""The guard of tools/count_instructions.py: what it says, and what it fails on."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "count_instructions.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("count_instructions", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load()
RECORDED = {"compiler": "GNU 12.2.0", "instructions": {"lstm": 1000.0, "gru": 500.0}}


def findings(counts: dict[str, float], compiler: str = "GNU 12.2.0") -> list[tuple[bool, str]]:
    return [tuple(finding) for finding in tool.compare(RECORDED, compiler, counts)]


@pytest.mark.parametrize("lstm", [951.0, 1000.0, 1019.0])
def test_a_count_near_its_budget_is_not_mentioned(lstm: float) -> None:
    assert findings({"lstm": lstm, "gru": 500.0}) == []


def test_a_count_above_its_budget_fails_by_name() -> None:
    assert findings({"lstm": 1021.0, "gru": 500.0}) == [
        (True, "lstm: 1021 instructions a step, budget 1000 (+2.1%)"),
    ]


def test_a_count_below_its_budget_is_mentioned() -> None:
    assert findings({"lstm": 1000.0, "gru": 474.0}) == [
        (False, "gru: 474 instructions a step, budget 500 (-5.2%)"),
    ]


def test_every_count_above_its_budget_is_named() -> None:
    assert [text.split(":")[0] for fails, text in findings({"lstm": 2000.0, "gru": 2000.0}) if fails] == ["lstm", "gru"]


def test_a_count_without_a_budget_fails() -> None:
    assert findings({"lstm": 1000.0, "gru": 500.0, "rnn": 7.0}) == [(True, "rnn: 7, and there is no budget")]


def test_a_budget_without_a_count_fails() -> None:
    assert findings({"lstm": 1000.0}) == [(True, "gru: a budget of nothing that is counted")]


@pytest.mark.parametrize(("lstm", "fails"), [(1021.0, False), (1149.0, False), (1151.0, True)])
def test_another_compiler_may_differ_more(lstm: float, fails: bool) -> None:
    compilers, difference = findings({"lstm": lstm, "gru": 500.0}, "GNU 14.2.0")
    assert compilers == (False, "budgets are of GNU 12.2.0, and this is GNU 14.2.0")
    assert difference[0] == fails
    assert difference[1].startswith(f"lstm: {lstm:g} ")


def test_another_compiler_needs_the_same_budgets() -> None:
    assert [fails for fails, _ in findings({"lstm": 1000.0, "rnn": 1.0}, "GNU 14.2.0")] == [False, True, True]


def test_nothing_recorded_fails() -> None:
    assert [finding.fails for finding in tool.compare({}, "GNU 12.2.0", {"lstm": 1000.0})] == [False, True]


def test_the_budgets_are_of_what_is_counted() -> None:
    recorded = json.loads(tool.BUDGETS.read_text())
    assert list(recorded) == [arch.name for arch in tool.ARCHS]
    for arch in tool.ARCHS:
        assert list(recorded[arch.name]["instructions"]) == [str(case) for case in tool.cases(arch)]


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(tool.shutil, "which", lambda program: None if program == "qemu-aarch64" else program)
    with pytest.raises(SystemExit, match=r"not installed: qemu-aarch64\. .*: apt-get install qemu-user$"):
        tool.check_tools()
