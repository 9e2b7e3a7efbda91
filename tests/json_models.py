"""JSON models of amplifiers, small and drawn, and what they answer: float64, by the formulas of their own formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import fusedcell as fc

Answer = Callable[[np.ndarray], np.ndarray]
ACTIVATIONS: dict[str, Answer] = {
    "": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


def load(model: Any, **options: Any) -> fc.Model:
    """The model of a file with that JSON, or with those bytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "amp.json"
        path.write_bytes(model if isinstance(model, bytes) else json.dumps(model).encode())
        return fc.Model.from_json(path, **options)


class Drawn:
    """Weights as files have them: doubles whose values are float32."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int, low: float = -0.5, high: float = 0.5) -> np.ndarray:
        return self.rng.uniform(low, high, shape).astype(np.float32).astype(np.float64)


@dataclass
class RTNeuralLayer:
    """A layer as the file has it, and what it makes of rows (T, I)."""

    item: dict[str, Any]
    answer: Answer
    size: int


def rtneural_layer(kind: str, size: int, drawn: Drawn, outputs: int, activation: str = "", **options: Any) -> Any:
    """One that takes rows of `size` features; convolutions in two axes take (features, filters)."""
    act = ACTIVATIONS[activation]
    weights: Any = ()
    if kind in ("dense", "time-distributed-dense"):
        weights = (drawn(size, outputs), drawn(outputs))[: options.pop("arrays", 2)]
        bias = weights[1] if len(weights) > 1 else 0
        answer: Answer = lambda x: act(x @ weights[0] + bias)  # noqa: E731
    elif kind == "conv1d":
        weights = (drawn(options["kernel_size"][0], size // options.get("groups", 1), outputs), drawn(outputs))
        answer = lambda x: act(_conv1d(x, weights, options))  # noqa: E731
    elif kind == "conv2d":
        features, filters = options["num_features_in"], options["num_filters_in"]
        shape = (options["kernel_size_time"], options["kernel_size_feature"], filters, outputs)
        weights = (drawn(*shape), drawn(outputs))
        answer = lambda x: act(_conv2d(x.reshape(len(x), features, filters), weights, options))  # noqa: E731
        outputs = len(answer(np.zeros((1, size)))[0])
        options["num_filters_out"] = len(weights[1])
    elif kind == "lstm":
        weights = (drawn(size, 4 * outputs), drawn(outputs, 4 * outputs), drawn(4 * outputs))
        answer = lambda x: _lstm(x, *weights)  # noqa: E731
    elif kind == "gru":
        weights = (drawn(size, 3 * outputs), drawn(outputs, 3 * outputs), drawn(2, 3 * outputs))
        answer = lambda x: _gru(x, *weights)  # noqa: E731
    elif kind == "prelu":
        weights = (drawn(1, options.pop("slopes", size)),)
        answer = lambda x: np.where(x >= 0, x, x * weights[0][0])  # noqa: E731
    elif kind in ("batchnorm", "batchnorm2d"):
        filters = options.get("num_filters_in", size)
        moments = [drawn(filters), drawn(filters, low=0.5, high=2)]
        affine = [drawn(filters), drawn(filters)] if options.pop("affine", True) else []
        weights = (*affine, *moments)
        answer = lambda x: _batchnorm(x, [*([] if affine else [1, 0]), *weights], options["epsilon"])  # noqa: E731
    else:
        answer = act
    shape_out = [None, None, outputs]
    if kind in ("conv2d", "batchnorm2d"):
        last = options.get("num_filters_out", options["num_filters_in"])
        shape_out = [None, None, outputs // last, last]
    item = {"type": kind, "activation": activation, "shape": shape_out, **options}
    return RTNeuralLayer(item | {"weights": [each.tolist() for each in weights]}, answer, outputs)


def _conv1d(x: np.ndarray, weights: Any, options: dict[str, Any]) -> np.ndarray:
    kernel, bias = weights
    taps, inputs, outputs = kernel.shape
    groups, stride, dilation = options.get("groups", 1), options.get("strides", 1), options["dilation"][0]
    rows = []
    for t in range(0, len(x), stride):
        row = bias.copy()
        for o in range(outputs):
            first = o // (outputs // groups) * inputs
            for tap in range(taps):
                past = t - (taps - 1 - tap) * dilation
                if past >= 0:
                    row[o] += x[past, first : first + inputs] @ kernel[tap, :, o]
        rows.append(row)
    return np.array(rows)


def _conv2d(x: np.ndarray, weights: Any, options: dict[str, Any]) -> np.ndarray:
    kernel, bias = weights
    taps, width, _, outputs = kernel.shape
    stride, features = options["strides"], x.shape[1]
    if options["padding"] == "same":
        count = -(-features // stride)
        total = max((count - 1) * stride + width - features, 0)
        x = np.pad(x, ((0, 0), (total // 2, total - total // 2), (0, 0)))
    count = (x.shape[1] - width) // stride + 1
    y = np.tile(bias, (len(x), count, 1))
    for t in range(len(x)):
        for tap in range(taps):
            past = t - (taps - 1 - tap) * options["dilation"]
            for f in range(count if past >= 0 else 0):
                y[t, f] += np.einsum("wi,wio->o", x[past, f * stride : f * stride + width], kernel[tap])
    return y.reshape(len(x), count * outputs)


def _lstm(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    sigmoid, rows = ACTIVATIONS["sigmoid"], []
    h = c = np.zeros(len(recurrent))
    for row in x:
        i, f, g, o = np.split(row @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        rows.append(h)
    return np.array(rows)


def _gru(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    sigmoid, rows = ACTIVATIONS["sigmoid"], []
    h = np.zeros(len(recurrent))
    for row in x:
        xz, xr, xh = np.split(row @ kernel + bias[0], 3)
        hz, hr, hh = np.split(h @ recurrent + bias[1], 3)
        z = sigmoid(xz + hz)
        h = z * h + (1 - z) * np.tanh(xh + sigmoid(xr + hr) * hh)
        rows.append(h)
    return np.array(rows)


def _batchnorm(x: np.ndarray, arrays: Sequence[Any], epsilon: float) -> np.ndarray:
    gamma, beta, mean, variance = arrays
    by_filter = x.reshape(len(x), -1, len(mean))
    return (gamma * (by_filter - mean) / np.sqrt(variance + epsilon) + beta).reshape(x.shape)


def rtneural(size: int, layers: Sequence[RTNeuralLayer], **more: Any) -> tuple[dict[str, Any], Answer]:
    """A file of layers one after another, and what it answers without a skip or gains."""

    def answer(x: np.ndarray) -> np.ndarray:
        for layer in layers:
            x = layer.answer(x)
        return x

    return {"in_shape": [None, None, size], "layers": [layer.item for layer in layers]} | more, answer


def amplifier(seed: int = 0, unit: str = "lstm", inputs: int = 1, units: int = 4) -> tuple[dict[str, Any], Answer]:
    """A recurrent layer and a dense one, as AIDA-X has them."""
    drawn = Drawn(seed)
    layers = [rtneural_layer(unit, inputs, drawn, units), rtneural_layer("dense", units, drawn, 1)]
    return rtneural(inputs, layers, metadata={"samplerate": "48000"})


def with_test(model: dict[str, Any], answer: Answer, inputs: int = 1, samples: int = 50) -> dict[str, Any]:
    """The same with test vectors, the knobs at 0."""
    x = np.zeros((samples, inputs))
    x[:, 0] = Drawn(7)(samples)
    return model | {"input_batch": x[:, 0].tolist(), "output_batch": answer(x)[:, 0].tolist()}


def state_dict(unit: str, inputs: int, units: int, layers: int, drawn: Drawn, prefix: str = "") -> dict[str, Any]:
    """The arrays of a recurrent module of PyTorch."""
    rows = {"LSTM": 4, "GRU": 3, "RNN": 1}[unit] * units
    found: dict[str, Any] = {}
    for layer in range(layers):
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, units if layer else inputs),
            "weight_hh": (rows, units),
        }
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        found |= {f"{prefix}{name}_l{layer}": drawn(*shape).tolist() for name, shape in shapes.items()}
    return found


def simple_rnn(
    seed: int = 0, unit: str = "LSTM", inputs: int = 1, units: int = 4, layers: int = 1, outputs: int = 1, **more: Any
) -> dict[str, Any]:
    """GuitarML's."""
    drawn = Drawn(seed)
    state = state_dict(unit, inputs, units, layers, drawn, "rec.")
    state |= {"lin.weight": drawn(outputs, units).tolist(), "lin.bias": drawn(outputs).tolist()}
    data = {"model": "SimpleRNN", "input_size": inputs, "skip": 1, "output_size": outputs, "unit_type": unit}
    data |= {"num_layers": layers, "hidden_size": units, "bias_fl": True} | more
    if not data["bias_fl"]:
        del state["lin.bias"]
    return {"model_data": data, "state_dict": state}


def nam(
    seed: int = 0, inputs: int = 1, units: int = 3, layers: int = 1, outputs: int = 1, **config: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """An LSTM of Neural Amp Modeler, and its arrays by PyTorch's names with h, c (layers, 1, units), W and b."""
    drawn = Drawn(seed)
    arrays: dict[str, np.ndarray] = {}
    flat: list[np.ndarray] = []
    states = []
    for layer in range(layers):
        matrix = drawn(4 * units, (units if layer else inputs) + units)
        bias, h, c = drawn(4 * units), drawn(units), drawn(units)
        arrays[f"weight_ih_l{layer}"], arrays[f"weight_hh_l{layer}"] = matrix[:, :-units], matrix[:, -units:]
        arrays[f"bias_ih_l{layer}"] = bias
        states.append((h, c))
        flat += [matrix.ravel(), bias, h, c]
    arrays["h"], arrays["c"] = (np.array(part)[:, None] for part in zip(*states, strict=True))
    arrays["W"], arrays["b"] = drawn(outputs, units), drawn(outputs)
    config = {"input_size": inputs, "hidden_size": units, "num_layers": layers} | config
    model = {"version": "0.5.4", "metadata": {"loudness": -20.5}, "architecture": "LSTM", "config": config}
    weights = np.concatenate([*flat, arrays["W"].ravel(), arrays["b"]])
    return model | {"weights": weights.tolist(), "sample_rate": 48000}, arrays
