"""Write text, character by character, with textgenrnn's trained network, out of the file that Keras 2 wrote.

Its two LSTMs are stored in cuDNN's layout. They run in fusedcell and, beside it, in float64 by the formulas, with
weights that are taken out of the file in another way; embedding, attention and softmax are NumPy.
"""

import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from _audio import file_of_source_distribution

import fusedcell as fc

Array = npt.NDArray[np.float64]

RELEASE = "2.0.0"
TOLERANCE = 1e-5
LAYERS = ("rnn_1", "rnn_2")
UNITS, WINDOW, LONGEST = 128, 40, 100
META = "<s>"  # begins and ends a text


def packaged(name: str) -> bytes:
    return file_of_source_distribution("textgenrnn", RELEASE, f"textgenrnn/{name}").read()


def whole_model(weights: bytes) -> io.BytesIO:
    """The file as Model.save would have written it: its weights, and the options that textgenrnn's Python states."""
    options = {"units": UNITS, "return_sequences": True, "return_state": False, "go_backwards": False}
    layers = [{"class_name": "CuDNNLSTM", "config": {"name": name, **options}} for name in LAYERS]
    model = {"class_name": "Model", "config": {"name": "textgenrnn", "layers": layers}}
    file = io.BytesIO()
    with h5py.File(io.BytesIO(weights), "r") as source, h5py.File(file, "w") as target:
        target.attrs["model_config"] = json.dumps(model)
        target.attrs["keras_version"] = source.attrs["keras_version"]
        source.copy(source, target, "model_weights")
    return file


def float64_lstm(weights: h5py.File, name: str) -> dict[str, Array]:
    """An LSTM's weights in PyTorch's layout: each gate's kernel is, in memory, its transpose."""
    group = weights[f"{name}/{name}"]
    kernels, recurrent = (np.split(group[f"{part}:0"][()], 4, axis=1) for part in ("kernel", "recurrent_kernel"))
    W = np.concatenate([np.ravel(kernel).reshape(UNITS, -1) for kernel in kernels])
    b_ih, b_hh = np.split(group["bias:0"][()], 2)
    arrays = {"weight_ih_l0": W, "weight_hh_l0": np.concatenate(recurrent), "bias_ih_l0": b_ih, "bias_hh_l0": b_hh}
    return {key: array.astype(np.float64) for key, array in arrays.items()}


class Network:
    """The network around its two LSTMs, which are functions of (T, I)."""

    def __init__(self, weights: h5py.File, lstms: Sequence[Callable[[Array], Array]]) -> None:
        self.embeddings = weights["embedding/embedding/embeddings:0"][()].astype(np.float64)
        self.attention = weights["attention/attention/attention_W:0"][()].astype(np.float64)[:, 0]
        self.kernel = weights["output/output/kernel:0"][()].astype(np.float64)
        self.bias = weights["output/output/bias:0"][()].astype(np.float64)
        self.lstms = lstms

    def probabilities(self, codes: list[int]) -> Array:
        """Of the next character, after the last 40; a text that is shorter has zeros before it."""
        window = [0] * (WINDOW - len(codes)) + codes[-WINDOW:]
        parts = [self.embeddings[window]]
        for lstm in self.lstms:
            parts.append(lstm(parts[-1]))
        values = np.concatenate(parts, axis=1)
        shares = softmax(values @ self.attention)
        return softmax(shares @ values @ self.kernel + self.bias)

    def write(self, start: str, codes: dict[str, int]) -> tuple[str, Array]:
        """The likeliest characters one after another, and the probabilities of each step."""
        characters = {code: character for character, code in codes.items()}
        text, steps = [META, *start], []
        while len(text) < LONGEST:
            steps.append(self.probabilities([codes[character] for character in text]))
            text.append(characters[int(np.argmax(steps[-1]))])
            if text[-1] == META:
                break
        return "".join(text).replace(META, ""), np.array(steps)


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def main() -> None:
    """Writes three texts with both, and fails if a character or a probability differs."""
    codes = json.loads(packaged("textgenrnn_vocab.json"))
    data = packaged("textgenrnn_weights.hdf5")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.h5"
        path.write_bytes(whole_model(data).getvalue())
        layers = [fc.from_keras(path, name) for name in LAYERS]
    print(*layers, sep="\n")
    with h5py.File(io.BytesIO(data), "r") as weights:
        arrays = [float64_lstm(weights, name) for name in LAYERS]
        ours = Network(weights, [lambda x, lstm=lstm: lstm(x)[0].astype(np.float64) for lstm in layers])
        exact = Network(weights, [lambda x, w=w: fc.reference.lstm(x, w)[0] for w in arrays])
    worst = 0.0
    for start in ("", "The ", "My dog"):
        text, steps = ours.write(start, codes)
        expected, expected_steps = exact.write(start, codes)
        print(f"{text!r}")
        if text != expected:
            raise SystemExit(f"in float64 it is {expected!r}")
        worst = max(worst, float(np.abs(steps - expected_steps).max()))
    print(f"the same text in float64; probabilities differ by {worst:.1e} at most")
    if worst > TOLERANCE:
        raise SystemExit(f"that is more than {TOLERANCE}")


if __name__ == "__main__":
    main()
