"""The functions of docs/recipes.md, on weights whose answers are worked by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
LN3, ATANH = math.log(3), math.atanh(0.5)  # sigmoid(LN3) = 3/4, sigmoid(-LN3) = 1/4, tanh(ATANH) = 1/2


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(code, names)
    return names


def parts(value: float) -> dict[str, np.ndarray]:
    """What gives unit 1 a pre-activation of `value`, in thirds from x = (1, 0), h = (1, 0) and a bias, unit 0 none."""
    third = np.float32(value / 3)
    return {
        "x": np.array([[0, third], [0, 0]], np.float32),  # (inputs, units)
        "h": np.array([[0, third], [0, 0]], np.float32),
        "bias": np.array([0, third], np.float32),
    }


X, ONE = np.array([[1, 0]], np.float32), np.array([[1, 0]], np.float32)

# i = 1/2, f = 3/4, g = 1/2, o = 1/4 in unit 1, and 1/2, 1/2, 0, 1/2 in unit 0: with c = (1, 1) the new c is (1/2, 1).
LSTM = {"i": parts(0), "f": parts(LN3), "g": parts(ATANH), "o": parts(-LN3)}
LSTM_C = [0.5, 1.0]
LSTM_H = [0.5 * math.tanh(0.5), 0.25 * math.tanh(1)]


def check_lstm(mapping: dict[str, np.ndarray]) -> None:
    y, (h, c) = fc.LSTM.from_state_dict(mapping)(X, (ONE, np.ones((1, 2), np.float32)))
    np.testing.assert_allclose(y[0], LSTM_H, atol=1e-6)
    np.testing.assert_allclose(h[0], LSTM_H, atol=1e-6)
    np.testing.assert_allclose(c[0], LSTM_C, atol=1e-6)


def test_flax_lstm(recipes: dict[str, Any]) -> None:
    params: dict[str, Any] = {}
    for gate, given in LSTM.items():
        params["i" + gate] = {"kernel": given["x"]}
        params["h" + gate] = {"kernel": given["h"], "bias": given["bias"]}
    check_lstm(recipes["flax_lstm"](params))


def test_flax_gru(recipes: dict[str, Any]) -> None:
    """r = 3/4 and z = 1/4 in unit 1; n is tanh(1/8 + r * (1/3 + 1/6) + 0) = tanh(1/2), of h_1 = 0."""
    r, z = parts(LN3), parts(-LN3)
    params = {
        name + gate: {"kernel": given[key]} | ({"bias": given["bias"]} if name == "i" else {})
        for gate, given in (("r", r), ("z", z))
        for name, key in (("i", "x"), ("h", "h"))
    }
    zero = np.zeros(2, np.float32)
    params["in"] = {"kernel": np.zeros((2, 2), np.float32), "bias": zero + np.array([0, 0.125], np.float32)}
    params["hn"] = {
        "kernel": np.array([[0, 1 / 3], [0, 0]], np.float32),
        "bias": np.array([0, 1 / 6], np.float32),
    }
    y, _ = fc.GRU.from_state_dict(recipes["flax_gru"](params))(X, ONE)
    # Unit 0: r = z = 1/2 and n = 0, so half of h_0 = 1 is kept.
    np.testing.assert_allclose(y[0], [0.5, 0.75 * math.tanh(0.5)], atol=1e-6)


def test_flax_simple(recipes: dict[str, Any]) -> None:
    given = parts(ATANH)
    params = {"i": {"kernel": given["x"], "bias": given["bias"]}, "h": {"kernel": given["h"]}}
    y, _ = fc.RNN.from_state_dict(recipes["flax_simple"](params))(X, ONE)
    np.testing.assert_allclose(y[0], [0, 0.5], atol=1e-6)


def tflite_tensors() -> list[Any]:
    tensors: list[Any] = [None] * 20
    for index, gate in enumerate("ifgo"):
        tensors[1 + index] = LSTM[gate]["x"].T  # (units, inputs)
        tensors[5 + index] = LSTM[gate]["h"].T
        tensors[12 + index] = LSTM[gate]["bias"]
    return tensors


def test_tflite_lstm(recipes: dict[str, Any]) -> None:
    check_lstm(recipes["tflite_lstm"](tflite_tensors()))


def test_tflite_peepholes_and_projection(recipes: dict[str, Any]) -> None:
    """Peepholes of c = 1 and of the new c = 1 take the biases' part, and the projection adds both units."""
    tensors = tflite_tensors()
    for index, gate in ((9, "i"), (10, "f"), (11, "o")):
        tensors[index] = LSTM[gate]["bias"]
        tensors["ifgo".index(gate) + 12] = np.zeros(2, np.float32)
    tensors[16] = np.array([[1, 1]], np.float32)
    for index in range(5, 9):
        tensors[index] = tensors[index][:, :1]  # h has one unit, 1
    state = (np.ones((1, 1), np.float32), np.ones((1, 2), np.float32))
    y, (_, c) = fc.LSTM.from_state_dict(recipes["tflite_lstm"](tensors))(X, state)
    np.testing.assert_allclose(y[0], [sum(LSTM_H)], atol=1e-6)
    np.testing.assert_allclose(c[0], LSTM_C, atol=1e-6)


@pytest.mark.parametrize(
    ("index", "message"), [(1, "coupled gates"), (17, "a projection bias"), (21, "layer normalis")]
)
def test_tflite_that_has_no_counterpart_is_refused(recipes: dict[str, Any], index: int, message: str) -> None:
    tensors = [*tflite_tensors(), None, None, None, None]
    tensors[index] = None if index == 1 else np.ones(2, np.float32)
    with pytest.raises(ValueError, match=message):
        recipes["tflite_lstm"](tensors)
