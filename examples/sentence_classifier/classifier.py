"""The trained network out of Keras's file as one model, and by its formulas in float64."""

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
    """Says how likely a sentence is to be positive; `dtype` is that of all matrices."""

    def __init__(self, dtype: str = "float32") -> None:
        self.words = vocabulary()
        self.gru = fc.from_keras(MODEL, "encoder")
        with zipfile.ZipFile(MODEL) as model, h5py.File(io.BytesIO(model.read("model.weights.h5"))) as weights:
            self.embedding: Array = weights["layers/embedding/vars/0"][()].astype(np.float32)
            self.head: Array = weights["layers/dense/vars/0"][:, 0]
            self.bias = np.float32(weights["layers/dense/vars/1"][0])
        layers = [
            ("embedding", fc.Embedding(self.embedding), "words"),
            ("encoder", self.gru, "embedding"),
            ("states", fc.nodes.Last(num_directions=2), "encoder"),
            ("positive", fc.Dense(self.head[None], self.bias[None], activation="sigmoid"), "states"),
        ]
        self.model = fc.Model(layers, outputs=("positive", "states"), batch_first=True).astype(dtype)

    def __call__(self, text: str) -> float:
        return float(self.model(numbers(text, self.words))[0][0])

    def answers(self, ids: Ids, *, masked: bool = True) -> tuple[Array, Array]:
        """Probabilities (B, 1) and last states (B, 128) of sentences (B, T). Without `masked` padding is read, too."""
        return self.model(ids, lengths=np.count_nonzero(ids, axis=1) if masked else None)

    def batch(self, ids: Ids, *, masked: bool = True) -> Array:
        return self.answers(ids, masked=masked)[0][:, 0]

    def in_float64(self, ids: Ids) -> NDArray[np.float64]:
        """What `batch` gives, by the formulas."""
        h_n = fc.reference.gru(self.embedding[ids], gru_arrays(), mask=ids != PADDING, batch_first=True)[1]
        return 1.0 / (1.0 + np.exp(-self.logits(h_n)))

    def logits(self, h_n: Array) -> Array:
        """(2, B, 64), the forward direction's last state and the backward one's, to (B,)."""
        return np.concatenate([h_n[0], h_n[1]], axis=-1) @ self.head + self.bias
