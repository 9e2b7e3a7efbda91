"""Layers and nodes with one mistake put right: what their weights or options may really mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import nodes
from .._base import KINDS, FloatArray
from .._recurrent import make_stack
from ..cell_options import Activation, CellOptions
from ..layers import Layer
from ..nodes import Dense, LayerNorm, LogSoftmax, Node, Softmax, Window
from ..nodes.base import pair, text_of

Arrays: TypeAlias = dict[str, FloatArray]

_GATE_NAMES = {
    "i": "input",
    "f": "forget",
    "g": "candidate",
    "o": "output",
    "r": "reset",
    "z": "update",
    "n": "candidate",
}
_HARD_SIGMOIDS = {0.2: "0.2 x + 0.5", 1 / 6: "x / 6 + 0.5"}


class Alternative(NamedTuple):
    """What may be wrong with a layer or node, what to do, and the one that has it put right."""

    mistake: str
    advice: str
    make: Callable[[], Any]


def of_layer(layer: Layer) -> Iterator[Alternative]:
    """The likelier first."""
    yield from _gate_orders(layer)
    yield from _kinds(layer)
    yield from _matrices(layer)
    yield from _biases(layer)
    yield from _directions(layer)
    yield from _activations(layer)
    if layer.initial_state is not None:
        zeros = [np.zeros_like(part) for part in layer._initial_state or ()]
        yield Alternative(
            "the state begins with zeros, and this layer has an initial_state of other values",
            "give both the same state",
            lambda: layer.with_initial_state(*zeros),
        )


def of_node(node: Node, source: Any) -> Iterator[Alternative]:
    """Of a node that is no layer; `source` is the one node that it reads, or None."""
    if isinstance(node, Dense):
        yield from _dense(node, source)
    if isinstance(node, Window) and node.positions is None and node.padding != (0, 0):
        left, right = pair(node.padding)
        pads = {(left + right, 0), (0, left + right), (right, left)} - {(left, right)}
        for pad in sorted(pads, reverse=True):
            yield Alternative(
                f"padding is {pad} rows (left, right), and is {(left, right)} here",
                f"make it with padding={pad}",
                partial(node._with, padding=pad),
            )
    if isinstance(node, LayerNorm):
        for epsilon in {1e-5, 1e-3, 1e-6, 1e-12} - {node.eps}:
            yield Alternative(
                f"eps is {epsilon:g}, and is {node.eps:g} here",
                f"make it with eps={epsilon:g}",
                partial(node._with, eps=epsilon),
            )
    if isinstance(node, Softmax | LogSoftmax | nodes.Activation):
        identity = nodes.Activation("affine", 1.0, 0.0)
        yield Alternative("this activation is not there", "leave it out", lambda: identity)
    if isinstance(node, nodes.Activation):
        yield from _functions(Activation(node.name, node.alpha or 0.0, node.beta or 0.0), nodes.Activation._of)
    given = getattr(node, "activation", None)
    if isinstance(given, Activation):
        yield from _functions(given, lambda other: node._with(activation=other))
        yield Alternative(
            f"there is no activation, and here is {given.name}",
            "leave the activation out",
            lambda: node._with(activation=None),
        )


def _functions(given: Activation, make: Callable[[Activation], Node]) -> Iterator[Alternative]:
    for name, *numbers in _OTHERS.get(given.name, ()):
        other = Activation(name, *numbers)
        if other != given:
            yield Alternative(
                f"the activation is {text_of(other)}, and is {text_of(given)} here",
                f"make it with activation={(name, *numbers)!r}",
                partial(make, other),
            )


_OTHERS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "Gelu": (("GeluTanh",),),
    "GeluTanh": (("Gelu",),),
    "Sigmoid": (("HardSigmoid", 0.2, 0.5), ("HardSigmoid", 1 / 6, 0.5)),
    "HardSigmoid": (("Sigmoid",), ("HardSigmoid", 0.2, 0.5), ("HardSigmoid", 1 / 6, 0.5)),
    "LeakyRelu": (("LeakyRelu", 0.01), ("LeakyRelu", 0.2), ("LeakyRelu", 0.3), ("Relu",)),
    "Tanh": (("Relu",),),
    "Relu": (("Tanh",), ("LeakyRelu", 0.01)),
}


def _dense(node: Dense, source: Any) -> Iterator[Alternative]:
    outputs, inputs = node.weight.shape
    if outputs == inputs:
        yield Alternative(
            "the matrix is transposed", "transpose its weight", lambda: node._with(weight=_own(node.weight.T))
        )
    if node.bias is not None and node.bias.any():
        yield Alternative("there is no bias, and here is one", "leave the bias out", lambda: node._with(bias=None))
    positions = getattr(source, "positions", None)
    if positions:
        channels = len(source.weight)
        if positions_out := inputs // channels if inputs % channels == 0 else 0:
            order = np.arange(inputs).reshape(channels, positions_out).T.ravel()
            yield Alternative(
                "what it reads was flattened channels first, and comes position by position here",
                "put the columns of its weight into the order np.arange(C * P).reshape(C, P).T.ravel()",
                lambda: node._with(weight=_own(node.weight[:, order])),
            )


def _own(array: FloatArray) -> FloatArray:
    copy = np.ascontiguousarray(array)
    copy.setflags(write=False)
    return copy


def _gate_orders(layer: Layer) -> Iterator[Alternative]:
    letters = KINDS[layer.stack.kind].gates
    for order in permutations(letters):
        if "".join(order) == letters:
            continue
        blocks = [order.index(letter) for letter in letters]

        def change(cell: Arrays, blocks: list[int] = blocks) -> Arrays:
            return cell | {name: _blocks(cell[name], blocks) for name in _GATED if name in cell}

        yield Alternative(
            f"the gates of the weights are in the order {' '.join(order)}, and were taken as {' '.join(letters)} "
            f"({', '.join(f'{letter} {_GATE_NAMES[letter]}' for letter in letters)})",
            f"put the blocks of rows of every weight and bias into the order {' '.join(letters)} before it is loaded: "
            f"np.concatenate([np.split(array, {len(blocks)})[block] for block in {blocks}])",
            partial(_rebuilt, layer, change),
        )


_GATED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _blocks(array: FloatArray, order: list[int]) -> FloatArray:
    parts = np.split(array, len(order))
    return np.concatenate([parts[block] for block in order])


def _kinds(layer: Layer) -> Iterator[Alternative]:
    kind = layer.stack.kind
    if kind.startswith("gru"):
        after = kind == "gru_reset_after"
        other = "gru_reset_before" if after else "gru_reset_after"
        yield Alternative(
            f"reset_after is {not after}: the reset gate multiplies {'h' if after else 'R h + b'}",
            f"load it with reset_after={not after}",
            lambda: _rebuilt(layer, kind=other),
        )

        def negated(cell: Arrays) -> Arrays:
            changed = {name: cell[name].copy() for name in _GATED}
            for array in changed.values():
                array[len(array) // 3 : 2 * len(array) // 3] *= -1
            return cell | changed

        yield Alternative(
            "the update gate z is the share of the new state, where here it is that of the old one",
            "negate the block z of every weight and bias before it is loaded",
            lambda: _rebuilt(layer, negated),
        )


def _matrices(layer: Layer) -> Iterator[Alternative]:
    gates = len(KINDS[layer.stack.kind].gates)

    def transposed(array: FloatArray) -> FloatArray:
        return np.concatenate([part.T for part in np.split(array, gates)])

    def reshaped(array: FloatArray) -> FloatArray:
        return np.ascontiguousarray(array.reshape(array.shape[::-1]).T)

    ways = {
        "transposed": (transposed, "transpose the block of each gate"),
        "reshaped where it should be transposed": (reshaped, "use array.T, not array.reshape"),
    }
    for names in (("weight_hh",), ("weight_ih",), ("weight_ih", "weight_hh")):
        for text, (way, advice) in ways.items():
            shapes = [(len(cell[name]) // gates, cell[name].shape[1]) for cell in _cells(layer) for name in names]
            if way is transposed and any(rows != columns for rows, columns in shapes):
                continue

            def change(cell: Arrays, names: Any = names, way: Any = way) -> Arrays:
                return cell | {name: way(cell[name]) for name in names}

            yield Alternative(
                f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} {text}",
                f"{advice}, in {' and '.join(names)}",
                partial(_rebuilt, layer, change),
            )


def _biases(layer: Layer) -> Iterator[Alternative]:
    """Of a packed layer bias_ih and bias_hh are known by their sum, but for those of a GRU's candidate."""
    if not any(cell[name].any() for cell in _cells(layer) for name in ("bias_ih", "bias_hh")):
        return
    kind = layer.stack.kind
    ways = {
        "there is no bias": (0.0, "leave bias_ih and bias_hh out"),
        "the bias is added once, and is twice here, as bias_ih and as bias_hh": (0.5, "give bias_ih alone"),
        "the bias is added twice": (2.0, "give the double of bias_ih and bias_hh"),
    }
    for text, (factor, advice) in ways.items():

        def change(cell: Arrays, factor: float = factor) -> Arrays:
            return cell | {name: np.float32(factor) * cell[name] for name in ("bias_ih", "bias_hh")}

        yield Alternative(text, advice, partial(_rebuilt, layer, change))
    if kind.startswith("gru"):
        yield Alternative(
            "bias_ih and bias_hh are exchanged",
            "exchange them before they are loaded: that of the candidate is not the same",
            lambda: _rebuilt(layer, lambda cell: cell | {"bias_ih": cell["bias_hh"], "bias_hh": cell["bias_ih"]}),
        )
    if kind == "lstm":
        for by in (1.0, -1.0):

            def shifted(cell: Arrays, by: float = by) -> Arrays:
                bias = cell["bias_ih"].copy()
                bias[len(bias) // 4 : len(bias) // 2] += np.float32(by)
                return cell | {"bias_ih": bias}

            yield Alternative(
                f"the bias of the forget gate is {'1 more' if by > 0 else '1 less'} than here",
                f"{'add 1 to' if by > 0 else 'take 1 from'} the block f of bias_ih, as its framework does by itself",
                partial(_rebuilt, layer, shifted),
            )


def _directions(layer: Layer) -> Iterator[Alternative]:
    if layer.bidirectional:

        def exchanged() -> Layer:
            cells = _cells(layer)
            return _rebuilt(layer, cells=[cells[place ^ 1] for place in range(len(cells))])

        yield Alternative(
            "the weights of the forward and of the reverse direction are exchanged",
            "exchange the arrays that end in _reverse and those that do not",
            exchanged,
        )
    elif layer.num_layers == 1:
        yield Alternative(
            f"it runs {'forward' if layer.reverse else 'from the last step to the first'}, where this layer runs "
            f"{'backward' if layer.reverse else 'forward'}",
            "turn x and the answer round along time" + ("" if layer.reverse else ", or load the layer as reverse"),
            lambda: _rebuilt(layer, reverse=not layer.reverse),
        )


def _activations(layer: Layer) -> Iterator[Alternative]:
    kind = layer.stack.kind
    usual = KINDS[kind].activations
    if kind.startswith("rnn"):
        other = "rnn_relu" if kind == "rnn_tanh" else "rnn_tanh"
        yield Alternative(
            f"the nonlinearity is {other[4:]}, and is {kind[4:]} here",
            f"load it with nonlinearity={other[4:]!r}",
            lambda: _rebuilt(layer, kind=other),
        )
        return
    now = [item.activations or tuple(Activation(name) for name in usual) for item in layer.cell_options]

    def with_gate(place: int, activation: Activation) -> Callable[[], Layer]:
        changed = [(*each[:place], activation, *each[place + 1 :]) for each in now]
        options = [replace(item, activations=each) for item, each in zip(layer.cell_options, changed, strict=True)]
        return lambda: _rebuilt(layer, options=options)

    gates = {each[0] for each in now}
    if gates != {Activation("Sigmoid")}:
        yield Alternative(
            "the activation of the gates is sigmoid, and is not here",
            "load it without recurrent_activation or activations",
            with_gate(0, Activation("Sigmoid")),
        )
    for alpha, formula in _HARD_SIGMOIDS.items():
        if gates != {Activation("HardSigmoid", alpha, 0.5)}:
            yield Alternative(
                f"the activation of the gates is hard_sigmoid, {formula} from 0 to 1",
                "load it from the model, by fusedcell.from_keras or from_onnx, which keep the activation",
                with_gate(0, Activation("HardSigmoid", alpha, 0.5)),
            )
    for name in ("Relu", "Tanh"):
        if {each[1] for each in now} != {Activation(name)}:
            yield Alternative(
                f"the activation of the candidate is {name.lower()}, and is not here",
                "load it from the model, by fusedcell.from_keras or from_onnx, which keep the activation",
                with_gate(1, Activation(name)),
            )


def _cells(layer: Layer) -> list[Arrays]:
    """Float32 arrays of each layer and direction, scales multiplied in."""
    cells = []
    for arrays in layer.stack.arrays():
        scales = {name.removesuffix("_scale"): array for name, array in arrays.items() if name.endswith("_scale")}
        cells.append(
            {
                name: array * scales[name][:, None] if name in scales else array
                for name, array in arrays.items()
                if not name.endswith("_scale")
            }
        )
    return cells


def _rebuilt(
    layer: Layer,
    change: Callable[[Arrays], Arrays] = lambda cell: cell,
    *,
    cells: list[Arrays] | None = None,
    kind: str = "",
    options: list[CellOptions] | None = None,
    reverse: bool | None = None,
) -> Layer:
    stack = layer.stack
    changed = make_stack(
        kind or stack.kind,
        [change(cell) for cell in cells or _cells(layer)],
        layer._suffixes(),
        stack.num_directions,
        stack.dtypes,
        layer.isa,
        stack.input_scales,
        layer.cell_options if options is None else options,
        stack.reverse if reverse is None else reverse,
    )
    return layer._with_stack(changed)
