"""Attributes of the ONNX recurrent operators: each is understood, or refused by name.

Source: https://onnx.ai/onnx/operators/ (LSTM, GRU and RNN of operator sets 7, 14 and 22) and, for the quantised LSTM,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#commicrosoftdynamicquantizelstm
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..._base import KINDS
from ..._options import ACTIVATIONS
from ...cell_options import Activation, CellOptions
from ...errors import UnsupportedError
from .file import import_onnx
from .graph import Occurrence, opset_domain
from .reader import AttributeReader

OLDEST_OPSET = 7
_LAYOUT_SINCE = 14
_SMALLEST_NORMAL = 2.0**-126


@dataclass(frozen=True)
class Operator:
    """What an operator takes: inputs and outputs in order, attributes, and what follows from its formulas."""

    family: str
    domain: str
    gates: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    activations: tuple[str, ...]
    blocks: tuple[int, ...]  # where PyTorch's blocks are among this operator's


_COMMON = ("activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size")
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h")
_SCALES = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")
_OUTPUTS = ("Y", "Y_h")


def _operator(
    kind: str, inputs: tuple[str, ...], outputs: tuple[str, ...], own: str, blocks: tuple[int, ...]
) -> Operator:
    family, attributes = kind.partition("_")[0].upper(), (*_COMMON, "layout", *own.split())
    return Operator(family, "", len(blocks), inputs, outputs, attributes, KINDS[kind].activations, blocks)


_LSTM = _operator("lstm", (*_INPUTS, "initial_c", "P"), (*_OUTPUTS, "Y_c"), "input_forget", (0, 2, 3, 1))
OPERATORS = {
    ("", "RNN"): _operator("rnn_tanh", _INPUTS, _OUTPUTS, "", (0,)),
    ("", "GRU"): _operator("gru_reset_before", _INPUTS, _OUTPUTS, "linear_before_reset", (1, 0, 2)),
    ("", "LSTM"): _LSTM,
    ("com.microsoft", "DynamicQuantizeLSTM"): replace(
        _LSTM,
        domain="com.microsoft",
        inputs=(*_LSTM.inputs, *_SCALES),
        attributes=tuple(name for name in _LSTM.attributes if name != "layout"),
    ),
}
# Where the ONNX operator of a function's name has defaults of alpha and beta. The others must be given.
_DEFAULTS = {
    "LeakyRelu": {"alpha": 0.01},
    "ThresholdedRelu": {"alpha": 1.0},
    "Elu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
}
_NAMES = {name.lower(): name for name in ACTIVATIONS}

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


@dataclass(frozen=True)
class NodeAttributes:
    """A recurrent node's attributes, with the operator's defaults where it has none."""

    direction: str
    layout: int
    hidden_size: int | None
    options: tuple[CellOptions, ...]  # one for each direction
    linear_before_reset: bool

    @property
    def num_directions(self) -> int:
        """1 or 2."""
        return _DIRECTIONS[self.direction]


def operator_of(occurrence: Occurrence) -> Operator:
    """What the node's operator takes; UnsupportedError for another domain, operator or operator set."""
    node, where = occurrence.node, occurrence.description
    domain = opset_domain(node.domain)
    operator = OPERATORS.get((domain, node.op_type))
    if operator is None:
        known = ", ".join(f"{name} of domain {domain!r}" for domain, name in OPERATORS)
        raise UnsupportedError(
            f"{where}: {node.op_type} of domain {node.domain!r} is not supported; supported: {known}"
        )
    if domain == "":
        newest = import_onnx().defs.onnx_opset_version()
        opset = opset_of(occurrence)
        if opset is None or not OLDEST_OPSET <= opset <= newest:
            raise UnsupportedError(
                f"{where}: operator set {opset} of the default domain is not supported; "
                f"supported: {OLDEST_OPSET} to {newest}"
            )
    return operator


def opset_of(occurrence: Occurrence) -> int | None:
    """The version of the node's domain that its model, or function, imports."""
    return occurrence.scope.opsets.get(opset_domain(occurrence.node.domain))


def read_attributes(occurrence: Occurrence, operator: Operator, *, clip_before_h: bool) -> NodeAttributes:
    """The node's attributes. Raises UnsupportedError for a name or value that is not known, ValueError for types."""
    known = set(operator.attributes)
    if (opset_of(occurrence) or 0) < _LAYOUT_SINCE:
        known.discard("layout")
    reader = AttributeReader(occurrence.scope.attributes_of(occurrence.node), known, occurrence.description)
    direction = reader.string("direction", "forward")
    if direction not in _DIRECTIONS:
        raise reader.refusal("direction", direction, ", ".join(_DIRECTIONS))
    layout = reader.integer("layout") or 0
    if layout not in (0, 1):
        raise reader.refusal("layout", layout, "0, 1")
    clip = reader.number("clip")
    if clip is not None and not clip >= _SMALLEST_NORMAL:
        raise reader.refusal("clip", clip, "a positive number, from 2^-126 on")
    activations = _activations(reader, operator.activations, _DIRECTIONS[direction])
    options = tuple(
        CellOptions(
            activations=None if tuple(f.name for f in functions) == operator.activations else functions,
            clip=None if clip is None or math.isinf(clip) else clip,
            clip_before_h=clip_before_h if operator.family == "LSTM" and clip is not None else True,
            input_forget=bool(reader.integer("input_forget")),
        )
        for functions in activations
    )
    linear_before_reset = bool(reader.integer("linear_before_reset"))
    return NodeAttributes(direction, layout, reader.integer("hidden_size"), options, linear_before_reset)


def _activations(reader: AttributeReader, default: tuple[str, ...], directions: int) -> list[tuple[Activation, ...]]:
    """Each direction's functions. The functions that take an alpha consume the values one by one, likewise beta."""
    total = directions * len(default)
    names = reader.strings("activations") or list(default * directions)
    if len(names) != total:
        raise reader.refusal("activations", names, f"{len(default)} for each direction, {total} in all")
    values = {key: list(reader.numbers(f"activation_{key}")) for key in ("alpha", "beta")}
    functions = []
    for given in names:
        if given.lower() not in _NAMES:
            raise reader.refusal("activations", given, ", ".join(ACTIVATIONS))
        name = _NAMES[given.lower()]
        taken: dict[str, float] = {}
        for key in ACTIVATIONS[name]:
            value = values[key].pop(0) if values[key] else _DEFAULTS.get(name, {}).get(key)
            if value is None:
                raise reader.refusal("activations", name, f"{name} with activation_{key}, as it has no default")
            if not math.isfinite(value):
                raise reader.refusal(f"activation_{key}", value, "finite numbers")
            taken[key] = value
        functions.append(Activation(name, **taken))
    for key, left in values.items():
        if left:
            raise reader.refusal(f"activation_{key}", left, f"no more values than {', '.join(names)} take")
    return [tuple(functions[i : i + len(default)]) for i in range(0, total, len(default))]
