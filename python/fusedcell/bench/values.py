"""Values of options, and which are refused."""

from __future__ import annotations

import argparse
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from .._dtypes import DTYPES
from ..runtime import isas
from .cases import GATES
from .machine import cpu_list, own_cpus

LARGEST_SIZE = 8192
LARGEST_BATCH = 1024
MOST_STEPS = 100_000
MOST_THREADS = 1024
LEAST_TAIL_STEPS = 100
MOST_TAIL_STEPS = 10_000_000
MOST_REPEATS = 100
STDOUT = "-"


def dtype(text: str) -> str:
    """Of our weights."""
    return _name(text, DTYPES, "a dtype")


def cells(text: str) -> list[str]:
    """Names of cells."""
    return _names(text, list(GATES), "a cell")


def tiers(text: str) -> list[str]:
    """Tiers that this machine runs."""
    return _names(text, isas(), "a tier that this machine runs")


def sizes(text: str) -> list[int]:
    """Units."""
    return _integers(text, LARGEST_SIZE)


def batches(text: str) -> list[int]:
    """Batch sizes."""
    return _integers(text, LARGEST_BATCH)


def streams(text: str) -> list[int]:
    """Numbers of streams that step together."""
    return list(dict.fromkeys(_integer(part, 2, LARGEST_BATCH) for part in text.split(",")))


def threads(text: str) -> list[int]:
    """Numbers of threads."""
    return _integers(text, MOST_THREADS)


def cpus(text: str) -> list[int]:
    """CPUs of those that this process may run on, as in ``0-3,6``."""
    own = own_cpus()
    if not own:
        raise argparse.ArgumentTypeError("this system does not let a process choose its CPUs")
    asked: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", part)
        numbers = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
        if not numbers:
            raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a list of CPUs, such as 0-3,6")
        asked.update(numbers)
    if missing := asked - set(own):
        raise argparse.ArgumentTypeError(
            f"this process may not run on CPU {cpu_list(missing)}; it may on {cpu_list(own)}"
        )
    return sorted(asked)


def steps(text: str) -> int:
    """Steps of a sequence."""
    return _integer(text, 1, MOST_STEPS)


def steps_or_none(text: str) -> int:
    """Steps of a sequence, or 0."""
    return _integer(text, 0, MOST_STEPS)


def tail_steps(text: str) -> int:
    """Single steps, each clocked."""
    return _integer(text, LEAST_TAIL_STEPS, MOST_TAIL_STEPS)


def repeats(text: str) -> int:
    """Processes, one after the other."""
    return _integer(text, 1, MOST_REPEATS)


def percentage(text: str) -> float:
    """Not negative."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a percentage from 0")
    return value


def writable(text: str) -> Path:
    """A file that can be written, as far as one can tell before."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file in a folder that exists")
    return path


def writable_or_stdout(text: str) -> Path | str:
    """Such a file, or STDOUT."""
    return text if text == STDOUT else writable(text)


def readable(text: str) -> Path:
    """A file that is there."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file")
    return path


def picture(text: str) -> Path:
    """A file for a figure; refused before anything is measured if there is nothing that draws it."""
    path = writable(text)
    if path.suffix not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} ends neither in .png nor in .svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("needs matplotlib: pip install fusedcell[plot]")
    return path


def _name(text: str, known: Sequence[str], what: str) -> str:
    name = text.strip()
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name!r} is not {what}; there are: {', '.join(known)}")
    return name


def _names(text: str, known: Sequence[str], what: str) -> list[str]:
    return list(dict.fromkeys(_name(part, known, what) for part in text.split(",")))


def _integers(text: str, most: int) -> list[int]:
    return list(dict.fromkeys(_integer(part, 1, most) for part in text.split(",")))


def _integer(text: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a whole number from {least} to {most}")
    return value
