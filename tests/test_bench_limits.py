"""The least time of a call, by figures worked by hand. No test here asserts a time."""

from __future__ import annotations

from typing import Any

import pytest

from fusedcell import _core
from fusedcell.bench import limits
from fusedcell.bench.cases import Case
from fusedcell.bench.limits import (
    Phase,
    PhaseLimit,
    least,
    level_bytes,
    multiply_rate,
    phase_limits,
    read_us,
    sequence_phases,
    step_phases,
)


@pytest.mark.parametrize(
    ("cell", "dtype", "nbytes", "multiply_adds"),
    [
        # W and R of an LSTM of 256 have 2 * 4 * 256 * 256 = 524,288 weights.
        ("lstm", "float32", 2_097_152, 524_288),
        ("lstm", "float16", 1_048_576, 524_288),
        ("lstm", "int8", 524_288, 524_288),
        ("gru", "bfloat16", 786_432, 393_216),
        ("gru_reset_before", "int8", 393_216, 393_216),
        ("rnn", "float32", 524_288, 131_072),
    ],
)
def test_a_step_reads_all_weights_once(cell: str, dtype: str, nbytes: int, multiply_adds: int) -> None:
    assert step_phases(Case(cell, 256, 100), dtype) == [Phase("step", nbytes, 1, multiply_adds)]


def test_what_pads_a_layer_does_not_count() -> None:
    """4 * 17 * 17 = 1156 weights each, and with 3 inputs 4 * 17 * 3 = 204 of W."""
    assert step_phases(Case("lstm", 17, 100), "float32") == [Phase("step", 9248, 1, 2312)]
    narrow = Case("lstm", 17, 100, input_size=3)
    assert step_phases(narrow, "int8") == [Phase("step", 1360, 1, 1360)]
    assert sequence_phases(narrow, "float32") == [
        Phase("projection", 816, 1, 20_400), Phase("recurrence", 4624, 100, 115_600),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "batch", "readings"),
    [
        (100, 1, 1),
        (128, 1, 1),
        (129, 1, 2),
        (100, 2, 2),  # 64 steps at once
        (100, 3, 3),  # 43 steps at once, 129 rows
        (100, 32, 25),
        (100, 200, 100),  # a step at least
        (1, 32, 1),
    ],
)
def test_a_sequence_reads_w_once_for_128_rows_and_r_once_a_step(steps: int, batch: int, readings: int) -> None:
    """3 * 10 * 10 = 300 weights each, in two bytes."""
    assert sequence_phases(Case("gru", 10, steps, batch), "bfloat16") == [
        Phase("projection", 600, readings, 300 * steps * batch),
        Phase("recurrence", 600, steps, 300 * steps * batch),
    ]


def test_a_phase_takes_the_longer_of_reading_and_multiplying(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 100 bytes a nanosecond, and 50 multiply-adds."""
    monkeypatch.setattr(limits, "read_us", lambda nbytes, isa: nbytes / 100e3)
    monkeypatch.setattr(limits, "multiply_rate", lambda isa, dtype: 50.0)
    # 4 * 100 * 100 weights: 1.6 us to read; 40,000 * 1000 multiply-adds in a sequence of 100 by 10: 800 us.
    found = phase_limits(sequence_phases(Case("lstm", 100, 100, 10), "float32"), "avx2", "float32")
    assert [phase.phase for phase in found] == ["projection", "recurrence"]
    assert [phase.read_us for phase in found] == pytest.approx([8 * 1.6, 160.0])
    assert [phase.multiply_us for phase in found] == pytest.approx([800.0, 800.0])
    assert [phase.us for phase in found] == pytest.approx([800.0, 800.0])
    (step,) = phase_limits(step_phases(Case("lstm", 100, 100), "float32"), "avx2", "float32")
    assert (step.read_us, step.multiply_us, step.us) == pytest.approx((3.2, 1.6, 3.2))


def test_of_several_measurements_the_best_counts() -> None:
    before, after = [PhaseLimit("a", 3.0, 5.0)], [PhaseLimit("a", 4.0, 2.0)]
    assert least([before, after]) == [PhaseLimit("a", 3.0, 2.0)]


def test_rates_are_those_of_long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tier that does 10^9 multiply-adds a second is given a millisecond, one of 10^6 the first try."""
    asked: list[int] = []

    def seconds(count: int, repeats: int, dtype: str, isa: str) -> float:
        asked.append(count)
        return count / (1e9 if isa == "avx2" else 1e6)

    monkeypatch.setattr(_core, "multiply_seconds", seconds)
    assert multiply_rate("avx2", "int8") == pytest.approx(1.0)
    assert asked == [65_536, 131_072, 262_144, 524_288, 1_048_576, 1_048_576]
    asked.clear()
    assert multiply_rate("scalar", "int8") == pytest.approx(1e-3)
    assert asked == [65_536, 65_536]


def test_each_level_of_cache_and_memory_is_read() -> None:
    assert level_bytes({"L1d": "48K", "L2": "1024K", "L3": "32768K"}) == [24 << 10, 512 << 10, 8 << 20, 64 << 20]
    assert level_bytes({"L1d": "64K", "L2": "4M"}) == [32 << 10, 1 << 20, 8 << 20]
    assert level_bytes({}) == [16 << 10, 512 << 10, 8 << 20, 64 << 20]


def test_this_machine_has_limits(isa: str) -> None:
    for nbytes in (3, 64, 100_000):
        assert 0 < read_us(nbytes, isa) < float("inf")
    for dtype in _core.weight_types():
        assert 0 < multiply_rate(isa, dtype) < float("inf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((63, 1), "nbytes: expected at least 64, got 63"), ((64, 0), "repeats: expected at least 1, got 0")],
)
def test_reading_nothing_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.read_seconds(*arguments)
