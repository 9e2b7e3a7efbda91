"""Results that nothing was measured for."""

from __future__ import annotations

from typing import Any

from fusedcell.bench.limits import PhaseLimit
from fusedcell.bench.run import Kind, Result
from fusedcell.bench.timing import Summary


def exactly(value: float) -> Summary:
    return Summary(value, value, value, value, 9)


def made_up(kind: Kind = "step", **changes: Any) -> Result:
    values: dict[str, Any] = {
        "kind": kind,
        "dtype": "float32",
        "cell": "lstm",
        "size": 64,
        "steps": 1 if kind == "step" else 100,
        "batch": 1,
        "tier": "avx2",
        "weight_bytes": 131072,
        "limit": [PhaseLimit("step", 1.5, 0.5)],
        "times": {"avx2": exactly(2.0), "scalar": exactly(99.96), "numpy": exactly(12.34), "torch": exactly(8.0)},
        "ratios": {"numpy": exactly(6.17), "torch": Summary(3.8, 3.9, 4.0, 12.345, 9)},
        "gain": None,
        "other_dtypes": {"numpy": "float32", "torch": "float32"},
        "forms": {},
        "failures": {},
        "rounds": [],
        "medians": {},
    }
    return Result(**values | changes)


def made_up_int8(**changes: Any) -> Result:
    values: dict[str, Any] = {
        "dtype": "int8",
        "times": {
            "avx2": exactly(2.0),
            "avx2 float32": exactly(5.0),
            "torch": exactly(8.0),
            "torch int8": exactly(9.0),
            "ncnn int8": exactly(12.0),
        },
        "ratios": {"torch": Summary(3.8, 3.9, 4.0, 4.2, 9), "torch int8": exactly(4.5), "ncnn int8": exactly(6.0)},
        "gain": Summary(2, 2.4, 2.5, 2.75, 9),
        "other_dtypes": {"torch": "float32", "torch int8": "int8", "ncnn int8": "int8"},
    }
    return made_up(**values | changes)
