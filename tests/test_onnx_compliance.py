"""The table of docs/compliance.md says what happened, and of us it says "ok" everywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx_models import GATES

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture
def compliance(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    import compliance

    return compliance


@pytest.mark.parametrize("op", sorted(GATES))
def test_we_honour_every_case(op: str, compliance: Any) -> None:
    for name, case in compliance.cases(op).items():
        assert (name, compliance.verdict(compliance.run_fusedcell, case)) == (name, "ok")


def test_verdicts(compliance: Any) -> None:
    case = compliance.cases("GRU")["nothing else"]
    exact = case.expected()

    def refusing(case: Any) -> list[np.ndarray]:
        raise RuntimeError("no such attribute")

    for run, expected in (
        (lambda case: exact, "ok"),
        (lambda case: [part + 0.9e-5 for part in exact], "ok"),
        (lambda case: [part + 0.25 for part in exact], "**wrong** (0.25)"),
        (lambda case: [part * np.nan for part in exact], "**wrong** (inf)"),
        (lambda case: [part[:, :, :2] for part in exact], "**wrong** (shape (6, 1, 2, 5) for (6, 1, 3, 5))"),
        (refusing, "refused"),
    ):
        assert compliance.verdict(run, case) == expected


def test_the_file_has_a_row_for_each_case_and_a_column_for_each_runtime(
    compliance: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compliance, "RUNTIMES", {"fusedcell": compliance.RUNTIMES["fusedcell"]})
    out = tmp_path / "compliance.md"
    monkeypatch.setattr(sys, "argv", ["compliance.py", "--out", str(out)])
    compliance.main()
    rows = [line for line in out.read_text(encoding="utf-8").splitlines() if line.endswith("| ok |")]
    assert len(rows) == sum(len(compliance.cases(op)) for op in GATES)
