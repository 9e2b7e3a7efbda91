"""What the machine itself allows: how fast one thread reads and multiplies, and what a call takes at least by that.

A call is one or two phases, one after the other. In each the processor reads weights and multiplies by them, at best
both at full rate and at the same time, so a phase takes at least the longer of the two. docs/performance.md has the
formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .. import _core
from ..runtime import caches
from .cases import GATES, Case, Kind

UNKNOWN_CACHES = {"L1d": "32K", "L2": "1024K", "L3": "32768K"}
"""What is taken for this machine's where the system does not tell."""

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "int8_int16": 1}

PROJECTION_ROWS = 128
"""So many rows of inputs share one reading of W, as csrc/model/packed_cell.cc has it; whole steps, and one at least."""

_GATE_KERNELS = {
    "lstm": ["summed_lstm"],
    "gru": ["summed_gru_reset_after"],
    "gru_reset_before": ["summed_gru_reset_before_gates", "summed_gru_reset_before_candidate"],
    "rnn": ["general_rnn"],
}
_TRIAL = 2**16
# Beside it, what a call needs to begin and to end is nothing.
_TURN_S = 1e-3


@dataclass(frozen=True)
class Phase:
    """A part of a call: matrices of `nbytes` are read `reads` times, for so many multiply-adds in all."""

    name: str
    nbytes: int
    reads: int
    multiply_adds: int


@dataclass(frozen=True)
class PhaseLimit:
    """What the machine takes for a phase's reading alone, and for its multiply-adds alone, in microseconds."""

    phase: str
    read_us: float
    multiply_us: float

    @property
    def us(self) -> float:
        """What the phase takes at least."""
        return max(self.read_us, self.multiply_us)


def phases(case: Case, kind: Kind, dtype: str) -> list[Phase]:
    """Those of a call, one after the other."""
    return sequence_phases(case, dtype) if kind == "sequence" else step_phases(case, dtype)


def step_phases(case: Case, dtype: str) -> list[Phase]:
    """A single step reads W and R once, in one go."""
    weights = sum(_matrix_weights(case))
    return [Phase("step", weights * WEIGHT_BYTES[dtype], 1, case.batch * weights)]


def sequence_phases(case: Case, dtype: str) -> list[Phase]:
    """W for many steps at a time, and R for each step."""
    w, r = _matrix_weights(case)
    rows, nbytes = case.steps * case.batch, WEIGHT_BYTES[dtype]
    steps_at_once = -(-PROJECTION_ROWS // case.batch)
    return [
        Phase("projection", w * nbytes, -(-case.steps // steps_at_once), rows * w),
        Phase("recurrence", r * nbytes, case.steps, rows * r),
    ]


def _matrix_weights(case: Case) -> tuple[int, int]:
    """Of W and of R; those of the layer and not what pads them."""
    rows = GATES[case.cell] * case.size
    return rows * case.input_size, rows * case.size


def phase_limits(of_call: Sequence[Phase], isa: str, dtype: str) -> list[PhaseLimit]:
    """Measures what the phases take at least."""
    rate = multiply_rate(isa, dtype) * 1e3
    reads = {nbytes: read_us(nbytes, isa) for nbytes in {phase.nbytes for phase in of_call}}
    return [PhaseLimit(each.name, each.reads * reads[each.nbytes], each.multiply_adds / rate) for each in of_call]


def least(measured: Sequence[Sequence[PhaseLimit]]) -> list[PhaseLimit]:
    """The same phases measured several times: the best of each."""
    return [
        PhaseLimit(same[0].phase, min(each.read_us for each in same), min(each.multiply_us for each in same))
        for same in zip(*measured, strict=True)
    ]


def read_us(nbytes: int, isa: str) -> float:
    """The least time in which one thread reads so many bytes in order, again and again."""
    repeats = max(5, min(200, 2**28 // max(nbytes, 1)))
    # The shortest buffer that is measured, for those that are shorter.
    measured = max(nbytes, 64)
    return _core.read_seconds(measured, repeats, isa) * 1e6 * nbytes / measured


def gates_us(cell: str, size: int, isa: str) -> float:
    """The least time of a step's gates alone, whose sums are in the nearest cache."""
    return sum(_core.gate_seconds(kernel, size, 100, isa) for kernel in _GATE_KERNELS[cell]) * 1e6


def read_limits(isa: str) -> dict[str, float]:
    """10^9 bytes a second, for each level of cache and for memory, by how many bytes are read again and again."""
    return {size_text(nbytes): nbytes / read_us(nbytes, isa) / 1e3 for nbytes in level_bytes(caches())}


def multiply_rate(isa: str, dtype: str) -> float:
    """10^9 multiply-adds a second with weights that the nearest cache holds: the best of some turns."""
    count = _TRIAL
    while _core.multiply_seconds(count, 1, dtype, isa) < _TURN_S:
        count *= 2
    return count / _core.multiply_seconds(count, 10, dtype, isa) / 1e9


def level_bytes(levels: Mapping[str, str]) -> list[int]:
    """Sizes that a level of cache holds and the one before it does not, and at last one that no cache holds."""
    *inner, last = cache_bytes(levels)
    # The last cache is often shared with other cores.
    return [*(nbytes // 2 for nbytes in inner), last // 4, 2 * last]


def cache_bytes(levels: Mapping[str, str]) -> list[int]:
    """Of sizes like "48K", smallest first."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return sorted(int(size[:-1]) * units[size[-1]] for size in (levels or UNKNOWN_CACHES).values())


def size_text(nbytes: int) -> str:
    """In binary units."""
    return f"{nbytes >> 20} MB" if nbytes >= 2**20 else f"{nbytes >> 10} KB"
