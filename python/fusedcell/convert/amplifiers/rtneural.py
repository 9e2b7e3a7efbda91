"""RTNeural's JSON of a sequential model, and AIDA-X's, which adds a skip, gains and a test to it.

Weights are in Keras's layouts. Whatever padding the convolutions were trained with, they look back along time alone,
as in RTNeural. Sources: RTNeural/model_loader.h and its layers; rt-neural-generic.cpp of aidadsp-lv2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..._base import FloatArray
from ...cell_options import CellOptions
from ...errors import UnsupportedError
from ...layers import Layer
from ...model import Model
from ...nodes import Activation, Add, Chain, Dense, Node, PReLU, Rows, Scale, Softmax, Take, Window
from ..keras.config import CellConfig
from ..keras.weights import to_pytorch
from ..spec import ModelSpec, RecurrentSpec, build
from .values import Fields, array, listing

# What says nothing of the answers, in files of several trainers.
_NOTES = ("metadata", "name", "author", "date", "description", "license", "version", "samplerate", "sample_rate", "esr")
_LONGEST_TEST = 1 << 16
_LARGEST_ROW = 1 << 16
_LARGEST_PAST = 1 << 22  # floats that a convolution looks back at
_MOST_LAYERS = 1000


@dataclass
class _Chain:
    """The nodes so far, the name of the last, and the features of its rows."""

    source: str
    size: int
    nodes: list[tuple[str, Any, Any]] = field(default_factory=list)

    def add(self, name: str, node: Node | Layer, size: int, source: Any = None) -> None:
        self.nodes.append((name, node, source or self.source))
        self.source, self.size = name, size


def read(model: Fields) -> ModelSpec:
    """What a file becomes; the errors are those of `model.read_model`."""
    size = _size_of(model.take("in_shape"), "in_shape")
    chain = _Chain("x", size)
    layers = model.take("layers")
    if not isinstance(layers, list) or not 0 < len(layers) <= _MOST_LAYERS:
        raise ValueError(f"layers: expected a list of 1 to {_MOST_LAYERS} layers")
    for index, item in enumerate(layers):
        _add_layer(chain, Fields(item, f"layers[{index}]"), index)
    if not chain.nodes:
        raise ValueError("layers: none of them computes anything")
    if model.whole("in_skip", 0, least=0, most=1):
        if chain.size != 1:
            raise UnsupportedError(f"in_skip is not supported for {chain.size} outputs; supported: 1")
        network = chain.source
        chain.add("audio", Take([0]), 1, "x")
        chain.add("skip", Add(), 1, (network, "audio"))
    gains = [_gain(model, key) for key in ("in_gain", "out_gain")]
    test = None
    if "input_batch" in model or "output_batch" in model:
        test = model.array("input_batch", (-1,)), model.array("output_batch", (-1,))
    model.ignore(*_NOTES)
    model.done()
    spec = ModelSpec(chain.nodes, {"x": size}, (chain.source,), batch_first=True)
    if test:
        _check(spec, *test)
    return _with_gains(spec, chain.size, *gains)


def _gain(model: Fields, key: str) -> float:
    """A factor, of decibels; from -90 down it is silence."""
    decibels = model.number(key, 0)
    if decibels > 700:
        raise ValueError(f"{key}: expected decibels up to 700, got {decibels:g}")
    return 10 ** (decibels / 20) if decibels > -90 else 0.0


def _with_gains(spec: ModelSpec, outputs: int, in_gain: float, out_gain: float) -> ModelSpec:
    """The audio, which is the first input, times one gain, and what comes out times the other."""
    nodes, last = spec.nodes, spec.outputs
    if in_gain != 1:
        scale = Scale([in_gain, *[1.0] * (spec.inputs["x"] - 1)])
        nodes = [("in_gain", scale, "x"), *((name, node, "in_gain" if of == "x" else of) for name, node, of in nodes)]
    if out_gain != 1:
        nodes, last = [*nodes, ("out_gain", Scale([out_gain] * outputs), last)], ("out_gain",)
    return ModelSpec(nodes, spec.inputs, last, batch_first=True)


def _check(spec: ModelSpec, audio: FloatArray, expected: FloatArray) -> None:
    """Whether the model answers as the file says that it does: from zeros, without gains, all knobs at 0."""
    if not len(audio) == len(expected) <= _LONGEST_TEST:
        raise ValueError(
            f"output_batch: expected as many numbers as input_batch has, {len(audio)}, and up to {_LONGEST_TEST}, got "
            f"{len(expected)}"
        )
    x = np.zeros((len(audio), spec.inputs["x"]), np.float32)
    x[:, 0] = audio
    y = spec.make(Model)(x)
    if y.shape != (len(expected), 1):
        raise ValueError(f"output_batch: expected a number for each answer, of which the shape is {y.shape}")
    difference = np.abs(y[:, 0].astype(np.float64) - expected)
    # Float32 in another order, as in AIDA-X's own test, and over a long run of a loud model.
    limit = 1e-5 + 1e-4 * float(np.abs(expected).max())
    wrong = np.flatnonzero(~(difference <= limit))
    if len(wrong):
        worst = int(np.nan_to_num(difference, nan=np.inf).argmax())
        raise ValueError(
            f"output_batch: the model fails the file's own test: {len(wrong)} of {len(expected)} samples are off by "
            f"more than {limit:.2g}, from sample {wrong[0]} on; most by {difference[worst]:.3g}, at sample {worst}, "
            f"{y[worst, 0]:.6g} where the file has {expected[worst]:.6g}. Its weights or options are not those that "
            "made the test"
        )


def _size_of(shape: Any, place: str) -> int:
    """Features of a row, of a Keras shape (batch, time, features), or of (batch, time, features, filters)."""
    sizes = (shape[2:] if len(shape) == 4 else shape[-1:]) if isinstance(shape, list) else []
    if not sizes or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(f"{place}: expected a list that ends in a number of features, got {shape!r:.60}")
    size = sizes[0] * sizes[-1] if len(sizes) > 1 else sizes[0]
    if size > _LARGEST_ROW:
        raise UnsupportedError(f"{place}: {size} features are not supported; supported: up to {_LARGEST_ROW}")
    return int(size)


@dataclass
class _Layer:
    """One to be added.

    - name: as a node
    - left: of its arrays, which are taken in order
    - size: features that its shape says it gives
    """

    chain: _Chain
    kind: str
    name: str
    keys: Fields
    left: list[Any]
    size: int
    activation: str | None
    taken: int = 0

    def array(self, *shape: int) -> FloatArray:
        place = self.keys.at(f"weights[{self.taken}]")
        if not self.left:
            raise ValueError(f"{place} is missing")
        self.taken += 1
        return array(self.left.pop(0), place, shape)

    def bias(self, *shape: int) -> FloatArray | None:
        """The next array, or None if there is none."""
        return self.array(*shape) if self.left else None

    def add(self, node: Node | Layer) -> None:
        self.chain.add(self.name, node, self.size)


def _add_layer(chain: _Chain, keys: Fields, index: int) -> None:
    kind = keys.text("type")
    if kind not in _LAYERS:
        raise UnsupportedError(f"{keys.at('type')} {kind!r:.60} is not supported; supported: {listing(_LAYERS)}")
    add, allowed = _LAYERS[kind]
    shape, arrays, activation = keys.take("shape"), keys.take("weights", []), keys.text("activation", "")
    size = _size_of(shape, keys.at("shape"))
    if activation not in ("", *allowed):
        known = listing(("", *allowed))
        raise UnsupportedError(
            f"{keys.at('activation')} {activation!r:.60} of {kind} is not supported; supported: {known}"
        )
    if activation == "softmax" and len(shape) == 4 and shape[2] > 1:
        raise UnsupportedError(
            f"{keys.at('activation')} 'softmax' of two axes is not supported: Keras takes the last, RTNeural both"
        )
    if not isinstance(arrays, list):
        raise ValueError(f"{keys.at('weights')}: expected a list of arrays")
    layer = _Layer(chain, kind, f"{kind.rpartition('-')[2]}_{index}", keys, list(arrays), size, activation or None)
    size = add(layer)
    if layer.left:
        raise ValueError(f"{keys.at('weights')}: expected {layer.taken} arrays, got {len(arrays)}")
    if size != layer.size:
        raise ValueError(f"{keys.at('shape')} has {layer.size} features, but the layer gives {size}")
    keys.ignore("name")
    keys.done()


def _dense(layer: _Layer) -> int:
    kernel = layer.array(layer.chain.size, layer.size)
    layer.add(Dense(kernel.T, layer.bias(layer.size), activation=layer.activation))
    return layer.size


def _conv1d(layer: _Layer) -> int:
    keys, inputs, outputs = layer.keys, layer.chain.size, layer.size
    taps, dilation, groups = keys.whole("kernel_size"), keys.whole("dilation"), keys.whole("groups", 1)
    stride = keys.whole("stride" if "stride" in keys else "strides", 1)
    if (padding := keys.text("padding", "causal")) != "causal":
        raise UnsupportedError(f"{keys.at('padding')} {padding!r:.60} is not supported; supported: 'causal'")
    if inputs % groups or outputs % groups:
        raise ValueError(f"{keys.at('groups')}: {inputs} inputs and {outputs} outputs are not {groups} equal groups")
    past = _past(keys, taps, dilation, inputs)
    kernel = layer.array(taps, inputs // groups, outputs)
    layer.add(
        Window(
            kernel.transpose(2, 0, 1).reshape(outputs, -1),
            layer.bias(outputs),
            taps=taps,
            stride=stride,
            dilation=dilation,
            padding=(past, 0),
            groups=groups,
            activation=layer.activation,
        )
    )
    return outputs


def _conv2d(layer: _Layer) -> int:
    """Rows of the past beside each other, and one convolution along the features of all of them."""
    keys, chain, row, newest = layer.keys, layer.chain, layer.chain.size, layer.chain.source
    filters, features = _axes(layer)
    outputs, stride, padding = keys.whole("num_filters_out"), keys.whole("strides"), keys.text("padding")
    taps, width, dilation = (keys.whole(key) for key in ("kernel_size_time", "kernel_size_feature", "dilation"))
    if padding not in ("valid", "same"):
        raise UnsupportedError(f"{keys.at('padding')} {padding!r:.60} is not supported; supported: 'valid', 'same'")
    kernel = layer.array(taps, width, filters, outputs)
    past = _past(keys, taps, dilation, taps * row)
    # As Keras pads: one more on the right where the number is odd.
    pad = max(0, (-(-features // stride) - 1) * stride + width - features) if padding == "same" else 0
    if features + pad < width:
        raise ValueError(f"{keys.at('kernel_size_feature')}: {width} are more than {features} features")
    for delay in range(past, 0, -dilation):
        chain.add(f"{layer.name}.before_{delay}", Rows(delay, -delay), row, newest)
    if taps > 1:
        older = [f"{layer.name}.before_{delay}" for delay in range(past, 0, -dilation)]
        order = np.arange(taps * row).reshape(taps, features, filters).transpose(1, 0, 2)
        chain.add(f"{layer.name}.rows", Take(order.reshape(-1)), taps * row, (*older, newest))
    layer.add(
        Window(
            kernel.transpose(3, 1, 0, 2).reshape(outputs, -1),
            layer.bias(outputs),
            taps=width,
            stride=stride,
            padding=(pad // 2, pad - pad // 2),
            positions=features,
            activation=layer.activation,
        )
    )
    return outputs * ((features + pad - width) // stride + 1)


def _axes(layer: _Layer) -> tuple[int, int]:
    """Filters and features that come in."""
    filters, features = (layer.keys.whole(key) for key in ("num_filters_in", "num_features_in"))
    if filters * features != layer.chain.size:
        raise ValueError(
            f"{layer.keys.at('num_features_in')}: {filters} filters of {features} are not {layer.chain.size} features"
        )
    return filters, features


def _past(keys: Fields, taps: int, dilation: int, floats: int) -> int:
    """How many rows are looked back at, of so many floats each."""
    past = (taps - 1) * dilation
    if past * floats > _LARGEST_PAST:
        raise UnsupportedError(
            f"{keys.at('dilation')}: {past} rows back of {floats} numbers are not supported; supported: up to "
            f"{_LARGEST_PAST} numbers"
        )
    return past


def _recurrent(layer: _Layer) -> int:
    cell = CellConfig({"lstm": "lstm", "gru": "gru_reset_after"}[layer.kind], layer.size, True, CellOptions())
    rows = cell.gates * layer.size
    arrays = {"kernel": layer.array(layer.chain.size, rows), "recurrent_kernel": layer.array(layer.size, rows)}
    if (bias := layer.bias(*([2, rows] if layer.kind == "gru" else [rows]))) is not None:
        arrays["bias"] = bias
    layer.add(build(RecurrentSpec(cell.kind, (to_pytorch(cell, arrays),), batch_first=True), dtype="float32", isa=None))
    return layer.size


def _prelu(layer: _Layer) -> int:
    slope, size = layer.array(1, -1)[0], layer.chain.size
    if len(slope) not in (1, size):
        raise ValueError(f"{layer.keys.at('weights[0]')}: expected shape (1, 1) or (1, {size}), got (1, {len(slope)})")
    layer.add(PReLU(slope))
    return size


def _batchnorm(layer: _Layer) -> int:
    size, epsilon = layer.chain.size, layer.keys.number("epsilon")
    filters = size if layer.kind == "batchnorm" else _axes(layer)[0]
    gamma, beta = np.ones(filters, np.float32), np.zeros(filters, np.float32)
    if len(layer.left) == 4:
        gamma, beta = layer.array(filters), layer.array(filters)
    mean, variance = layer.array(filters), layer.array(filters)
    spread = variance.astype(np.float64) + epsilon
    if spread.min() <= 0:
        raise ValueError(f"{layer.keys.at('epsilon')}: expected variances that are more than 0 with it added")
    each = [np.tile(part, size // filters) for part in (-mean, gamma / np.sqrt(spread), beta)]
    # Centred first, as a product of what is far from 0 would lose what it has in common with the mean.
    layer.add(Chain([Scale(np.ones(size), each[0]), Scale(each[1], each[2])]))
    return size


def _activation(layer: _Layer) -> int:
    if layer.activation is not None:
        layer.add(Softmax() if layer.activation == "softmax" else Activation(layer.activation))
    return layer.chain.size


# What adds each, and the activations that it may have.
_ANY = ("tanh", "relu", "sigmoid", "softmax", "elu")
_LAYERS: dict[str, tuple[Callable[[_Layer], int], tuple[str, ...]]] = {
    "dense": (_dense, _ANY),
    "time-distributed-dense": (_dense, _ANY),
    "conv1d": (_conv1d, _ANY),
    "conv2d": (_conv2d, _ANY),
    "gru": (_recurrent, ("tanh",)),
    "lstm": (_recurrent, ("tanh",)),
    "prelu": (_prelu, ()),
    "batchnorm": (_batchnorm, ()),
    "batchnorm2d": (_batchnorm, ()),
    "activation": (_activation, _ANY),
}
