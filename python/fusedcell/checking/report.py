"""What a check found, and as text."""

from __future__ import annotations

from dataclasses import dataclass

from .._text import aligned
from .differences import Difference


@dataclass(frozen=True)
class Mistake:
    """What explains a difference: with it put right, the answers agree.

    - node: of a Model, the node that it is in; "" for the model as a whole
    - mistake, advice: what is wrong, and what to do
    - largest: what remains of the largest difference
    """

    node: str
    mistake: str
    advice: str
    largest: float


@dataclass(frozen=True)
class Check:
    """What :func:`check` found; as text, a table of it.

    - ok: whether every output is as expected, within the tolerance
    - tolerance: of the largest magnitude that was expected
    - outputs: a :class:`~fusedcell.checking.Difference` each
    - mistake: the one :class:`~fusedcell.checking.Mistake` that explains all; None where all is well, or none was found
    - runs: how often the model was run
    - rounding: the tolerance that is usual for the types of the model's weights
    """

    ok: bool
    tolerance: float
    outputs: tuple[Difference, ...]
    mistake: Mistake | None
    runs: int
    rounding: float

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        headings = ("output", "shape", "largest", "relative", "at", "ours", "expected", "begins", "SNR dB")
        rows = [_row(each) for each in self.outputs]
        verdict = "as expected" if self.ok else "not as expected"
        lines = [
            f"{verdict}, within {self.tolerance:g} of the largest magnitude",
            aligned(headings, rows, ("output", "shape", "at")),
        ]
        lines += [each.problem for each in self.outputs if each.problem]
        if self.mistake is not None:
            where = f"{self.mistake.node}: " if self.mistake.node else ""
            lines += [
                f"Likely mistake: {where}{self.mistake.mistake}. Put right, the largest difference is "
                f"{self.mistake.largest:.1e}.",
                f"What to do: {self.mistake.advice}.",
            ]
        elif not self.ok:
            lines.append(self._unexplained())
        return "\n".join(lines)

    __repr__ = __str__

    def _unexplained(self) -> str:
        if self.tolerance < self.rounding and all(each.relative <= self.rounding for each in self.outputs):
            return (
                f"The model's weights are rounded, which by itself may make a difference of {self.rounding:g}: check "
                "it in float32 first, and keep nodes as they are, by astype(dtype, keep=...), where that is too much."
            )
        text = f"No single mistake of those that were tried, in {self.runs} runs, explains it."
        if any(each.problem for each in self.outputs):
            return text
        return (
            f"{text} Others: weights of another checkpoint, a framework in training mode (dropout, batch norm), x "
            "prepared in another way."
        )


def _row(each: Difference) -> list[str]:
    shape = " x ".join(map(str, each.shape)) or "a number"
    if each.problem:
        return [each.name, shape, *["-"] * 7]
    at = ", ".join(f"{label} {index}" for label, index in (each.at or {}).items())
    begins = "-" if each.begins is None else f"step {each.begins}"
    numbers = [f"{each.largest:.1e}", f"{each.relative:.1e}"]
    return [each.name, shape, *numbers, at, f"{each.value:.6g}", f"{each.expected:.6g}", begins, f"{each.snr_db:.1f}"]
