"""Neural Amp Modeler's ``.nam``: an LSTM whose weights are one list.

Each layer has the rows of [W_ih | W_hh], gates i f g o, then one bias, then h and c that it starts from; behind the
last come the head's weight and bias. Source: NAM/lstm.cpp of NeuralAmpModelerCore, nam/models/recurrent.py of
neural-amp-modeler.
"""

from __future__ import annotations

import re

import numpy as np

from ...errors import UnsupportedError
from ...nodes import Dense
from ..spec import Arrays, ModelSpec, RecurrentSpec, build
from .values import Fields


def read(model: Fields) -> ModelSpec:
    """What a file becomes; the errors are those of `model.read_model`, here and in the other formats."""
    version, architecture = model.text("version"), model.text("architecture")
    if re.fullmatch(r"0\.[567]\.[0-9]{1,9}", version) is None:
        raise UnsupportedError(f"version {version!r:.40} is not supported; supported: 0.5.0 to 0.7")
    if architecture != "LSTM":
        raise UnsupportedError(f"architecture {architecture!r:.40} is not supported; supported: 'LSTM'")
    if model.number("sample_rate", 48000) <= 0:
        raise ValueError("sample_rate: expected a positive number")
    Fields(model.take("metadata", {}), "metadata")
    config = Fields(model.take("config"), "config")
    inputs, hidden, layers = (config.whole(key) for key in ("input_size", "hidden_size", "num_layers"))
    outputs = config.whole("out_channels", 1)
    if config.whole("in_channels", inputs) != inputs:
        raise UnsupportedError(f"config.in_channels is not supported where it is not input_size, {inputs}")
    config.done()
    sizes = [inputs, *[hidden] * (layers - 1)]
    count = sum(4 * hidden * (size + hidden + 1) + 2 * hidden for size in sizes) + outputs * (hidden + 1)
    weights = model.array("weights", (-1,))
    model.done()
    if len(weights) != count:
        raise ValueError(f"weights: expected {count} numbers for what config says, got {len(weights)}")
    cells: list[Arrays] = []
    states = []
    for size in sizes:
        matrix, bias, h, c, weights = np.split(
            weights, np.cumsum([4 * hidden * (size + hidden), 4 * hidden, hidden, hidden])
        )
        matrix = matrix.reshape(4 * hidden, -1)
        cells.append({"weight_ih": matrix[:, :size].copy(), "weight_hh": matrix[:, size:].copy(), "bias_ih": bias})
        states.append((h, c))
    h, c = (np.stack(part)[:, None] for part in zip(*states, strict=True))
    start = (h, c) if h.any() or c.any() else None
    spec = RecurrentSpec("lstm", tuple(cells), num_layers=layers, batch_first=True, initial_state=start)
    lstm = build(spec, dtype="float32", isa=None)
    head = Dense(weights[: outputs * hidden].reshape(outputs, hidden), weights[outputs * hidden :])
    return ModelSpec([("lstm", lstm, "x"), ("head", head, "lstm")], {"x": inputs}, ("head",), batch_first=True)
