"""Results that nothing was measured for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusedcell.bench.cases import Kind
from fusedcell.bench.limits import PhaseLimit
from fusedcell.bench.results import Result

FLOAT32 = {"fusedcell": 2.0, "scalar": 99.96, "numpy": 12.34, "torch": 8.0}
INT8 = {"fusedcell": 2.0, "fusedcell float32": 5.0, "torch": 8.0, "torch int8": 9.0, "ncnn int8": 12.0}
OWN = ("fusedcell", "scalar", "fusedcell float32", "warm", "cold", "1 thread", "2 threads", "step_many", "step")


def made_up(kind: Kind = "step", us: Mapping[str, Any] = FLOAT32, dtype: str = "float32", **changes: Any) -> Result:
    """By variant a number for three rounds that are equal, or rounds, or None for one without any."""
    rounds = {name: [its if isinstance(its, list) else [its] * 3] for name, its in us.items() if its is not None}
    ours = [name for name in us if name in OWN]
    in_dtype = {name: dtype if name in ours or name.endswith(dtype) else "float32" for name in us}
    in_dtype |= {name: "float32" for name in us if name.endswith("float32")}
    values: dict[str, Any] = {
        "kind": kind,
        "cell": "lstm",
        "size": 64,
        "steps": 100 if kind == "sequence" else 1,
        "batch": 1,
        "tier": "avx2",
        "own": ours,
        "dtypes": in_dtype,
        "rounds": rounds,
        "limit": [PhaseLimit("step", 1.5, 0.5)],
    }
    return Result(**values | changes)
