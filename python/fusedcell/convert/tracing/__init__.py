"""How readers of whole models follow their source: with symbolic tensors, whose operations make the model's nodes.

A source is followed at a few concrete sizes at once, its *probes*: what differs between them is batch or time, and
integers that depend on those (sizes of a view, ends of a slice) are known as one number for each probe.
"""

from __future__ import annotations

from .rows import BATCH, TIME, Axis, OtherAxisError, OtherRowsError, RefusedError, Rows
from .windows import Tracer

__all__ = ["BATCH", "TIME", "Axis", "OtherAxisError", "OtherRowsError", "RefusedError", "Rows", "Tracer"]
