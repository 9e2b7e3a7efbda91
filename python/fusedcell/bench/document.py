"""The file of all results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .work import Findings

SCHEMA = 1
"""Of the file; one more when a name in it no longer means what it meant."""

_DERIVED = ("limit_us", "share_of_limit", "best_other", "best_other_of_dtype")
_NUMBERS = re.compile(r"\[\s+([-+.0-9e,\s]+?)\s+\]")


def as_json(environment: Mapping[str, Any], findings: Findings) -> str:
    """The file's text, with every round of ours."""
    document = {
        "schema": SCHEMA,
        **environment,
        "read_limits": [asdict(limit) for limit in findings.limits],
        "multiply_rates": [asdict(rate) for rate in findings.rates],
        "results": [
            _rounded(asdict(result)) | {name: getattr(result, name) for name in _DERIVED} for result in findings.results
        ],
        "tails": [asdict(tail) for tail in findings.tails],
        "threads": [_rounded(asdict(scaling)) for scaling in findings.scalings],
        "many": [_rounded(asdict(streams)) | {"best_other": streams.best_other} for streams in findings.many],
        "looks": [asdict(look) for look in findings.looks],
    }
    text = json.dumps(document, indent=1)
    # Numbers in a row stay on one line.
    return _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    """Five digits of each round are more than a clock knows."""
    rounds = entry["rounds"]
    shortened = {key: _shorten(row) for key, row in rounds.items()} if isinstance(rounds, dict) else _shorten(rounds)
    return entry | {"rounds": shortened}


def _shorten(row: list[float]) -> list[float]:
    return [float(f"{us:.5g}") for us in row]
