"""Configurations of Keras's recurrent layers: each option is understood, or refused by name.

Sources: keras/src/layers/rnn and keras/src/activations of Keras 3.15 (https://keras.io/api/layers/recurrent_layers/),
and tensorflow/python/keras/layers/{recurrent,recurrent_v2,cudnn_recurrent,wrappers}.py of TensorFlow 2.4 for Keras 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ..._base import KINDS
from ...cell_options import Activation, CellOptions
from ...errors import UnsupportedError
from ...keras import OutputRule

RECURRENT = ("SimpleRNN", "LSTM", "GRU", "CuDNNLSTM", "CuDNNGRU", "RNN", "Bidirectional")
_KERAS_2_ONLY = ("CuDNNLSTM", "CuDNNGRU")
_FAMILY = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru"}
_MERGE_MODES = ("concat", "sum", "mul", "ave", None)
_DTYPES = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")

_ACTIVATIONS = {
    "tanh": Activation("Tanh"),
    "sigmoid": Activation("Sigmoid"),
    "relu": Activation("Relu"),
    "linear": Activation("Affine", 1.0, 0.0),
    "softsign": Activation("Softsign"),
    "softplus": Activation("Softplus"),
    "elu": Activation("Elu", 1.0),
}
# One name, two functions: clip(x / 6 + 1 / 2, 0, 1) since Keras 3, and clip(0.2 x + 0.5, 0, 1) before.
_ACTIVATIONS_OF_VERSION: dict[int, dict[str, Activation]] = {
    2: _ACTIVATIONS | {"hard_sigmoid": Activation("HardSigmoid", 0.2, 0.5)},
    3: _ACTIVATIONS
    | {"hard_sigmoid": Activation("HardSigmoid", 1 / 6, 0.5), "leaky_relu": Activation("LeakyRelu", 0.2)},
}

# What tells how a layer was built or trained, or how its framework runs it, and not what it computes in inference.
_TRAINING = ("_initializer", "_regularizer", "_constraint")  # what the names of such options end in
_NO_EFFECT = frozenset(
    ("unit_forget_bias", "dropout", "recurrent_dropout", "seed", "trainable", "name", "unroll", "implementation")
) | {"batch_input_shape", "batch_shape", "input_dim", "input_length", "dynamic"}
_OUTPUT = frozenset(
    ["return_sequences", "return_state", "go_backwards", "stateful", "time_major", "zero_output_for_mask"]
)
_CELL = frozenset(["units", "use_bias", "activation"])
_CELL_OF_FAMILY = {
    "rnn": _CELL,
    "lstm": _CELL | {"recurrent_activation"},
    "gru": _CELL | {"recurrent_activation", "reset_after"},
}


@dataclass(frozen=True)
class CellConfig:
    """One cell: `kind` and `options` are those of a `RecurrentSpec`; `cudnn` is how Keras 2's CuDNN layers store it."""

    kind: str
    units: int
    use_bias: bool
    options: CellOptions
    cudnn: bool = False

    @property
    def gates(self) -> int:
        """Blocks of units in each of the arrays."""
        return len(KINDS[self.kind].gates)


@dataclass(frozen=True)
class LayerConfig:
    """One recurrent layer: what it is called in errors, the stacked cells of each direction, and what it returns."""

    where: str
    directions: tuple[tuple[CellConfig, ...], ...]
    output: OutputRule


def is_recurrent(item: Any) -> bool:
    """Whether a serialized layer is one of Keras's own recurrent ones, or a Bidirectional of one."""
    return isinstance(item, Mapping) and item.get("class_name") in RECURRENT and is_own(item)


def is_own(item: Mapping[str, Any]) -> bool:
    """Whether a class is Keras's own. Keras 3.0.0 and 3.0.1 wrote the modules that they define the classes in."""
    module = item.get("module", "keras.layers")
    own = module == "keras.layers" or (isinstance(module, str) and module.startswith("keras.src.layers."))
    return own and item.get("registered_name") in (None, item["class_name"])


def read_layer(item: Mapping[str, Any], version: int, label: str = "") -> LayerConfig:
    """The layer of a serialized form, ``{"class_name": ..., "config": {...}}``, as Keras `version` (2 or 3) wrote it.

    Raises UnsupportedError naming the option that cannot be honoured, ValueError for a form that is none.
    """
    if not is_recurrent(item):
        name = item.get("class_name") if isinstance(item, Mapping) else item
        raise UnsupportedError(
            f"{label or 'layer'}: {str(name)[:100]!r} is not supported; supported: {', '.join(RECURRENT)} of Keras"
        )
    class_name, config = item["class_name"], item.get("config")
    where = label or f"{class_name} layer"
    if not isinstance(config, Mapping):
        raise ValueError(f"{where}: config: expected an object, got {type(config).__name__}")
    if not label and isinstance(config.get("name"), str):
        where += f" {config['name']!r}"
    if class_name in _KERAS_2_ONLY and version != 2:
        raise UnsupportedError(f"{where}: {class_name} is not a class of Keras {version}")
    if class_name == "Bidirectional":
        return _bidirectional(config, version, where)
    if class_name == "RNN":
        options = Options(config, _OUTPUT | {"cell", "num_constants"}, where)
        if config.get("num_constants"):
            raise options.refusal("num_constants", "0, as constants are no input of a built-in cell")
        cells, stacked = _cells(config.get("cell"), version, where)
    else:
        family = _FAMILY[class_name]
        cudnn = class_name in _KERAS_2_ONLY
        cell_keys = frozenset(["units"]) if cudnn else _CELL_OF_FAMILY[family]
        options = Options(config, _OUTPUT | cell_keys, where)
        cells, stacked = (_cell(options, family, version, cudnn=cudnn),), False
    if options.boolean("time_major"):
        raise options.refusal("time_major", "False, as x is (batch, time, features)")
    output = OutputRule(
        return_sequences=options.boolean("return_sequences"),
        return_state=options.boolean("return_state"),
        go_backwards=options.boolean("go_backwards"),
        stateful=options.boolean("stateful"),
        zero_output_for_mask=options.boolean("zero_output_for_mask"),
        stacked=stacked,
    )
    return LayerConfig(where, (cells,), output)


def _bidirectional(config: Mapping[str, Any], version: int, where: str) -> LayerConfig:
    options = Options(config, frozenset(["merge_mode", "layer", "backward_layer"]), where)
    if "merge_mode" not in config or config["merge_mode"] not in _MERGE_MODES:
        raise options.refusal("merge_mode", ", ".join(map(repr, _MERGE_MODES)))
    for key in ("layer", "backward_layer"):
        if isinstance(config.get(key), Mapping) and config[key].get("class_name") == "Bidirectional":
            raise UnsupportedError(f"{where}: {key}: a Bidirectional layer in another is not supported")
    forward = read_layer(config.get("layer", {}), version, f"{where}: layer")
    rule = forward.output
    if rule.go_backwards:
        raise UnsupportedError(
            f"{where}: layer: go_backwards=True is not supported in the forward layer, whose output is then backwards "
            "too; supported: False"
        )
    if config.get("backward_layer") is None:
        backward = replace(forward, output=replace(rule, go_backwards=True))
    else:
        backward = read_layer(config["backward_layer"], version, f"{where}: backward_layer")
        # zero_output_for_mask too is one for both: Keras sets it.
        both = replace(rule, go_backwards=True, zero_output_for_mask=backward.output.zero_output_for_mask)
        if backward.output != both:
            raise UnsupportedError(
                f"{where}: backward_layer has {_difference(backward.output, both)}; supported: the forward layer's "
                "return_sequences, return_state and stateful, and go_backwards=True"
            )
    cells = (*forward.directions, *backward.directions)
    if any(len(direction) > 1 for direction in cells):
        raise UnsupportedError(
            f"{where}: StackedRNNCells of several cells in each direction are not supported, as each direction is then "
            "a stack of its own; supported: one cell"
        )
    _check_alike((cells[0][0], cells[1][0]), where, "layer and backward_layer")
    # Keras forces it: what is merged at a masked step is zero.
    output = replace(rule, zero_output_for_mask=rule.return_sequences, merge_mode=config["merge_mode"])
    return LayerConfig(where, cells, output)


def _difference(got: OutputRule, expected: OutputRule) -> str:
    names = [name for name, value in vars(expected).items() if getattr(got, name) != value]
    return ", ".join(f"{name}={getattr(got, name)}" for name in names)


def _cells(item: Any, version: int, where: str) -> tuple[tuple[CellConfig, ...], bool]:
    """The cells of an RNN layer, and whether they are StackedRNNCells."""
    class_name, config = _builtin(item, f"{where}: cell")
    if class_name != "StackedRNNCells":
        return (_single_cell(class_name, config, version, f"{where}: cell"),), False
    options = Options(config, frozenset(["cells", "reverse_state_order"]), f"{where}: cell")
    if options.boolean("reverse_state_order"):
        raise options.refusal("reverse_state_order", "False")
    items = config.get("cells")
    if not isinstance(items, list) or not items:
        raise ValueError(f"{where}: cell: cells: expected a list of cells")
    cells = []
    for index, inner in enumerate(items):
        name = f"{where}: cells[{index}]"
        cells.append(_single_cell(*_builtin(inner, name), version, name))
    _check_alike(tuple(cells), where, "the cells of StackedRNNCells")
    return tuple(cells), True


def _builtin(item: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(item, Mapping) or not isinstance(item.get("config"), Mapping):
        raise ValueError(f"{where}: expected a serialized cell, got {type(item).__name__}")
    class_name = str(item.get("class_name"))
    known = ("SimpleRNNCell", "LSTMCell", "GRUCell", "StackedRNNCells")
    if class_name not in known or not is_own(item):
        raise UnsupportedError(
            f"{where}: {class_name[:100]!r} is not supported; supported: {', '.join(known)} of Keras"
        )
    return class_name, item["config"]


def _single_cell(class_name: str, config: Mapping[str, Any], version: int, where: str) -> CellConfig:
    if class_name == "StackedRNNCells":
        raise UnsupportedError(f"{where}: StackedRNNCells inside StackedRNNCells are not supported")
    family = _FAMILY[class_name.removesuffix("Cell")]
    return _cell(Options(config, _CELL_OF_FAMILY[family], where), family, version, cudnn=False)


def _cell(options: Options, family: str, version: int, *, cudnn: bool) -> CellConfig:
    kind = {"rnn": "rnn_tanh", "lstm": "lstm", "gru": "gru_reset_after"}[family]
    if cudnn:
        return CellConfig(kind, options.units(), True, CellOptions(), cudnn=True)
    # Keras 2 before 2.1 had one form of the GRU alone, and no name for it.
    if family == "gru" and not options.boolean("reset_after", required=version != 2):
        kind = "gru_reset_before"
    activation = options.activation("activation", version)
    functions: tuple[Activation, ...] = (activation,)
    if family != "rnn":
        gate = options.activation("recurrent_activation", version)
        functions = (gate, activation, activation) if family == "lstm" else (gate, activation)
    usual = tuple(item.name for item in functions) == KINDS[kind].activations
    return CellConfig(
        kind,
        options.units(),
        options.boolean("use_bias", required=True),
        CellOptions() if usual else CellOptions(functions),
    )


def _check_alike(cells: tuple[CellConfig, ...], where: str, which: str) -> None:
    first = cells[0]
    for cell in cells[1:]:
        if (cell.kind, cell.units) != (first.kind, first.units):
            raise UnsupportedError(
                f"{where}: {which} differ: {first.kind} of {first.units} units and {cell.kind} of {cell.units}; "
                "supported: one kind with one number of units"
            )


class Options:
    """A configuration's entries, all of which are known."""

    def __init__(self, config: Mapping[str, Any], known: frozenset[str], where: str) -> None:
        self._config = config
        self._where = where
        for key in config:
            if key not in known and key not in _NO_EFFECT and key != "dtype" and not str(key).endswith(_TRAINING):
                raise self.refusal(str(key), f"{', '.join(sorted(known))}, and what training alone needs")
        dtype = config.get("dtype")
        while isinstance(dtype, Mapping):  # a policy, whose config has the name
            dtype = dtype.get("config", {}).get("name") if isinstance(dtype.get("config"), Mapping) else ""
        if dtype is not None and dtype not in _DTYPES:
            raise self.refusal("dtype", ", ".join(_DTYPES))

    def refusal(self, key: str, supported: str) -> UnsupportedError:
        """The error for an option that cannot be honoured."""
        value = repr(self._config.get(key))
        value = value if len(value) <= 200 else value[:200] + "..."
        return UnsupportedError(f"{self._where}: {key[:100]}={value} is not supported; supported: {supported}")

    def boolean(self, key: str, *, required: bool = False) -> bool:
        """An option that is true or false, false where it is absent."""
        value = self._config.get(key, False)
        if not isinstance(value, bool) or (required and key not in self._config):
            self._misfit(key, "true or false")
        return value

    def units(self) -> int:
        """The number of units."""
        value = self._config.get("units")
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 31:
            self._misfit("units", "a positive integer")
        return value

    def activation(self, key: str, version: int) -> Activation:
        """An activation by its name; None is linear."""
        if key not in self._config:
            self._misfit(key, "the name of an activation")
        name = self._config[key]
        known = _ACTIVATIONS_OF_VERSION[version]
        if name is None:
            name = "linear"
        if not isinstance(name, str) or name not in known:
            raise self.refusal(key, f"{', '.join(known)} in Keras {version}")
        return known[name]

    def choice(self, key: str, values: tuple[Any, ...], default: Any) -> Any:
        """An option that is one of these values."""
        value = self._config.get(key, default)
        if not any(type(value) is type(known) and value == known for known in values):
            raise self.refusal(key, ", ".join(map(repr, values)))
        return value

    def integers(self, key: str, count: int, default: Any = None, least: int = 1) -> tuple[int, ...]:
        """So many integers, or one for all of them."""
        given = self._config.get(key, default)
        values = [given] * count if isinstance(given, int) else given
        fits = isinstance(values, (list, tuple)) and len(values) == count
        if not fits or any(isinstance(v, bool) or not isinstance(v, int) or not least <= v < 1 << 31 for v in values):
            self._misfit(key, f"{count} integers from {least} on" if count > 1 else f"an integer from {least} on")
        return tuple(values)

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        value = _unwrapped(self._config.get(key, default))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 3e38:
            self._misfit(key, "a number")
        return float(value)

    def numbers(self, key: str, default: float) -> npt.NDArray[np.float64]:
        """A number, or nested lists of them, as an array."""
        try:
            array = np.array(_unwrapped(self._config.get(key, default)), np.float64)
        except (TypeError, ValueError, OverflowError):
            self._misfit(key, "numbers")
        if not np.isfinite(array).all() or not array.size:
            self._misfit(key, "numbers")
        return array

    def get(self, key: str) -> Any:
        """An option as it is, or None."""
        return self._config.get(key)

    def _misfit(self, key: str, expected: str) -> NoReturn:
        got = repr(self._config[key])[:200] if key in self._config else "nothing"
        raise ValueError(f"{self._where}: {key}: expected {expected}, got {got}")


def _unwrapped(value: Any) -> Any:
    """A serialized array as numbers, anything else as it is."""
    wraps = isinstance(value, Mapping) and isinstance(value.get("config"), Mapping)
    return value["config"].get("value") if wraps else value
