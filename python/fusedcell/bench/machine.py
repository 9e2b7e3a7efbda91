"""The machine that is measured: its board, its cores, on which of them this process runs, and how fast they are."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import _core

ROOT = Path("/")
BEGINNING = "nothing"
"""What the first look came after: CPUs that had no work may be clocked low."""

# Some ten microseconds, and the best of many: short enough to be left alone now and then on a busy machine.
_CHAIN = 20_000
_TRIES = 50

# Of the highest frequency: what is below has fallen. Clocks of CPUs that nothing slows down move by less.
_LEAST_SHARE = 0.9


def _text(path: Path) -> str:
    """What a file of the kernel's says, without zeros and blanks at the ends; "" where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
    except OSError:
        return ""


def _thousandths(path: Path) -> float | None:
    try:
        return int(_text(path)) / 1000
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
    """What does not change during a run; `by_choice` is whether ``--cpu`` gave the CPUs.

    The clocks are the kernel's settings of each CPU (Linux, Documentation/admin-guide/pm/cpufreq.rst), which a guest's
    kernel often does not know.
    """
    folders = {cpu: root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq" for cpu in cpus}
    names = ["proc/device-tree/model", "sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name"]
    return {
        "board": " ".join(filter(None, (_text(root / name) for name in names))) or "unknown",
        "kernel": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver()).strip()}",
        "cores": _core.core_kinds(),
        "cpus": list(cpus),
        "cpus_by_choice": by_choice,
        "governors": sorted({_text(folder / "scaling_governor") for folder in folders.values()} - {""}),
        "max_mhz": {str(cpu): mhz for cpu, each in folders.items() if (mhz := _thousandths(each / "scaling_max_freq"))},
    }


def machine_texts(machine: Mapping[str, Any]) -> dict[str, str]:
    """Lines for the head of the tables, by what stands before them."""
    source = "by --cpu" if machine["cpus_by_choice"] else "as this process was given them"
    speeds = [f"at most {mhz:.0f} MHz" for mhz in sorted(set(machine["max_mhz"].values()))]
    return {
        "board": f"{machine['board']}, {machine['kernel']}",
        "run on": f"CPUs {cpu_list(machine['cpus'])}, {source}" if machine["cpus"] else "unknown CPUs",
        "clocks": ", ".join([*speeds, *machine["governors"]]) or "not known to the kernel",
    }


def mixed_kinds(machine: Mapping[str, Any]) -> list[str]:
    """A warning where kinds of core mix that nobody chose."""
    if len(machine["cores"]) < 2 or machine["cpus_by_choice"]:
        return []
    options = [f"--cpu {cpu_list(kind['numbers'])} ({kind['name']})" for kind in machine["cores"] if kind["numbers"]]
    return [f"kinds of core mix here, and times depend on which one ran; one kind at a time: {' or '.join(options)}"]


@dataclass(frozen=True)
class Look:
    """One moment, right after something was measured, so that the CPUs have had work to do.

    `ghz` is measured: how many integer operations, each of which waits for the one before, are done in a nanosecond;
    they take a cycle each. `celsius` is what the kernel says of each thermal zone.
    """

    after: str
    ghz: float
    celsius: dict[str, float]


def look(after: str, root: Path = ROOT) -> Look:
    """Takes about a millisecond."""
    zones = {zone.name: _thousandths(zone / "temp") for zone in sorted(root.glob("sys/class/thermal/thermal_zone*"))}
    ghz = _CHAIN / _core.chain_seconds(_CHAIN, _TRIES) / 1e9
    return Look(after, ghz, {name: celsius for name, celsius in zones.items() if celsius is not None})


def summary(looks: Sequence[Look]) -> str:
    """One line: the clock as it was measured, and the temperature of the hottest zone, first and last."""
    clocks = [each.ghz for each in looks if each.after != BEGINNING] or [each.ghz for each in looks]
    hottest = [max(each.celsius.values()) for each in (looks[0], looks[-1]) if each.celsius]
    heat = f" Hottest zone: {hottest[0]:.0f} C at first, {hottest[-1]:.0f} C at last." if hottest else ""
    return f"Clock, by dependent operations: {min(clocks):.2f} to {max(clocks):.2f} GHz.{heat}"


def slowed_down(machine: Mapping[str, Any], looks: Sequence[Look]) -> list[str]:
    """Warnings: all that says that the machine did not run at one speed, its full one, during `looks`."""
    warnings = []
    highest, worst = 0.0, (1.0, "")
    for each in looks:
        highest = max(highest, each.ghz)
        worst = min(worst, (each.ghz / highest, f"from {highest:.2f} to {each.ghz:.2f} GHz (after {each.after})"))
    if worst[0] < _LEAST_SHARE:
        warnings.append(f"the clock fell {worst[1]}")
    most = max(machine["max_mhz"].values(), default=0.0) / 1000
    if looks and highest < _LEAST_SHARE * most:
        warnings.append(f"the clock never rose above {highest:.2f} of {most:.2f} GHz")
    return warnings
