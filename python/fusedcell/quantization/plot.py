"""A comparison as a figure."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np

from .report import Calibrated, Findings, verdict, where

Figure: TypeAlias = Any  # matplotlib's; types must check without it

# Weights in blues, inputs in oranges.
_COLOURS = {
    "weight_ih": "#08519c",
    "weight_hh": "#6baed6",
    "weight_hr": "#c6dbef",
    "x": "#d94801",
    "h": "#fd8d3c",
    "m": "#fdd0a2",
}
_MOST_BARS = 24


def figure(comparison: Findings, path: str | os.PathLike[str] | None = None) -> Figure:
    """The error over time on the left and its sources on the right; :meth:`Comparison.plot` says more."""
    bars = min(len(comparison.sources), _MOST_BARS)
    drawn = _empty(11, max(4.2, 1.6 + 0.26 * bars))
    drawn.suptitle(verdict(comparison), fontsize=11)
    left, right = drawn.subplots(1, 2)
    _draw_time(left, comparison)
    _draw_sources(right, comparison)
    if path is not None:
        drawn.savefig(path, dpi=120)
    return drawn


def of_steps(calibration: Calibrated, path: str | os.PathLike[str] | None = None) -> Figure:
    """SNR over bytes of what was tried, with what was asked and plain int8 as lines."""
    drawn = _empty(7, 4.2)
    axes = drawn.subplots()
    steps = calibration.steps
    axes.plot([step.nbytes for step in steps], [step.snr_db for step in steps], "o", color="#6baed6", label="tried")
    axes.plot(calibration.nbytes, calibration.snr_db, "o", color="#08519c", label="chosen")
    axes.axhline(calibration.target_db, color="#d94801", linewidth=1, label="asked")
    axes.axhline(calibration.plain_db, color="#bbbbbb", linewidth=1, label="plain int8")
    for step in steps:
        axes.annotate(step.change, (step.nbytes, step.snr_db), textcoords="offset points", xytext=(5, 4), fontsize=7)
    axes.set(xlabel="bytes of packed weights", ylabel="SNR on held-out data, dB")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    if path is not None:
        drawn.savefig(path, dpi=120)
    return drawn


def _empty(width: float, height: float) -> Figure:
    try:
        # By name, for the same reason; and no pyplot, which has state and may open a display.
        figures = import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError("plot needs matplotlib: pip install fusedcell[plot]") from error
    return figures.Figure(figsize=(width, height), layout="constrained")


def _draw_time(axes: Any, comparison: Findings) -> None:
    steps = np.arange(len(comparison.rms_by_step))
    marker = "o" if len(steps) == 1 else None
    axes.plot(steps, comparison.max_by_step, color="#bbbbbb", linewidth=1, marker=marker, label="largest")
    axes.plot(steps, comparison.rms_by_step, color="#08519c", linewidth=1.2, marker=marker, label="rms")
    if comparison.rms > 0:
        axes.set_yscale("log", nonpositive="mask")
    axes.set_title("Error of y", loc="left")
    axes.set(xlabel="step", ylabel="error")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)


def _draw_sources(axes: Any, comparison: Findings) -> None:
    """A bar is as long as the gate's rms; the parts' squares add up but for chance, so they are what divides it."""
    sources = sorted(comparison.sources, key=lambda source: -source.rms)[:_MOST_BARS]
    sources = [source for source in comparison.sources if source in sources]
    ends = np.zeros(len(sources))
    for name, colour in _COLOURS.items():
        squares = np.array([source.parts.get(name, 0.0) ** 2 for source in sources])
        wholes = np.array([sum(part**2 for part in source.parts.values()) for source in sources])
        widths = np.array([source.rms for source in sources]) * squares / np.where(wholes > 0, wholes, 1)
        if widths.any():
            axes.barh(range(len(sources)), widths, left=ends, color=colour, label=name)
        ends += widths
    axes.set_yticks(range(len(sources)), [where(source) for source in sources])
    axes.invert_yaxis()
    axes.set_title("Where it comes from, by gate", loc="left")
    axes.set_xlabel("rms error of pre-activations, split by squares", loc="left")
    axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    if ends.any():
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title="rounded", frameon=False)
