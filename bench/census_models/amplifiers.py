"""Amplifiers' JSON files, as the tests write them, with test vectors where the format has any."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .case import FORMULAS, Case, Entry, normal

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
import json_models as files

Flat = dict[str, np.ndarray]


class Amplifier(nn.Module):
    """An LSTM over samples and a dense layer, from h and c; GuitarML's adds the sample."""

    def __init__(self, recurrent: Flat, head: tuple[Any, Any], has_skip: bool, state: tuple[Any, Any] | None) -> None:
        super().__init__()
        units = len(recurrent["weight_hh_l0"]) // 4
        layers = sum(name.startswith("weight_hh") for name in recurrent)
        self.rec = nn.LSTM(1, units, layers, bias="bias_ih_l0" in recurrent)
        self.lin = nn.Linear(units, 1)
        given = {f"rec.{name}": array for name, array in recurrent.items()}
        given |= {
            f"rec.bias_hh_l{layer}": np.zeros(4 * units) for layer in range(layers) if "bias_hh_l0" not in recurrent
        }
        given |= {"lin.weight": head[0], "lin.bias": head[1]}
        self.load_state_dict({name: torch.tensor(array, dtype=torch.float32) for name, array in given.items()})
        zeros = np.zeros((layers, 1, units))
        self.start = [torch.tensor(part, dtype=torch.float32) for part in state or (zeros, zeros)]
        self.has_skip = has_skip

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.rec(x, (h, c))
        y = self.lin(y)
        return y + x if self.has_skip else y, h, c


def stepped(file: dict[str, Any], module: Amplifier) -> Case:
    def start() -> Any:
        state = [module.start]

        def step(x: np.ndarray) -> Any:
            with torch.inference_mode():
                y, *state[0] = module(torch.from_numpy(x.reshape(1, 1, 1)), *state[0])
            return (y,)

        return step

    return Case(lambda: files.load(file), [(normal(1, seed=seed) / 3,) for seed in range(16)], start=start)


def nam() -> Case:
    file, arrays = files.nam(units=16, layers=1)
    weights = {name: array for name, array in arrays.items() if "_l" in name}
    return stepped(file, Amplifier(weights, (arrays["W"], arrays["b"]), False, (arrays["h"], arrays["c"])))


def guitarml() -> Case:
    file = files.simple_rnn(units=40)
    state = file["state_dict"]
    weights = {name.removeprefix("rec."): np.array(array) for name, array in state.items() if name.startswith("rec.")}
    return stepped(file, Amplifier(weights, (state["lin.weight"], state["lin.bias"]), True, None))


def of_formulas(file: dict[str, Any], answer: Any) -> Case:
    x = normal(200, 1) / 3
    return Case(lambda: files.load(file), [(x,)], answer)


def aida_x() -> Case:
    file, answer = files.amplifier(unit="lstm", units=16)
    return of_formulas(files.with_test(file, answer), answer)


def rtneural() -> Case:
    drawn = files.Drawn(3)
    layers = [
        files.rtneural_layer("dense", 1, drawn, 8, "tanh"),
        files.rtneural_layer("conv1d", 8, drawn, 4, "tanh", kernel_size=[3], dilation=[2]),
        files.rtneural_layer("gru", 4, drawn, 8),
        files.rtneural_layer("dense", 8, drawn, 1),
    ]
    return of_formulas(*files.rtneural(1, layers))


MODELS = [
    Entry("Neural Amp Modeler's LSTM", "JSON", "PyTorch", "sdatkinson/neural-amp-modeler", nam),
    Entry("GuitarML's SimpleRNN", "JSON", "PyTorch", "GuitarML/GuitarML-Train", guitarml),
    Entry("AIDA-X, with its test", "JSON", FORMULAS, "AidaDSP/AIDA-X", aida_x),
    Entry("RTNeural's test model", "JSON", FORMULAS, "jatinchowdhury18/RTNeural", rtneural),
]
