"""What is made of rounds and repeats: ratios, percentiles and medians by numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench_results import INT8, made_up
from fusedcell._timing import Summary
from fusedcell.bench.limits import PhaseLimit
from fusedcell.bench.machine import Look
from fusedcell.bench.results import Findings, merged


def test_ratios_are_those_of_each_round_and_not_of_the_medians() -> None:
    found = made_up(us={"fusedcell": [5.0, 5.0, 20.0], "numpy": [10.0, 20.0, 60.0]}).ratio("numpy")
    assert found is not None
    assert (found.min, found.p50, found.count) == (2, 3, 3)
    assert (found.p10, found.p90) == pytest.approx((2.2, 3.8))


def test_each_figure_is_the_median_of_the_repeats() -> None:
    parts = [
        made_up(us={"fusedcell": [ours] * 2, "numpy": [8.0, 16.0]}, limit=[PhaseLimit("step", read, multiply)])
        for ours, read, multiply in ((2.0, 1.5, 0.5), (8.0, 1.6, 0.4), (4.0, 1.4, 0.6))
    ]
    looks = [Look("x", ghz, {}) for ghz in (1.0, 2.0, 3.0)]
    findings = merged([Findings([part], [look]) for part, look in zip(parts, looks, strict=True)])
    (found,) = findings.results
    assert found.rounds["fusedcell"] == [[2.0, 2.0], [8.0, 8.0], [4.0, 4.0]]
    assert found.time("fusedcell") == Summary(2.0, 4.0, 4.0, 4.0, 6)
    assert found.time("numpy") == Summary(8.0, 8.8, 12.0, 15.2, 6)
    # Within the repeats 4 and 8, 1 and 2, 2 and 4.
    ratio = found.ratio("numpy")
    assert ratio is not None
    assert (ratio.min, ratio.p10, ratio.p50, ratio.p90, ratio.count) == pytest.approx((1.0, 2.2, 3.0, 3.8, 6))
    assert found.limit == [PhaseLimit("step", 1.4, 0.4)]
    assert found.share_of_limit == 1.4 / 4
    assert findings.looks == looks


def test_what_failed_in_one_repeat_has_failed_and_its_rounds_stay_with_their_repeat() -> None:
    right = made_up(us={"fusedcell": 2.0, "numpy": 8.0})
    wrong = replace(right, rounds={"fusedcell": [[4.0] * 3]}, failures={"numpy": "failed: no"}, forms={"numpy": "a"})
    findings = merged([Findings([wrong]), Findings([right])])
    (found,) = findings.results
    assert findings.failures == [(found, "numpy", "failed: no")]
    assert found.rounds == {"fusedcell": [[4.0] * 3, [2.0] * 3], "numpy": [[], [8.0] * 3]}
    assert found.ratio("numpy") == Summary(4, 4, 4, 4, 3)
    assert found.forms == {"numpy": "a"}


def test_percentiles_beyond_which_there_is_no_round_are_not_told() -> None:
    found = made_up(
        "tails", {"warm": [float(us) for us in range(1, 1002)], "cold": [float(us) for us in range(1, 102)]}
    )
    assert [found.percentile("warm", percent) for percent in (50, 99, 99.9)] == pytest.approx([501, 991, 1000])
    assert [found.percentile("cold", percent) for percent in (50, 99, 99.9)] == [51, 100, None]
    assert made_up("tails", {"warm": [1.0, 3.0]}).percentile("warm", 99) is None
    assert found.percentile("hot", 50) is None


def test_percentiles_of_several_repeats_are_their_medians_if_each_has_enough() -> None:
    long, longer, short = ([us] * count for us, count in ((1.0, 1000), (3.0, 2000), (2.0, 999)))
    result = replace(made_up("tails", {"warm": long}), rounds={"warm": [long, longer]})
    assert result.percentile("warm", 99.9) == 2
    assert replace(result, rounds={"warm": [long, short]}).percentile("warm", 99.9) is None


def test_the_best_other_is_the_quickest_library_that_has_a_time() -> None:
    assert made_up().best_other() == "torch"
    int8 = made_up(us=INT8, dtype="int8")
    assert (int8.best_other(), int8.best_other("int8"), int8.best_other("float16")) == ("torch", "torch int8", None)
    assert made_up(us={"fusedcell": 2.0, "numpy": None}).best_other() is None
    assert made_up(us={"fusedcell": None, "numpy": 1.0}).best_other() is None


def test_the_phases_of_a_call_follow_one_another() -> None:
    phases = [PhaseLimit("projection", 3.0, 5.0), PhaseLimit("recurrence", 7.0, 2.0)]
    result = made_up("sequence", {"fusedcell": 48.0}, limit=phases)
    assert (result.limit_us, result.share_of_limit) == (12.0, 0.25)
    assert made_up(limit=[]).share_of_limit is None
    assert made_up(us={"fusedcell": None}).share_of_limit is None
