"""``fusedcell bench``: the run from the first case to the tables."""

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
from .answers import our_tolerance
from .cases import Case
from .peers import NumPy, Peer, load_peers
from .run import KINDS, Result, float32_of, measure_case
from .tiers import Tier, float_isas
from .timing import FULL, QUICK

# NumPy's BLAS and the peers' thread pools look at these once, when they are loaded.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs the command; `arguments` are those of the whole command line. Returns its exit status."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        return subprocess.call([sys.executable, "-m", "fusedcell", *arguments], env={**os.environ, **ONE_THREAD})

    dtype = options.dtype
    tiers = [Tier(isa, dtype) for isa in options.isa or (isas() if dtype == "int8" else float_isas())]
    peers, absent = ([], {}) if options.no_peers else load_peers(dtype)
    others: list[Peer] = [NumPy(), *peers]
    environment = _environment(options, peers, absent)
    environment["checked"] = _checked(tiers, others)
    print(table.header(environment), end="\n\n", flush=True)

    results = _measure(options, tiers, others)
    for text in _tables(results, tiers, [other.name for other in others]):
        print(text, end="\n\n")
    if options.json is not None:
        _write_json(options.json, environment, results)
    ours = {tier.name for tier in (*tiers, *float32_of(tiers[0]))}
    return 1 if any(ours & result.failures.keys() for result in results) else 0


def _environment(options: argparse.Namespace, peers: Sequence[Peer], absent: dict[str, str]) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "runtime": runtime_info(),
        "dtype": options.dtype,
        "peers": "not asked for" if options.no_peers else {peer.name: peer.version for peer in peers} | absent,
        "method": f"one thread, variants in turns{', few rounds' if options.quick else ''}",
        "load": f"{os.getloadavg()[0]:.1f} before the run" if hasattr(os, "getloadavg") else "unknown",
    }


def _checked(tiers: Sequence[Tier], others: Sequence[Peer]) -> str:
    """How far the answers of those that are timed may be off, where it does not depend on the size."""
    limits = {f"others' {other.dtype}": other.tolerance for other in others}
    if tiers[0].dtype != "float32":
        limits[f"our {tiers[0].dtype}"] = our_tolerance(1, tiers[0].dtype)
    return "against float64, " + ", ".join(f"{name} within {limit}" for name, limit in limits.items())


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


def _tables(results: Sequence[Result], tiers: Sequence[Tier], others: list[str]) -> list[str]:
    steps, sequences = ([result for result in results if result.kind == kind] for kind in KINDS)
    ours, in_float32 = ([tier.name for tier in group] for group in (tiers, float32_of(tiers[0])))
    texts = [table.step_table(steps, ours, [*in_float32, *others])]
    if sequences:
        texts.append(table.sequence_table(sequences, [ours[0], *in_float32], others))
    texts += [table.spread(results), table.failures(results)]
    return [text for text in texts if text]


def _write_json(path: Path, environment: dict[str, Any], results: Sequence[Result]) -> None:
    entries = [
        asdict(result)
        | {name: getattr(result, name) for name in ("share_of_read_limit", "best_other", "best_other_of_dtype")}
        for result in results
    ]
    path.write_text(json.dumps(environment | {"results": entries}, indent=1) + "\n", encoding="utf-8")
