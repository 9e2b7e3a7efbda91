"""What `bench` writes of the machine, by files of made-up boards. No test here asserts a time or a frequency."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cores import BIG_LITTLE
from fusedcell import _core
from fusedcell.__main__ import main
from fusedcell.bench import machine, options
from fusedcell.bench.machine import BEGINNING, Look, cpu_list, describe_machine, look, machine_texts, slowed_down

FULL_SPEED = {"max_mhz": {"4": 2400.0}}
UNKNOWN: dict[str, dict[str, float]] = {"max_mhz": {}}


def write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def test_a_board_names_itself_and_how_its_cpus_are_clocked(tmp_path: Path) -> None:
    clocks = {"scaling_max_freq": "2400000\n", "scaling_governor": "ondemand\n"}
    files: dict[str, bytes | str] = {"proc/device-tree/model": b"Raspberry Pi 5 Model B Rev 1.0\0"}
    files |= {
        f"sys/devices/system/cpu/cpu{cpu}/cpufreq/{name}": text for cpu in (2, 3) for name, text in clocks.items()
    }
    found = describe_machine([2, 3], by_choice=True, root=write(tmp_path, files))
    assert (found["board"], found["cores"]) == ("Raspberry Pi 5 Model B Rev 1.0", _core.core_kinds())
    assert found["max_mhz"] == {"2": 2400.0, "3": 2400.0}
    assert json.loads(json.dumps(found)) == found
    texts = machine_texts(found)
    assert (texts["run on"], texts["clocks"]) == ("CPUs 2-3, by --cpu", "at most 2400 MHz, ondemand")


def test_a_server_is_named_by_its_firmware(tmp_path: Path) -> None:
    root = write(tmp_path, {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "sys/class/dmi/id/product_name": "c7g\n"})
    texts = machine_texts(describe_machine([0], by_choice=False, root=root))
    assert texts["board"].startswith("Amazon EC2 c7g, ")
    assert (texts["run on"], texts["clocks"]) == ("CPUs 0, as this process was given them", "not known to the kernel")


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\n", b"fast\n", b"1" * 100_000, b"1 2\n", b"\0"])
def test_a_machine_that_says_nothing_is_unknown(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        names = ("devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "class/thermal/thermal_zone0/temp")
        write(tmp_path, {f"sys/{name}": content for name in names})
    found = describe_machine([0], by_choice=False, root=tmp_path)
    assert (found["board"], found["max_mhz"], look("x", tmp_path).celsius) == ("unknown", {}, {})
    assert machine_texts(found | {"cpus": []})["run on"] == "unknown CPUs"


def test_a_look_measures_the_clock_and_reads_temperatures(tmp_path: Path) -> None:
    temperatures: dict[str, bytes | str] = {"thermal_zone0": "61342\n", "thermal_zone1": "-5000\n"}
    root = write(tmp_path, {f"sys/class/thermal/{zone}/temp": text for zone, text in temperatures.items()})
    found = look("gru 32, step", root)
    assert (found.after, found.celsius) == ("gru 32, step", {"thermal_zone0": 61.342, "thermal_zone1": -5.0})
    assert found.ghz > 0


@pytest.mark.parametrize(
    ("ghz", "warnings"),
    [
        ([], []),
        ([0.6, 2.4, 2.3], []),
        ([1.0, 2.4, 1.5, 1.9, 2.4], ["the clock fell from 2.40 to 1.50 GHz (after case 2)"]),
        ([1.5, 1.5], ["the clock never rose above 1.50 of 2.40 GHz"]),
        (
            [2.0, 1.0],
            ["the clock fell from 2.00 to 1.00 GHz (after case 1)", "the clock never rose above 2.00 of 2.40 GHz"],
        ),
    ],
)
def test_a_clock_that_was_not_the_full_one_all_the_time_is_a_warning(ghz: list[float], warnings: list[str]) -> None:
    looks = [Look(f"case {i}" if i else BEGINNING, each, {}) for i, each in enumerate(ghz)]
    assert slowed_down(FULL_SPEED, looks) == warnings
    assert slowed_down(UNKNOWN, looks) == [text for text in warnings if "fell" in text]


def test_a_summary_of_the_looks() -> None:
    run = [Look(BEGINNING, 0.6, {"a": 41.2, "b": 30.0}), Look("x", 2.39, {}), Look("y", 2.4, {"a": 50.0, "b": 63.6})]
    heat = " Hottest zone: 41 C at first, 64 C at last."
    assert machine.summary(run) == f"Clock, by dependent operations: 2.39 to 2.40 GHz.{heat}"
    assert machine.summary(run[1:2]) == "Clock, by dependent operations: 2.39 to 2.39 GHz."


def test_kinds_that_mix_are_told_with_the_option_for_each() -> None:
    found = {"cores": BIG_LITTLE, "cpus_by_choice": False}
    (warning,) = machine.mixed_kinds(found)
    assert warning.endswith("one kind at a time: --cpu 0-3 (Cortex-A55) or --cpu 4-7 (Cortex-A76)")
    assert machine.mixed_kinds(found | {"cpus_by_choice": True}) == []
    assert machine.mixed_kinds(found | {"cores": BIG_LITTLE[1:]}) == []


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 3], "0-3"), ([7, 0, 1, 5, 4], "0-1,4-5,7")]
)
def test_lists_of_cpus(numbers: list[int], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_list(numbers) == text
    monkeypatch.setattr(options, "own_cpus", lambda: list(range(8)))
    if numbers:
        assert options.cpus(text) == sorted(numbers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8", "this process may not run on CPU 8; it may on 0-3,6"),
        ("0-5", "this process may not run on CPU 4-5; it may on 0-3,6"),
        ("0-99999", "this process may not run on CPU 4-5,7-99999; it may on 0-3,6"),
        *((bad, f"{bad!r} is not a list of CPUs, such as 0-3,6") for bad in ("", "a", "-1", "3-1", "1,", "1-2-3")),
        ("1" * 5000, "is not a list of CPUs"),
    ],
)
def test_cpus_that_cannot_be_had_are_refused(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(options, "own_cpus", lambda: [0, 1, 2, 3, 6])
    assert main(["bench", "step", f"--cpu={text}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "argument --cpu: " in err
    assert message in err


def test_a_system_without_affinity_refuses_to_choose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(options, "own_cpus", list)
    assert main(["bench", "--cpu", "0"]) == 2
    assert "argument --cpu: this system does not let a process choose its CPUs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 1), "operations: expected at least 1, got 0"), ((1, 0), "repeats: expected at least 1, got 0")],
)
def test_a_chain_of_nothing_is_refused(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.chain_seconds(*arguments)


def test_a_chain_is_timed() -> None:
    for operations in (1, 31, 32, 33, 100_000):
        assert 0 < _core.chain_seconds(operations, 3) < float("inf")
