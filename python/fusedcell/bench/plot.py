"""Draws a picture: logarithmic axes, and each line's name at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .._files import write_file
from .pictures import Line, Panel, picture
from .work import Findings

_OURS = "#08519c"
_COLOURS = {"numpy": "#7f7f7f", "torch": "#d94801", "onnxruntime": "#756bb1", "openvino": "#238b45", "ncnn": "#a6761d"}
_SPARE = ("#4292c6", "#41ab5d", "#ef6548", "#8c6bb1", "#969696")
_STYLES: dict[str, dict[str, Any]] = {
    "ours": {"color": _OURS, "linewidth": 3.2, "marker": "o", "markersize": 5, "zorder": 5},
    "our float32": {"color": "#6baed6", "linewidth": 1.6, "zorder": 4},
    "other": {"linewidth": 1.5, "marker": "o", "markersize": 2.5, "zorder": 3},
    "limit": {"color": "#333333", "linewidth": 1.3, "linestyle": (0, (4, 2)), "zorder": 4},
}
_WIDTH = 8.0
_DPI = 100
_FONT = 9


def draw(path: Path, environment: Mapping[str, Any], findings: Findings) -> None:
    """Writes the picture to a file, 800 pixels wide."""
    shown = picture(environment, findings)
    columns = min(2, len(shown.panels))
    rows = -(-len(shown.panels) // columns)
    height = 5.0 if len(shown.panels) == 1 else 1.1 + 3.1 * rows
    # By name, because types must check without it; and no pyplot, which has state and may open a display.
    figure = import_module("matplotlib.figure").Figure(figsize=(_WIDTH, height))
    top, bottom = 1 - (0.75 if columns == 1 else 0.95) / height, 0.55 / height
    # To the right of each panel there is room for names.
    right, gap = (0.83, 0.0) if columns == 1 else (0.86, 0.5)
    figure.subplots_adjust(left=0.08, right=right, top=top, bottom=bottom, wspace=gap, hspace=0.28)
    alone = f", {shown.panels[0].name}" if len(shown.panels) == 1 else ""
    figure.text(0.02, 1 - 0.12 / height, f"{shown.title}{alone}", fontsize=14, fontweight="bold", va="top")
    figure.text(0.02, 1 - 0.4 / height, shown.subtitle, fontsize=10, color="#555555", va="top")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey="row")
    for axes in grid.flat[len(shown.panels) :]:
        axes.remove()
    for axes, panel in zip(grid.flat, shown.panels, strict=False):
        _draw_panel(axes, panel)
        axes.set_title("" if alone else panel.name, loc="left", fontsize=10)
    # When the limits of the axes, which all share, are final.
    for axes, panel in zip(grid.flat, shown.panels, strict=False):
        _mark_values(axes)
        _name_lines(axes, panel.lines, height, _FONT + 1 - columns)
    figure.supxlabel(shown.x_label, fontsize=10, y=0.08 / height)
    grid[0][0].set_ylabel(shown.y_label, fontsize=10)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=_DPI, format=path.suffix[1:])
    write_file(path, drawn.getvalue())


def _draw_panel(axes: Any, panel: Panel) -> None:
    ticker = import_module("matplotlib.ticker")
    for i, line in enumerate(panel.lines):
        xs, ys = zip(*line.points, strict=True)
        lonely = {"marker": "o"} if len(xs) == 1 else {}
        axes.plot(xs, ys, **({"color": _colour(line, i)} | _STYLES[line.role] | lonely))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted({x for line in panel.lines for x, _ in line.points}))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(ticker.NullFormatter())
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.tick_params(labelsize=_FONT, labelbottom=True)
    axes.grid(which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mark_values(axes: Any) -> None:
    """Powers of ten, and some between them where there are but few."""
    low, high = axes.get_ylim()
    ticker = import_module("matplotlib.ticker")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))


def _name_lines(axes: Any, lines: Sequence[Line], height: float, size: int) -> None:
    """Writes each name beside the end of its line, moved up or down where two would collide."""
    ends = [max(line.points) for line in lines]
    to_axes = axes.transData + axes.transAxes.inverted()
    levels = [float(to_axes.transform(end)[1]) for end in ends]
    room = 1.4 * size / 72 / (axes.get_position().height * height)
    for i, (line, end, level) in enumerate(zip(lines, ends, spread_out(levels, room), strict=True)):
        colour = _colour(line, i)
        axes.annotate(
            line.label,
            end,
            xytext=(1.05, level),
            textcoords="axes fraction",
            fontsize=size,
            fontweight="bold" if line.role == "ours" else "normal",
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkB": 2, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def _colour(line: Line, index: int) -> str:
    style = _STYLES[line.role]
    return str(style.get("color") or _COLOURS.get(line.label.split()[0]) or _SPARE[index % len(_SPARE)])


def spread_out(levels: Sequence[float], room: float) -> list[float]:
    """The levels, in their order, moved as little as keeps `room` between each and the next."""
    order = np.argsort(levels, kind="stable")
    # Clusters of what touches; each stays centred on where its members would be.
    clusters: list[list[float]] = []
    for level in np.asarray(levels)[order]:
        clusters.append([float(level)])
        while len(clusters) > 1 and _bottom(clusters[-1], room) - _top(clusters[-2], room) < room:
            last = clusters.pop()
            clusters[-1] += last
    placed = [_bottom(cluster, room) + room * i for cluster in clusters for i in range(len(cluster))]
    result = [0.0] * len(levels)
    for index, level in zip(order, placed, strict=True):
        result[index] = level
    return result


def _bottom(cluster: Sequence[float], room: float) -> float:
    return sum(cluster) / len(cluster) - room * (len(cluster) - 1) / 2


def _top(cluster: Sequence[float], room: float) -> float:
    return sum(cluster) / len(cluster) + room * (len(cluster) - 1) / 2
