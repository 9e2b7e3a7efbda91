"""What was measured, and what is made of it: medians over repeats, ratios round by round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .._timing import Summary, ratio, summarise
from .cases import Kind
from .limits import PhaseLimit, least
from .machine import Look
from .tiers import OURS

Rounds = dict[str, list[list[float]]]

# Of p10: the p90 of rounds that nothing disturbs is below.
_MOST_SPREAD = 1.5


@dataclass(frozen=True)
class Result:
    """One case; times are microseconds a call.

    `rounds` are by variant, by repeat (each a process), and in the order in which they were taken; a repeat without any
    failed. `dtypes` are those of all variants; `own` names ours, and the first of them is what is compared. `limit` is
    what the machine takes for each phase of a call at least (limits.py), where that is known. Of single steps, `parts`
    has what the call takes without its layer, and what the gates take without it. `forms` says how the work
    was put to a library, where there was a choice, and `failures` why a variant has no time. `size` is 0 for a
    whole model, and `input_size` 0 stands for as many inputs as units.
    """

    kind: Kind
    cell: str
    size: int
    steps: int
    batch: int
    tier: str
    own: list[str]
    dtypes: dict[str, str]
    rounds: Rounds
    limit: list[PhaseLimit] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    input_size: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", self.input_size or self.size)

    @property
    def ours(self) -> str:
        """The variant that others are compared with."""
        return self.own[0]

    @property
    def dtype(self) -> str:
        """That of its weights."""
        return self.dtypes[self.ours]

    @property
    def name(self) -> str:
        """The case's."""
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.layer}{batch}, {self.kind}, {self.dtype}"

    @property
    def layer(self) -> str:
        """The cell, its units, and its inputs where they are not as many."""
        inputs = f" of {self.input_size} inputs" if self.input_size != self.size else ""
        return f"{self.cell} {self.size}{inputs}" if self.size else self.cell

    def time(self, variant: str) -> Summary | None:
        """Each percentile the median of those of the repeats; None for a variant that has no time."""
        return over_repeats(summarise(rounds) for rounds in self.rounds.get(variant, []) if rounds)

    def ratio(self, variant: str, base: str = "") -> Summary | None:
        """The variant's times over those of `base`, ours if it is not named, round by round."""
        pairs = zip(self.rounds.get(variant, []), self.rounds.get(base or self.ours, []), strict=False)
        return over_repeats(ratio(above, below) for above, below in pairs if above and below)

    def percentile(self, variant: str, percent: float) -> float | None:
        """The median of those of the repeats; None where one of them has too few rounds beyond it."""
        repeats = [rounds for rounds in self.rounds.get(variant, []) if rounds]
        if not repeats or min(map(len, repeats)) * (100 - percent) < 100 - 1e-6:
            return None
        return float(np.median([np.percentile(rounds, percent) for rounds in repeats]))

    def best_other(self, dtype: str = "") -> str | None:
        """The quickest of the other libraries, or of those that run in `dtype`."""
        times = {name: self.time(name) for name, its in self.dtypes.items() if name not in self.own}
        medians = {name: time.p50 for name, time in times.items() if time and dtype in ("", self.dtypes[name])}
        return min(medians, key=medians.__getitem__) if medians and self.time(self.ours) else None

    @property
    def lead(self) -> Lead | None:
        """Ours beside the quickest of the others; of numbers of threads the quickest beside the first."""
        fast, slow = self.ours, self.best_other()
        if self.kind != "tails" and slow is None and len(self.own) > 1 and self.ours != OURS:
            times = {name: time.p50 for name in self.own if (time := self.time(name))}
            # One call for many streams is what all is compared with.
            fast, slow = (fast, "step") if self.kind == "streams" else (min(times, key=times.__getitem__), fast)
        quotient = self.ratio(slow, fast) if slow else None
        ours, theirs = self.time(fast), self.time(slow or "")
        if not (slow and quotient and ours and theirs):
            return None
        share = self.batch if self.kind == "sequence" else 1
        return Lead(fast, slow, ours.p50 / share, theirs.p50 / share, quotient)

    @property
    def shown(self) -> list[Summary]:
        """The times that its row shows, but of tails, whose rounds are not alike."""
        lead = self.lead
        names = [] if self.kind == "tails" else [lead.fast, lead.slow] if lead else [self.ours]
        return [time for name in names if (time := self.time(name))]

    @property
    def limit_us(self) -> float:
        """What a call takes at least: its phases, one after the other."""
        return sum(phase.us for phase in self.limit)

    @property
    def share_of_limit(self) -> float | None:
        """Of our time, the part that the machine takes at least; None where either is not known."""
        time = self.time(self.ours)
        return self.limit_us / time.p50 if time and self.limit else None


@dataclass(frozen=True)
class Lead:
    """Two variants, the microseconds of each, and how many times as long `slow` takes, round by round."""

    fast: str
    slow: str
    fast_us: float
    slow_us: float
    times: Summary


@dataclass(frozen=True)
class Findings:
    """All that was measured; `looks` are at the machine, after each piece of work."""

    results: list[Result] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    @property
    def failures(self) -> list[tuple[Result, str, str]]:
        """The case, the variant without a time, and why."""
        return [(result, name, why) for result in self.results for name, why in result.failures.items()]


def disturbed(rows: Mapping[str, Sequence[Summary]]) -> list[str]:
    """A warning that names the rows in which one of the times that they show had rounds too far apart."""
    wide = [name for name, times in rows.items() if any(time.p90 > _MOST_SPREAD * time.p10 for time in times)]
    text = (
        f"other programs, or the machine's host, disturbed {len(wide)} of {len(rows)} rows, in which p90 of the rounds "
        f"is over {_MOST_SPREAD} times p10; measure these again: {'; '.join(wide)}"
    )
    return [text] if wide else []


def over_repeats(summaries: Iterable[Summary]) -> Summary | None:
    """The least of all, the median of each percentile, and how many rounds there were; None of nothing."""
    found = list(summaries)
    if not found:
        return None
    p10, p50, p90 = (float(np.median([getattr(each, name) for each in found])) for name in ("p10", "p50", "p90"))
    return Summary(min(each.min for each in found), p10, p50, p90, sum(each.count for each in found))


def merged(repeats: Sequence[Findings]) -> Findings:
    """One result for the same case of each repeat; what failed in one has failed."""
    results = []
    for same in zip(*(repeat.results for repeat in repeats), strict=True):
        rounds = {name: [part for each in same for part in each.rounds.get(name, [[]])] for name in same[0].dtypes}
        limit = least([each.limit for each in same])
        parts = {name: min(each.parts[name] for each in same) for name in same[0].parts}
        forms = {name: form for each in same for name, form in each.forms.items()}
        failures = {name: why for each in same for name, why in each.failures.items()}
        results.append(replace(same[0], rounds=rounds, limit=limit, parts=parts, forms=forms, failures=failures))
    return Findings(results, [look for repeat in repeats for look in repeat.looks])
