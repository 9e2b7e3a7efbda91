"""The commands ``inspect``, ``convert``, ``quantize`` and ``run``, which take files of models."""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

from . import converting, inspecting, quantizing, running
from .text import show

_MODULES = {"inspect": inspecting, "convert": converting, "quantize": quantizing, "run": running}


def add_parsers(commands: Any) -> None:
    """Adds the commands to the parsers of the command line."""
    for module in _MODULES.values():
        module.add_parser(commands)


def run(options: argparse.Namespace) -> int:
    """Runs one of the commands. Status 1, after an error or with all told, where something cannot be loaded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _remark
            status: int = _MODULES[options.command].run(options)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        show(f"fusedcell: {error}", sys.stderr)
        return 1
    return status


def _remark(message: Warning | str, *where: Any, **options: Any) -> None:
    """A warning as a line, without the place in the code."""
    show(f"fusedcell: {message}", sys.stderr)
