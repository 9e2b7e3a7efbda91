"""Recurrent operators inside a graph: read as a single node is read, and their states carried from call to call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...layers import Layer
from ..spec import RecurrentSpec, build
from ..tracing import TIME
from .attributes import operator_of
from .calls import Call
from .constants import Constants
from .file import OnnxFile, import_onnx
from .graph import Occurrence, recurrent_nodes
from .node import read_node
from .values import Value


def recurrent(call: Call) -> list[Value]:
    """Y, Y_h and Y_c of a recurrent node."""
    operator = operator_of(Occurrence(call.node, call.scope))
    roles = {role: index for index, role in enumerate(operator.inputs) if call.has(index)}
    x = call.rows(roles.get("X", 0))
    layout = call.scope.attributes_of(call.node).get("layout")
    time, batch = (1, 0) if layout is not None and layout.i == 1 else (0, 1)
    if len(x.axes) != 3:
        raise call.refused(f"of axes {x.axes}; supported: three")
    _check_lengths(call, roles, x.sizes[time])
    states = _states(call, roles)
    spec = _read(call, roles, batch, states)
    directions = len(spec.cells)
    if states and (directions > 1 or spec.reverse):
        raise call.refused("a state of a direction that runs backwards, carried from call to call")

    made = run(call, spec, x, time, batch)
    units = made.axes[2] // directions
    outputs = made.reshaped([(*shape[:2], directions, units) for shape in made.shapes])
    y = outputs if time else outputs.permuted((0, 2, 1, 3))
    finals: list[Value] = [_final(call, made, time, directions, units, spec)]
    finals.append(Value(reason=call.refused("the cell state as an answer; supported: as a state, or h")))
    elements, layer = call.walk.elements, call.tracer.graph.step(made.parts[0]).node
    for index, places in enumerate(states):
        onward = elements.number([array.shape for array in places])
        elements.carry(places, onward, layer)
        finals[index] = replace(finals[index], places=onward)
    return [Value(rows=y), *finals]


def run(call: Call, spec: RecurrentSpec, x: Any, time: int, batch: int) -> Any:
    """What the layer makes of X, in its axes; of one row, where no input of the model has time, by one step a call."""
    swapped = x.reversed and len(spec.cells) > 1

    def layer(backwards: bool) -> Layer:
        chosen = replace(spec, batch_first=False)
        if swapped:
            state = spec.initial_state and tuple(part[::-1] for part in spec.initial_state)
            chosen = replace(chosen, cells=spec.cells[::-1], options=spec.options[::-1], initial_state=state)
        elif backwards:
            chosen = replace(chosen, reverse=not spec.reverse)
        return build(chosen, dtype="float32", isa=None)

    if x.axes[time] == 1 and not call.tracer.graph.has_time:  # a call is a step
        order, one = x.axes, (1,) * call.probes
        x = replace(x, axes=(*order[:time], TIME, *order[time + 1 :]), steps=one, kind="rows")
        made = call.tracer.recurrent(_without_batch(x, batch), layer, place=call.place)
        made = _with_batch(made, x, batch)
        axes = (*made.axes[:time], 1, *made.axes[time + 1 :])
        return replace(made, axes=axes, kind="held")
    made = _with_batch(call.tracer.recurrent(_without_batch(x, batch), layer, place=call.place), x, batch)
    if swapped:
        half = made.axes[2] // 2
        made = made.taken(2, np.r_[half : 2 * half, :half])
    return made


def _without_batch(x: Any, batch: int) -> Any:
    """One sequence, where the source has one at most."""
    return x.reshaped([(*s[:batch], *s[batch + 1 :]) for s in x.shapes]) if x.axes[batch] == 1 else x


def _with_batch(made: Any, x: Any, batch: int) -> Any:
    return made.reshaped([(*s[:batch], 1, *s[batch:]) for s in made.shapes]) if x.axes[batch] == 1 else made


def _final(call: Call, made: Any, time: int, directions: int, units: int, spec: RecurrentSpec) -> Value:
    """Y_h: of each direction the row where it ends."""
    tracer, new = call.tracer, 1 if time else 0
    if made.axes[time] == 1:
        last = made.reshaped([(s[1 - time], directions, units) for s in made.shapes])
        return Value(rows=last if time else last.permuted((1, 0, 2)))
    if directions > 1 and not made.reversed:
        both = tracer.ends(made, time, f"{call.place}.last")
        apart = both.reshaped([(s[0], directions, units) for s in both.shapes])
        return Value(rows=apart if time else apart.permuted((1, 0, 2)))
    ends = []
    for direction in range(directions):
        half = made.taken(2, slice(direction * units, (direction + 1) * units)) if directions > 1 else made
        ends.append(tracer.select(half, time, 0 if direction or spec.reverse else -1, place=f"{call.place}.last"))
    return Value(rows=tracer.stack(ends, new, place=f"{call.place}.last"))


def _check_lengths(call: Call, roles: dict[str, int], steps: tuple[int, ...]) -> None:
    if "sequence_lens" not in roles:
        return
    value = call.value(roles["sequence_lens"])
    if not value.numbers:
        raise call.refused(
            "sequence_lens is computed from the model's inputs; supported: all steps of every row (a call of the "
            "model takes lengths=)"
        )
    for lengths, count in zip(value.numbers, steps, strict=True):
        if lengths.dtype.kind not in "iu" or (lengths != count).any():
            raise call.refused(f"sequence_lens {lengths.tolist()[:8]} of {count} steps; supported: all steps")


def _states(call: Call, roles: dict[str, int]) -> list[tuple[Any, ...]]:
    """The places of initial_h, and initial_c, if they are states of the model."""
    given = [call.value(roles[role]) for role in ("initial_h", "initial_c") if role in roles]
    carried = [value.places if value.state else () for value in given if not value.numbers]
    if not carried:
        return []
    known = (2 if "LSTM" in call.op_type else 1) == len(carried)
    if not known or not all(carried):
        for value in given:
            if value.reason is not None and not value.is_known:
                raise value.reason
        raise call.refused(
            "an initial state that is computed from the model's inputs; supported: constants, and states that states= "
            "names, h and c alike"
        )
    return carried


def _read(call: Call, roles: dict[str, int], batch: int, states: list[tuple[Any, ...]]) -> RecurrentSpec:
    """The node with its constants, as one of a model by itself."""
    onnx = import_onnx()
    node = onnx.NodeProto(op_type=call.node.op_type, domain=call.node.domain, name=call.place)
    for name, attribute in call.scope.attributes_of(call.node).items():
        node.attribute.add().CopyFrom(attribute)
        node.attribute[-1].name = name
        node.attribute[-1].ref_attr_name = ""
    graph = onnx.GraphProto(name="one", input=[onnx.ValueInfoProto(name="X")])
    left_out = {"sequence_lens", *(("initial_h", "initial_c") if states else ())}
    for role in operator_of(Occurrence(call.node, call.scope)).inputs:
        if role == "X":
            node.input.append("X")
        elif role not in roles or role in left_out:
            node.input.append("")
        else:
            array = call.constant(roles[role])
            if role.startswith("initial") and array.ndim == 3:
                first = array.take([0], batch)
                if (array != first).any():
                    raise call.refused(f"{role} differs between the rows of a batch")
                array = first
            graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), role))
            node.input.append(role)
    node.output.append("Y")
    graph.node.append(node)
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in call.scope.opsets.items()]
    file = OnnxFile(onnx.ModelProto(ir_version=8, graph=graph, opset_import=opsets))
    spec = read_node(recurrent_nodes(file)[0], Constants(file)).spec
    for places in states:
        want = [len(spec.cells), spec.cells[0]["weight_hh"].shape[1]]
        for probe, array in enumerate(places):
            count = call.rows(0).sizes[batch][probe]
            shape = (count, *want) if batch == 0 else (want[0], count, want[1])
            if array.shape != shape:
                raise call.refused(f"an initial state of shape {array.shape}; expected {shape}")
    return spec
