"""What was measured, on what and how."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ..runtime import runtime_info
from .answers import our_tolerance
from .machine import describe_machine, own_cpus
from .subjects import Study

_LEFT_OUT = ("isas_compiled", "isa", "kernels", "tier", "options", "machine")


def describe(options: argparse.Namespace, studies: Sequence[Study]) -> dict[str, Any]:
    """What goes with the results into a file."""
    peers: object = {
        name: text
        for study in studies
        for name, text in ({other.name: other.version for other in study.peers} | study.absent).items()
        if name != "numpy"
    }
    if options.study == "threads":
        peers = "left out, as their idle threads spin on and would take CPUs from whoever is next"
    elif options.no_peers:
        peers = "not asked for"
    asked = {name: value for name, value in vars(options).items() if name not in ("command", "json", "plot")}
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "runtime": runtime_info(),
        "machine": describe_machine(own_cpus(), by_choice=options.cpu is not None),
        "dtype": ", ".join(study.options.dtype for study in studies),
        "tier": ", ".join(dict.fromkeys(study.tiers[0].isa for study in studies)),
        "options": asked,
        "peers": peers,
        "method": _method(options),
        "load": f"{os.getloadavg()[0]:.1f} before the run" if hasattr(os, "getloadavg") else "unknown",
        "checked": _checked(studies),
    }


def _method(options: argparse.Namespace) -> str:
    threads = "each number of threads" if options.study == "threads" else "one thread, variants"
    repeats = f", median of {options.repeats} processes" if options.repeats > 1 else ""
    return f"{threads} in turns{', few rounds' if options.quick else ''}{repeats}"


def _checked(studies: Sequence[Study]) -> str:
    """How far the answers of those that are timed may be off, where it does not depend on the size."""
    limits = {f"others' {other.dtype}": other.tolerance for study in studies for other in study.peers}
    for dtype in (study.options.dtype for study in studies):
        if dtype != "float32":
            limits[f"our {dtype}"] = our_tolerance(1, dtype)
    return ", ".join(["against float64", *(f"{name} within {limit}" for name, limit in limits.items())])


def header(environment: Mapping[str, Any]) -> str:
    """One thing a line."""
    lines = []
    for key, value in _flattened(environment).items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {item}" for name, item in value.items()) or "unknown"
        elif isinstance(value, (list, tuple)):
            value = ", ".join(value) or "none"
        lines.append(f"{key.replace('_', ' '):<14} {value}")
    return "\n".join(lines)


def _flattened(environment: Mapping[str, Any]) -> dict[str, Any]:
    """`runtime` is opened in place; what only matters in a file is left out."""
    flat: dict[str, Any] = {}
    for key, value in environment.items():
        flat |= value if key == "runtime" else {key: value}
    return {key: value for key, value in flat.items() if key not in _LEFT_OUT}
