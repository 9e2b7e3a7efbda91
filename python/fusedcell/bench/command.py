"""``fusedcell bench``: the run from the first case to the tables."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, TextIO

import numpy as np

from .. import _core
from .._files import write_file
from .._text import Output, three_digits
from ..runtime import runtime_info
from . import compare, plot, training, whole
from .answers import our_tolerance
from .bars import bars_of_cases, bars_of_nodes
from .limits import multiply_rate, read_limits
from .machine import BEGINNING, describe_machine, look, machine_texts, mixed_kinds, own_cpus, slowed_down, summary
from .options import STDOUT, WRITTEN, writes_files
from .page import page
from .results import Findings, Result, disturbed
from .studies import RepeatError, Study, measure_study, study_of
from .tables import failures, tables

# NumPy's BLAS and the peers' thread pools look at these once, when they are loaded.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_NUMBERS = re.compile(r"\[\s+([-+.0-9e,\s]+?)\s+\]")
_REPORT = (
    ": times, board, CPU, kernel, caches, clocks, temperatures and versions of libraries, without any name of host or "
    "user. It is the file to send to whoever asked for your figures, and `fusedcell bench compare` reads two of them."
)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs the command; `arguments` are those of the whole command line. Returns its exit status."""
    if options.study == "compare":
        return compare.run(options)
    if options.study == "train":
        return training.run(options)
    try:
        dtypes = [whole.dtype_of(whole.read(options))] if options.study == "model" else options.dtypes
    except (ValueError, ImportError) as error:
        print(f"fusedcell: {error}", file=sys.stderr)
        return 2
    cpus = own_cpus()
    if (options.cpu or cpus) != cpus or any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        return _start_anew(options.cpu or cpus, arguments)
    results = _stdout_for_results() if options.json == STDOUT else None
    out = Output(sys.stdout, writes_files=writes_files(options))
    studies = [study_of(options, dtype) for dtype in dtypes]
    document = _describe(options, studies)
    machine = document["machine"]
    findings = Findings(looks=[look(BEGINNING)])
    tables_of = whole.tables if options.study == "model" else tables
    out.show(f"{_facts(document) if options.details else _head(document)}\n")
    try:
        for study in studies:
            found = measure_study(study)
            findings.results.extend(found.results)
            findings.looks.extend(found.looks)
            for text in tables_of(found.results, details=options.details):
                out.show(f"{text}\n")
    except RepeatError as error:
        print(f"fusedcell: {error}", file=sys.stderr)
        return 2
    clock = summary(findings.looks)
    for text in filter(None, [failures(findings.failures), clock if options.details else ""]):
        out.show(f"{text}\n")
    spread = disturbed({result.name: result.shown for result in findings.results})
    machine["warnings"] = [*mixed_kinds(machine), *slowed_down(machine, findings.looks), *spread]
    for text in machine["warnings"]:
        out.show(f"Warning: {text}.")
    document |= {"results": list(map(_entry, findings.results)), "looks": [asdict(each) for each in findings.looks]}
    # Numbers in a row stay on one line.
    json_text = _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", json.dumps(document, indent=1)) + "\n"
    if results is None and options.json is not None:
        write_file(options.json, json_text.encode())
        out.show(f"All results are in {options.json.absolute()}{_REPORT if options.study == 'report' else '.'}")
    cpu = document["runtime"]["cpu"]
    groups = (bars_of_nodes if options.study == "model" else bars_of_cases)(findings.results)
    if options.html is not None:
        texts = [*tables_of(findings.results, details=True), failures(findings.failures), _facts(document)]
        title = f"fusedcell {document['runtime']['fusedcell']} on {cpu}"
        write_file(options.html, page(title, groups, filter(None, texts)).encode())
        out.show(f"The page for a browser is {options.html.absolute().as_uri()}")
    if options.plot is not None:
        plot.draw_bars(options.plot, cpu, groups)
        out.show(f"The figure is {options.plot}.")
    if options.plot_us is not None:
        plot.draw_lines(options.plot_us, cpu, findings.results)
        out.show(f"The figure of microseconds is {options.plot_us}.")
    if results is not None:
        with results:
            results.write(json_text)
    out.end()
    return 1 if any(variant in result.own for result, variant, _ in findings.failures) else 0


def _start_anew(cpus: Sequence[int], arguments: Sequence[str]) -> int:
    """In a process that has these CPUs, where the system numbers them, and one thread a library."""
    before = own_cpus()
    try:
        if before:
            os.sched_setaffinity(0, cpus)
        return subprocess.call([sys.executable, "-m", "fusedcell", *arguments], env={**os.environ, **ONE_THREAD})
    finally:
        if before:
            os.sched_setaffinity(0, before)


def _stdout_for_results() -> TextIO:
    """Standard output, which from here on has nothing else: what is printed, by libraries in C too, goes elsewhere."""
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return results


def _describe(options: argparse.Namespace, studies: Sequence[Study]) -> dict[str, Any]:
    """What was measured, on what and how: what goes with the results into a file."""
    first = studies[0].tiers[0]
    tiers = dict.fromkeys(
        [*((tier.isa, tier.dtype) for each in studies for tier in each.tiers), (first.isa, "float32")]
    )
    peers = [peer for study in studies for peer in study.peers]
    tolerances = {f"others' {peer.dtype}": str(peer.tolerance) for peer in peers}
    tolerances |= {f"our {study.dtype}": str(our_tolerance(1, study.dtype)) for study in studies}
    return {
        "schema": compare.SCHEMA,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "runtime": runtime_info(),
        "machine": describe_machine(own_cpus(), by_choice=options.cpu is not None),
        "dtype": ", ".join(study.dtype for study in studies),
        "tier": ", ".join(dict.fromkeys(study.tiers[0].isa for study in studies)),
        "options": {name: value for name, value in vars(options).items() if name not in ("command", *WRITTEN)},
        "peers": {peer.name: peer.version for peer in peers} | {k: v for it in studies for k, v in it.absent.items()},
        "tolerances": tolerances,
        "load": f"{os.getloadavg()[0]:.1f} before the run" if hasattr(os, "getloadavg") else "unknown",
        "read_limits": read_limits(first.isa),
        "multiply_rates": {" ".join(pair): multiply_rate(*pair) for pair in tiers},
    }


def _head(document: Mapping[str, Any]) -> str:
    """What a reader needs before the first table."""
    runtime, options = document["runtime"], document["options"]
    present = ", ".join(f"{name} {text}" for name, text in document["peers"].items())
    used, beside = "one thread of ", f", beside {present}" if present else ""
    if options["study"] == "threads":
        used, alone = "", "one CPU" if _core.available_cpus() == 1 else "one number of threads"
        beside = f"; {alone} has nothing to compare with" if len(options["threads"]) == 1 else ""
    notes = "".join(f" {text[0].upper()}{text[1:]}." for text in (*_square(options), *_few_rounds(options)))
    return (
        f"fusedcell {runtime['fusedcell']} on {document['tier']}, {used}{runtime['cpu']}{beside}.\n"
        f"Times are medians in microseconds (us), and lower is better. --details has all that was found.{notes}"
    )


def _square(options: Mapping[str, Any]) -> list[str]:
    """What a table that has H alone does not say of the inputs."""
    return [] if options["inputs"] or options["study"] == "model" else ["as many inputs as units (H)"]


def _few_rounds(options: Mapping[str, Any]) -> list[str]:
    """A report has no other number of rounds, but may have more repeats."""
    if options["study"] == "report":
        return [] if options["repeats"] > 1 else ["few rounds; --repeats measures more"]
    return ["few rounds: a first look and no measurement"] if options["quick"] else []


def _facts(document: Mapping[str, Any]) -> str:
    """What was measured, on what and how, one thing a line."""
    runtime, options = document["runtime"], document["options"]
    caches = ", ".join(f"{name} {size}" for name, size in runtime["caches"].items()) or "caches unknown"
    method = ["each number of threads in turns" if options["study"] == "threads" else "one thread, variants in turns"]
    method += [*_square(options), *_few_rounds(options)]
    method += [f"median of {options['repeats']} processes"] if options["repeats"] > 1 else []
    lines = {
        "measured": f"{document['date']}, {document['dtype']}, {', '.join(method)}",
        "fusedcell": f"{runtime['fusedcell']} on {document['tier']} of {', '.join(runtime['isas'])}",
        "peers": ", ".join(f"{name} {text}" for name, text in document["peers"].items()) or "none",
        "checked": "onnxruntime's answers against ours"
        if options["study"] == "model"
        else f"against float64, {', '.join(f'{k} within {v}' for k, v in document['tolerances'].items())}",
        "cpu": f"{runtime['cpu']}, {', '.join(runtime['cores'])}, {caches}, load {document['load']}",
        **machine_texts(document["machine"]),
        "read limit": f"GB/s, one thread, of so much again and again: {_rates(document['read_limits'])}",
        "multiply rate": f"10^9 multiply-adds/s, one thread: {_rates(document['multiply_rates'])}",
    }
    return "\n".join(f"{name:<14} {text}" for name, text in lines.items())


def _rates(by_name: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {three_digits(rate)}" for name, rate in by_name.items())


def _entry(result: Result) -> dict[str, Any]:
    """In a file: of the rounds, our own, to five digits, which is more than a clock knows; of tails percentiles."""
    entry = asdict(result) | {
        "dtype": result.dtype,
        "times": {name: asdict(time) for name in result.rounds if (time := result.time(name))},
        "medians": {name: [float(np.median(part)) for part in its if part] for name, its in result.rounds.items()},
    }
    if result.kind == "tails":
        percents = (50, 99, 99.9)
        found = {name: [result.percentile(name, each) for each in percents] for name in result.own}
        return entry | {"rounds": {}, "percentiles": found}
    ours = result.rounds.get(result.ours, [])
    return entry | {
        "rounds": {result.ours: [[float(f"{us:.5g}") for us in part] for part in ours]},
        "ratios": {
            name: asdict(each) for name in result.rounds if (each := result.ratio(name)) and name != result.ours
        },
        "best_other": result.best_other(),
        "limit_us": result.limit_us,
        "share_of_limit": result.share_of_limit,
    }
