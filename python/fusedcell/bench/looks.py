"""Looks at how fast the machine is clocked, how warm it is and whether it is throttled, between cases."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import _core
from .machine import ROOT, own_cpus, read_integer, read_text

BEGINNING = "nothing"
"""What the first look came after: CPUs that had no work may be clocked low."""

# Some ten microseconds, and the best of many: short enough to be left alone now and then on a busy machine.
_CHAIN = 20_000
_TRIES = 50

# Of the highest frequency: what is below has fallen. Clocks of CPUs that nothing slows down move by less.
_LEAST_SHARE = 0.9

# vcgencmd get_throttled, Raspberry Pi documentation; sixteen bits above, the same since the board was booted.
_RASPBERRY_PI = {
    0: "under-voltage",
    1: "capped frequency",
    2: "throttling",
    3: "the soft temperature limit",
}
_SINCE_BOOT = 16
_SECONDS_TO_ANSWER = 5


@dataclass(frozen=True)
class Look:
    """One moment, right after something was measured, so that the CPUs have had work to do.

    `ghz` is measured: how many integer operations, each of which waits for the one before, are done in a nanosecond;
    they take a cycle each. `khz` is what the kernel says of each CPU (scaling_cur_freq), `celsius` of each thermal
    zone, `throttled` are a Raspberry Pi's bits, and `throttle_count` is how often x86 CPUs were throttled since boot.
    """

    after: str
    ghz: float
    khz: dict[str, int]
    celsius: dict[str, float]
    throttled: int | None
    throttle_count: int | None


def look(after: str, root: Path = ROOT) -> Look:
    """Takes about a millisecond, more where the board's firmware is asked."""
    cpus = own_cpus()
    cpu_folders = {cpu: root / f"sys/devices/system/cpu/cpu{cpu}" for cpu in cpus}
    frequencies = {str(cpu): read_integer(folder / "cpufreq/scaling_cur_freq") for cpu, folder in cpu_folders.items()}
    counts = [
        read_integer(folder / "thermal_throttle" / name)
        for folder in cpu_folders.values()
        for name in ("core_throttle_count", "package_throttle_count")
    ]
    known = [count for count in counts if count is not None]
    return Look(
        after=after,
        ghz=_CHAIN / _core.chain_seconds(_CHAIN, _TRIES) / 1e9,
        khz={cpu: khz for cpu, khz in frequencies.items() if khz is not None},
        celsius=_temperatures(root),
        throttled=_raspberry_pi_bits(root),
        throttle_count=sum(known) if known else None,
    )


def _temperatures(root: Path) -> dict[str, float]:
    """Linux, Documentation/driver-api/thermal/sysfs-api.rst: thousandths of a degree. By the zone's number and type."""
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        temperature = read_integer(zone / "temp")
        if temperature is not None:
            found[f"{zone.name.removeprefix('thermal_zone')} {read_text(zone / 'type')}".strip()] = temperature / 1000
    return found


def _raspberry_pi_bits(root: Path) -> int | None:
    for path in (root / "sys/devices/platform").glob("soc*/*firmware*/get_throttled"):
        bits = read_integer(path, 16)
        if bits is not None:
            return bits
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        answer = subprocess.run(
            [program, "get_throttled"], capture_output=True, text=True, timeout=_SECONDS_TO_ANSWER, check=False
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    found = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})", answer.stdout.strip())
    return int(found[1], 16) if found else None


def summary(looks: Sequence[Look]) -> str:
    """One line: the clock as it was measured, and the temperatures from the first look to the last."""
    clocks = [each.ghz for each in looks if each.after != BEGINNING] or [each.ghz for each in looks]
    first, last = looks[0].celsius, looks[-1].celsius
    zones = [
        f"{zone.partition(' ')[2] or zone} {first[zone]:.0f} to {last[zone]:.0f} C" for zone in first if zone in last
    ]
    measured = f"Clock, by dependent operations: {min(clocks):.2f} to {max(clocks):.2f} GHz."
    return f"{measured} Temperatures: {', '.join(zones)}." if zones else measured


def slowed_down(clocks: Mapping[str, Mapping[str, Any]], looks: Sequence[Look]) -> list[str]:
    """Warnings: all that says that the machine did not run at one speed, its full one, during `looks`."""
    found = [_fallen(looks), _below_maximum(clocks, looks), *_raspberry_pi_warnings(looks)]
    counts = [each.throttle_count for each in looks if each.throttle_count is not None]
    if counts and counts[-1] > counts[0]:
        found.append(f"the CPU was throttled {counts[-1] - counts[0]} times for its temperature")
    return [text for text in found if text]


def _fallen(looks: Sequence[Look]) -> str:
    highest, worst = 0.0, None
    for each in looks:
        highest = max(highest, each.ghz)
        if each.ghz < _LEAST_SHARE * highest and (worst is None or each.ghz < worst[0].ghz):
            worst = (each, highest)
    if worst is None:
        return ""
    lowest, before = worst
    return f"the clock fell from {before:.2f} to {lowest.ghz:.2f} GHz (measured after {lowest.after})"


def _below_maximum(clocks: Mapping[str, Mapping[str, Any]], looks: Sequence[Look]) -> str:
    """By the kernel; of several CPUs the one that is nearest to its highest frequency is the one that had worked."""
    nearest = []
    for each in (each for each in looks if each.after != BEGINNING):
        highest = {cpu: clocks[cpu]["max_khz"] for cpu in each.khz if cpu in clocks and clocks[cpu]["max_khz"]}
        if highest:
            nearest.append(max((each.khz[cpu] / most, each.khz[cpu], most, cpu) for cpu, most in highest.items()))
    slow = [entry for entry in nearest if entry[0] < _LEAST_SHARE]
    if not slow:
        return ""
    _, khz, most, cpu = min(slow)
    times = f"{len(slow)} of {len(nearest)} times"
    return f"CPU {cpu} was at {khz // 1000} of {most // 1000} MHz, and it was below its maximum {times}"


def _raspberry_pi_warnings(looks: Sequence[Look]) -> list[str]:
    bits = [each.throttled for each in looks if each.throttled is not None]
    if not bits:
        return []
    before, during = bits[0] >> _SINCE_BOOT, 0
    for word in bits:
        during |= word | (word >> _SINCE_BOOT & ~before)
    earlier = before & ~during
    texts = {"during the run": during, "since it was booted, before the run": earlier}
    return [f"the board reported {named} {when}" for when, word in texts.items() if (named := _names(word))]


def _names(bits: int) -> str:
    return ", ".join(name for bit, name in _RASPBERRY_PI.items() if bits >> bit & 1)
