"""The machine that is measured: its board, its cores, and on which of them this process runs, clocked how."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import _core

ROOT = Path("/")

_MOST_BYTES = 4096
_MOST_DIGITS = 20
_CPU = "sys/devices/system/cpu"


def read_text(path: Path) -> str:
    """How a file of the kernel's begins, without zeros and blanks at the ends; "" where there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace").strip("\0 \t\r\n")
    except OSError:
        return ""


def read_integer(path: Path, base: int = 10) -> int | None:
    """The number that is all of a file; None where there is none, or one longer than the kernel writes."""
    text = read_text(path)
    try:
        return int(text, base) if len(text) <= _MOST_DIGITS else None
    except ValueError:
        return None


def own_cpus() -> list[int]:
    """The CPUs that this process may run on; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cpu_list(numbers: Iterable[int]) -> str:
    """As the kernel writes it, and as ``--cpu`` takes it: ``0-3,6``."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def describe_machine(cpus: Sequence[int], by_choice: bool, root: Path = ROOT) -> dict[str, Any]:
    """What does not change during a run; `by_choice` is whether ``--cpu`` gave the CPUs."""
    return {
        "board": _board(root),
        "soc": _soc(root),
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "cores": _core.core_kinds(),
        "cpus": list(cpus),
        "cpus_by_choice": by_choice,
        "clocks": {str(cpu): clock for cpu in cpus if (clock := _clock(cpu, root))},
    }


def _board(root: Path) -> str:
    model = read_text(root / "proc/device-tree/model")
    if model:
        return model
    dmi = [read_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return " ".join(text for text in dmi if text) or "unknown"


def _soc(root: Path) -> str:
    """By the names in a device tree, the last of which is the chip's."""
    compatible = read_text(root / "proc/device-tree/compatible").split("\0")[-1]
    soc0 = [read_text(root / "sys/devices/soc0" / name) for name in ("family", "soc_id")]
    return compatible or " ".join(text for text in soc0 if text) or "unknown"


def _clock(cpu: int, root: Path) -> dict[str, Any]:
    """Linux, Documentation/admin-guide/pm/cpufreq.rst; empty where the kernel does not set them, as in a guest."""
    folder = root / _CPU / f"cpu{cpu}/cpufreq"
    found = {
        "governor": read_text(folder / "scaling_governor") or None,
        "min_khz": read_integer(folder / "scaling_min_freq"),
        "max_khz": read_integer(folder / "scaling_max_freq"),
        "khz": read_integer(folder / "scaling_cur_freq"),
    }
    return found if any(value is not None for value in found.values()) else {}


def machine_text(machine: Mapping[str, Any]) -> str:
    """Lines for the head of the tables."""
    source = "by --cpu" if machine["cpus_by_choice"] else "as this process was given them"
    lines = {
        "board": ", ".join(name for name in (machine["board"], machine["soc"]) if name != "unknown") or "unknown",
        "kernel": f"{machine['kernel']}, {machine['libc']}",
        "run on": f"CPUs {cpu_list(machine['cpus'])}, {source}" if machine["cpus"] else "unknown CPUs",
        "clocks": _clocks_text(machine["clocks"]),
    }
    return "\n".join(f"{name:<14} {text}" for name, text in lines.items())


def _clocks_text(clocks: Mapping[str, Mapping[str, Any]]) -> str:
    """CPUs that are set alike together."""
    alike: dict[str, list[int]] = {}
    for cpu, clock in clocks.items():
        text = f"{_mhz(clock['min_khz'])} to {_mhz(clock['max_khz'])} MHz, {clock['governor'] or 'no governor'}"
        alike.setdefault(text, []).append(int(cpu))
    return "; ".join(f"CPUs {cpu_list(cpus)} {text}" for text, cpus in alike.items()) or "not known to the kernel"


def _mhz(khz: int | None) -> str:
    return "?" if khz is None else str(round(khz / 1000))


def mixed_kinds(machine: Mapping[str, Any]) -> str:
    """A warning where kinds of core mix that nobody chose; "" where they do not."""
    if len(machine["cores"]) < 2 or machine["cpus_by_choice"]:
        return ""
    return "kinds of core mix here, and times depend on which one ran"


def commands_by_kind(machine: Mapping[str, Any], command: str) -> str:
    """A command a line, each of which runs on one kind of core."""
    return "\n".join(
        f"  {command} --cpu {cpu_list(kind['numbers'])}    # {kind['name']}"
        for kind in machine["cores"]
        if kind["numbers"]
    )
