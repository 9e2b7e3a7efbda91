"""``fusedcell bench``: its options, and the run from the first case to the tables."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..runtime import isas, runtime_info
from . import table
from .cases import GATES, Case
from .peers import NumPy, Peer, load_peers
from .run import KINDS, Result, measure_case
from .tiers import Tier
from .timing import FULL, QUICK

DEFAULT_CELLS = ["lstm", "gru", "gru_reset_before", "rnn"]
DEFAULT_SIZES = [16, 32, 64, 128, 256, 512, 1024]
LARGEST_SIZE = 8192
MOST_STEPS = 100_000

# NumPy's BLAS and the peers' thread pools look at these once, when they are loaded.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


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


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs the command; `arguments` are those of the whole command line. Returns its exit status."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        return subprocess.call([sys.executable, "-m", "fusedcell", *arguments], env={**os.environ, **ONE_THREAD})

    tiers = [Tier(isa) for isa in options.isa or isas()]
    peers, absent = ([], {}) if options.no_peers else load_peers()
    others: list[Peer] = [NumPy(), *peers]
    environment = _environment(options, peers, absent)
    print(table.header(environment), end="\n\n", flush=True)

    results = _measure(options, tiers, others)
    for text in _tables(results, [tier.name for tier in tiers], [other.name for other in others]):
        print(text, end="\n\n")
    if options.json is not None:
        _write_json(options.json, environment, results)
    ours = {tier.name for tier in tiers}
    return 1 if any(ours & result.failures.keys() for result in results) else 0


def _environment(options: argparse.Namespace, peers: Sequence[Peer], absent: dict[str, str]) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "runtime": runtime_info(),
        "peers": "not asked for" if options.no_peers else {peer.name: peer.version for peer in peers} | absent,
        "method": f"one thread, variants in turns{', few rounds' if options.quick else ''}",
        "load": f"{os.getloadavg()[0]:.1f} before the run" if hasattr(os, "getloadavg") else "unknown",
    }


def _measure(options: argparse.Namespace, tiers: Sequence[Tier], others: Sequence[Peer]) -> list[Result]:
    kinds = KINDS if options.steps_sequence else KINDS[:1]
    shapes = [(cell, size) for cell in options.cells for size in options.sizes]
    results = []
    with ExitStack() as stack:
        for other in others:
            stack.enter_context(other.context())
        for i, (cell, size) in enumerate(shapes):
            # Made here and not kept: the largest has weights of tens of megabytes.
            case = Case(cell, size, options.steps_sequence or 100)
            for kind in kinds:
                _progress(f"[{i + 1}/{len(shapes)}] {cell} {size}, {kind}")
                results.append(measure_case(case, kind, tiers, others, QUICK if options.quick else FULL))
    _progress("")
    return results


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<40}", end="" if text else "\r", file=sys.stderr, flush=True)


def _tables(results: Sequence[Result], tiers: list[str], others: list[str]) -> list[str]:
    steps, sequences = ([result for result in results if result.kind == kind] for kind in KINDS)
    texts = [table.step_table(steps, tiers, others)]
    if sequences:
        texts.append(table.sequence_table(sequences, tiers[0], others))
    texts += [table.spread(results), table.failures(results)]
    return [text for text in texts if text]


def _write_json(path: Path, environment: dict[str, Any], results: Sequence[Result]) -> None:
    entries = [
        asdict(result) | {"share_of_read_limit": result.share_of_read_limit, "best_other": result.best_other}
        for result in results
    ]
    path.write_text(json.dumps(environment | {"results": entries}, indent=1) + "\n", encoding="utf-8")


def _names(text: str, known: Sequence[str], what: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is not {what}; there are: {', '.join(known)}")
    return list(dict.fromkeys(names))


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
