"""Random models that are the same floats on every machine, and what the tests know about each kind of cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fusedcell as fc
from fusedcell import reference
from fusedcell._base import ARRAY_NAMES
from fusedcell._recurrent import make_stack
from fusedcell.cell_options import Activation, CellOptions
from fusedcell.convert.spec import RecurrentSpec, build
from fusedcell.reference.activations import activation_parameters
from fusedcell.weights.state_names import cells_by_layer

SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100, 256)

# Every size once as I and once as H, small with large.
SIZE_PAIRS = tuple(zip(SIZES, (33, 17, 256, 9, 65, 16, 2, 8, 31, 7, 100, 1, 15, 3, 64), strict=True))


def uniform(seed: int, *shape: int) -> np.ndarray:
    """Floats in [-1, 1) with 24 bits, from the generator's raw output, which no version of NumPy changes."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32).reshape(shape)


def layer_from_cells(
    kind: str, cells: Sequence[Any], *, num_directions: int = 1, options: Sequence[Any] = (), **more: Any
) -> Any:
    """A layer of the arrays of each layer and direction, with the options of each."""
    building = {"dtype": more.pop("dtype", "float32"), "isa": more.pop("isa", None)}
    levels = len(cells) // num_directions
    return build(RecurrentSpec(kind, tuple(cells), tuple(options), num_layers=levels, **more), **building)


@dataclass(frozen=True)
class Kind:
    """A kind of cell: how fusedcell makes it and how the reference computes it."""

    name: str
    layer: Any
    cell: Any
    gates: int
    reference: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    projected: bool = False
    peephole: bool = False

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
        mapping: dict[str, np.ndarray] = {}
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
                if self.peephole:
                    shapes["weight_peephole"] = (3 * hidden_size,)
                for name, shape in shapes.items():
                    scale = np.float32(0.5 if name == "weight_peephole" else 1 / np.sqrt(shape[-1] + 3))
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


@dataclass(frozen=True)
class GeneralKind(Kind):
    """A kind of cell with options, alike in every layer and direction."""

    kernel_kind: str = ""
    cell_options: CellOptions = field(default_factory=CellOptions)

    def make(self, mapping: Mapping[str, np.ndarray], **options: Any) -> Any:
        cells = cells_by_layer(mapping, "", ARRAY_NAMES)
        return layer_from_cells(
            self.kernel_kind,
            list(cells.values()),
            num_directions=1 + any("_reverse" in suffix for suffix in cells),
            options=[self.cell_options] * len(cells),
            **options,
        )

    def make_cell(self, mapping: Mapping[str, np.ndarray], **options: Any) -> Any:
        arrays = {name.removesuffix("_l0"): value for name, value in mapping.items()}
        return self.cell._of(
            make_stack(
                self.kernel_kind,
                [arrays],
                [""],
                1,
                options.get("dtype", "float32"),
                options.get("isa"),
                options=[self.cell_options],
            )
        )

    def expected(self, x: np.ndarray, mapping: Mapping[str, np.ndarray], state: Any = None, **options: Any) -> Any:
        return self.reference(x, mapping, state, **self.options, **reference_options(self.cell_options), **options)


def reference_function(activation: Activation) -> reference.Activation:
    """The reference's function with the alpha and beta that a float32 holds."""
    values = {name: float(np.float32(getattr(activation, name))) for name in ("alpha", "beta")}
    return reference.activation(
        activation.name, **{name: values[name] for name in activation_parameters(activation.name)}
    )


def reference_options(options: CellOptions) -> dict[str, Any]:
    """What the reference's rnn, gru and lstm call those that are not as usual."""
    given: dict[str, Any] = {} if options.clip is None else {"clip": float(np.float32(options.clip))}
    if options.activations is not None:
        functions: list[Any] = [reference_function(activation) for activation in options.activations]
        given |= {"nonlinearity": functions[0]} if len(functions) == 1 else {"activations": functions}
    if not options.clip_before_h:
        given["clip_before_h"] = False
    if options.input_forget:
        given["input_forget"] = True
    return given


def _general(name: str, kernel_kind: str, options: CellOptions, **more: Any) -> GeneralKind:
    plain = KIND[kernel_kind]
    arguments = {} if kernel_kind.startswith("rnn") else plain.options
    return GeneralKind(
        name,
        plain.layer,
        plain.cell,
        plain.gates,
        plain.reference,
        arguments,
        **more,
        kernel_kind=kernel_kind,
        cell_options=options,
    )


# Contractive, as the usual ones are: gates from 0 to 1, functions that stretch nothing.
GENERAL_KINDS = (
    _general("rnn_elu", "rnn_tanh", CellOptions((Activation("Elu", 0.75),), clip=1.5)),
    _general("lstm_peephole", "lstm", CellOptions(), peephole=True),
    _general("lstm_coupled", "lstm", CellOptions(clip=0.5, input_forget=True), peephole=True),
    _general(
        "lstm_hard",
        "lstm",
        CellOptions(
            (Activation("HardSigmoid", 0.2, 0.5), Activation("Softsign"), Activation("ScaledTanh", 1.25, 0.75)),
            clip=1.0,
            clip_before_h=False,
        ),
    ),
    _general(
        "lstm_soft_projected",
        "lstm",
        CellOptions((Activation("Sigmoid"), Activation("Tanh"), Activation("Softsign"))),
        projected=True,
    ),
    _general("gru_after_sigmoid", "gru_reset_after", CellOptions((Activation("Sigmoid"),) * 2, clip=0.7)),
    _general("gru_before_clipped", "gru_reset_before", CellOptions(clip=0.6)),
    _general(
        "gru_before_leaky", "gru_reset_before", CellOptions((Activation("Sigmoid"), Activation("LeakyRelu", 0.1)))
    ),
)
EVERY_KIND = KINDS + GENERAL_KINDS
EVERY_NAME = tuple(kind.name for kind in EVERY_KIND)
KIND |= {kind.name: kind for kind in GENERAL_KINDS}


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
