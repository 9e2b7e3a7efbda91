"""The figures: bars of how many times faster, or of a model's nodes, and lines of microseconds by number of units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import Any

from .._files import write_file
from .._text import three_digits
from .bars import Bars
from .results import Result
from .tiers import OURS

_COLOURS = {"numpy": "#7f7f7f", "torch": "#d94801", "onnxruntime": "#756bb1", "openvino": "#238b45", "ncnn": "#a6761d"}
_OURS = {"color": "#08519c", "linewidth": 3.2, "markersize": 5, "zorder": 5}
_OURS_FLOAT32 = {"color": "#6baed6", "linewidth": 1.6, "zorder": 4}
_LIMIT = {"color": "#333333", "linewidth": 1.3, "linestyle": (0, (4, 2)), "marker": "", "zorder": 4}

Points = list[tuple[int, float]]


def draw_bars(path: Path, cpu: str, groups: Sequence[Bars]) -> None:
    """Writes all bars, one group below the other, 600 pixels wide, so that a phone shows letters that can be read."""
    heights = [1.5 + 0.26 * len(each.values) for each in groups]
    figure = import_module("matplotlib.figure").Figure(figsize=(6, 0.6 + sum(heights)), layout="constrained")
    figure.suptitle(f"{cpu}, one thread", x=0.01, ha="left", fontsize=10)
    grid = figure.subplots(len(groups), squeeze=False, height_ratios=heights) if groups else []
    for (axes,), each in zip(grid, groups, strict=True):
        places = range(len(each.values))
        drawn = axes.barh(places, list(each.values.values()), color=_OURS["color"])
        axes.bar_label(drawn, [three_digits(value) for value in each.values.values()], padding=3, fontsize=9)
        if each.tie is not None:
            axes.axvline(each.tie, color=_LIMIT["color"], linestyle="--")
        axes.set_yticks(places, list(each.values))
        axes.invert_yaxis()
        axes.set_xlim(0, 1.08 * max(each.values.values()))
        axes.set_title("\n".join([each.title, *wrap(each.text, 74)]), loc="left", x=0, fontsize=10)
        axes.set_xlabel(each.unit, fontsize=10)
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_lines(path: Path, cpu: str, results: Sequence[Result]) -> None:
    """Writes lines, 800 pixels wide: a panel for each cell, of single steps where there are any, else of sequences."""
    shown = [result for result in results if result.kind == "step"] or list(results)
    first = shown[0]
    cells = list(dict.fromkeys(result.cell for result in shown))
    rows = -(-len(cells) // 2)
    # By name, because types must check without it; and no pyplot, which has state and may open a display.
    figure = import_module("matplotlib.figure").Figure(figsize=(8, 1.2 + 3.1 * rows), layout="constrained")
    what = "one step" if first.kind == "step" else f"a step in a sequence of {first.steps}"
    title = f"Time of {what}, batch 1: lower is better\n{cpu}, {first.tier}, {first.dtype}, one thread"
    figure.suptitle(title, x=0.01, ha="left")
    grid = figure.subplots(rows, min(2, len(cells)), squeeze=False, sharex=True, sharey="row")
    for axes, cell in zip(grid.flat, cells, strict=False):
        _draw_panel(axes, [result for result in shown if result.cell == cell])
    for axes in grid.flat[len(cells) :]:
        axes.remove()
    names = {name: line for axes in grid.flat for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(names.values(), names.keys(), loc="outside right center", frameon=False, fontsize=9)
    figure.supxlabel("H (units, and inputs)", fontsize=10)
    figure.supylabel("us per step", fontsize=10)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    drawn = BytesIO()
    figure.savefig(drawn, dpi=100, format=path.suffix[1:])
    write_file(path, drawn.getvalue())


def lines(results: Sequence[Result]) -> dict[str, Points]:
    """Microseconds of a step by size: ours, of each library what runs in our dtype or else its float32, the limit."""
    dtype = results[0].dtype
    names = {name: its for result in results for name, its in result.dtypes.items() if name.startswith(OURS)}
    others = {name: its for result in results for name, its in result.dtypes.items() if name not in result.own}
    alike = {name.split()[0] for name, its in others.items() if its == dtype}
    names |= {name: its for name, its in others.items() if its == dtype or name not in alike}

    def points(us: Callable[[Result], float | None]) -> Points:
        found = [(result.size, time / result.steps) for result in results if (time := us(result)) is not None]
        return sorted(found)

    def median(name: str) -> Callable[[Result], float | None]:
        return lambda result: time.p50 if (time := result.time(name)) else None

    found = {name.split()[0] + (f" {its}" if its != dtype else ""): points(median(name)) for name, its in names.items()}
    found["limit of this CPU"] = points(lambda result: result.limit_us if result.share_of_limit else None)
    return {name: its for name, its in found.items() if its}


def _draw_panel(axes: Any, results: Sequence[Result]) -> None:
    ticker = import_module("matplotlib.ticker")
    for name, points in lines(results).items():
        style: dict[str, Any] = {"color": _COLOURS.get(name.split()[0]), "linewidth": 1.5, "markersize": 2.5}
        style = {OURS: _OURS, f"{OURS} float32": _OURS_FLOAT32, "limit of this CPU": _LIMIT}.get(name, style)
        axes.plot(*zip(*points, strict=True), label=name, **{"marker": "o"} | style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted({result.size for result in results}))
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(ticker.NullLocator())
    axes.tick_params(labelsize=9, labelbottom=True)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(results[0].cell, loc="left", fontsize=10)
