"""`bench compare`: files, verdicts by literals, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusedcell.__main__ import main

# Six repeats within 2 %; their median is that of 1.
REPEATS = (0.985, 1.01, 0.995, 1.015, 1.005, 0.99)


def entry(size: int, us: float, repeats: int = 6, variant: str = "fusedcell", **changes: Any) -> dict[str, Any]:
    """Single steps of an LSTM, as `--json` writes them."""
    shape = {"kind": "step", "cell": "lstm", "size": size, "steps": 1, "batch": 1, "dtype": "float32"}
    medians = {variant: [us * factor for factor in REPEATS[:repeats]]}
    return shape | {"own": [variant], "dtypes": {variant: "float32"}, "medians": medians} | changes


def document(times: dict[int, float], repeats: int = 6, **changes: Any) -> dict[str, Any]:
    runtime = {"cpu": "A", "cpus": 2, "cores": ["2 x A"], "caches": {}, "system": "Linux x86_64"}
    head = {"schema": 2, "runtime": runtime, "peers": {}, "dtype": "float32", "tier": "avx2"}
    return head | {"results": [entry(size, us, repeats) for size, us in times.items()]} | changes


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
        file["peers"] = {"numpy": "2", "torch": torch}
        # At 16 NumPy is slower too; at 64 it is not; at 256 there is but another version of a library.
        for its, name, time in zip(file["results"], ("numpy", "numpy", "torch"), (us, 10.0, us), strict=True):
            its["dtypes"][name] = "float32"
            its["medians"][name] = [time] * 6
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
    new["results"][0]["medians"]["fusedcell"].pop()
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
        ({"runtime": document({})["runtime"] | {"cores": ["1 x B"]}}, "cores: ['2 x A'] and ['1 x B']"),
    ],
)
def test_what_is_not_alike_is_compared_by_force_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    results = [entry(16, 1.0, dtype=changes.get("dtype", "float32"))]
    old, new = document({16: 1.0}), document({}, results=results, **changes)
    assert compare(tmp_path, old, new) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"fusedcell: {message} (--force compares them all the same)\n")
    assert compare(tmp_path, old, new, "--force") == 0
    assert f"Note: {message}." in capsys.readouterr().out


def test_cases_are_told_apart_by_all_that_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (
        document({}, dtype="float32, int8", results=[
            entry(16, us, dtype="int8"),
            entry(16, us, kind="sequence", steps=10, batch=4),
            entry(16, us, input_size=16),
            entry(16, us, input_size=5),
            entry(16, us, variant="2 threads"),
            entry(16, us, kind="tails"),
        ])
        for us in (8.0, 4.0)
    )  # fmt: skip
    assert compare(tmp_path, old, new) == 0
    names = [line.rpartition("  8.00")[0] for line in capsys.readouterr().out.splitlines()[3:-1]]
    assert [name.split("16", 1)[1].strip() for name in names] == [
        "step, int8",
        "sequence of 10, batch 4, float32",
        "step, float32",
        "step, 5 inputs, float32",
        "step, 2 threads, float32",
    ]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        "text",
        {"schema": 2, "results": []},
        document({}, results=3),
        document({}, results=[3]),
        document({}, results=[{}]),
        document({}, runtime=3),
        *(document({}, results=[entry(16, 1.0) | {name: 3}]) for name in ("own", "medians", "dtypes")),
        *(
            document({}, results=[entry(16, 1.0, medians={"fusedcell": row})])
            for row in ([0.0], [-1.0], ["a"], [None], [10**400], 3, [float("nan")])
        ),
        document({}, results=[entry(16, 1.0, batch="many")]),
    ],
)
def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object) -> None:
    assert compare(tmp_path, content, document({16: 1.0})) == 2
    assert capsys.readouterr().err == f"fusedcell: {tmp_path / 'old.json'} is not a file of fusedcell bench --json\n"


@pytest.mark.parametrize("schema", [1, 3, "2", None])
def test_a_file_of_another_schema_is_refused(
    schema: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, document({16: 1.0}, schema=schema), document({16: 1.0})) == 2
    message = f"old.json: its schema is {schema!r}, and this version of fusedcell reads 2\n"
    assert capsys.readouterr().err.endswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json", __file__], "No such file or directory: 'missing.json'"),
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
