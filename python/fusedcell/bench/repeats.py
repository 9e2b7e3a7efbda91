"""The same measurements again, each time in a process of its own.

All rounds of one process share where its memory lies, so their number says nothing about how much another process would
differ. Repeats do: each makes its layers anew.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from .limits import least
from .many import ManyStreams
from .progress import Part, Progress
from .run import Result
from .subjects import others, our_tiers
from .tails import Distribution, Tail
from .threads import Scaling
from .timing import Summary
from .work import Findings, measure_all

Key = TypeVar("Key", str, int)

# An interrupt ends it at once and without a word, also while it imports; what there is to say its parent says.
_PROGRAM = f"import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); from {__name__} import main; main()"


class RepeatError(Exception):
    """A repeat ended without results; says which, and how."""


def measure_repeats(options: argparse.Namespace, findings: Findings) -> None:
    """Adds to `findings` what the options ask for: each figure the median of those of `options.repeats` processes."""
    try:
        parts = [_in_process_of_its_own(options, Part(i, options.repeats)) for i in range(options.repeats)]
    finally:
        # A process that was stopped may have left its bar.
        Progress(1).close()
    findings.results.extend(_merged_result(same) for same in zip(*(part.results for part in parts), strict=True))
    findings.tails.extend(_merged_tail(same) for same in zip(*(part.tails for part in parts), strict=True))
    findings.scalings.extend(_merged_scaling(same) for same in zip(*(part.scalings for part in parts), strict=True))
    findings.many.extend(_merged_many(same) for same in zip(*(part.many for part in parts), strict=True))
    findings.looks.extend(look for part in parts for look in part.looks)


def _in_process_of_its_own(options: argparse.Namespace, part: Part) -> Findings:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "findings"
        # Other libraries may print whatever they like; results come in a file.
        process = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(path)],
            input=pickle.dumps((options, part)),
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if process.returncode != 0:
            raise RepeatError(f"{part} ended with status {process.returncode}")
        findings = pickle.loads(path.read_bytes())
    assert isinstance(findings, Findings)
    return findings


def main() -> None:
    """What the process of a repeat does."""
    options, part = pickle.load(sys.stdin.buffer)
    findings = Findings()
    measure_all(options, our_tiers(options), others(options)[0], findings, part)
    Path(sys.argv[1]).write_bytes(pickle.dumps(findings))


def _merged_result(same: Sequence[Result]) -> Result:
    first = same[0]
    gains = [result.gain for result in same if result.gain is not None]
    return replace(
        first,
        limit=least([result.limit for result in same]),
        times=_by_key([result.times for result in same]),
        ratios=_by_key([result.ratios for result in same]),
        gain=_merged_summary(gains) if gains else None,
        forms=_union([result.forms for result in same]),
        failures=_union([result.failures for result in same]),
        rounds=[us for result in same for us in result.rounds],
        medians=_concatenated([result.medians for result in same]),
    )


def _merged_scaling(same: Sequence[Scaling]) -> Scaling:
    return replace(
        same[0],
        times=_by_key([scaling.times for scaling in same]),
        gains=_by_key([scaling.gains for scaling in same]),
        rounds=_concatenated([scaling.rounds for scaling in same]),
        medians=_concatenated([scaling.medians for scaling in same]),
        failures=_union([scaling.failures for scaling in same]),
    )


def _merged_many(same: Sequence[ManyStreams]) -> ManyStreams:
    return replace(
        same[0],
        times=_by_key([streams.times for streams in same]),
        ratios=_by_key([streams.ratios for streams in same]),
        rounds=_concatenated([streams.rounds for streams in same]),
        medians=_concatenated([streams.medians for streams in same]),
        forms=_union([streams.forms for streams in same]),
        failures=_union([streams.failures for streams in same]),
    )


def _merged_tail(same: Sequence[Tail]) -> Tail:
    warm = [tail.warm for tail in same if tail.warm is not None]
    cold = [tail.cold for tail in same if tail.cold is not None]
    return replace(
        same[0],
        warm=_merged_distribution(warm) if warm else None,
        cold=_merged_distribution(cold) if cold else None,
        failures=_union([tail.failures for tail in same]),
    )


def _merged_summary(same: Sequence[Summary]) -> Summary:
    p10, p50, p90 = (_median([getattr(summary, name) for summary in same]) for name in ("p10", "p50", "p90"))
    return Summary(min(summary.min for summary in same), p10, p50, p90, sum(summary.count for summary in same))


def _merged_distribution(same: Sequence[Distribution]) -> Distribution:
    p10, p50, p90 = (_median([getattr(steps, name) for steps in same]) for name in ("p10", "p50", "p90"))
    p99, p999 = (_median_if_all([getattr(steps, name) for steps in same]) for name in ("p99", "p999"))
    return Distribution(min(steps.min for steps in same), p10, p50, p90, p99, p999, sum(steps.count for steps in same))


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _median_if_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _median(known) if len(known) == len(values) else None


def _by_key(same: Sequence[Mapping[Key, Summary]]) -> dict[Key, Summary]:
    return {key: _merged_summary([part[key] for part in same if key in part]) for key in _union(same)}


def _concatenated(same: Sequence[Mapping[Key, list[float]]]) -> dict[Key, list[float]]:
    return {key: [value for part in same for value in part.get(key, [])] for key in _union(same)}


def _union(same: Sequence[Mapping[Key, Any]]) -> dict[Key, Any]:
    """All keys, in the order of their first appearance, with the first value of each."""
    union: dict[Key, Any] = {}
    for part in reversed(same):
        union = {**part, **{key: value for key, value in union.items() if key not in part}}
    return union
