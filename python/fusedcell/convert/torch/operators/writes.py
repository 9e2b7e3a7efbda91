"""Tensors of constants that a module writes its answers into, part by part: ``out[:, t] = h``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...tracing import RefusedError, Rows, Tracer
from .loops import Loops
from .values import Step, name_of

_OTHERWISE = (
    "a change in place of part of a tensor; supported: one that makes a new tensor, and parts of one of zeros that "
    "are written one after another, along one axis, before it is read"
)


@dataclass(eq=False)
class _Whole:
    """A tensor of constants: along which axis it is written to, the last node that does, and the parts so far.

    - parts: by where it begins, where each ends and what it is, with an axis of one in place of a chosen index
    """

    dim: int
    last: Any
    parts: dict[int, tuple[int, Any]] = field(default_factory=dict)


class Writes:
    """What is written into tensors, by the nodes that make these."""

    def __init__(self, tracer: Tracer, loops: Loops) -> None:
        self._tracer, self._loops = tracer, loops
        self._wholes: dict[Any, _Whole] = {}

    def write(self, node: Any, values: dict[Any, Any], place: str) -> None:
        """Follows `copy_` of what depends on the input into a part of a tensor; with the last part this has a value."""
        view, value = node.args[0], values[node.args[1]]
        base = view.args[0] if view.args else view
        if not _writes_part_of(view, base) or has_value(values[base]):
            raise RefusedError(_OTHERWISE)
        if base not in self._wholes:
            self._wholes[base] = _whole_of(base, values[base].ndim)
        whole, constants = self._wholes[base], values[base]
        value = self._loops.as_step(value)
        is_one = name_of(view) == "select"
        given = value.rows if isinstance(value, Step) else value
        if not isinstance(given, Rows) or given.shapes[0] != tuple(values[view].shape):
            raise RefusedError(f"what is no tensor of shape {tuple(values[view].shape)} written into a part of one")
        index = view.args[2]
        span = slice(index, index + 1 or None) if is_one else slice(*view.args[2:4])
        start, stop, _ = span.indices(constants.shape[whole.dim])
        if start in whole.parts:
            raise RefusedError("a part of a tensor that is written to twice")
        if is_one and isinstance(value, Rows):
            value = self._tracer.unsqueeze(value, whole.dim)
        whole.parts[start] = (stop, value)
        if node is whole.last:
            values[base] = self._joined(whole, constants, is_one, place)

    def _joined(self, whole: _Whole, constants: Any, is_one: bool, place: str) -> Rows:
        parts = [(start, *whole.parts[start]) for start in sorted(whole.parts)]
        steps = [value for *_, value in parts if isinstance(value, Step)]
        if steps:
            rows = self._loops.joined("stack" if is_one else "cat", [value for *_, value in parts], whole.dim, place)
            if rows is None or parts[-1][1] - parts[0][0] != len(parts):
                raise RefusedError("some rows of a sequence written into a tensor")
            parts = [(parts[0][0], parts[-1][1], rows)]
        found, at = [], 0
        for start, stop, value in [*parts, (constants.shape[whole.dim], 0, None)]:
            if start < at:
                raise RefusedError("a part of a tensor that is written to twice")
            if start > at:
                found.append(constants.narrow(whole.dim, at, start - at).double().numpy())
            found += [] if value is None else [value]
            at = stop
        joined: Rows = self._tracer.concat(found, whole.dim, place) if len(found) > 1 else found[0]
        return joined


def has_value(value: Any) -> bool:
    """Whether it is no tensor of constants."""
    return not hasattr(value, "narrow")


def _writes_part_of(view: Any, base: Any) -> bool:
    users = list(view.users)
    return (
        name_of(view) in ("select", "slice")
        and view.args[4:] in ((), (1,))
        and name_of(base) not in ("select", "slice")
        and len(users) == 1
        and name_of(users[0]) == "copy_"
        and users[0].args[0] is view
        and not users[0].users
    )


def _whole_of(base: Any, rank: int) -> _Whole:
    """Refuses a tensor that is read before the last part is written, or written to along several axes."""
    views = [user for user in base.users if _writes_part_of(user, base)]
    order = {node: place for place, node in enumerate(base.graph.nodes)}
    last = max((next(iter(view.users)) for view in views), key=order.__getitem__)
    dims = {view.args[1] % rank for view in views}
    if len(dims) > 1 or any(order[user] < order[last] for user in base.users if user not in views):
        raise RefusedError(_OTHERWISE)
    return _Whole(dims.pop(), last)
