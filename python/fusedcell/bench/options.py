"""The options of ``fusedcell bench``, and which values they refuse."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .._base import DTYPES
from ..runtime import isas
from .cases import GATES

DEFAULT_CELLS = ["lstm", "gru", "gru_reset_before", "rnn"]
DEFAULT_SIZES = [16, 32, 64, 128, 256, 512, 1024]
LARGEST_SIZE = 8192
MOST_STEPS = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument(
        "--cells",
        type=_cells,
        default=DEFAULT_CELLS,
        metavar="NAMES",
        help=f"of {', '.join(GATES)}, separated by commas; default {','.join(DEFAULT_CELLS)}",
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default=DEFAULT_SIZES,
        metavar="H",
        help=f"units, as many as inputs, separated by commas; default {','.join(map(str, DEFAULT_SIZES))}",
    )
    parser.add_argument(
        "--dtype",
        type=_dtype,
        default="float32",
        metavar="NAME",
        help=f"of our weights: {', '.join(DTYPES)}; default float32",
    )
    parser.add_argument(
        "--isa", type=_isas, default=None, metavar="TIERS", help="our tiers to time, the first compared; default all"
    )
    parser.add_argument(
        "--steps-sequence",
        type=_steps,
        default=100,
        metavar="T",
        help="steps of the sequences in the second table, 0 for no such table; default 100",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--no-peers", action="store_true", help="NumPy alone to compare with")
    parser.add_argument("--json", type=_writable, default=None, metavar="FILE", help="write all results there")


def _name(text: str, known: Sequence[str], what: str) -> str:
    name = text.strip()
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name!r} is not {what}; there are: {', '.join(known)}")
    return name


def _names(text: str, known: Sequence[str], what: str) -> list[str]:
    return list(dict.fromkeys(_name(part, known, what) for part in text.split(",")))


def _dtype(text: str) -> str:
    return _name(text, DTYPES, "a dtype")


def _cells(text: str) -> list[str]:
    return _names(text, list(GATES), "a cell")


def _isas(text: str) -> list[str]:
    return _names(text, isas(), "a tier that this machine runs")


def _sizes(text: str) -> list[int]:
    return list(dict.fromkeys(_integer(part, 1, LARGEST_SIZE) for part in text.split(",")))


def _steps(text: str) -> int:
    return _integer(text, 0, MOST_STEPS)


def _integer(text: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a whole number from {least} to {most}")
    return value


def _writable(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file in a folder that exists")
    return path
