"""Command line: ``fusedcell info``, ``inspect``, ``convert`` and ``bench``, also as ``python -m fusedcell``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from . import _core
from .bench import command as bench
from .bench.options import add_arguments, complete
from .convert import command as convert
from .runtime import runtime_info, show_runtime


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 2 if it was asked for something that cannot be."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parser = _parser()
        options = parser.parse_args(arguments)
        if options.command == "bench":
            complete(parser, options)
    except SystemExit as stop:  # argparse has said what there is to say
        return stop.code if isinstance(stop.code, int) else 0
    try:
        _core.resolve_isa()
    except ValueError as error:  # the environment asks for a tier that there is not
        return _refused(error)
    try:
        status = _run(options, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has had enough. What is still in the buffer must not be flushed at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refused(error)
    except KeyboardInterrupt:
        return 130
    return status


def _run(options: argparse.Namespace, arguments: list[str]) -> int:
    if options.command == "info":
        return _info(as_json=options.json)
    if options.command == "bench":
        return bench.run(options, arguments)
    return convert.run(options)


def _refused(error: Exception) -> int:
    print(f"fusedcell: {error}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusedcell",
        description="Recurrent networks on a CPU: what this machine runs, how fast, and from which files.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="version, build, CPU, caches and tiers")
    info.add_argument("--json", action="store_true", help="as JSON")
    convert.add_parsers(commands)
    text = "time single steps, sequences, batches and threads, beside NumPy and other libraries"
    add_arguments(commands.add_parser("bench", help=text))
    return parser


def _info(*, as_json: bool) -> int:
    if as_json:
        print(json.dumps(runtime_info(), indent=1))
    else:
        show_runtime()
    return 0


if __name__ == "__main__":
    sys.exit(main())
