"""A comparison as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import fill

import numpy as np

from .._text import aligned
from .attribution import Loss, Proposal
from .growth import in_words
from .products import Array
from .sources import Row, Source

_TIME_ROWS = 10
_SOURCE_ROWS = 8
_WORST_ROWS = 4
_BAR = 40


@dataclass(frozen=True, eq=False)
class Findings:
    """The numbers of a :class:`.Comparison`, which says what each is."""

    dtype_before: str
    dtype_after: str
    nbytes_before: int
    nbytes_after: int
    rms: float
    largest: float
    snr_db: float
    growth: float | None
    rms_by_step: Array = field(repr=False)
    max_by_step: Array = field(repr=False)
    sources: tuple[Source, ...] = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)
    matrices: tuple[Loss, ...] = field(repr=False)
    proposal: Proposal | None = field(repr=False)


@dataclass(frozen=True)
class Step:
    """A set of types that was tried: what became wider or narrow again, and bytes and held-out SNR of all then."""

    change: str
    nbytes: int
    snr_db: float


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The numbers of a :class:`.Calibration`, which says what each is."""

    snr_db: float
    target_db: float
    plain_db: float
    nbytes: int
    nbytes_before: int
    dtypes: dict[str, str]
    alone_db: dict[str, float] = field(repr=False)
    folded: tuple[str, ...] = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)


def text(comparison: Findings) -> str:
    """A verdict, the error over time, its sources and the worst rows; at most 34 lines."""
    parts = [verdict(comparison)]
    if comparison.rms > 0:
        parts.append(_by_step(comparison))
    if any(source.rms > 0 for source in comparison.sources):
        parts.append(_sources(comparison.sources))
    if comparison.rows:
        parts.append(_rows(comparison.rows))
    if comparison.matrices:
        parts.append(matrices_text(comparison.matrices, comparison.proposal, comparison.nbytes_before))
    return "\n\n".join(parts)


def matrices_text(matrices: Sequence[Loss], proposal: Proposal | None, nbytes_before: int) -> str:
    """What each matrix costs alone, and what to do about the costliest."""
    cells = [
        [loss.name, loss.dtype, *(f"{value:.1f}" for value in (loss.snr_db, loss.weights_db, loss.inputs_db))]
        for loss in matrices[:_SOURCE_ROWS]
    ]
    title = "dB of the answer with one matrix alone rounded: all of it, its weights, and what they multiply"
    shown = f"{title}\n{aligned(['matrix', 'type', 'all', 'weights', 'inputs'], cells, ['matrix', 'type'])}"
    if proposal is None:
        return shown
    share = proposal.nbytes / nbytes_before
    call = fill(f"astype({dict(proposal.types)})", 100, subsequent_indent="        ", break_on_hyphens=False)
    return (
        f"{shown}\n{proposal.name} in {proposal.dtype} makes it {proposal.snr_db:.1f} dB and {proposal.nbytes:,} bytes "
        f"({share:.3f}):\n{call}"
    )


def verdict(comparison: Findings) -> str:
    """How large the error is and what is saved, and on a second line whether it grows."""
    c = comparison
    size = f"{c.nbytes_before:,} -> {c.nbytes_after:,} bytes ({c.nbytes_after / c.nbytes_before:.3f})"
    against = f"{c.dtype_after} against {c.dtype_before}"
    if c.rms == 0:
        return f"{against}: no error; {size}"
    error = f"SNR {c.snr_db:.1f} dB, rms {short(c.rms)}, largest {short(c.largest)}"
    return f"{against}: {error}; {size}\nThe error {in_words(c.growth, len(c.rms_by_step))}"


def where(item: Source | Row) -> str:
    """A layer and direction as at the end of PyTorch's names, and the gate."""
    return f"l{item.layer}{'_reverse' if item.direction == 'reverse' else ''} {item.gate}"


def short(value: float) -> str:
    """Two digits and an exponent, 1.3e-3, or 0."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _by_step(comparison: Findings) -> str:
    steps = len(comparison.rms_by_step)
    parts = np.array_split(np.arange(steps), min(_TIME_ROWS, steps))
    rms = [float(np.sqrt((comparison.rms_by_step[part] ** 2).mean())) for part in parts]
    top = max(rms)
    cells = []
    for part, value in zip(parts, rms, strict=True):
        steps_of_part = f"{part[0]}..{part[-1]}" if len(part) > 1 else f"{part[0]}"
        bar = "#" * round(_BAR * value / top)
        cells.append([steps_of_part, short(value), short(float(comparison.max_by_step[part].max())), bar])
    return f"Error of y over time\n{aligned(['steps', 'rms', 'largest', ''], cells, [''])}"


def _sources(sources: Sequence[Source]) -> str:
    names = list(dict.fromkeys(name for source in sources for name, part in source.parts.items() if part > 0))
    shown = sorted(sources, key=lambda source: -source.rms)[:_SOURCE_ROWS] if len(sources) > _SOURCE_ROWS else sources
    cells = []
    for source in shown:
        parts = [short(source.parts[name]) if name in source.parts else "-" for name in names]
        cells.append([where(source), short(source.rms), *parts])
    title = "Where it comes from: rms error of pre-activations in one step from exact states, by what is rounded"
    if shown is not sources:
        title += f"\nThe largest {len(shown)} of {len(sources)}:"
    return f"{title}\n{aligned(['gate', 'rms', *names], cells, ['gate'])}"


def _rows(rows: Sequence[Row]) -> str:
    headings = ["gate", "unit", "rms", "share"]
    cells = [[where(row), f"{row.unit}", short(row.rms), f"{100 * row.share:.1f} %"] for row in rows[:_WORST_ROWS]]
    return f"Worst rows of weights, and their shares of the squared error of all\n{aligned(headings, cells, ['gate'])}"


def calibration_text(found: Calibrated) -> str:
    """A verdict, the types of matrices, and all that was tried."""
    share = found.nbytes / found.nbytes_before
    verdict = (
        f"SNR {found.snr_db:.1f} dB on held-out data ({found.target_db:.1f} asked, plain int8 {found.plain_db:.1f}); "
        f"{found.nbytes_before:,} -> {found.nbytes:,} bytes ({share:.3f})"
    )
    scaled = dict.fromkeys(found.folded, "scaled columns")
    matrices = [
        [name, dtype, f"{found.alone_db[name]:.1f}" if name in found.alone_db else "", scaled.get(name, "")]
        for name, dtype in found.dtypes.items()
    ]
    steps = [[step.change, f"{step.nbytes:,}", f"{step.snr_db:.1f}"] for step in found.steps]
    words = ("matrix", "type", "", "tried")
    return "\n\n".join(
        [
            verdict,
            "Types, and dB of the answer with that matrix alone in int8\n"
            + aligned(["matrix", "type", "alone", ""], matrices, words),
            aligned(["tried", "bytes", "dB"], steps, words),
        ]
    )
