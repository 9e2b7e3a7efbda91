"""Published models that need no package run as PyTorch and ONNX Runtime run them, and the page lists all models."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "census.md"
QUICK = ("TEN-VAD-like", "DeepAR", "rsl_rl's recurrent actor", "GuitarML's SimpleRNN", "AIDA-X, with its test")
RUN, REFUSED = 12, 4  # columns of the page's tables


@pytest.fixture(scope="module")
def census() -> Any:
    """The command, whose models are beside it."""
    sys.path.append(str(ROOT / "bench"))
    yield importlib.import_module("census")
    sys.path.remove(str(ROOT / "bench"))


def listed(columns: int) -> list[tuple[str, str]]:
    """The name and door of each row of the page's tables that have so many columns."""
    rows = [line.strip("|").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return [(row[0].strip(), row[1]) for row in rows if len(row) == columns and row[1] != "door"]


def test_the_page_lists_the_models_of_the_command(census: Any) -> None:
    rows = [*listed(RUN), *listed(REFUSED)]
    assert sorted(rows) == sorted((entry.name, entry.door) for entry in census.entries())
    assert len(set(rows)) == len(rows)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUICK)
def test_what_the_page_says_runs_does(census: Any, name: str) -> None:
    for entry in census.entries():
        if entry.name != name:
            continue
        case = entry.make()
        apart, _, _ = census.compare(case.read(), case)
        assert apart <= census.TOLERANCE, (entry.name, entry.door)


def test_refusals_say_the_operation_and_no_folder(census: Any) -> None:
    text = "/home/me/net.py:12 in forward, 'x = odd(x)': odd is not supported; supported: even\nand more"
    assert census.shortened(text) == "'x = odd(x)': odd is not supported"
    assert not re.search(r"/(tmp|home|work|usr)/", PAGE.read_text(encoding="utf-8"))
