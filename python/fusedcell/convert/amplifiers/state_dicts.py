"""PyTorch state dictionaries as JSON: GuitarML's SimpleRNN, and what RTNeural's torch helpers read.

Sources: networks.py of CoreAudioML, RTNeural/torch_helpers.h.
"""

from __future__ import annotations

import re
from typing import Any

from ...errors import UnsupportedError
from ...layers import Layer
from ...nodes import Add, Dense, Take
from ..spec import Arrays, ModelSpec, RecurrentSpec, build
from .values import Fields, array, depth

_UNITS = {"LSTM": ("lstm", 4), "GRU": ("gru_reset_after", 3), "RNN": ("rnn_tanh", 1)}
_NAME = r"(?s)(?P<prefix>(?:.*\.)?)(?:(?:weight|bias)_[ih]h_l[0-9]+|weight|bias)"

_INSTEAD = "fusedcell.Model.from_torch takes the module itself"


def is_weight(name: str) -> bool:
    """Whether a name is one of a state dictionary."""
    return re.fullmatch(_NAME, name) is not None


def read_simple_rnn(model: Fields) -> ModelSpec:
    """GuitarML's: a recurrent layer, a linear one, and the first `skip` inputs added."""
    data = Fields(model.take("model_data"), "model_data")
    state = Fields(model.take("state_dict"), "state_dict")
    model.done()
    name, unit = data.text("model", "SimpleRNN"), data.text("unit_type")
    if name != "SimpleRNN":
        raise UnsupportedError(f"model_data.model {name!r:.40} is not supported; supported: 'SimpleRNN'")
    if unit not in _UNITS:
        raise UnsupportedError(f"model_data.unit_type {unit!r:.40} is not supported; supported: {', '.join(_UNITS)}")
    inputs, hidden, layers = data.whole("input_size"), data.whole("hidden_size"), data.whole("num_layers", 1)
    outputs, skip = data.whole("output_size", 1), min(inputs, data.whole("skip", 1, least=0))
    has_bias = data.flag("bias_fl", True)
    data.done()
    if skip > 1 and skip != outputs:
        raise UnsupportedError(f"model_data.skip {skip} is not supported; supported: 0, 1, and output_size, {outputs}")
    rec = _recurrent(state, "rec.", unit, inputs, hidden)
    if rec.num_layers != layers:
        raise ValueError(f"model_data.num_layers is {layers}, but state_dict has {rec.num_layers}")
    bias = state.array("lin.bias", (outputs,)) if has_bias else None
    lin = Dense(state.array("lin.weight", (outputs, hidden)), bias)
    state.done()
    nodes: list[tuple[str, Any, Any]] = [("rec", rec, "x"), ("lin", lin, "rec")]
    if skip:
        nodes += [("skip", Take([0] * outputs if skip == 1 else range(skip)), "x"), ("out", Add(), ("lin", "skip"))]
    return ModelSpec(nodes, {"x": inputs}, (nodes[-1][0],))


def read_state_dict(state: Fields) -> ModelSpec:
    """Of names alone: recurrent layers one after another, and perhaps a linear one behind them.

    Nothing is guessed that such a file does not say, as a convolution's dilation, or what is between linear layers.
    """
    nodes: list[tuple[str, Any, Any]] = []
    sizes: list[int] = []
    for prefix in dict.fromkeys(match["prefix"] for name in state if (match := re.fullmatch(_NAME, name))):
        if nodes and isinstance(nodes[-1][1], Dense):
            raise UnsupportedError(
                f"{prefix!r:.100} after a linear layer is not supported, as the file does not say what is between; "
                f"supported: recurrent layers, then one linear layer. {_INSTEAD}"
            )
        node: Layer | Dense
        if f"{prefix}weight_hh_l0" in state:
            node = _recurrent(state, prefix)
            taken, given = node.input_size, node.hidden_size
        else:
            node = _linear(state, prefix)
            given, taken = node.weight.shape
        if sizes and taken != sizes[-1]:
            raise ValueError(f"{prefix!r:.100} takes {taken} features, but what is before it gives {sizes[-1]}")
        sizes += [given] if sizes else [taken, given]
        name = f"{type(node).__name__.lower()}_{len(nodes)}"
        nodes.append((name, node, nodes[-1][0] if nodes else "x"))
    state.done()
    return ModelSpec(nodes, {"x": sizes[0]}, (nodes[-1][0],))


def _linear(state: Fields, prefix: str) -> Dense:
    place, weight = state.at(f"{prefix}weight"), state.take(f"{prefix}weight")
    if (axes := depth(weight)) != 2:
        raise UnsupportedError(
            f"{place} with {axes} axes is not supported, as the file does not say how it is used, such as a "
            f"convolution's stride; supported: 2. {_INSTEAD}"
        )
    matrix = array(weight, place, (-1, -1))
    return Dense(matrix, state.array(f"{prefix}bias", (len(matrix),)) if f"{prefix}bias" in state else None)


def _recurrent(state: Fields, prefix: str, unit: str = "", inputs: int = -1, hidden: int = -1) -> Layer:
    """A torch.nn module of however many layers there are; of a file that does not name its unit, LSTM or GRU."""
    cells: list[Arrays] = []
    while not cells or f"{prefix}weight_hh_l{len(cells)}" in state:
        end = f"l{len(cells)}"
        name = f"{prefix}weight_hh_{end}"
        recurrent = state.array(name, (-1, hidden))
        rows, hidden = recurrent.shape
        unit = unit or next((known for known in ("LSTM", "GRU") if rows == _UNITS[known][1] * hidden), "")
        if not unit or rows != _UNITS[unit][1] * hidden:
            expected = f"({_UNITS[unit][1]} * H, H)" if unit else "(4 * H, H) of an LSTM or (3 * H, H) of a GRU"
            raise ValueError(f"{state.at(name)}: expected shape {expected}, got {recurrent.shape}")
        cell: Arrays = {"weight_ih": state.array(f"{prefix}weight_ih_{end}", (rows, inputs)), "weight_hh": recurrent}
        biases = {part: f"{prefix}{part}_{end}" for part in ("bias_ih", "bias_hh")}
        if any(bias in state for bias in biases.values()):
            cell |= {part: state.array(bias, (rows,)) for part, bias in biases.items()}
        cells.append(cell)
        inputs = hidden
    return build(RecurrentSpec(_UNITS[unit][0], tuple(cells), num_layers=len(cells)), dtype="float32", isa=None)
