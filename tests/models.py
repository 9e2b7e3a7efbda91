"""Random models that are the same floats on every machine, and what the tests know about each kind of cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fusedcell as fc
from fusedcell import reference

SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 256)

# Every size once as I and once as H, small with large.
SIZE_PAIRS = tuple(zip(SIZES, (33, 17, 256, 9, 65, 16, 2, 8, 31, 7, 100, 1, 15, 3, 64), strict=True))


def uniform(seed: int, *shape: int) -> np.ndarray:
    """Floats in [-1, 1) with 24 bits, from the generator's raw output, which no version of NumPy changes."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32).reshape(shape)


@dataclass(frozen=True)
class Kind:
    """A kind of cell: how fusedcell makes it and how the reference computes it."""

    name: str
    layer: type
    cell: type
    gates: int
    reference: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    projected: bool = False

    def weights(
        self,
        input_size: int,
        hidden_size: int,
        *,
        layers: int = 1,
        directions: int = 1,
        bias: bool = True,
        seed: int = 1,
    ) -> dict[str, np.ndarray]:
        """Contractive weights under PyTorch's names: pre-activations of order 1, and recurrent matrices that shrink."""
        output_size = max(1, hidden_size // 2) if self.projected else hidden_size
        mapping = {}
        for layer in range(layers):
            inputs = input_size if layer == 0 else directions * output_size
            for direction in range(directions):
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                rows = self.gates * hidden_size
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, output_size)}
                if bias:
                    shapes["bias_ih"] = shapes["bias_hh"] = (rows,)
                if self.projected:
                    shapes["weight_hr"] = (output_size, hidden_size)
                for name, shape in shapes.items():
                    scale = np.float32(1 / np.sqrt(shape[-1] + 3))
                    mapping[name + suffix] = uniform(1000 * seed + len(mapping), *shape) * scale
        return mapping

    def make(self, mapping: Mapping[str, np.ndarray], **options: Any) -> Any:
        return self.layer.from_state_dict(mapping, **self.options, **options)

    def make_cell(self, mapping: Mapping[str, np.ndarray], **options: Any) -> Any:
        arrays = {name.removesuffix("_l0"): value for name, value in mapping.items()}
        return self.cell(**arrays, **self.options, **options)

    def expected(self, x: np.ndarray, mapping: Mapping[str, np.ndarray], state: Any = None, **options: Any) -> Any:
        """The float64 reference's answer."""
        return self.reference(x, mapping, state, **self.options, **options)


KINDS = (
    Kind("rnn_tanh", fc.RNN, fc.RNNCell, 1, reference.rnn, {"nonlinearity": "tanh"}),
    Kind("rnn_relu", fc.RNN, fc.RNNCell, 1, reference.rnn, {"nonlinearity": "relu"}),
    Kind("lstm", fc.LSTM, fc.LSTMCell, 4, reference.lstm),
    Kind("lstm_projected", fc.LSTM, fc.LSTMCell, 4, reference.lstm, projected=True),
    Kind("gru_reset_after", fc.GRU, fc.GRUCell, 3, reference.gru, {"reset_after": True}),
    Kind("gru_reset_before", fc.GRU, fc.GRUCell, 3, reference.gru, {"reset_after": False}),
)
KIND_NAMES = tuple(kind.name for kind in KINDS)
KIND = {kind.name: kind for kind in KINDS}


def flat(result: Any) -> list[np.ndarray]:
    """The arrays of a layer's or a stream's result: y, h and perhaps c."""
    return [item for part in result for item in (flat(part) if isinstance(part, tuple) else [part])]


def random_state(kind: Kind, mapping: Mapping[str, np.ndarray], *rows: int, seed: int = 77) -> Any:
    """A state for the layer of these weights: (states, *rows, size), as h or as (h, c)."""
    states = sum(name.startswith("weight_ih") for name in mapping)
    hidden_size = mapping["weight_ih_l0"].shape[0] // kind.gates
    h = uniform(seed, states, *rows, mapping["weight_hh_l0"].shape[1])
    return (h, uniform(seed + 1, states, *rows, hidden_size)) if kind.gates == 4 else h


def one_unit(weight_ih: list[float], weight_hh: float, suffixes: tuple[str, ...] = ("_l0",)) -> fc.RNN:
    """A relu network of one unit a layer. Its own h, and a row of one weight, are exact in int8 but for a rounding."""
    mapping = {}
    for suffix in suffixes:
        mapping["weight_ih" + suffix] = np.array([weight_ih], np.float32)
        mapping["weight_hh" + suffix] = np.array([[weight_hh]], np.float32)
    return fc.RNN.from_state_dict(mapping, nonlinearity="relu")
