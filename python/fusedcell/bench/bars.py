"""What the figures and the page show as bars: how many times faster, or how long each node of a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .results import Result
from .tables import case_text, groups, sentence, title
from .whole import call_text, shares

TIMES_FASTER = "times faster: higher is better, 1 is a tie"


@dataclass(frozen=True)
class Bars:
    """A bar for each name, from zero, in `unit`; `text` sums them up, and `tie` is the value of no difference."""

    title: str
    unit: str
    text: str
    values: dict[str, float]
    tie: float | None = None


def bars_of_cases(results: Sequence[Result]) -> list[Bars]:
    """A group for each kind and dtype that has others beside ours."""
    found = []
    for group in groups(results):
        times = {case_text(result): lead.times.p50 for result in group if (lead := result.lead)}
        if times:
            what = title(group).partition(":")[0] + (", by cell and units" if group[0].size else "")
            found.append(Bars(what, TIMES_FASTER, sentence(group), times, tie=1))
    return found


def bars_of_nodes(results: Sequence[Result]) -> list[Bars]:
    """Those of a whole model, and of its sequence beside the other library."""
    by_node, *others = results
    text = f"{by_node.cell}, {call_text(by_node)}, {by_node.dtype}"
    return [Bars("Time of each node", "us: lower is better", text, dict(shares(by_node))), *bars_of_cases(others)]
