"""Whom the options ask to measure: tiers of ours, and the other libraries that are there."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from ..runtime import isas
from .peers import NumPy, Peer, load_peers
from .tiers import Tier, float_isas


@dataclass(frozen=True)
class Study:
    """What is measured with one dtype: the first tier is compared, and `absent` says why for those not there."""

    options: argparse.Namespace
    tiers: list[Tier]
    peers: list[Peer]
    absent: dict[str, str]


def studies(options: argparse.Namespace) -> list[Study]:
    """One, and of a report one for each dtype."""
    dtypes = getattr(options, "dtypes", [options.dtype])
    each = [argparse.Namespace(**vars(options) | {"dtype": dtype}) for dtype in dtypes]
    return [Study(asked, our_tiers(asked), *others(asked)) for asked in each]


def our_tiers(options: argparse.Namespace) -> list[Tier]:
    """The first is the one that is compared."""
    return [Tier(isa, options.dtype) for isa in options.isa or (isas() if options.dtype == "int8" else float_isas())]


def others(options: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    """Whom we are compared with, and for each library that is not there, the reason."""
    if options.study == "threads":
        return [], {}
    peers, absent = ([], {}) if options.no_peers else load_peers(options.dtype)
    if options.study == "many":
        without = {other.name: "is not made to take states of many streams" for other in peers if not other.gathers}
        return [other for other in peers if other.gathers], absent | without
    found: list[Peer] = [NumPy(), *peers]
    if options.study != "batch":
        return found, absent
    alone = {other.name: "takes no batches" for other in peers if not other.batches}
    return [other for other in found if other.batches], absent | alone
