"""What a file of `--json` holds that another one can be compared with."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from math import isfinite, log
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .document import SCHEMA

Name: TypeAlias = tuple[str, str, str]
"""Cell, size, and what was done."""


def load(path: Path) -> dict[str, Any]:
    """Raises ValueError for any other file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document["results"], list) or not isinstance(document["runtime"], dict):
            raise TypeError
        # What follows reads the same entries again.
        cases(document)
        _others(document)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError(f"{path} is not a file of fusedcell bench --json") from None
    schema = document.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise ValueError(f"{path}: its schema is {schema!r}, and this version of fusedcell reads {SCHEMA}")
    return dict(document)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why times of the two may not be compared."""
    descriptions = []
    # Files of earlier versions do not name the kinds of core.
    properties = ["cpu", "cpus", "caches", "system"]
    properties += ["cores"] if all("cores" in document["runtime"] for document in (old, new)) else []
    for document in (old, new):
        runtime = document["runtime"]
        tier = document.get("tier") or next((result["tier"] for result in document["results"]), "")
        names = {name: runtime.get(name) for name in properties}
        descriptions.append({"dtype": document.get("dtype"), "isa": tier} | names)
    before, after = descriptions
    return [f"{name}: {before[name]} and {after[name]}" for name in before if before[name] != after[name]]


def cases(document: Mapping[str, Any]) -> dict[Name, list[float]]:
    """Microseconds of the first of our tiers: the median of each repeat."""
    found = {}
    for entry in document["results"]:
        if entry["tier"] in entry["times"]:
            found[_name(document, entry)] = _medians(entry, entry["tier"])
    for entry in document.get("threads", []):
        for count in entry["times"]:
            threads = f", {count} threads" if count != "1" else ""
            found.setdefault(_name(document, entry, threads), _medians(entry, count))
    return found


def drifts(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, float]:
    """By size, how far apart the other libraries' times lie, as a logarithm; their code is the same in both files.

    That of nineteen cases of twenty, over all cells, batches and libraries of one version.
    """
    before, after = (_others(document) for document in (old, new))
    by_size: dict[str, list[float]] = defaultdict(list)
    for key in (key for key in before if key in after):
        (_, size, _), *_ = key
        by_size[size].append(abs(log(after[key] / before[key])))
    return {size: float(np.percentile(values, 95)) for size, values in by_size.items()}


def _others(document: Mapping[str, Any]) -> dict[tuple[Name, str, str], float]:
    """Medians by case, library and version."""
    peers = document.get("peers")
    versions = {"numpy": document["runtime"].get("numpy", "")} | (peers if isinstance(peers, dict) else {})
    return {
        (_name(document, entry), name, str(versions.get(name, ""))): float(np.median(_medians(entry, name)))
        for entry in document["results"]
        for name in entry.get("other_dtypes", {})
        if name in entry["times"]
    }


def _name(document: Mapping[str, Any], entry: Mapping[str, Any], threads: str = "") -> Name:
    steps = "" if entry["kind"] == "step" else f" of {entry['steps']}"
    batch = f", batch {entry['batch']}" if entry.get("batch", 1) > 1 else ""
    # A report has more than one, and says so itself.
    dtype = "" if entry.get("dtype", document.get("dtype")) == document.get("dtype") else f", {entry['dtype']}"
    return str(entry["cell"]), str(entry["size"]), f"{entry['kind']}{steps}{batch}{threads}{dtype}"


def _medians(entry: Mapping[str, Any], variant: str) -> list[float]:
    """Those of a variant's repeats; files of earlier versions have but one, without saying so."""
    medians = entry["medians"][variant] if "medians" in entry else [entry["times"][variant]["p50"]]
    numbers = [float(us) for us in medians]
    if not numbers or not all(isfinite(us) and us > 0 for us in numbers):
        raise ValueError
    return numbers
