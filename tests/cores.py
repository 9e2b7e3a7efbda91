"""Kinds of cores of a made-up machine, as `_core.core_kinds` has them."""

from __future__ import annotations

from typing import Any

BIG_LITTLE: list[dict[str, Any]] = [
    {
        "name": "Cortex-A55",
        "implementer": 0x41,
        "part": 0xD05,
        "in_order": True,
        "cpus": 4,
        "numbers": [0, 1, 2, 3],
    },
    {
        "name": "Cortex-A76",
        "implementer": 0x41,
        "part": 0xD0B,
        "in_order": False,
        "cpus": 4,
        "numbers": [4, 5, 6, 7],
    },
]
