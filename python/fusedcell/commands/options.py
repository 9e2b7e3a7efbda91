"""What the commands' options have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..convert.onnx.node import IGNORABLE
from ..weights.file_kinds import ONNX, SUFFIXES, FileKind


def add_file(parser: argparse.ArgumentParser, name: str, text: str, of: Callable[[str], Any] = Path) -> None:
    """The file of a model, and the states of an ONNX model."""
    parser.add_argument(name.lower(), metavar=name, type=of, help=f"{text}, ending in {', '.join(SUFFIXES)}")
    parser.add_argument(
        "--state",
        action="append",
        type=_state,
        default=[],
        metavar="IN=OUT",
        help="of an ONNX model: an input that is a state, and the output that carries it on",
    )


def add_ignore(parser: argparse.ArgumentParser) -> None:
    """What of an ONNX node may be left out."""
    parser.add_argument(
        "--ignore",
        action="append",
        choices=IGNORABLE,
        default=[],
        help="of an ONNX node: take the default where the model makes it in a way that is not understood",
    )


def check_is_for_onnx(options: Any, kind: FileKind, path: Path) -> None:
    """Raises ValueError for options that only ONNX models have."""
    for name in ("ignore", "state"):
        if getattr(options, name) and kind != ONNX:
            raise ValueError(f"--{name}: {path.name!r} is not a file ending in {ONNX.suffixes[0]}")


def _state(text: str) -> tuple[str, str]:
    name, equals, output = text.partition("=")
    if not (name and equals and output):
        raise argparse.ArgumentTypeError(f"{text!r} is not IN=OUT, the names of an input and of an output")
    return name, output
