"""`bench compare`: files, verdicts by literals, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusedcell.__main__ import main

# Six repeats within 2 %; their median is that of 1.
REPEATS = (0.985, 1.01, 0.995, 1.015, 1.005, 0.99)


def document(times: dict[int, float], repeats: int = 6, **changes: Any) -> dict[str, Any]:
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
                "medians": {"avx2": [us * factor for factor in REPEATS[:repeats]]},
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
    new = document({16: 1.2, 64: 1.5, 256: 20.0, 512: 90.0})
    assert compare(tmp_path, old, new) == 0
    out, err = capsys.readouterr()
    assert err == ""
    # 2 of the 924 assignments of 12 repeats part them as clearly; where there is no difference, all do.
    assert out.splitlines() == [
        "Our times, new over old, by the medians of 6 and 6 repeats.",
        "p: permutation test over repeats, corrected for all cases; a change up to 0.05. "
        "finds %: what it would have found, about.",
        "cell    H  what  old us  new us  new / old      p  finds %  verdict",
        "lstm   16  step    1.00    1.20       1.20  0.002        5  slower",
        "lstm   64  step    2.00    1.50      0.750  0.002        5  faster",
        "lstm  256  step    20.0    20.0       1.00  1.000        5  no difference",
        "1 faster, 1 slower, 1 no difference. Geometric mean of new / old: 0.965.",
    ]


@pytest.mark.parametrize(
    ("factor", "ending"), [(1.0, "3 no difference."), (1.1, "1 slower, 2 no difference."), (0.9, "1 faster, 2 no")]
)
def test_a_tenth_is_told_from_noise(
    factor: float, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = document({16: 1.0, 64: 2.0, 256: 3.0}), document({16: 1.0, 64: 2.0 * factor, 256: 3.0})
    for entry in new["results"]:
        # The same noise, but it hits other repeats.
        entry["medians"]["avx2"].reverse()
        entry["medians"]["avx2"][0] *= 1.01
    assert compare(tmp_path, old, new) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(ending)


def test_a_shift_of_one_repeat_is_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five processes agree and one, in all its rounds, is three times as slow."""
    old, new = document({16: 1.0, 64: 2.0}), document({16: 1.0, 64: 2.0})
    for entry in new["results"]:
        entry["medians"]["avx2"][3] *= 3
    assert compare(tmp_path, old, new, "--fail-slower", "0") == 0
    assert "2 no difference." in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("repeats", [1, 3])
def test_too_few_repeats_cannot_tell_and_do_not_pass(
    repeats: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = document({16: 1.0}, repeats), document({16: 4.0}, repeats)
    assert compare(tmp_path, old, new) == 0
    too_few = f"{repeats} and {repeats} repeats are too few to tell; 4 in each file would do (bench --repeats)"
    out, err = capsys.readouterr()
    assert err == ""
    assert f"{too_few}.\n" in out
    assert out.splitlines()[-2].split()[-4:] == ["-", "-", "cannot", "tell"]
    assert out.splitlines()[-1].startswith("1 cannot tell. ")
    assert compare(tmp_path, old, new, "--fail-slower", "5") == 2
    assert capsys.readouterr().err == f"fusedcell: --fail-slower: {too_few}\n"


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
            entry["medians"][name] = [time] * 6
    assert compare(tmp_path, old, new) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[2] == "No change either is what the other libraries' times differ by: 30 % at 16, 0 % at 64."
    assert out[4:7] == [
        "lstm   16  step    1.00    1.20       1.20  0.002       30  no difference",
        "lstm   64  step    1.00    1.20       1.20  0.002        5  slower",
        "lstm  256  step    1.00    1.20       1.20  0.002        5  slower",
    ]


def test_a_case_that_lacks_a_repeat_does_not_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = document({16: 1.0, 64: 2.0}), document({16: 1.0, 64: 2.0})
    new["results"][0]["medians"]["avx2"].pop()
    assert compare(tmp_path, old, new, "--fail-slower", "5") == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("1 no difference, 1 cannot tell.")
    assert err == "fusedcell: --fail-slower: 1 of 2 cases lack repeats\n"


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
        medians = {"2": [us * factor for factor in REPEATS]}
        file["threads"] = [scaling | {"times": {"2": summary}, "medians": medians}]
        # As it was written when there were no repeats, and no batches.
        del entry["medians"], entry["batch"]
    old.pop("tier")
    assert compare(tmp_path, old, new) == 0
    assert capsys.readouterr().out.splitlines()[3:5] == [
        "lstm  16  sequence of 10     1.00    1.00       1.00      -        -  cannot tell",
        "gru    8  step, 2 threads    8.00    4.00      0.500  0.002        5  faster",
    ]


def entry(**changes: Any) -> dict[str, Any]:
    (only,) = document({16: 1.0})["results"]
    return {**only, **changes}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"results": []},
        {"results": 3, "runtime": {}},
        "text",
        document({}, results=[3]),
        document({}, results=[{}]),
        document({}, results=[entry(medians=3)]),
        document({}, results=[entry(medians={})]),
        *(
            document({}, results=[entry(medians={"avx2": row})])
            for row in ([], [0.0], [-1.0], ["a"], [None], [10**400], 3)
        ),
        document({}, results=[entry(medians={"avx2": [float("nan")]})]),
        document({}, results=[entry(times={"avx2": {}, "numpy": {}}, other_dtypes={"numpy": "float32"})]),
        document({}, results=[entry(batch="many")]),
        document({}, threads=[3]),
        document({}, threads=[{"times": {"2": {}}}]),
    ],
)
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
