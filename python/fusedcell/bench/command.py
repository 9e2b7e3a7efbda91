"""``fusedcell bench``: the run from the first case to the tables."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from .._files import write_file
from . import compare, document, plot, study_tables, table
from .environment import describe, header
from .limits import MultiplyRate, limits_text, multiply_rate, rates_text, read_limits
from .looks import BEGINNING, look, slowed_down, summary
from .machine import commands_by_kind, machine_text, mixed_kinds, own_cpus
from .repeats import RepeatError, measure_repeats
from .run import KINDS, float32_of
from .subjects import Study, studies
from .tiers import Tier
from .values import STDOUT
from .work import Findings, measure_all

# NumPy's BLAS and the peers' thread pools look at these once, when they are loaded.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs the command; `arguments` are those of the whole command line. Returns its exit status."""
    if options.study == "compare":
        return compare.run(options)
    cpus = options.cpu or own_cpus()
    if cpus != own_cpus() or any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        with _running_on(cpus):
            return subprocess.call([sys.executable, "-m", "fusedcell", *arguments], env={**os.environ, **ONE_THREAD})

    results = _stdout_for_results() if options.json == STDOUT else None
    asked = studies(options)
    environment = describe(options, asked)
    machine = environment["machine"]
    findings = Findings(read_limits(asked[0].tiers[0].isa), _rates(asked), looks=[look(BEGINNING)])
    limits = [limits_text(findings.limits, asked[0].tiers[0].isa), rates_text(findings.rates)]
    print(header(environment), machine_text(machine), *limits, sep="\n", end="\n\n", flush=True)
    mixed = mixed_kinds(machine)
    if mixed:
        commands = commands_by_kind(machine, shlex.join(["fusedcell", *arguments]))
        print(f"Warning: {mixed}. One kind at a time:\n{commands}", end="\n\n", flush=True)

    for study in asked:
        found = Findings()
        try:
            if options.repeats == 1:
                measure_all(study.options, study.tiers, study.peers, found)
            else:
                measure_repeats(study.options, found)
        except RepeatError as error:
            print(f"fusedcell: {error}", file=sys.stderr)
            return 2
        for text in _tables(found, study.tiers, [peer.name for peer in study.peers]):
            print(text, end="\n\n")
        findings.extend(found)
    print(summary(findings.looks))
    slowed = slowed_down(machine["clocks"], findings.looks)
    for text in slowed:
        print(f"Warning: {text}.")
    machine["warnings"] = [*([mixed] if mixed else []), *slowed]
    if results is not None:
        with results:
            results.write(document.as_json(environment, findings))
    elif options.json is not None:
        write_file(options.json, document.as_json(environment, findings).encode())
        if options.study == "report":
            print(f"The file to send in is {options.json}.")
    if options.plot is not None:
        plot.draw(options.plot, environment, findings)
    theirs = {peer.name for study in asked for peer in study.peers}
    return 1 if any(name not in theirs for name, _, _ in findings.failures) else 0


def _stdout_for_results() -> TextIO:
    """Standard output, which from here on has nothing else: what is printed, by libraries in C too, goes elsewhere."""
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return results


@contextmanager
def _running_on(cpus: Sequence[int]) -> Iterator[None]:
    """What is started meanwhile runs on these CPUs; none where the system does not number them."""
    before = own_cpus()
    if before:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)


def _rates(asked: Sequence[Study]) -> list[MultiplyRate]:
    """Of each tier, and of the first in float32."""
    pairs = [(tier.isa, tier.dtype) for study in asked for tier in (*study.tiers, *float32_of(study.tiers[0]))]
    return [multiply_rate(isa, dtype) for isa, dtype in dict.fromkeys(pairs)]


def _tables(findings: Findings, tiers: Sequence[Tier], theirs: list[str]) -> list[str]:
    steps, sequences = ([result for result in findings.results if result.kind == kind] for kind in KINDS)
    batches = any(result.batch > 1 for result in sequences)
    ours, in_float32 = ([tier.name for tier in group] for group in (tiers, float32_of(tiers[0])))
    texts = []
    if steps:
        texts.append(table.step_table(steps, ours, [*in_float32, *theirs]))
    if findings.tails:
        texts.append(study_tables.tail_table(findings.tails))
    if sequences:
        of_sequences = study_tables.batch_table if batches else table.sequence_table
        texts.append(of_sequences(sequences, [ours[0], *in_float32], theirs))
    texts += [study_tables.threads_table(findings.scalings, kind) for kind in KINDS]
    texts.append(study_tables.many_table(findings.many, theirs))
    texts += [table.spread(findings.results), table.failures(findings.failures)]
    return [text for text in texts if text]
