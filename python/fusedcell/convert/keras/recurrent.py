"""Keras's recurrent layers in a whole model, on symbolic tensors: what they return of what they compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...layers import Layer
from ..spec import RecurrentSpec, build
from ..tracing import TIME, RefusedError, Rows
from .call import Absent, Call
from .calls import arranged
from .config import LayerConfig


def recurrent(call: Call, x: Rows, states: Sequence[Any], config: LayerConfig, spec: RecurrentSpec) -> Any:
    """The results of a layer, as the model's calls number them; `states` are what its call starts from, if anything."""
    rule, tracer = config.output, call.tracer
    if any(not isinstance(state, np.ndarray) for state in states):
        raise RefusedError("an initial state that the model computes, or takes, is not supported; supported: constants")
    if states:
        initial = arranged(states, config)
        if initial[0].shape[1] > 1:
            raise RefusedError("an initial state that differs between the rows of a batch; supported: one for all")
        spec = replace(spec, initial_state=initial)
    is_one = x.kind == "held" and x.axes[1:2] == (1,) and not tracer.graph.has_time
    if is_one:  # the row of a call is the one step
        x = replace(x, axes=(x.axes[0], TIME, *x.axes[2:]), kind="rows")
    if TIME not in x.axes:
        what = "copies of the answer of a whole sequence" if x.kind == "whole" else "parts of one row"
        raise RefusedError(f"a recurrent layer whose steps are {what} is not supported; supported: steps of an input")
    y = tracer.recurrent(
        x.flipped((1,)) if rule.go_backwards and not is_one else x, _maker(spec, rule.bidirectional), call.place
    )
    if is_one:
        y = replace(y, axes=(y.axes[0], 1, y.axes[2]), kind="held")
    if not rule.bidirectional:
        ends = [tracer.select(y, 1, tuple(steps - 1 for steps in y.steps), call.place)] if _needs_end(rule) else []
        results: list[Any] = [y if rule.return_sequences else ends[0]]
    else:
        size = y.sizes[2][0] // 2
        halves = [y.taken(2, slice(0, size)), y.taken(2, slice(size, None))]
        ends = _ends(tracer, y, size, call.place) if _needs_end(rule) else []
        results = _merged(call, halves if rule.return_sequences else ends, rule.merge_mode, y)
    if rule.return_state:
        for end in ends:
            results += _states(end, config)
    return results


def _needs_end(rule: Any) -> bool:
    return rule.return_state or not rule.return_sequences


def _maker(spec: RecurrentSpec, is_bidirectional: bool) -> Callable[[bool], Layer]:
    made: dict[bool, Layer] = {}

    def make(backwards: bool) -> Layer:
        if backwards and is_bidirectional:
            raise RefusedError("a Bidirectional layer over a sequence that runs backwards")
        if backwards not in made:
            made[backwards] = build(replace(spec, reverse=backwards), dtype="float32", isa=None)
        return made[backwards]

    return make


def _ends(tracer: Any, y: Rows, size: int, place: str) -> list[Rows]:
    """What both directions end with: the last row of the first, the first row of the second."""
    both = tracer.ends(y, 1, place) if y.has_time else y.taken(1, 0)
    return [both.taken(1, slice(0, size)), both.taken(1, slice(size, None))]


def _merged(call: Call, parts: Sequence[Rows], mode: str | None, y: Rows) -> list[Any]:
    forward, backward = parts
    if mode is None:
        return [forward, backward]
    if mode == "concat":
        return [call.tracer.concat(parts, -1, call.place)]
    if mode == "mul":
        return [call.tracer.multiply(forward, backward, call.place)]
    total = call.tracer.add(forward, backward, call.place)
    return [total if mode == "sum" else call.tracer.multiply(total, 0.5, call.place)]


def _states(end: Rows, config: LayerConfig) -> list[Any]:
    """The final states of one direction: h of the last cell is its last output."""
    cells = config.directions[0]
    each: list[Any] = [Absent("the final state of an inner cell") for _ in cells[:-1]] + [end]
    if cells[0].kind != "lstm":
        return each
    cell_state = Absent("the cell state that an LSTM ends with")
    return [part for h in each for part in (h, cell_state)]
