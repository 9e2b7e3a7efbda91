"""The cases of a subcommand, measured one after the other, and again in other processes where it is asked for."""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import _core
from .._dtypes import QUANTISED
from .._text import show_progress
from .._timing import FULL, QUICK, Effort, measure
from ..runtime import isas
from .answers import make_checked
from .cases import Case, Kind
from .limits import gates_us, least, phase_limits, phases
from .machine import look
from .peers import NumPy, Peer, load_peers
from .results import Findings, Result, merged
from .tails import FULL_TAIL, QUICK_TAIL, asked_for, measure_tails
from .tiers import OURS, StreamsTier, Tier, float_isas
from .whole import measure_model, onnxruntime_text

_CALL = "the call"

# Of the process of a repeat.
_PROGRAM = f"from {__name__} import main; main()"

_KINDS: dict[str | None, tuple[Kind, ...]] = {
    None: ("step", "sequence"),
    "step": ("step", "tails"),
    "sequence": ("sequence",),
    "batch": ("sequence",),
    "threads": ("step", "sequence"),
    "many": ("streams",),
    "report": ("step", "tails", "sequence"),
}


class RepeatError(Exception):
    """A repeat ended without results; says which, and how."""


@dataclass(frozen=True)
class Study:
    """What is measured with one dtype: the first tier is compared, and `absent` says why for the peers not there."""

    options: argparse.Namespace
    dtype: str
    tiers: list[Tier]
    peers: list[Peer]
    absent: dict[str, str]


def study_of(options: argparse.Namespace, dtype: str) -> Study:
    """With our tiers and the other libraries that are there."""
    if options.study == "model":
        return Study(options, dtype, [Tier(_core.resolve_isa())], [], {} if options.no_peers else onnxruntime_text())
    chosen = options.isa or (isas() if dtype in QUANTISED else float_isas())
    tiers = [Tier(isa, dtype, OURS if isa == chosen[0] else isa) for isa in chosen]
    if options.study == "threads":
        # Idle threads of other libraries spin for a while after each call, and would take CPUs from whoever is next.
        return Study(options, dtype, tiers, [], {})
    peers, absent = ([], {}) if options.no_peers else load_peers(dtype)
    return Study(options, dtype, tiers, [NumPy(), *peers], absent)


def measure_study(study: Study) -> Findings:
    """All of it, or as many times as was asked for in processes of their own, which share nothing.

    All rounds of one process share where its memory lies, so their number says nothing about how much another process
    would differ.
    """
    count = study.options.repeats
    if count == 1:
        return measure_all(study)
    return merged([_in_process_of_its_own(study, f"repeat {i + 1} of {count}") for i in range(count)])


def _in_process_of_its_own(study: Study, name: str) -> Findings:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "findings"
        # Other libraries may print whatever they like; results come in a file. A terminal's Ctrl-C is for this process
        # alone, which then ends the other: one that is only starting would print where it was.
        process = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(path)],
            input=pickle.dumps((study.options, study.dtype, name)),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            check=False,
        )
        if process.returncode != 0:
            raise RepeatError(f"{name} ended with status {process.returncode}")
        findings = pickle.loads(path.read_bytes())
    assert isinstance(findings, Findings)
    return findings


def main() -> None:
    """What the process of a repeat does."""
    asked = sys.stdin.buffer.read()
    if not asked:
        return  # an interrupt came before who starts this could say what to measure
    options, dtype, name = pickle.loads(asked)
    Path(sys.argv[1]).write_bytes(pickle.dumps(measure_all(study_of(options, dtype), name)))


def measure_all(study: Study, repeat: str = "") -> Findings:
    """Every case of the study, in this process."""
    options, findings = study.options, Findings()
    if options.study == "model":
        return Findings(measure_model(options), [look(options.model)])
    batches = options.streams if options.study == "many" else getattr(options, "batches", [1])
    work = [
        (shape, kind)
        for shape in product(options.cells, options.sizes, batches)
        for kind in _KINDS[options.study]
        if kind in ("sequence", "streams") or shape[2] == 1
    ]
    with ExitStack() as stack:
        stack.callback(show_progress, "")
        for peer in study.peers:
            stack.enter_context(peer.context())
        case = None
        for done, ((cell, size, batch), kind) in enumerate(work):
            show_progress(f"{done} of {len(work)} done, {cell} {size}, {kind} {repeat}")
            if case is None or (case.cell, case.size, case.batch) != (cell, size, batch):
                # No more than one is kept: the largest has weights of tens of megabytes.
                case = Case(cell, size, options.steps, batch, input_size=options.inputs)
            result = _measure(study, case, kind)
            findings.results.append(result)
            findings.looks.append(look(result.name))
    return findings


def _measure(study: Study, case: Case, kind: Kind) -> Result:
    options, first = study.options, study.tiers[0]
    if kind == "tails":
        asked = getattr(options, "steps_tail", None)
        effort = asked_for(asked) if asked is not None else QUICK_TAIL if options.quick else FULL_TAIL
        return measure_tails(case, first, effort)
    others = [peer for peer in study.peers if peer.gathers or kind != "streams"]
    if kind == "streams":
        own: list[Tier] = [StreamsTier(first.isa, first.dtype, way) for way in StreamsTier.WAYS]
    elif options.study == "threads":
        names = {count: f"{count} thread{'s' if count > 1 else ''}" for count in sorted(options.threads)}
        own = [Tier(first.isa, first.dtype, name, threads=count) for count, name in names.items()]
    else:
        own = list(study.tiers if kind == "step" else study.tiers[:1])
        own += [] if first.dtype == "float32" else [Tier(first.isa, name=f"{OURS} float32")]
    return measure_case(case, kind, own, others, QUICK if options.quick else FULL)


def measure_case(case: Case, kind: Kind, own: Sequence[Tier], others: Sequence[Peer], effort: Effort) -> Result:
    """Makes each variant, checks its answer against the specification, and times those that are right in turns."""
    first = own[0]
    variants: list[Tier | Peer] = [*own, *(other for other in others if other.takes(case))]
    makers = {each.name: (partial(each.make, case, kind), each.tolerance_of(case)) for each in variants}
    runners, failures = make_checked(makers, case.expected(kind))
    of_call = phases(case, kind, first.dtype) if first.threads == 1 else []
    before = phase_limits(of_call, first.isa, first.dtype)
    parts = {}
    if kind == "step" and of_call:
        # A layer of one unit is a call and little else.
        smallest = {_CALL: first.make_step(Case(case.cell, 1, case.steps, case.batch))}
        rounds = measure(runners | smallest, effort)
        parts = {"call": min(rounds.pop(_CALL)) / 1e3, "gates": case.batch * gates_us(case.cell, case.size, first.isa)}
    else:
        rounds = measure(runners, effort) if runners else {}
    after = phase_limits(of_call, first.isa, first.dtype)
    return Result(
        kind,
        case.cell,
        case.size,
        case.steps if kind == "sequence" else 1,
        case.batch,
        first.isa,
        [tier.name for tier in own],
        {each.name: each.dtype for each in variants},
        rounds={name: [[ns / 1e3 for ns in values]] for name, values in rounds.items()},
        limit=least([before, after]),
        parts=parts,
        forms={name: runner.form for name, runner in runners.items() if runner.form},
        failures=failures,
        input_size=case.input_size,
    )
