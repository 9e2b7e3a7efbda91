"""Keras itself, for tests that hold against it what was read: models with weights, and what they answer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from models import uniform

os.environ.setdefault("KERAS_BACKEND", "torch")
torch: Any = pytest.importorskip("torch")
pytest.importorskip("h5py")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras: Any = pytest.importorskip("keras", minversion="3.0")

L = keras.layers
MARKS = [
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="masks go by the rule of Keras's PyTorch backend"),
    pytest.mark.filterwarnings("ignore"),  # of Keras's own
]

STEPS = 24
WORDS = 5
TOKENS: dict[str, Any] = {"shape": (None,), "dtype": "int32"}


def filled(model: Any, seed: int = 1) -> Any:
    """The model with weights about 0.5, and variances about 1."""
    for index, variable in enumerate(model.variables):
        shape = tuple(variable.shape)
        if "float" in str(variable.dtype) and "seed" not in variable.path:
            values = uniform(1000 * seed + index, *shape) * np.float32(0.8)
            if len(shape) > 1:
                values /= np.float32(np.sqrt(np.prod(shape[:-1])) / 2 + 1)
            variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def sequential(*layers: Any, shape: tuple[int | None, ...] = (None, 4), **options: Any) -> Any:
    return filled(keras.Sequential([keras.Input(shape, **options), *layers]))


def arrays_for(model: Any, rows: int = 3, steps: int = STEPS, seed: int = 1) -> list[np.ndarray]:
    """Values of the inputs: whole numbers for those that are declared so."""
    found = []
    for index, tensor in enumerate(model.inputs):
        shape = [rows, *(steps if size is None else size for size in tensor.shape[1:])]
        if "int" in str(tensor.dtype):
            found.append(np.random.default_rng(seed + index).integers(1, WORDS, shape))
        else:
            found.append(uniform(seed + index, *shape))
    return found


def answers(model: Any, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        tensors = [torch.from_numpy(value) for value in values]
        result = model(tensors if len(tensors) > 1 else tensors[0])
    return [np.asarray(part.detach()) for part in keras.tree.flatten(result)]


def flat(answer: Any) -> list[np.ndarray]:
    return list(answer) if isinstance(answer, tuple) else [answer]


def assert_same(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    assert [a.shape for a in actual] == [e.shape for e in expected]
    for a, e in zip(actual, expected, strict=True):
        assert np.abs(a - e).max(initial=0) <= 1e-5 * max(1.0, float(np.abs(e).max(initial=0)))


def check(model: Any, steps: int = STEPS) -> fc.Model:
    values = arrays_for(model, steps=steps)
    ours = fc.Model.from_keras(model)
    assert_same(flat(ours(*values)), answers(model, values))
    return ours


def refuse(model: Any, message: str) -> None:
    with pytest.raises(fc.UnsupportedError, match=message):
        fc.Model.from_keras(model)
