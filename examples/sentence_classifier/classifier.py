"""The trained network out of Keras's file: the GRU by fusedcell, what stands around it by NumPy."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentences import PADDING, Ids, numbers, vocabulary

import fusedcell as fc

try:
    import h5py
except ImportError:
    raise SystemExit("the sentence classifier is read out of Keras's file by h5py: pip install h5py") from None

MODEL = Path(__file__).parent / "model.keras"
DTYPES = ("float32", "float16", "int8")

Array = NDArray[np.float32]


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def gru_arrays() -> dict[str, Array]:
    """The GRU's weights under PyTorch's names, by hand: Keras has them transposed, and gates in the order z r h."""

    def rows(columns: Array) -> Array:
        z, r, n = np.split(columns.T, 3)
        return np.concatenate([r, z, n])

    arrays = {}
    with zipfile.ZipFile(MODEL) as model, h5py.File(io.BytesIO(model.read("model.weights.h5"))) as weights:
        for direction, suffix in (("forward_layer", "_l0"), ("backward_layer", "_l0_reverse")):
            kernel, recurrent, biases = (
                weights[f"layers/bidirectional/{direction}/cell/vars/{i}"][()] for i in range(3)
            )
            named = {"weight_ih": kernel, "weight_hh": recurrent, "bias_ih": biases[0], "bias_hh": biases[1]}
            arrays |= {name + suffix: rows(array) for name, array in named.items()}
    return arrays


class Classifier:
    """Says how likely a sentence is to be positive; `dtype` is that of the GRU's weights."""

    def __init__(self, dtype: str = "float32") -> None:
        gru = fc.from_keras(MODEL, "encoder")
        assert isinstance(gru, fc.GRU)
        self.gru = gru.astype(dtype)
        self.words = vocabulary()
        with zipfile.ZipFile(MODEL) as model, h5py.File(io.BytesIO(model.read("model.weights.h5"))) as weights:
            self.embedding: Array = weights["layers/embedding/vars/0"][()].astype(np.float32)
            self.head: Array = weights["layers/dense/vars/0"][:, 0]
            self.bias = np.float32(weights["layers/dense/vars/1"][0])

    def __call__(self, text: str) -> float:
        """One sentence, as it is: nothing is padded, so nothing is masked."""
        _, h_n = self.gru(self.embedding[numbers(text, self.words)])
        return float(sigmoid(self.logits(h_n[:, None]))[0])

    def states(self, ids: Ids, *, masked: bool = True) -> Array:
        """The last states (2, B, 64) of sentences padded (B, T) on any side. Without `masked` padding is read, too."""
        return self.gru(self.embedding[ids], mask=ids != PADDING if masked else None)[1]

    def batch(self, ids: Ids, *, masked: bool = True) -> Array:
        return sigmoid(self.logits(self.states(ids, masked=masked)))

    def in_float64(self, ids: Ids) -> NDArray[np.float64]:
        """What `batch` gives, the GRU by its formulas."""
        h_n = fc.reference.gru(self.embedding[ids], gru_arrays(), mask=ids != PADDING, batch_first=True)[1]
        return sigmoid(self.logits(h_n))

    def logits(self, h_n: Array) -> Array:
        """(2, B, 64), the forward direction's last state and the backward one's, to (B,)."""
        return np.concatenate([h_n[0], h_n[1]], axis=-1) @ self.head + self.bias
