"""The short forms of `make soak`."""

from __future__ import annotations

import sys

import pytest

from soak import crowd, drift


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize("name", ["lstm", "gru_reset_after"])
def test_a_stream_neither_drifts_from_float64_nor_takes_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "SEGMENT", 10_000)
    result = drift.drift(name, 60_000)
    assert result.steps == 60_000
    assert result.failures() == []


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_streams_that_come_and_go_are_each_as_if_alone(dtype: str) -> None:
    result = crowd.crowd("lstm", dtype, ticks=150, at_once=40)
    assert result.ticks == 150
    assert result.streams > 40
