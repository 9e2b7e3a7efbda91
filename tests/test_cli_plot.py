"""Figures of `bench`: what they show, and that files come out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench_results import exactly, made_up, made_up_int8
from fusedcell.bench import plot
from fusedcell.bench.pictures import Line, picture
from fusedcell.bench.run import Result
from fusedcell.bench.threads import Scaling
from fusedcell.bench.work import Findings

ENVIRONMENT = {"runtime": {"cpu": "Some CPU"}, "tier": "avx2", "dtype": "float32"}

SCALING = Scaling(
    kind="step",
    dtype="float32",
    cell="gru",
    size=512,
    steps=1,
    batch=1,
    tier="avx2",
    times={1: exactly(8.0), 2: exactly(5.0)},
    gains={1: exactly(1.0), 2: exactly(1.6)},
    rounds={},
    medians={},
    failures={},
)


def sized(cell: str = "lstm", *sizes: int) -> list[Result]:
    return [made_up(cell=cell, size=size) for size in sizes or (16, 256)]


def test_steps() -> None:
    shown = picture(ENVIRONMENT, Findings([], results=[*sized(), made_up("sequence")]))
    assert shown.title == "Time of one step, batch 1"
    assert shown.subtitle == "Some CPU, avx2, float32, one thread"
    (panel,) = shown.panels
    assert panel.name == "lstm"
    assert panel.lines == [
        Line("fusedcell", "ours", [(16, 2.0), (256, 2.0)]),
        Line("numpy", "other", [(16, 12.34), (256, 12.34)]),
        Line("torch", "other", [(16, 8.0), (256, 8.0)]),
        Line("limit", "limit", [(16, 1.5), (256, 1.5)]),
    ]


def test_a_sequence_is_shown_by_the_step() -> None:
    shown = picture(ENVIRONMENT, Findings([], results=[made_up("sequence")]))
    assert shown.title == "Time of a step in a sequence of 100, batch 1"
    assert [line.points for line in shown.panels[0].lines] == [
        [(64, 0.02)],
        [(64, 0.1234)],
        [(64, 0.08)],
        [(64, 0.015)],
    ]


def test_a_batch_is_shown_by_the_sequence_and_sizes_are_rows() -> None:
    results = [
        made_up("sequence", cell=cell, size=size, batch=batch)
        for cell in ("lstm", "gru")
        for size in (64, 256)
        for batch in (1, 4)
    ]
    shown = picture(ENVIRONMENT, Findings([], results=results))
    assert [panel.name for panel in shown.panels] == ["lstm, H = 64", "gru, H = 64", "lstm, H = 256", "gru, H = 256"]
    assert shown.panels[0].lines[0] == Line("fusedcell", "ours", [(1, 0.02), (4, 0.005)])
    assert shown.panels[0].lines[-1] == Line("limit", "limit", [(1, 0.015), (4, 0.00375)])


def test_threads() -> None:
    (panel,) = picture(ENVIRONMENT, Findings([], scalings=[SCALING])).panels
    assert panel.name == "gru, step"
    assert panel.lines == [
        Line("H = 512", "ours", [(1, 1.0), (2, 1.6)]),
        Line("ideal", "limit", [(1, 1.0), (2, 2.0)]),
    ]


def test_of_each_library_there_is_what_runs_in_our_dtype_or_else_its_float32() -> None:
    result = made_up_int8(
        times={name: exactly(3.0) for name in ("avx2", "avx2 float32", "torch", "torch int8", "numpy")},
        other_dtypes={"numpy": "float32", "torch": "float32", "torch int8": "int8"},
    )
    (panel,) = picture(ENVIRONMENT, Findings([], results=[result])).panels
    assert [(line.label, line.role) for line in panel.lines] == [
        ("fusedcell", "ours"),
        ("fusedcell f32", "our float32"),
        ("numpy f32", "other"),
        ("torch", "other"),
        ("limit", "limit"),
    ]


@pytest.mark.parametrize(
    ("levels", "placed"),
    [
        ([], []),
        ([0.5], [0.5]),
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.9, 0.2, 0.22], [0.9, 0.16, 0.26]),
        ([0.5, 0.52, 0.6], [0.44, 0.54, 0.64]),
    ],
)
def test_names_make_room_for_each_other(levels: list[float], placed: list[float]) -> None:
    assert plot.spread_out(levels, 0.1) == pytest.approx(placed)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize(
    "findings",
    [
        Findings([], results=sized()),
        Findings([], results=[*sized(), *sized("gru"), *sized("rnn")]),
        Findings([], results=[made_up()]),
        Findings([], results=[made_up("sequence", batch=batch) for batch in (1, 8)]),
        Findings([], scalings=[SCALING]),
    ],
)
def test_a_file_comes_out(findings: Findings, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"figure{suffix}"
    plot.draw(path, ENVIRONMENT, findings)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    if suffix == ".svg":
        assert "fusedcell" in content.decode() or findings.scalings


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "figure.svg"
    path.write_text("precious", encoding="utf-8")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        plot.draw(path, ENVIRONMENT, Findings([], results=sized()))
    assert [entry.read_text(encoding="utf-8") for entry in tmp_path.iterdir()] == ["precious"]


def test_nothing_was_right(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "figure.png"
    plot.draw(path, ENVIRONMENT, Findings([], results=[made_up(times={}, ratios={})]))
    assert path.is_file()
