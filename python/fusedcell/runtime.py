"""What this build and this machine can do."""

from __future__ import annotations

import platform
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from . import _core


def isas() -> list[str]:
    """Instruction-set tiers that this machine runs, best first, for example ``["avx512", "avx2", "scalar"]``."""
    return _core.isas()


def cpu_name() -> str:
    """The processor's name as the operating system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def caches() -> dict[str, str]:
    """Sizes of the first CPU's data caches, for example ``{"L1d": "48K"}``; empty where the system does not tell."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}{'d' if kind == 'Data' else ''}"] = size
    return found


def cores() -> list[str]:
    """Kinds of core that this process may run on, for example ``["4 x Cortex-A55 (in order)", "4 x Cortex-A76"]``."""
    return [
        f"{kind['cpus']} x {kind['name']}{' (in order)' if kind['in_order'] else ''}" for kind in _core.core_kinds()
    ]


# Any, as a program that knows its key would need a cast of a union: strings, numbers, lists and dictionaries of them.
def runtime_info() -> dict[str, Any]:
    """Version, build, CPU and tiers as a dictionary that can be written as JSON."""
    return {
        "fusedcell": _core.__version__,
        "compiler": _core.compiler(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpus": _core.available_cpus(),
        "cores": cores(),
        "caches": caches(),
        "cpu_features": _core.cpu_features(),
        "isas_compiled": _core.compiled_isas(),
        "isas": _core.isas(),
        "isa": _core.resolve_isa(),
        "kernels": _core.kernels(),
    }


def show_runtime() -> None:
    """Prints :func:`runtime_info`."""
    for key, value in runtime_info().items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {item}" for name, item in value.items()) or "unknown"
        elif isinstance(value, list):
            value = ", ".join(value) or "none"
        lines = textwrap.wrap(str(value), 85, break_long_words=False, break_on_hyphens=False)
        print(f"{key:<14} {(chr(10) + 15 * ' ').join(lines)}")
