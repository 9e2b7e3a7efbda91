"""`bench compare`: verdicts by literals."""

from __future__ import annotations

import json
from math import exp
from pathlib import Path
from typing import Any

import pytest

from fusedcell.__main__ import main
from fusedcell.bench.changes import Change, Times, change


def constant(us: float, count: int = 100) -> Times:
    return Times(us, us, us, (us,) * count)


# From 90 to 110, half of them below 100.
SWINGING = tuple(90 + 0.2 * (37 * i % 101) for i in range(101))


def scaled(factor: float) -> Times:
    return Times(92 * factor, 100 * factor, 108 * factor, tuple(us * factor for us in SWINGING))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Change(1.10, 1.05, 1.15), "slower"),
        (Change(0.90, 0.85, 0.95), "faster"),
        (Change(1.10, 0.99, 1.21), "no difference"),
        (Change(0.90, 0.81, 1.01), "no difference"),
        (Change(1.04, 1.03, 1.05), "no difference"),
        (Change(0.96, 0.95, 0.97), "no difference"),
    ],
)
def test_verdicts(found: Change, verdict: str) -> None:
    assert found.verdict == verdict


def test_the_interval_is_that_of_resampled_rounds() -> None:
    assert change(constant(4.0), constant(5.0)) == Change(1.25, 1.25, 1.25)
    assert change(constant(4.0, 7), constant(2.0, 300)) == Change(0.5, 0.5, 0.5)
    same = change(scaled(1.0), scaled(1.0))
    assert same.ratio == 1
    assert 0.9 < same.low < 1 < same.high < 1.1
    assert same.verdict == "no difference"
    assert change(scaled(1.0), scaled(1.3)).verdict == "slower"
    assert change(scaled(1.3), scaled(1.0)).verdict == "faster"


def test_a_disturbance_that_lasts_is_not_taken_for_many() -> None:
    """Nearly half of the rounds, one after the other, are twice as slow."""
    calm = Times(1.0, 1.0, 1.1, (1.0,) * 100)
    disturbed = Times(1.0, 1.0, 2.0, (1.0,) * 55 + (2.0,) * 45)
    found = change(calm, disturbed)
    assert (found.ratio, found.low, found.high) == (1.0, 1.0, 2.0)
    assert found.verdict == "no difference"


def test_without_rounds_the_interval_is_that_of_percentiles() -> None:
    found = change(Times(8.0, 10.0, 16.0), Times(20.0, 30.0, 40.0))
    assert found == Change(3.0, 1.25, 5.0)
    assert change(Times(8.0, 10.0, 16.0), Times(15.0, 30.0, 40.0, (30.0,))).verdict == "no difference"


def test_an_interval_is_widened_by_what_changes_between_runs() -> None:
    """By 0.03 and 0.04, as logarithms, makes 0.05."""
    found = Change(1.1, 1.1 / exp(0.03), 1.1 * exp(0.04)).widened(0.04)
    assert found.ratio == 1.1
    assert found.low == pytest.approx(1.1 / exp(0.05))
    assert found.high == pytest.approx(1.1 * exp(0.04 * 2**0.5))
    assert Change(1.1, 1.05, 1.2).widened(0.0).low == pytest.approx(1.05)


def document(times: dict[int, float], **changes: Any) -> dict[str, Any]:
    """Single steps of an LSTM by size, as `--json` writes them."""
    return {
        "runtime": {"cpu": "A", "cpus": 2, "caches": {}, "system": "Linux x86_64"},
        "dtype": "float32",
        "tier": "avx2",
        "results": [
            {
                "kind": "step",
                "cell": "lstm",
                "size": size,
                "steps": 1,
                "batch": 1,
                "tier": "avx2",
                "times": {"avx2": {"p10": us, "p50": us, "p90": us}},
                "rounds": [us] * 20,
            }
            for size, us in times.items()
        ],
        "threads": [],
    } | changes


def compare(folder: Path, old: object, new: object, *options: str) -> int:
    for name, content in (("old.json", old), ("new.json", new)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return main(["bench", "compare", str(folder / "old.json"), str(folder / "new.json"), *options])


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = document({16: 1.0, 64: 2.0, 256: 20.0, 1024: 400.0})
    new = document({16: 1.2, 64: 1.5, 256: 20.04, 512: 90.0})
    assert compare(tmp_path, old, new) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1:] == [
        "cell    H  what  old us  new us  new / old      interval  verdict",
        "lstm   16  step    1.00    1.20       1.20    1.20..1.20  slower",
        "lstm   64  step    2.00    1.50      0.750  0.750..0.750  faster",
        "lstm  256  step    20.0    20.0       1.00    1.00..1.00  no difference",
        "1 faster, 1 slower, 1 no difference. Geometric mean of new / old: 0.966.",
    ]


def test_what_changed_no_more_than_other_libraries_is_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = document({16: 1.0, 64: 1.0, 256: 1.0}), document({16: 1.2, 64: 1.2, 256: 1.2})
    for file, us, torch in ((old, 10.0, "2.0"), (new, 13.0, "2.1")):
        file["runtime"] = file["runtime"] | {"numpy": "2"}
        file["peers"] = {"torch": torch}
        # At 16 NumPy is slower too; at 64 it is not; at 256 there is but another version of a library.
        for entry, name, time in zip(file["results"], ("numpy", "numpy", "torch"), (us, 10.0, us), strict=True):
            entry["other_dtypes"] = {name: "float32"}
            entry["times"][name] = {"p50": time}
    assert compare(tmp_path, old, new) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("the other libraries' times differ by between the runs: 30 % at 16, 0 % at 64.")
    assert out[2:5] == [
        "lstm   16  step    1.00    1.20       1.20  0.923..1.56  no difference",
        "lstm   64  step    1.00    1.20       1.20   1.20..1.20  slower",
        "lstm  256  step    1.00    1.20       1.20   1.20..1.20  slower",
    ]


@pytest.mark.parametrize(("limit", "status"), [("10", 1), ("20.0", 0), ("25", 0), ("0", 1)])
def test_only_what_is_slower_by_more_than_was_asked_for_fails(tmp_path: Path, limit: str, status: int) -> None:
    old, new = document({16: 1.0, 64: 2.0}), document({16: 1.2, 64: 1.5})
    assert compare(tmp_path, old, new, "--fail-slower", limit) == status
    assert compare(tmp_path, old, new) == 0
    assert compare(tmp_path, old, old, "--fail-slower", limit) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "int8"}, "dtype: float32 and int8"),
        ({"tier": "scalar"}, "isa: avx2 and scalar"),
        ({"runtime": {"cpu": "B", "cpus": 2, "caches": {}, "system": "Linux x86_64"}}, "cpu: A and B"),
    ],
)
def test_what_is_not_alike_is_compared_by_force_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    old, new = document({16: 1.0}), document({16: 1.0}, **changes)
    assert compare(tmp_path, old, new) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"fusedcell: {message} (--force compares them all the same)\n")
    assert compare(tmp_path, old, new, "--force") == 0
    assert f"Note: {message}." in capsys.readouterr().out


def test_threads_batches_and_files_of_earlier_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = document({16: 1.0}), document({16: 1.0})
    for file, us in ((old, 8.0), (new, 4.0)):
        (entry,) = file["results"]
        entry |= {"kind": "sequence", "steps": 10, "batch": 4}
        summary = {"p10": us, "p50": us, "p90": us}
        scaling = {"kind": "step", "cell": "gru", "size": 8, "steps": 1, "batch": 1}
        file["threads"] = [scaling | {"times": {"2": summary}, "rounds": {"2": [us] * 9}}]
    for name in ("rounds", "batch"):
        assert old["results"][0].pop(name)
        assert new["results"][0].pop(name)
    old.pop("tier")
    assert compare(tmp_path, old, new) == 0
    out = capsys.readouterr().out
    assert "p10..p90 where a file has none" in out
    assert out.splitlines()[2:4] == [
        "lstm  16  sequence of 10     1.00    1.00       1.00    1.00..1.00  no difference",
        "gru    8  step, 2 threads    8.00    4.00      0.500  0.500..0.500  faster",
    ]


@pytest.mark.parametrize("content", [[], {}, {"results": []}, {"results": 3, "runtime": {}}, "text"])
def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object) -> None:
    assert compare(tmp_path, content, document({16: 1.0})) == 2
    assert capsys.readouterr().err == f"fusedcell: {tmp_path / 'old.json'} is not a file of fusedcell bench --json\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json", __file__], "'missing.json' is not a file"),
        ([__file__, __file__, "--fail-slower", "-1"], "'-1' is not a percentage from 0"),
        ([__file__, __file__, "--fail-slower", "nan"], "'nan' is not a percentage from 0"),
        ([__file__, __file__], "is not a file of fusedcell bench --json"),
        ([__file__], "NEW.json"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_no_common_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(tmp_path, document({16: 1.0}), document({17: 1.0})) == 2
    assert capsys.readouterr().err == "fusedcell: no case is in both files\n"
