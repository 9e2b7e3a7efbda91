"""``fusedcell bench``: the run from the first case to the tables."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from . import compare, document, plot, study_tables, table
from .environment import describe, header
from .limits import MultiplyRate, limits_text, multiply_rate, rates_text, read_limits
from .repeats import RepeatError, measure_repeats
from .run import KINDS, float32_of
from .subjects import others, our_tiers
from .tiers import Tier
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

    tiers = our_tiers(options)
    peers, absent = others(options)
    environment = describe(options, tiers, peers, absent)
    findings = Findings(read_limits(tiers[0].isa), _rates(tiers))
    limits = [limits_text(findings.limits, tiers[0].isa), rates_text(findings.rates)]
    print(header(environment), *limits, sep="\n", end="\n\n", flush=True)

    try:
        if options.repeats == 1:
            measure_all(options, tiers, peers, findings)
        else:
            measure_repeats(options, findings)
    except RepeatError as error:
        print(f"fusedcell: {error}", file=sys.stderr)
        return 2
    for text in _tables(findings, tiers, [peer.name for peer in peers]):
        print(text, end="\n\n")
    if options.json is not None:
        document.write(options.json, environment, findings)
    if options.plot is not None:
        plot.draw(options.plot, environment, findings)
    theirs = {peer.name for peer in peers}
    return 1 if any(name not in theirs for name, _, _ in findings.failures) else 0


def _rates(tiers: Sequence[Tier]) -> list[MultiplyRate]:
    """Of each tier, and of the first in float32."""
    return [multiply_rate(tier.isa, tier.dtype) for tier in (*tiers, *float32_of(tiers[0]))]


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
