"""How many times quicker the first of our tiers is than what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .run import Result
from .text import aligned, format_ratio, three_digits
from .timing import Summary


@dataclass(frozen=True)
class Comparison:
    """One column: `pick` gives the ratio of a result and the name of what was compared, if there is one."""

    heading: str
    pick: Callable[[Result], tuple[Summary, str] | None]

    def text(self, result: Result) -> str:
        """The ratio with its spread, and the name."""
        picked = self.pick(result)
        return "-" if picked is None else f"{format_ratio(picked[0])} {picked[1]}".rstrip()

    def means(self, results: Sequence[Result]) -> str:
        """Geometric means of the medians over the sizes, for each cell and for all; "-" without a ratio."""
        cells = list(dict.fromkeys(result.cell for result in results))
        groups = {cell: [result for result in results if result.cell == cell] for cell in cells}
        if len(cells) > 1:
            groups["all"] = list(results)
        return ", ".join(f"{name} {self._mean(group)}" for name, group in groups.items())

    def _mean(self, results: Sequence[Result]) -> str:
        medians = [picked[0].p50 for result in results if (picked := self.pick(result)) is not None]
        if not medians:
            return "-"
        mean = three_digits(float(np.exp(np.mean(np.log(medians)))))
        return mean if len(medians) == len(results) else f"{mean} ({len(medians)} of {len(results)})"


def comparisons(results: Sequence[Result]) -> list[Comparison]:
    """The other libraries; unless weights are float32, also those with the same weights, and our own float32."""
    tier, dtype = results[0].tier, results[0].dtype
    if not any(result.other_dtypes or result.gain for result in results):
        return []
    best = Comparison(f"best other / {tier} (p10..p90)", lambda result: _of_peer(result, result.best_other))
    if dtype == "float32":
        return [best]
    own = Comparison("our float32", lambda result: None if result.gain is None else (result.gain, ""))
    alike = Comparison(f"best other in {dtype}", lambda result: _of_peer(result, result.best_other_of_dtype))
    has_alike = any(dtype in result.other_dtypes.values() for result in results)
    return [own, *([alike] if has_alike else []), Comparison("best other of any dtype", best.pick)]


def case_columns(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of what tells one case from another."""
    rows = [[result.cell, str(result.size)] for result in results]
    if all(result.batch == 1 for result in results):
        return ["cell", "H"], rows
    return ["cell", "H", "batch"], [[*row, str(result.batch)] for row, result in zip(rows, results, strict=True)]


def ratio_table(results: Sequence[Result]) -> str:
    """A row for each cell and size, a column for each comparison."""
    compared = comparisons(results)
    names, cases = case_columns(results)
    headings = [*names, *(comparison.heading for comparison in compared)]
    rows = [[*case, *(each.text(result) for each in compared)] for case, result in zip(cases, results, strict=True)]
    title = f"Times over those of {results[0].tier} in {results[0].dtype}, median of rounds (p10..p90)."
    return f"{title}\n{aligned(headings, rows, {'cell', *headings[len(names) :]})}"


def geometric_means(results: Sequence[Result]) -> list[str]:
    """A line for each comparison."""
    over = " and ".join(case_columns(results)[0][1:])
    return [
        f"Geometric mean over {over}, {comparison.heading.removesuffix(' (p10..p90)')}: {comparison.means(results)}."
        for comparison in comparisons(results)
    ]


def _of_peer(result: Result, name: str | None) -> tuple[Summary, str] | None:
    return None if name is None else (result.ratios[name], name)
