"""Command line: ``fusedcell info``, ``inspect``, ``convert``, ``quantize``, ``run``, ``bench``; or ``python -m``."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from . import _core, commands
from .runtime import runtime_info, show_runtime

# What a shell says of a program that a signal ended: SIGINT, and SIGPIPE.
_INTERRUPTED, _UNREAD = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    It is 2 if the command was asked for something that cannot be, 130 after Ctrl-C, and 141 where whoever reads its
    output has had enough. Output that is closed is as good as /dev/null.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        status = _UNREAD
    except (OSError, MemoryError) as error:
        status = _refused(error)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    _forget_unwritten()
    return status


def _prepare_streams() -> None:
    # In this order, as each takes the lowest descriptor that is free: its own, and no file's of ours.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - as long as the process
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have what its encoding has not
        sys.stdout.reconfigure(errors="backslashreplace")


def _forget_unwritten() -> None:
    """What could not be written is not to be tried again, and complained of, when the interpreter ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _run(arguments: list[str]) -> int:
    try:
        parser = _parser(with_bench="bench" in arguments)
        options = parser.parse_args(arguments)
        if options.command == "bench":
            from .bench.options import complete

            complete(parser, options)
    except SystemExit as stop:  # argparse has said what there is to say
        return stop.code if isinstance(stop.code, int) else 0
    try:
        _core.resolve_isa()
    except ValueError as error:  # the environment asks for a tier that there is not
        return _refused(error)
    if options.command == "info":
        return _info(as_json=options.json)
    if options.command == "bench":
        from .bench import command

        return command.run(options, arguments)
    return commands.run(options)


def _refused(error: Exception) -> int:
    with suppress(OSError):  # of standard error
        print(f"fusedcell: {str(error) or 'there is not enough memory'}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        # Not by their first letters, by which --steps of one subcommand would be --steps-tail of another.
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuses what is unknown itself, where argparse leaves that of a subcommand to the command of all."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """In one line, where argparse has the usage too."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def print_help(self, file: Any = None) -> None:
        """Where argparse does not say what became of it."""
        print(self.format_help(), end="", file=file or sys.stdout)


def _parser(*, with_bench: bool = True) -> argparse.ArgumentParser:
    """The bench is imported by its own command alone."""
    parser = _Parser(
        prog="fusedcell",
        description="Recurrent networks on a CPU: what this machine runs, how fast, and from which files.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    info = subparsers.add_parser("info", help="version, build, CPU, caches and tiers")
    info.add_argument("--json", action="store_true", help="as JSON")
    commands.add_parsers(subparsers)
    text = "time single steps, sequences, batches and threads, beside NumPy and other libraries"
    bench = subparsers.add_parser("bench", help=text)
    if with_bench:
        from .bench.options import add_arguments

        add_arguments(bench)
    return parser


def _info(*, as_json: bool) -> int:
    if as_json:
        print(json.dumps(runtime_info(), indent=1))
    else:
        show_runtime()
    return 0


if __name__ == "__main__":
    sys.exit(main())
