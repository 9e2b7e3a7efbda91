"""The options of ``fusedcell bench`` and its subcommands, and which values are refused."""

from __future__ import annotations

import argparse
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import _core
from .._dtypes import DTYPES
from ..commands.options import add_file
from ..runtime import isas
from .cases import GATES
from .machine import cpu_list, own_cpus
from .tails import FULL_TAIL

STDOUT = "-"
WRITTEN = ("json", "plot", "plot_us", "html")
SUBCOMMANDS = {
    "step": "single steps: medians beside other libraries, and the slowest ones, with warm and with cold caches",
    "sequence": "whole sequences beside other libraries",
    "batch": "sequences in batches, beside the other libraries that take batches",
    "threads": "our single steps and sequences with more threads",
    "many": "one step of many scattered streams: one by one, in one call, and as other libraries must do it",
    "report": "all of the above that matter on one machine, in float32 and int8: fusedcell-report.json has all results "
    "and fusedcell-report.html is a page for a browser; a few minutes",
    "model": "a whole model from a file: a step (a sequence, if it has no streams), what each node has of that, by "
    "models cut after each node, in turns, and a sequence beside ONNX Runtime",
    "train": "a step of training, forward, backward and update, beside PyTorch, and Keras where it runs on PyTorch",
    "compare": "two files of --json: are the times of the second others than those of the first?",
}
TRAINED: dict[str, list[Any]] = {"cells": ["lstm", "gru", "rnn"], "sizes": [64, 256, 512]}
_CELLS, _SIZES = ["lstm", "gru", "gru_reset_before", "rnn"], [16, 32, 64, 128, 256, 512, 1024]
_COMMON: dict[str, Any] = {"cells": _CELLS, "sizes": _SIZES, "steps": 100, "dtype": "float32", "isa": None}
_COMMON |= {"quick": False, "no_peers": False, "repeats": 1, "cpu": None, "json": None, "plot": None}
_COMMON |= {"inputs": 0, "details": False, "plot_us": None, "html": None}

# What is not asked for, by subcommand, where it differs; those of `bench` alone are at "".
_DEFAULTS: dict[str, dict[str, Any]] = {
    "": {"cells": ["lstm", "gru"], "sizes": [32, 64, 128, 256, 512]},
    "step": {"steps_tail": None},
    "sequence": {},
    "batch": {"cells": ["lstm", "gru"], "sizes": [64, 256, 512], "batches": [1, 2, 4, 8, 32]},
    "threads": {"cells": ["lstm", "gru"], "sizes": [256, 512, 1024], "threads": None},
    "many": {"cells": ["lstm", "gru"], "sizes": [64, 128, 256], "streams": [64]},
    "model": {},
    "train": {"cells": ["lstm", "gru"], "sizes": TRAINED["sizes"]},
    "report": {"cells": ["lstm", "gru"], "sizes": [32, 64, 128, 256, 512], "batches": [1, 4], "quick": True},
}


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a whole number from {least} to {most}")
        return value

    return parse


def _name(known: Callable[[], Sequence[str]], what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        name = text.strip()
        if name not in known():
            raise argparse.ArgumentTypeError(f"{name!r} is not {what}; there are: {', '.join(known())}")
        return name

    return parse


def _list(parse: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Separated by commas, each once."""
    return lambda text: list(dict.fromkeys(parse(part) for part in text.split(",")))


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


def _percentage(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is not a percentage from 0")
    return value


def writable(text: str) -> Path | str:
    """A file that can be written, as far as one can tell before, or STDOUT."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file in a folder that exists")
    return STDOUT if text == STDOUT else path


def writable_file(text: str) -> Path:
    """A file that can be written, and not standard output, which is for results."""
    if text == STDOUT:
        raise argparse.ArgumentTypeError("expected the name of a file, got -")
    return Path(writable(text))


def _picture(text: str) -> Path:
    """A file for a figure; refused before anything is measured if there is nothing that draws it."""
    path = writable_file(text)
    if path.suffix not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} ends neither in .png nor in .svg")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("needs matplotlib: pip install fusedcell[plot]")
    return path


# Name, type (None for a switch), what stands for the value, help, and which subcommands have it; "" is bench alone.
_ALL = ("", "step", "sequence", "batch", "threads", "many", "report")
_ALL_AND_MODEL = (*_ALL, "model")
_OPTIONS: list[tuple[str, Callable[[str], Any] | None, str, str, tuple[str, ...]]] = [
    (
        "cells",
        _list(_name(lambda: list(GATES), "a cell")),
        "NAMES",
        f"of {', '.join(GATES)}; default {{cells}}",
        _ALL,
    ),
    ("cells", _list(str), "NAMES", f"of {', '.join(TRAINED['cells'])}; default {{cells}}", ("train",)),
    ("sizes", _list(_integer(1, 8192)), "H", "units; default {sizes}", _ALL),
    ("sizes", _list(_integer(1, 8192)), "H", "units, and inputs, of {sizes}; default all of them", ("train",)),
    ("inputs", _integer(1, 8192), "I", "inputs of each layer; default as many as units", _ALL),
    ("dtype", _name(lambda: DTYPES, "a dtype"), "NAME", f"weights: {', '.join(DTYPES)}; default {{dtype}}", _ALL[:-1]),
    ("isa", _list(_name(isas, "a tier that this machine runs")), "TIERS", "the first compared; default all", _ALL),
    (
        "steps",
        _integer(1, 100_000),
        "T",
        "of a sequence; default {steps}",
        ("", "sequence", "batch", "threads", "model"),
    ),
    (
        "steps-tail",
        _integer(100, 10_000_000),
        "N",
        f"warm steps of the tails; default {FULL_TAIL.warm}, or as many as {FULL_TAIL.seconds:g} s allow",
        ("step",),
    ),
    ("batches", _list(_integer(1, 1024)), "B", "default {batches}", ("batch",)),
    ("streams", _list(_integer(2, 1024)), "N", "how many step together; default {streams}", ("many",)),
    ("threads", _list(_integer(1, 1024)), "N", "default 1, 2, 4, ... to all CPUs", ("threads",)),
    ("quick", None, "", "fewer rounds", (*_ALL[:-1], "model", "train")),
    ("no-peers", None, "", "no other libraries but NumPy", _ALL_AND_MODEL),
    (
        "repeats",
        _integer(1, 100),
        "N",
        "measure so often, in a process each; compare needs 4; default 1",
        _ALL_AND_MODEL,
    ),
    ("cpu", cpus, "LIST", "run on these CPUs alone, as in 0-3,6; default all that there are", _ALL_AND_MODEL),
    (
        "json",
        writable,
        "FILE",
        "all results; - is standard output, and all else then goes to standard error",
        (*_ALL_AND_MODEL, "train"),
    ),
    ("details", None, "", "every library's time, percentiles, the machine and its limits too", _ALL_AND_MODEL),
    (
        "html",
        writable_file,
        "FILE",
        "a page for a browser: bars, tables and the machine",
        (*_ALL_AND_MODEL, "train"),
    ),
    (
        "plot",
        _picture,
        "FILE",
        "bars of how many times faster, or of a model's nodes, .png or .svg; needs fusedcell[plot]",
        (*_ALL_AND_MODEL, "train"),
    ),
    (
        "plot-us",
        _picture,
        "FILE",
        "for engineers: microseconds by units, both axes logarithmic, .png or .svg; needs fusedcell[plot]",
        ("", "step", "sequence"),
    ),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options and the subcommands."""
    _add_options(parser, "")
    commands = parser.add_subparsers(dest="study", metavar="SUBCOMMAND", help="without: single steps and sequences")
    for name, text in SUBCOMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}")
        if name != "compare":
            _add_options(command, name)
            if name == "model":
                add_file(command, "MODEL", "a file", of=str)
            continue
        command.add_argument("old", type=Path, metavar="OLD.json")
        command.add_argument("new", type=Path, metavar="NEW.json")
        command.add_argument("--force", action="store_true", help="even if dtypes, tiers or machines differ")
        text = "exit status 1 if a case is slower by more than so many percent"
        command.add_argument("--fail-slower", type=_percentage, metavar="PCT", help=text)


def complete(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Fills in what was not asked for; refuses what was said before a subcommand that does not have it."""
    study = options.study or ""
    parser.prog += f" bench {study}".rstrip()  # whose --help has what is refused here
    taken = {name for name, *_, studies in _OPTIONS if study in studies}
    for name, *_ in _OPTIONS:
        if name.replace("-", "_") in options and name not in taken:
            parser.error(f"argument --{name}: bench {study} does not have it")
    if study == "compare":
        return
    for name, value in (_COMMON | _DEFAULTS[study]).items():
        if name not in options:
            setattr(options, name, value)
    options.dtypes = ["float32", "int8"] if study == "report" else [options.dtype]
    if study == "threads" and options.threads is None:
        cpus = _core.available_cpus()
        options.threads = sorted({cpus, *(2**i for i in range(cpus.bit_length()))})
    for name, known in TRAINED.items() if study == "train" else ():
        if unknown := [str(value) for value in getattr(options, name) if value not in known]:
            parser.error(f"argument --{name}: bench train has {', '.join(map(str, known))}, got {', '.join(unknown)}")
    if study == "report" and options.json is None:
        name = f"fusedcell-report{f'-cpu{cpu_list(options.cpu)}' if options.cpu else ''}"
        options.json, options.html = Path(f"{name}.json"), options.html or Path(f"{name}.html")


def writes_files(options: argparse.Namespace) -> bool:
    """Whether there is more to do than to print."""
    return any(getattr(options, name) is not None for name in WRITTEN)


def _add_options(parser: argparse.ArgumentParser, study: str) -> None:
    defaults = {
        name: ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in (_COMMON | _DEFAULTS[study]).items()
    }
    for name, kind, metavar, text, studies in _OPTIONS:
        if study in studies:
            value: dict[str, Any] = {"type": kind, "metavar": metavar} if kind else {"action": "store_true"}
            # Without a default of its own, so that a subcommand leaves what was said before it.
            parser.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text.format_map(defaults), **value)
