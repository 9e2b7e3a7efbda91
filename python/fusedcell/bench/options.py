"""The options of ``fusedcell bench`` and its subcommands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import _core
from .._dtypes import DTYPES
from . import values
from .cases import GATES
from .machine import cpu_list
from .tails import FULL_TAIL
from .threads import thread_counts

_CELLS = ["lstm", "gru", "gru_reset_before", "rnn"]
_SIZES = [16, 32, 64, 128, 256, 512, 1024]
_STEPS = 100

SUBCOMMANDS = {
    "step": "single steps: medians beside other libraries, tails with warm and with cold caches",
    "sequence": "whole sequences beside other libraries",
    "batch": "sequences in batches, beside the other libraries that take batches",
    "threads": "our single steps and sequences with more threads",
    "many": "one step of many scattered streams: one by one, in one call, and as other libraries must do it",
    "report": "all of the above that matter on one machine, in float32 and int8, for a file to send in; a few minutes",
    "compare": "two files of --json: are the times of the second others than those of the first?",
}

# What is not asked for, by subcommand; those of `bench` alone are at "".
_DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"cells": _CELLS, "sizes": _SIZES, "steps": _STEPS},
    "step": {"cells": _CELLS, "sizes": _SIZES, "steps": _STEPS, "steps_tail": None},
    "sequence": {"cells": _CELLS, "sizes": _SIZES, "steps": _STEPS},
    "batch": {"cells": ["lstm", "gru"], "sizes": [64, 256, 512], "steps": _STEPS, "batches": [1, 2, 4, 8, 32]},
    "threads": {"cells": ["lstm", "gru"], "sizes": [256, 512, 1024], "steps": _STEPS, "threads": None},
    "many": {"cells": ["lstm", "gru"], "sizes": [64, 128, 256], "steps": _STEPS, "streams": [64]},
    "report": {
        "cells": ["lstm", "gru"],
        "sizes": [32, 64, 128, 256, 512],
        "dtypes": ["float32", "int8"],
        "steps": _STEPS,
        "batches": [1, 4],
        "quick": True,
    },
}
_COMMON: dict[str, Any] = {
    "cells": None,
    "sizes": None,
    "dtype": "float32",
    "isa": None,
    "quick": False,
    "repeats": 1,
    "no_peers": False,
    "json": None,
    "plot": None,
    "cpu": None,
}
# What a subcommand does not have though others do.
_WITHOUT = {"compare": set(_COMMON), "many": {"plot"}, "report": {"dtype", "plot", "quick"}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options and the subcommands."""
    _add_common(parser, "")
    parser.add_argument(
        "--steps-sequence",
        type=values.steps_or_none,
        default=argparse.SUPPRESS,
        metavar="T",
        help=f"without a subcommand: steps of the sequences in the second table, 0 for none; default {_STEPS}",
    )
    commands = parser.add_subparsers(dest="study", metavar="SUBCOMMAND", help="without: single steps and sequences")
    for name, text in SUBCOMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}")
        if name == "compare":
            _add_compare(command)
            continue
        _add_common(command, name)
        if name not in ("step", "many", "report"):
            _add(command, "--steps", values.steps, "T", f"steps of the sequences; default {_STEPS}")
        if name == "step":
            text = f"warm steps of the tails; default {FULL_TAIL.warm}, or as many as {FULL_TAIL.seconds:g} s allow"
            _add(command, "--steps-tail", values.tail_steps, "N", text)
        if name == "batch":
            _add(command, "--batches", values.batches, "B", f"default {_listed(_DEFAULTS[name]['batches'])}")
        if name == "many":
            _add(command, "--streams", values.streams, "N", f"default {_listed(_DEFAULTS[name]['streams'])}")
        if name == "threads":
            _add(command, "--threads", values.threads, "N", "separated by commas; default 1, 2, ... to all CPUs")


def complete(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Fills in what was not asked for; refuses what the subcommand does not look at."""
    study = options.study or ""
    asked = set(vars(options)) & {*_COMMON, "steps_sequence"}
    if study and "steps_sequence" in asked:
        parser.error(f"argument --steps-sequence: bench {study} does not have it")
    if without := asked & _WITHOUT.get(study, set()):
        parser.error(f"argument --{min(without).replace('_', '-')}: bench {study} does not have it")
    if not study:
        options.steps = vars(options).pop("steps_sequence", _STEPS)
    defaults = {} if study == "compare" else _COMMON | _DEFAULTS[study]
    for name, value in defaults.items():
        if name not in options:
            setattr(options, name, value)
    if study == "threads" and options.threads is None:
        options.threads = thread_counts(_core.available_cpus())
    if study == "report" and options.json is None:
        options.json = Path(f"fusedcell-report{f'-cpu{cpu_list(options.cpu)}' if options.cpu else ''}.json")


def _add_common(parser: argparse.ArgumentParser, study: str) -> None:
    defaults = _DEFAULTS[study]

    def text_of(name: str, text: str) -> str:
        # What a subcommand does not have it knows all the same, to refuse it by name.
        return argparse.SUPPRESS if name in _WITHOUT.get(study, set()) else text

    def add(name: str, kind: Any, metavar: str, text: str) -> None:
        _add(parser, f"--{name}", kind, metavar, text_of(name, text))

    cells = f"of {', '.join(GATES)}, separated by commas; default {_listed(defaults['cells'])}"
    add("cells", values.cells, "NAMES", cells)
    sizes = f"units, as many as inputs, separated by commas; default {_listed(defaults['sizes'])}"
    add("sizes", values.sizes, "H", sizes)
    add("dtype", values.dtype, "NAME", f"of our weights: {', '.join(DTYPES)}; default float32")
    add("isa", values.tiers, "TIERS", "our tiers to time, the first compared; default all")
    for name, text in (("quick", "fewer rounds"), ("no-peers", "no other libraries but NumPy")):
        parser.add_argument(f"--{name}", action="store_true", default=argparse.SUPPRESS, help=text_of(name, text))
    repeats = "measure so often, each time in a process of its own; compare needs some; default 1"
    add("repeats", values.repeats, "N", repeats)
    add("cpu", values.cpus, "LIST", "run on these CPUs alone, as in 0-3,6; default all that there are")
    json = "write all results there; - is standard output, and all else then goes to standard error"
    add("json", values.writable_or_stdout, "FILE", json)
    add("plot", values.picture, "FILE", "draw a figure there, .png or .svg; needs fusedcell[plot]")


def _add(parser: argparse.ArgumentParser, name: str, kind: Any, metavar: str, text: str) -> None:
    # Without a default of its own, so that a subcommand leaves what was said before it.
    parser.add_argument(name, type=kind, default=argparse.SUPPRESS, metavar=metavar, help=text)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=values.readable, metavar="OLD.json")
    parser.add_argument("new", type=values.readable, metavar="NEW.json")
    parser.add_argument("--force", action="store_true", help="even if dtypes, tiers or machines differ")
    parser.add_argument(
        "--fail-slower",
        type=values.percentage,
        default=None,
        metavar="PCT",
        help="exit status 1 if a case is slower by more than so many percent",
    )


def _listed(values: list[Any]) -> str:
    return ",".join(map(str, values))
