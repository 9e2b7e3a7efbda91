"""What `bench` writes of the machine, by files of made-up boards. No test here asserts a time or a frequency."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cores import BIG_LITTLE
from fusedcell import _core
from fusedcell.__main__ import main
from fusedcell.bench import command, looks, machine, values, work
from fusedcell.bench.looks import BEGINNING, Look, look, slowed_down
from fusedcell.bench.machine import commands_by_kind, cpu_list, describe_machine, machine_text, mixed_kinds

FULL_SPEED = {"4": {"governor": "performance", "min_khz": 600000, "max_khz": 2400000, "khz": 2400000}}

pinning = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in command.ONE_THREAD:
        monkeypatch.setenv(name, "1")


def write(root: Path, **files: bytes | str) -> Path:
    """Files by path, "/" written as "__"."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def cpufreq(root: Path, cpu: int, khz: object, most: object = 2400000, governor: str = "ondemand") -> None:
    folder = root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
    folder.mkdir(parents=True, exist_ok=True)
    files = {"cur": khz, "max": most, "min": 1500000}
    for name, value in files.items():
        (folder / f"scaling_{name}_freq").write_text(f"{value}\n")
    (folder / "scaling_governor").write_text(f"{governor}\n")


def seen(ghz: float = 2.4, after: str = "lstm 64, step", **changes: Any) -> Look:
    return replace(Look(after, ghz, khz={}, celsius={}, throttled=None, throttle_count=None), **changes)


def test_a_board_names_itself_and_its_chip(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        **{
            "proc__device-tree__model": b"Raspberry Pi 5 Model B Rev 1.0\0",
            "proc__device-tree__compatible": b"raspberrypi,5-model-b\0brcm,bcm2712\0",
        },
    )
    for cpu in (2, 3):
        cpufreq(root, cpu, 1500000)
    found = describe_machine([2, 3], by_choice=True, root=root)
    assert (found["board"], found["soc"]) == ("Raspberry Pi 5 Model B Rev 1.0", "brcm,bcm2712")
    assert found["cores"] == _core.core_kinds()
    clock = {"governor": "ondemand", "min_khz": 1500000, "max_khz": 2400000, "khz": 1500000}
    assert found["clocks"] == {"2": clock, "3": clock}
    assert json.loads(json.dumps(found)) == found
    lines = machine_text(found).splitlines()
    assert lines[0] == "board          Raspberry Pi 5 Model B Rev 1.0, brcm,bcm2712"
    assert lines[2:] == ["run on         CPUs 2-3, by --cpu", "clocks         CPUs 2-3 1500 to 2400 MHz, ondemand"]


def test_a_server_is_named_by_its_firmware(tmp_path: Path) -> None:
    root = write(
        tmp_path, sys__class__dmi__id__sys_vendor="Amazon EC2\n", sys__class__dmi__id__product_name="c7g.medium\n"
    )
    found = describe_machine([0], by_choice=False, root=root)
    assert (found["board"], found["soc"], found["clocks"]) == ("Amazon EC2 c7g.medium", "unknown", {})
    lines = machine_text(found).splitlines()
    assert lines[2:] == [
        "run on         CPUs 0, as this process was given them",
        "clocks         not known to the kernel",
    ]


def test_a_machine_that_says_nothing_is_unknown(tmp_path: Path) -> None:
    found = describe_machine([], by_choice=False, root=tmp_path)
    assert (found["board"], found["soc"], found["cpus"], found["clocks"]) == ("unknown", "unknown", [], {})
    assert "unknown CPUs" in machine_text(found)
    seen = look("x", tmp_path)
    assert (seen.khz, seen.celsius, seen.throttle_count) == ({}, {}, None)
    assert seen.ghz > 0


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"fast\n", b"1" * 100_000, b"1 2\n", b"\0"])
def test_files_that_hold_no_number_tell_nothing(content: bytes, tmp_path: Path) -> None:
    cpu = machine.own_cpus()[0] if machine.own_cpus() else 0
    root = write(
        tmp_path,
        **{
            f"sys__devices__system__cpu__cpu{cpu}__cpufreq__scaling_cur_freq": content,
            f"sys__devices__system__cpu__cpu{cpu}__thermal_throttle__core_throttle_count": content,
            "sys__class__thermal__thermal_zone0__temp": content,
            "sys__devices__platform__soc__soc:firmware__get_throttled": content,
        },
    )
    found = look("x", root)
    assert (found.khz, found.celsius, found.throttle_count) == ({}, {}, None)


@pinning
def test_a_look_reads_clocks_temperatures_and_throttling(tmp_path: Path) -> None:
    (cpu, *_) = machine.own_cpus()
    cpufreq(tmp_path, cpu, 1800000)
    write(
        tmp_path,
        **{
            "sys__class__thermal__thermal_zone0__type": "cpu-thermal\n",
            "sys__class__thermal__thermal_zone0__temp": "61342\n",
            "sys__class__thermal__thermal_zone1__temp": "-5000\n",
            "sys__devices__platform__soc__soc:firmware__get_throttled": "50005\n",
            f"sys__devices__system__cpu__cpu{cpu}__thermal_throttle__core_throttle_count": "2\n",
            f"sys__devices__system__cpu__cpu{cpu}__thermal_throttle__package_throttle_count": "40\n",
        },
    )
    found = look("gru 32, step", tmp_path)
    assert found.after == "gru 32, step"
    assert found.khz == {str(cpu): 1800000}
    assert found.celsius == {"0 cpu-thermal": 61.342, "1": -5.0}
    assert (found.throttled, found.throttle_count) == (0x50005, 42)


@pytest.mark.skipif(os.name != "posix", reason="writes a shell script")
@pytest.mark.parametrize(
    ("script", "bits"),
    [
        ("echo throttled=0x50000", 0x50000),
        ("echo 'VCHI initialization failed'; exit 255", None),
        ("echo throttled=0xfffffffffffffffff", None),
        ("printf '\\377'", None),
    ],
)
def test_the_firmware_is_asked_where_no_file_tells(
    script: str, bits: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] || exit 1\n{script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert look("x", tmp_path / "root").throttled == bits


def test_a_firmware_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: Any, timeout: float, **_: Any) -> Any:
        raise subprocess.TimeoutExpired("vcgencmd", timeout)

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", hang)
    assert look("x", tmp_path).throttled is None


def test_a_machine_at_full_speed_gives_no_warning() -> None:
    steady = [seen(0.6, BEGINNING, khz={"4": 600000}), seen(2.4, khz={"4": 2400000}), seen(2.3, throttled=0)]
    assert slowed_down(FULL_SPEED, steady) == []
    assert slowed_down({}, []) == []


def test_a_clock_that_fell_is_told_with_the_case_after_which_it_was_lowest() -> None:
    run = [seen(1.0, BEGINNING), seen(2.4), seen(1.5, "gru 512, step"), seen(1.9), seen(2.4)]
    assert slowed_down({}, run) == ["the clock fell from 2.40 to 1.50 GHz (measured after gru 512, step)"]


def test_a_clock_below_its_maximum_is_told() -> None:
    run = [seen(khz={"4": 600000}, after=BEGINNING), *(seen(khz={"4": khz}) for khz in (2400000, 1500000, 1800000))]
    assert slowed_down(FULL_SPEED, run) == ["CPU 4 was at 1500 of 2400 MHz, and it was below its maximum 2 of 3 times"]


def test_of_several_cpus_the_one_that_worked_counts() -> None:
    clocks = {str(cpu): {"max_khz": 2400000} for cpu in (4, 5)}
    assert slowed_down(clocks, [seen(khz={"4": 600000, "5": 2400000})]) == []


@pytest.mark.parametrize(
    ("bits", "warnings"),
    [
        ([0, 0, 0], []),
        ([0x50000, 0x50000], ["the board reported under-voltage, throttling since it was booted, before the run"]),
        ([0, 0x60006, 0x60000], ["the board reported capped frequency, throttling during the run"]),
        ([0, 0x80000], ["the board reported the soft temperature limit during the run"]),
        (
            [0x10000, 0x50000],
            [
                "the board reported throttling during the run",
                "the board reported under-voltage since it was booted, before the run",
            ],
        ),
        ([0x10001, 0x10001], ["the board reported under-voltage during the run"]),
    ],
)
def test_bits_of_a_raspberry_pi(bits: list[int], warnings: list[str]) -> None:
    assert slowed_down({}, [seen(throttled=word) for word in bits]) == warnings


def test_throttling_that_the_cpu_counts() -> None:
    assert slowed_down({}, [seen(throttle_count=count) for count in (7, 7)]) == []
    assert slowed_down({}, [seen(throttle_count=count) for count in (7, 8, 10)]) == [
        "the CPU was throttled 3 times for its temperature"
    ]


def test_a_summary_of_the_looks() -> None:
    run = [
        seen(0.6, BEGINNING, celsius={"0 cpu-thermal": 41.2}),
        seen(2.39),
        seen(2.4, celsius={"0 cpu-thermal": 63.6}),
    ]
    assert looks.summary(run) == (
        "Clock, by dependent operations: 2.39 to 2.40 GHz. Temperatures: cpu-thermal 41 to 64 C."
    )
    assert looks.summary(run[:1]) == (
        "Clock, by dependent operations: 0.60 to 0.60 GHz. Temperatures: cpu-thermal 41 to 41 C."
    )


def test_kinds_that_mix_are_told_with_a_command_for_each() -> None:
    found = {"cores": BIG_LITTLE, "cpus_by_choice": False}
    assert mixed_kinds(found) == "kinds of core mix here, and times depend on which one ran"
    assert commands_by_kind(found, "fusedcell bench step").splitlines() == [
        "  fusedcell bench step --cpu 0-3    # Cortex-A55",
        "  fusedcell bench step --cpu 4-7    # Cortex-A76",
    ]
    assert mixed_kinds(found | {"cpus_by_choice": True}) == ""
    assert mixed_kinds(found | {"cores": BIG_LITTLE[1:]}) == ""


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 3], "0-3"), ([7, 0, 1, 5, 4], "0-1,4-5,7")]
)
def test_lists_of_cpus(numbers: list[int], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_list(numbers) == text
    monkeypatch.setattr(values, "own_cpus", lambda: list(range(8)))
    if numbers:
        assert values.cpus(text) == sorted(numbers)


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
    monkeypatch.setattr(values, "own_cpus", lambda: [0, 1, 2, 3, 6])
    assert main(["bench", "step", f"--cpu={text}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"argument --cpu: {message}" in err or (len(text) == 5000 and message in err)


def test_a_system_without_affinity_refuses_to_choose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(values, "own_cpus", list)
    assert main(["bench", "--cpu", "0"]) == 2
    assert "argument --cpu: this system does not let a process choose its CPUs" in capsys.readouterr().err


@pinning
def test_a_run_on_chosen_cpus_is_a_process_that_has_no_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = sorted(os.sched_getaffinity(0))
    if len(own) < 2:
        pytest.skip("one CPU, so nothing to choose")
    path = tmp_path / "results.json"
    arguments = ["bench", "threads", "--quick", "--sizes", "8", "--cells", "rnn", "--steps", "3"]
    assert main([*arguments, "--cpu", str(own[-1]), "--json", str(path)]) == 0
    assert sorted(os.sched_getaffinity(0)) == own
    assert f"run on         CPUs {own[-1]}, by --cpu\n" in capfd.readouterr().out
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["machine"]["cpus"], document["machine"]["cpus_by_choice"]) == ([own[-1]], True)
    assert document["runtime"]["cpus"] == 1
    # The numbers of threads follow from the CPUs.
    assert all(list(scaling["times"]) == ["1"] for scaling in document["threads"])


@pinning
def test_without_a_choice_the_cpus_are_those_that_the_process_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    assert main(["bench", "step", "--quick", "--sizes", "8", "--cells", "rnn", "--no-peers", "--json", str(path)]) == 0
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["machine"]["cpus"] == sorted(os.sched_getaffinity(0))
    assert document["machine"]["cpus_by_choice"] is False
    assert "as this process was given them" in capsys.readouterr().out


def test_warnings_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    speeds = iter([2.4, 2.4, 1.2])
    for module in (command, work):
        monkeypatch.setattr(module, "look", lambda after: seen(next(speeds), after))
    monkeypatch.setattr("fusedcell._core.core_kinds", lambda: BIG_LITTLE)
    path = tmp_path / "results.json"
    arguments = ["bench", "step", "--quick", "--sizes", "8", "--cells", "rnn", "--no-peers", "--json", str(path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    document = json.loads(path.read_text(encoding="utf-8"))
    fell = "the clock fell from 2.40 to 1.20 GHz (measured after rnn 8, tails, float32)"
    assert f"Warning: {fell}.\n" in out
    assert "Warning: kinds of core mix here" in out
    assert f"  fusedcell {' '.join(arguments)} --cpu 4-7    # Cortex-A76\n" in out
    # Without the command line, which may name the user's folders.
    assert document["machine"]["warnings"] == ["kinds of core mix here, and times depend on which one ran", fell]
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    assert [each["after"] for each in document["looks"]] == [BEGINNING, "rnn 8, step, float32", "rnn 8, tails, float32"]
    assert document["machine"]["cores"] == BIG_LITTLE


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
