"""Operations with the lengths of sequences, which are the model's lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...tracing import BATCH, TIME, RefusedError, Rows
from .interpreter import Args, Interpreter
from .values import Final, Lengths, Opaque

_SAME = {"to", "_to_copy", "clone", "contiguous", "detach", "alias", "lift_fresh_copy"}
_SAME |= {"view", "reshape", "expand", "unsqueeze", "squeeze", "repeat"}
_COMPARISONS = {"lt", "gt", "le", "ge"}


def of_lengths(interpreter: Interpreter, name: str, a: Args, place: str) -> Any:
    """An operation with the module's lengths, or an order of sequences by them, among its arguments."""
    given = vars(a)
    x: Any = given.get("self", given.get("input"))
    if name in _SAME or (name in ("clamp", "clamp_min") and a.min == 1 and getattr(a, "max", None) is None):
        return x
    if name in _COMPARISONS:
        return _mask(interpreter, name)
    if name == "_assert_tensor_metadata":
        return None
    if name in ("sub", "add") and isinstance(x, Lengths) and isinstance(a.other, int) and a.alpha == 1:
        return replace(x, more=x.more + (a.other if name == "add" else -a.other))
    if isinstance(x, Rows):
        is_all = x.steps == interpreter.tracer.steps
        if name == "div" and isinstance(a.other, Lengths) and not a.other.more and is_all:
            mean = interpreter.tracer.mean_of_sum(x, place)
            if mean is not None:
                return mean
        if name == "index_select" and isinstance(a.index, Opaque) and x.axes[x.dim(a.dim)] == BATCH:
            return x
        if name == "index" and _is_last_of_each(interpreter, x, a.indices):
            time = x.axes.index(TIME)
            return interpreter.tracer.select(x, time, -1, "last")
        if name == "gather" and isinstance(a.index, Lengths) and a.index.more == -1 and x.axes[x.dim(a.dim)] == TIME:
            last = interpreter.tracer.select(x, a.dim, -1, "last")
            return interpreter.tracer.unsqueeze(last, x.dim(a.dim))
    elif name in ("index_select", "index") and (
        isinstance(x, Final) or _is_alike(interpreter, x, getattr(a, "dim", 0))
    ):
        return x
    elif isinstance(x, Lengths | Opaque) and name in (
        "index_select",
        "index",
        "sort",
        "argsort",
        "scatter",
        "empty_like",
    ):
        return (x, Opaque()) if name == "sort" else x if isinstance(x, Lengths) and "index" in name else Opaque()
    raise RefusedError(
        f"{name} of the sequences' lengths; supported: pack_padded_sequence, torch.arange below them as a mask, a sum "
        "over time divided by them, and the row at lengths - 1"
    )


def _mask(interpreter: Interpreter, name: str) -> Any:
    """Which rows are in their sequence: all that a model has, as those past a length are none of its rows."""
    torch, given = interpreter.torch, []
    for node in interpreter.node.args:
        value = interpreter.values.get(node, node) if isinstance(node, torch.fx.Node) else node
        if isinstance(value, Lengths):
            value = torch.full(tuple(node.meta["val"].shape), interpreter.tracer.steps[0] + value.more)
        if not isinstance(value, torch.Tensor) or not value.ndim:
            raise RefusedError("the sequences' lengths compared with what is no torch.arange of rows")
        given.append(value)
    return getattr(torch, name)(*given)


def _is_alike(interpreter: Interpreter, x: Any, dim: int) -> bool:
    """Whether constants are the same for all sequences, so that their order is nothing to them."""
    return isinstance(x, interpreter.torch.Tensor) and bool((x == x.select(dim, 0).unsqueeze(dim)).all())


def _is_last_of_each(interpreter: Interpreter, x: Rows, indices: Any) -> bool:
    """Whether it takes of each sequence the row at its length - 1."""
    torch = interpreter.torch
    if len(indices) != 2 or {x.axes[0], x.axes[1]} != {BATCH, TIME}:
        return False
    along_batch, along_time = (indices[x.axes.index(axis)] for axis in (BATCH, TIME))
    return (
        isinstance(along_time, Lengths)
        and along_time.more == -1
        and isinstance(along_batch, torch.Tensor)
        and torch.equal(along_batch.long().cpu().reshape(-1), torch.arange(x.batch[0]))
    )
