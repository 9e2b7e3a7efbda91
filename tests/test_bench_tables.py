"""The texts and the figure of `bench`, from made-up results."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_results import INT8, made_up
from fusedcell.bench import page, plot, tables
from fusedcell.bench.bars import Bars, bars_of_cases
from fusedcell.bench.limits import PhaseLimit
from fusedcell.bench.results import Findings, Result, disturbed


def table(*results: Result) -> list[str]:
    """The table of all variants."""
    *_, text = tables.tables(results, details=True)
    return text.splitlines()


def short(*results: Result) -> list[str]:
    (text,) = tables.tables(results)
    return text.splitlines()


def test_the_first_table_has_the_best_other_and_a_sentence() -> None:
    slow = made_up(us={"fusedcell": 5.0, "numpy": 4.0, "torch": None}, size=16, input_size=40)
    wrong = made_up(us={"fusedcell": None}, cell="gru", failures={"fusedcell": "wrong answer: off by 1"})
    assert short(made_up(), slow, wrong) == [
        "One step, batch 1, float32: us per step.",
        "cell   H   I  fusedcell us  best other us  times faster",
        "lstm  64  64          2.00  8.00 (torch)           4.00",
        "lstm  16  40          5.00  4.00 (numpy)          0.800",
        "gru   64  64  wrong answer  -                         -",
        "fusedcell is 0.800 to 4.00 times (geometric mean of 2 cases: 1.79) as fast as the best other library. "
        "It is slower in 1 of 2: lstm 16 of 40 inputs.",
    ]
    assert short(made_up())[-1] == "fusedcell is 4.00 times as fast as torch."
    assert short(wrong)[1:] == ["cell   H  fusedcell us", "gru   64  wrong answer"]
    four = made_up("sequence", {"fusedcell": 400.0, "torch": 600.0}, batch=4)
    assert short(four)[1:3] == [
        "cell   H  batch  fusedcell us  best other us  times faster",
        "lstm  64      4           100  150 (torch)            1.50",
    ]


def test_the_first_table_of_threads_and_of_many_streams() -> None:
    threads = made_up("sequence", {"1 thread": 20.0, "2 threads": 16.0}, limit=[])
    assert short(threads)[1:] == [
        "cell   H  best us           1 thread us  times faster",
        "lstm  64  16.0 (2 threads)  20.0                 1.25",
        "The best number of threads is 1.25 times as fast as 1 thread.",
    ]
    many = made_up("streams", {"step_many": 300.0, "step": 1200.0, "torch": 660.0}, batch=64)
    assert short(many)[1:] == [
        "cell   H  streams  step_many us  best other us  times faster",
        "lstm  64       64           300  660 (torch)            2.20",
        "step_many is 2.20 times as fast as torch.",
    ]
    alone = made_up("streams", {"step_many": 300.0, "step": 1200.0}, batch=64)
    assert short(alone)[2:] == [
        "lstm  64       64           300  1200             4.00",
        "step_many is 4.00 times as fast as single steps.",
    ]


def test_what_a_step_is_made_of() -> None:
    limit = [PhaseLimit("step", 1.5, 0.2)]
    found = made_up(us={"fusedcell": 2.0}, limit=limit, parts={"call": 0.125, "gates": 0.25})
    assert table(found) == [
        "What a step of fusedcell is made of, float32: us. Parts overlap.",
        "reading: the least time to read the weights. call: a step of a layer of one unit.",
        "gates: those of all units, whose sums are there already.",
        "cell   H  fusedcell us  reading us  call us  gates us",
        "lstm  64          2.00        1.50    0.125     0.250",
    ]


def test_step_table() -> None:
    ours = [0.09, 0.1234, 0.2]
    failures = {"torch": "wrong answer: off by 0.5", "scalar": "failed: RuntimeError: no"}
    times = {"fusedcell": ours, "scalar": None, "numpy": [12345.6] * 3, "torch": None}
    limit = [PhaseLimit("step", 0.1234, 0.1)]
    lonely = made_up(us=times, cell="rnn", size=1024, failures=failures, limit=limit)
    assert table(made_up(), lonely) == [
        "One step, batch 1, float32: us per step, median of rounds.",
        "fusedcell, scalar: fusedcell, on avx2 where no tier is named. Ratios are by rounds.",
        "limit %: the least time to read the weights and to multiply by them, over the time of fusedcell.",
        "cell     H  fusedcell  limit %  best other / fusedcell (p10..p90)  scalar  numpy         torch",
        "lstm    64       2.00       75  4.00 (4.00..4.00) torch               100   12.3          8.00",
        "rnn   1024      0.123      100  100045 (69391..129748) numpy       failed  12346  wrong answer",
        "Geometric mean of best other / fusedcell: 633.",
    ]


def test_a_batch_is_told_by_the_sequence_and_what_a_library_lacks_is_a_dash() -> None:
    alone = made_up("sequence", {"fusedcell": 200.0, "numpy": 500.0, "torch": 600.0})
    four = made_up("sequence", {"fusedcell": 400.0, "torch": 600.0}, batch=4)
    assert table(alone, four)[0] == (
        "Sequences of 100 steps, float32: us per sequence (a batch's time is divided by its size), median of rounds."
    )
    assert table(alone, four)[3:] == [
        "cell   H  batch  fusedcell  limit %  best other / fusedcell (p10..p90)  numpy  torch",
        "lstm  64      1        200        1  2.50 (2.50..2.50) numpy              500    600",
        "lstm  64      4        100        0  1.50 (1.50..1.50) torch                -    150",
        "Geometric mean of best other / fusedcell: 1.94.",
    ]


def test_int8_is_compared_with_our_float32_with_int8_and_with_all() -> None:
    times = INT8 | {"fusedcell float32": 20.0, "torch": 18.0, "torch int8": None, "ncnn int8": None}
    alone = made_up(us=times, dtype="int8", size=1024, failures={"torch int8": "wrong answer: off by 0.5 rms"})
    lines = table(made_up(us=INT8, dtype="int8"), alone)
    assert [" ".join(line.split()) for line in lines[3:6]] == [
        "cell H fusedcell limit % float32 / fusedcell (p10..p90) best int8 other / fusedcell (p10..p90) "
        "best other / fusedcell (p10..p90) fusedcell float32 torch torch int8 ncnn int8",
        "lstm 64 2.00 75 2.50 (2.50..2.50) 4.50 (4.50..4.50) torch int8 4.00 (4.00..4.00) torch 5.00 8.00 9.00 12.0",
        "lstm 1024 2.00 75 10.0 (10.0..10.0) - 9.00 (9.00..9.00) torch 20.0 18.0 wrong answer -",
    ]
    assert lines[6:] == [
        "Geometric mean of float32 / fusedcell: 5.00.",
        "Geometric mean of best int8 other / fusedcell: 4.50 (1 of 2 cases).",
        "Geometric mean of best other / fusedcell: 6.00.",
    ]


def test_threads_are_compared_with_the_fewest_and_have_no_limit_beside_them() -> None:
    both = made_up("sequence", {"1 thread": 20.0, "2 threads": 16.0}, limit=[])
    one = made_up("sequence", {"1 thread": 300.0, "2 threads": None}, limit=[], failures={"2 threads": "failed: no"})
    assert table(both, one)[1:] == [
        "1 thread, 2 threads: fusedcell, on avx2 where no tier is named. Ratios are by rounds.",
        "cell   H  1 thread  1 thread / 2 threads (p10..p90)  2 threads",
        "lstm  64      20.0  1.25 (1.25..1.25)                     16.0",
        "lstm  64       300  -                                   failed",
        "Geometric mean of 1 thread / 2 threads: 1.25 (1 of 2 cases).",
    ]


def test_many_streams_are_compared_with_single_steps_and_with_the_best_other() -> None:
    lines = table(made_up("streams", {"step_many": 300.0, "step": 1200.0, "torch": 660.0}, batch=64))
    assert "us for all of them" in lines[0]
    assert [" ".join(line.split()) for line in lines[4:6]] == [
        "cell H streams step_many limit % step / step_many (p10..p90) best other / step_many (p10..p90) step torch",
        "lstm 64 64 300 0 4.00 (4.00..4.00) 2.20 (2.20..2.20) torch 1200 660",
    ]


def test_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "evicting_bytes", lambda: 2**26)
    found = made_up("tails", {"warm": [2.0] * 999 + [50.0], "cold": [8.0] * 40})
    wrong = made_up("tails", {"warm": None, "cold": None}, cell="gru")
    assert table(found, wrong) == [
        "Single steps, float32, each clocked by itself, fusedcell with avx2: us, percentiles.",
        "warm: in a row. cold: each after 64 MB of other data were read, as after a pause.",
        "cell   H  warm p50  warm p99  warm p99.9  warm steps  cold p50  cold p99  cold p99.9  cold steps",
        "lstm  64      2.00      2.00        2.05        1000      8.00         -           -          40",
        "gru   64         -         -           -           -         -         -           -           -",
        "A cold step takes 4.00 times as long as a warm one.",
    ]
    assert short(found, wrong)[2:4] == [
        "cell   H  warm p50  warm p99  cold p50",
        "lstm  64      2.00      2.00      8.00",
    ]


def test_each_kind_and_dtype_has_a_table_and_each_failure_a_line() -> None:
    wrong = made_up(us={"fusedcell": None}, failures={"fusedcell": "wrong answer: off by 1"})
    results = [made_up(), made_up("sequence"), made_up(us=INT8, dtype="int8"), wrong]
    kinds = ["One step", "Sequences of 100 steps", "One step"]
    assert [text.split(",")[0] for text in tables.tables(results)] == kinds
    twice = [kind for kind in kinds for _ in range(2)]
    assert [text.split(",")[0] for text in tables.tables(results, details=True)] == twice
    assert tables.failures(Findings(results).failures) == "fusedcell, lstm 64, step, float32: wrong answer: off by 1"
    assert table(wrong)[3:] == ["cell   H     fusedcell  limit %", "lstm  64  wrong answer        -"]


def test_bars_are_of_what_is_beside_others() -> None:
    tails = made_up("tails", {"warm": 2.0, "cold": 8.0})
    steps, int8 = bars_of_cases([made_up(), made_up(size=256, batch=4), tails, made_up(us=INT8, dtype="int8")])
    assert steps.values == {"lstm 64": 4.0, "lstm 256, batch 4": 4.0}
    assert (int8.title, int8.values) == ("One step, batch 1, int8, by cell and units", {"lstm 64": 4.0})
    assert "higher is better" in steps.unit
    assert bars_of_cases([tails]) == []


def test_a_page_is_one_file_without_scripts_whose_longest_bar_is_whole() -> None:
    group = Bars("One <step>", "times faster", "4 & 2", {"lstm 64": 4.0, "gru 64": 1.0})
    text = page.page("On a CPU", [group], ["a table"])
    assert "One &lt;step&gt;" in text
    assert "4 &amp; 2" in text
    assert "width:100.0%" in text
    assert "width:25.0%" in text
    assert "prefers-color-scheme: dark" in text
    assert not any(part in text for part in ("<script", "http:", "https:", "src="))
    assert text.index("a table") > text.index("<details>")


def test_lines_of_the_figure() -> None:
    points = [(16, 2.0), (256, 2.0)]
    assert plot.lines([made_up(size=256), made_up(size=16)]) == {
        "fusedcell": points,
        "numpy": [(size, 12.34) for size, _ in points],
        "torch": [(size, 8.0) for size, _ in points],
        "limit of this CPU": [(size, 1.5) for size, _ in points],
    }
    assert plot.lines([made_up("sequence")])["fusedcell"] == [(64, 0.02)]
    # Of each library there is what runs in our dtype, or else its float32.
    assert list(plot.lines([made_up(us=INT8 | {"numpy": 9.0}, dtype="int8")])) == [
        "fusedcell", "fusedcell float32", "torch", "ncnn", "numpy float32", "limit of this CPU",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize(
    "results",
    [
        [made_up(cell=cell, size=size) for cell in ("lstm", "gru", "rnn") for size in (16, 256)],
        [made_up()],
        [made_up("sequence")],
        [made_up(us={"fusedcell": None})],
    ],
    ids=["panels", "a point", "sequences", "nothing was right"],
)
def test_figures_come_out(results: list[Result], suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"figure{suffix}"
    start = b"\x89PNG" if suffix == ".png" else b"<?xml"
    plot.draw_lines(path, "Some CPU", results)
    assert path.read_bytes().startswith(start)
    path.unlink()
    plot.draw_bars(path, "Some CPU", bars_of_cases(results))
    assert path.read_bytes().startswith(start)


def test_rows_that_other_programs_disturbed_are_named() -> None:
    calm = made_up(us={"fusedcell": [1.0, 1.1, 1.4], "torch": [4.0, 4.1, 4.2]})
    wide = made_up(us={"fusedcell": [1.0, 1.1, 1.2], "torch": [4.0, 4.1, 9.0]}, size=16)
    beside = made_up(us={"fusedcell": [1.0, 1.1, 1.2], "torch": [2.0] * 3, "numpy": [4.0, 4.1, 9.0]}, size=32)
    tails = made_up("tails", {"warm": [1.0, 9.0, 99.0]})
    shown = {each.name: each.shown for each in (calm, wide, beside, tails)}
    assert disturbed(shown) == [
        "other programs, or the machine's host, disturbed 1 of 4 rows, in which p90 of the rounds is over 1.5 times "
        "p10; measure these again: lstm 16, step, float32"
    ]
    assert disturbed({calm.name: calm.shown, tails.name: tails.shown}) == []
