"""``fusedcell bench``: the run from the first case to the tables."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from ..runtime import isas
from . import compare, document, plot, study_tables, table
from .environment import describe, header
from .limits import limits_text, read_limits
from .peers import NumPy, Peer, load_peers
from .run import KINDS, float32_of
from .tiers import Tier, float_isas
from .work import Findings, measure_all

# NumPy's BLAS and the peers' thread pools look at these once, when they are loaded.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs the command; `arguments` are those of the whole command line. Returns its exit status."""
    if options.study == "compare":
        return compare.run(options)
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        return subprocess.call([sys.executable, "-m", "fusedcell", *arguments], env={**os.environ, **ONE_THREAD})

    tiers = [Tier(isa, options.dtype) for isa in options.isa or (isas() if options.dtype == "int8" else float_isas())]
    others, absent = _others(options)
    environment = describe(options, tiers, others, absent)
    findings = Findings(read_limits(tiers[0].isa))
    print(header(environment), limits_text(findings.limits, tiers[0].isa), sep="\n", end="\n\n", flush=True)

    measure_all(options, tiers, others, findings)
    for text in _tables(findings, tiers, [other.name for other in others]):
        print(text, end="\n\n")
    if options.json is not None:
        document.write(options.json, environment, findings)
    if options.plot is not None:
        plot.draw(options.plot, environment, findings)
    theirs = {other.name for other in others}
    return 1 if any(name not in theirs for name, _, _ in findings.failures) else 0


def _others(options: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    """Whom we are compared with, and for each library that is not there, the reason."""
    if options.study == "threads":
        return [], {}
    peers, absent = ([], {}) if options.no_peers else load_peers(options.dtype)
    others: list[Peer] = [NumPy(), *peers]
    if options.study != "batch":
        return others, absent
    alone = {other.name: "takes no batches" for other in peers if not other.batches}
    return [other for other in others if other.batches], absent | alone


def _tables(findings: Findings, tiers: Sequence[Tier], others: list[str]) -> list[str]:
    steps, sequences = ([result for result in findings.results if result.kind == kind] for kind in KINDS)
    batches = any(result.batch > 1 for result in sequences)
    ours, in_float32 = ([tier.name for tier in group] for group in (tiers, float32_of(tiers[0])))
    texts = []
    if steps:
        texts.append(table.step_table(steps, ours, [*in_float32, *others]))
    if findings.tails:
        texts.append(study_tables.tail_table(findings.tails))
    if sequences:
        of_sequences = study_tables.batch_table if batches else table.sequence_table
        texts.append(of_sequences(sequences, [ours[0], *in_float32], others))
    texts += [study_tables.threads_table(findings.scalings, kind) for kind in KINDS]
    texts += [table.spread(findings.results), table.failures(findings.failures)]
    return [text for text in texts if text]
