"""Read lines of text with Tesseract's trained network, its four LSTM layers in fusedcell.

The network is eng.traineddata of Debian's tesseract-ocr-eng, read from the file. Its weights are int8 already, and are
kept: fusedcell's int8 holds the file's integers, its float32 what they stand for (a scale's float64 rounded to
float32). Convolution, pooling and the softmax are NumPy. The first LSTM goes down each column of the picture, all
columns as one batch, and only its last step counts; the third goes from right to left.

Tesseract has an arithmetic of its own: x and h are rounded to multiples of 1/127 at every step and layer, tanh and
sigmoid come from tables. So it is shown beside, in NumPy (_tesseract_arithmetic.py): the command prints its
probabilities in whole percents, cut off, and those must be met, which proves that file and picture are understood.

Success is: that row's probabilities are the command's but for the cut; every row reads the text that the command reads;
and y of every float32 LSTM is that of float64 (fusedcell.reference) on the same x to 1e-5. |c| must stay below 100,
where Tesseract would clip it and fusedcell would not.

The command also searches for words with dictionaries, where this example takes the best character of each step. So the
lines are plain sentences, cut close to their text: in a wide margin, or between odd signs, the network is of little
certainty, and the search decides.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from _tesseract import Layer, Model
from _tesseract_arithmetic import CELL_LIMIT, Array, Random, lstm_layer, normalised, tanh_layer
from _text_images import draw_line

import fusedcell
from fusedcell import reference

LINES = (
    "The quick brown fox jumps over the lazy dog.",
    "Pack my box with five dozen liquor jugs!",
    "Recurrent networks read from left to right,",
    "and from right to left, in 1997 as in 2024.",
    "An invoice of 1,280.50 was paid on 14 March (late).",
)
WAYS = {
    "float64": "fusedcell.reference, float64",
    "tesseract": "Tesseract's arithmetic, NumPy",
    "float32": "fusedcell, float32",
    "int8": "fusedcell, int8",
}
TOLERANCE = 1e-5
PERCENT = 0.51  # half of what a whole number leaves open, and rounding
GATES = (1, 2, 0, 3)  # g i f o -> i f g o


def traineddata(language: str) -> Path:
    """The file that the command reads."""
    listed = subprocess.run(["tesseract", "--list-langs"], check=True, capture_output=True, text=True).stdout
    folder = re.search(r'"(.+)"', listed)
    if folder is None:
        sys.exit(f"tesseract --list-langs names no folder: {listed}")
    return Path(folder[1]) / f"{language}.traineddata"


def check_version() -> None:
    """Others fill the surroundings of a picture with other random numbers."""
    if shutil.which("tesseract") is None:
        sys.exit("there is no command tesseract (on Debian: apt-get install tesseract-ocr tesseract-ocr-eng)")
    printed = subprocess.run(["tesseract", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.match(r"tesseract v?(\d+)\.(\d+)\.(\d+)", printed)
    if not found or not (5, 0, 0) <= tuple(map(int, found.groups())) <= (5, 5, 0):
        sys.exit(f"this example follows the arithmetic of Tesseract 5.0.0 to 5.5.0; there is {printed.splitlines()[0]}")


def command(picture: npt.NDArray[np.uint8], language: str, *arguments: str) -> str:
    """What the command prints of the whole picture as one line, as it is (page segmentation mode 13)."""
    height, width = picture.shape
    graymap = f"P5 {width} {height} 255\n".encode() + picture.tobytes()
    environment = os.environ | {"OMP_THREAD_LIMIT": "1"}
    line = ["tesseract", "-", "-", "--psm", "13", "-l", language, *arguments]
    return subprocess.run(line, input=graymap, check=True, capture_output=True, env=environment).stdout.decode()


def percents(picture: npt.NDArray[np.uint8], language: str) -> list[dict[str, int]]:
    """The command's probabilities from 1 % on, by character, "" for none; one dictionary a step."""
    printed = command(picture, language, "-c", "lstm_choice_mode=1", "hocr")
    steps: list[dict[str, int]] = []
    for step, percent, text in re.findall(r"(id='timestep)|x_confs (\d+)'>([^<]*)<", printed):
        if step:
            steps.append({})
        else:
            steps[-1][html.unescape(text)] = int(percent)
    return steps


def arrays_of(layer: Layer, dtype: str) -> dict[str, Array]:
    """An LSTM's weights by the names that a fusedcell file has for them."""
    gates = [layer.matrices[index] for index in GATES]
    values = [gate.weights if dtype == "int8" else gate.floats()[0] for gate in gates]
    weight_ih, weight_hh = np.split(np.concatenate(values), [layer.inputs], axis=1)
    arrays = {"weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh}
    arrays["bias_ih_l0"] = np.concatenate([gate.floats()[1] for gate in gates])
    if dtype == "int8":
        for name in ("weight_ih_scale_l0", "weight_hh_scale_l0"):
            arrays[name] = np.concatenate([gate.scales for gate in gates])
    return arrays


def load(layer: Layer, dtype: str, *, reverse: bool) -> fusedcell.LSTM:
    """An LSTM with the file's weights as they are: through a file, which may hold int8 with its scales."""
    description = {"format_version": 2, "class": "LSTM", "kind": "lstm", "dtype": dtype, "batch_first": True}
    description |= {"options": [], "reverse": reverse}
    arrays = {
        name: np.ascontiguousarray(array if array.dtype == np.int8 else array.astype(np.float32))
        for name, array in arrays_of(layer, dtype).items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.safetensors"
        safetensors.numpy.save_file(arrays, path, {"fusedcell": json.dumps(description)})
        return fusedcell.load(path)


class Recogniser:
    """The network with its LSTMs computed in one of WAYS."""

    def __init__(self, model: Model, way: str) -> None:
        self._model = model
        self._way = way
        self._lstms: dict[str, fusedcell.LSTM] = {}
        self.largest_cell = 0.0
        self.differences: list[Array] = []  # of each y from float64 on the same x

    def __call__(self, picture: npt.NDArray[np.uint8]) -> Array:
        """Probabilities (steps, outputs) of a picture of the height that the network takes."""
        self._random = Random(self._model.seed)
        (scores,) = self._forward(self._model.network, normalised(picture))
        return scores

    def text(self, scores: Array) -> str:
        """The best output of each step; repetitions are one, and null is none."""
        best = scores.argmax(axis=1)
        new = best[np.diff(best, prepend=-1) != 0]
        return "".join(self._model.characters[index] for index in new if index != self._model.null)

    def _forward(self, layer: Layer, x: Array, *, reverse: bool = False) -> Array:
        """x and the result are (height, width, channels)."""
        if layer.kind == "Series":
            for part in layer.parts:
                x = self._forward(part, x)
            return x
        if layer.kind == "XYTranspose":
            return self._forward(layer.parts[0], x.swapaxes(0, 1)).swapaxes(0, 1)
        if layer.kind == "RTLReversed":
            return self._forward(layer.parts[0], x, reverse=True)
        if layer.kind in ("LSTM", "SummLSTM"):
            y = self._lstm(layer, x, reverse)
            return y[:, -1:] if layer.kind == "SummLSTM" else y
        if layer.kind == "Convolve":
            return self._neighbourhoods(x, *layer.sizes)
        if layer.kind == "Maxpool":
            across, down = layer.sizes
            height, width = len(x) // down, x.shape[1] // across
            whole = x[: height * down, : width * across]
            return whole.reshape(height, down, width, across, -1).max(axis=(1, 3))
        if layer.kind in ("Tanh", "Softmax"):
            if layer.kind == "Tanh" and self._way == "tesseract":
                return tanh_layer(layer, x)
            weights, biases = layer.matrices[0].floats()
            sums = x @ weights.T + biases
            if layer.kind == "Tanh":
                return np.tanh(sums)
            powers = np.exp(sums - sums.max(axis=2, keepdims=True))
            return powers / powers.sum(axis=2, keepdims=True)
        return x  # Input

    def _lstm(self, layer: Layer, x: Array, reverse: bool) -> Array:
        """Along the width, the rows as a batch."""
        turned = x[:, ::-1] if reverse else x
        exact, _ = reference.lstm(turned, arrays_of(layer, "float64"), batch_first=True)
        exact = exact[:, ::-1] if reverse else exact
        if self._way == "float64":
            return exact
        if self._way == "tesseract":
            y = lstm_layer(layer, x, reverse=reverse)
        else:
            if layer.name not in self._lstms:
                self._lstms[layer.name] = load(layer, self._way, reverse=reverse)
            y, _, trace = self._lstms[layer.name](x, return_cells=True)
            self.largest_cell = max(self.largest_cell, float(np.abs(trace.cells).max()))
        self.differences.append((y - exact).reshape(-1))
        return y

    def _neighbourhoods(self, x: Array, half_width: int, half_height: int) -> Array:
        """Each place's surroundings as channels, column by column; random numbers where the picture ends."""
        height, width, _ = x.shape
        edges = ((half_height, half_height), (half_width, half_width), (0, 0))
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, edges, constant_values=np.nan), (2 * half_height + 1, 2 * half_width + 1), axis=(0, 1)
        )
        found = windows.transpose(0, 1, 4, 3, 2).reshape(height, width, -1)
        outside = np.isnan(found)
        found[outside] = self._random(int(outside.sum()))  # in the order in which Tesseract draws them
        return found


def largest_and_rms(differences: Sequence[Array]) -> tuple[float, float]:
    joined = np.concatenate([np.zeros(1), *differences])
    return float(np.abs(joined).max()), float(np.sqrt(np.square(joined).mean()))


def from_percents(model: Model, scores: Array, steps: Sequence[dict[str, int]]) -> Array:
    """Differences in percent, from the middle of what a whole number stands for."""
    if len(steps) != len(scores):
        raise ValueError(f"the command has {len(steps)} steps, the network {len(scores)}")
    outputs = {character: output for output, character in model.characters.items()} | {"": model.null}
    found = [(t, outputs[text], percent) for t, step in enumerate(steps) for text, percent in step.items()]
    return np.array([100 * scores[t, output] - (percent + 0.5) for t, output, percent in found])


def main() -> None:
    language = "eng"
    check_version()
    model = Model.read(traineddata(language))
    pictures = [draw_line(text, height=model.network.inputs) for text in LINES]
    texts = [command(picture, language).strip() for picture in pictures]
    steps = [percents(picture, language) for picture in pictures]
    print(f"network {model.description}; the command reads:")
    print("\n".join(f"  {text}" for text in texts))
    print(f"\n  {'':<29}   {'from the command, %':>19}   {'y from float64, same x':>22}   same")
    print(f"  {'LSTMs by':<29}   {'largest':>12} {'rms':>6}   {'largest':>13} {'rms':>8}   text")
    failures = []
    for way, label in WAYS.items():
        recogniser = Recogniser(model, way)
        scores = [recogniser(picture) for picture in pictures]
        percent = largest_and_rms([from_percents(model, *pair) for pair in zip(scores, steps, strict=True)])
        read = [recogniser.text(each) for each in scores]
        same = sum(a == b for a, b in zip(read, texts, strict=True))
        y = largest_and_rms(recogniser.differences)
        shown = f"{y[0]:13.1e} {y[1]:8.1e}" if recogniser.differences else " " * 22
        print(f"  {label:<29}   {percent[0]:12.1f} {percent[1]:6.1f}   {shown}   {same} of {len(texts)}")
        if same < len(texts):
            failures.append(f"{label}: reads {read}")
        if way == "tesseract" and not percent[0] <= PERCENT:
            failures.append(f"{label}: {percent[0]:.1f} % from the command's probabilities, over {PERCENT} %")
        if way == "float32" and not y[0] <= TOLERANCE:
            failures.append(f"{label}: y is off by {y[0]:.1e}, over {TOLERANCE:.0e}")
        if not recogniser.largest_cell < CELL_LIMIT:
            failures.append(f"{label}: |c| reaches {recogniser.largest_cell:.1f}, which Tesseract would clip")
    if failures:
        sys.exit("failed:\n  " + "\n  ".join(failures))


if __name__ == "__main__":
    main()
