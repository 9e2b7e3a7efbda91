"""Which matrices and inputs the error of narrower weights comes from, one product of a matrix and a vector at a time.

Every product gets the operands that the wider layer has at that step, so nothing accumulates, and gates that multiply
others' (r in the GRUs, o in a projection) are the wider layer's. Sums are in float64: rounding of sums and gates is
left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from .._base import KINDS, FloatArray
from ..layers import Layer
from .operands import Operands, operands_of
from .products import Array, Matrix, matrices_of, product_errors
from .single import in_order, joined, reverse_flags, single_layers

Direction: TypeAlias = Literal["forward", "reverse"]
Squares: TypeAlias = dict[str, Array]

_VALUES_AT_A_TIME = 2**21


@dataclass(frozen=True)
class Source:
    """The error of one gate's pre-activation, rms over steps, batch rows and units; no accumulated error is in it.

    layer counts from 0, direction is "forward" or "reverse", gate one of i f g o, r z n or h, or "projection" for what
    weight_hr gives. `rms` is that of the whole error, and `parts` have that of what adds up to it: "weight_ih", "x",
    "weight_hh" and "h", or "weight_hr" and "m". A weight's part is what its own rounding does to the exact input (and
    that of its bias, where the layers' biases differ); an input's part is what rounding it adds, through the rounded
    weights, and is 0 but for int8. h is r h for the candidate of a GRU that resets before; m = o tanh(c). A forget
    gate that is 1 - i has no error of its own.
    """

    layer: int
    direction: Direction
    gate: str
    rms: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """The error of one row of weights: of the pre-activation of one unit in one gate, named as in :class:`Source`.

    `rms` is over steps and batch rows, `share` the part of the squared error of all rows that is this one's, 0 to 1.
    """

    layer: int
    direction: Direction
    gate: str
    unit: int
    rms: float
    share: float


def find_sources(layer: Layer, narrower: Layer, x: FloatArray, num_rows: int) -> tuple[list[Source], list[Row]]:
    """Sources in the order of packing, and the worst rows, on x (T, B, I) of which nothing is empty."""
    sources: list[Source] = []
    rows: list[Row] = []
    whole = 0.0
    flags = reverse_flags(layer)
    for index, directions in enumerate(zip(single_layers(layer), single_layers(narrower), strict=True)):
        outputs = []
        for reverse, before, after in zip(flags, *directions, strict=True):
            direction: Direction = "reverse" if reverse else "forward"
            x_in_order = in_order(x, reverse)
            seen = operands_of(before, x_in_order)
            outputs.append(seen.y)
            for gate, parts in _mean_squares(before, after, seen):
                total = parts.pop("all")
                whole += float(total.sum())
                rms = {name: float(np.sqrt(part.mean())) for name, part in parts.items()}
                sources.append(Source(index, direction, gate, float(np.sqrt(total.mean())), rms))
                worst = np.argsort(-total, kind="stable")[:num_rows]
                rows += [
                    Row(index, direction, gate, int(unit), float(np.sqrt(total[unit])), float(total[unit]))
                    for unit in worst
                    if total[unit] > 0
                ]
        x = joined(outputs, flags)
    rows.sort(key=lambda row: -row.rms)
    return sources, [
        Row(row.layer, row.direction, row.gate, row.unit, row.rms, row.share / whole) for row in rows[:num_rows]
    ]


def _mean_squares(before: Layer, after: Layer, seen: Operands) -> Iterator[tuple[str, Squares]]:
    """Each gate with the mean squares (units,) over steps and batch rows of each part and of "all"."""
    kind, units = before.stack.kind, before.hidden_size
    matrices, others = matrices_of(before), matrices_of(after)
    sums: Squares = {}
    projected: Squares = {}
    at_a_time = max(1, _VALUES_AT_A_TIME // len(matrices["weight_ih"].weights))
    for first in range(0, len(seen.x), at_a_time):
        part = slice(first, first + at_a_time)
        r = None if seen.r is None else seen.r[part]
        x, h = seen.x[part], seen.h[part]
        _add_squares(sums, _gate_errors(matrices, others, x, h, r, reset_after=kind == "gru_reset_after"))
        if seen.m is not None:
            of_weights, of_input = product_errors(matrices["weight_hr"], others["weight_hr"], seen.m[part])
            _add_squares(projected, {"weight_hr": of_weights, "m": of_input})
    for index, gate in enumerate(KINDS[kind].gates):
        if gate == "f" and before.cell_options[0].input_forget:
            continue
        yield gate, {name: total[index * units :][:units] / len(seen.x) for name, total in sums.items()}
    if projected:
        yield "projection", {name: total / len(seen.x) for name, total in projected.items()}


def _gate_errors(
    before: dict[str, Matrix],
    after: dict[str, Matrix],
    x: FloatArray,
    h: FloatArray,
    r: FloatArray | None,
    *,
    reset_after: bool,
) -> Squares:
    """The errors (N, G * H) of all gates by what they come from; r is the reset gate of a GRU."""
    errors = dict(zip(("weight_ih", "x"), product_errors(before["weight_ih"], after["weight_ih"], x), strict=True))
    recurrent, other = before["weight_hh"], after["weight_hh"]
    if r is None:
        of_recurrent = list(product_errors(recurrent, other, h))
    else:
        gates, candidate = slice(2 * r.shape[1]), slice(2 * r.shape[1], None)
        of_gates = product_errors(recurrent[gates], other[gates], h)
        of_candidate = product_errors(recurrent[candidate], other[candidate], h if reset_after else r * h)
        factor = r if reset_after else 1.0
        of_recurrent = [np.concatenate([a, factor * b], axis=1) for a, b in zip(of_gates, of_candidate, strict=True)]
    return errors | dict(zip(("weight_hh", "h"), of_recurrent, strict=True))


def _add_squares(sums: Squares, errors: Squares) -> None:
    for name, error in (errors | {"all": np.sum(list(errors.values()), axis=0)}).items():
        sums[name] = sums.get(name, 0.0) + np.einsum("nr,nr->r", error, error)
