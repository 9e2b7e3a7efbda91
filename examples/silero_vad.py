"""Find the speech in a recording with silero-vad's trained network, frame by frame, as a live microphone would feed it.

All of the network is one fusedcell model, in float32 and with narrower weights: the short-time spectrum, convolutions,
LSTM and head. ONNX Runtime runs the original beside it.
"""

import argparse
import importlib.metadata
import itertools
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy reads it when it loads; every part of the comparison has one thread

import numpy as np
import numpy.typing as npt
import onnx
from _audio import RATE, file_of_source_distribution, read_wav

import fusedcell as fc
from fusedcell import nodes

Array = npt.NDArray[np.float32]

RELEASE = "6.2.3"
SEGMENTS = 19  # what silero-vad finds in the recording of its own tests
TOLERANCE = 1e-5
NARROW = ("bfloat16", "float16", "int8")
# In float32 where all else is int8: with these in int8 too, segments end a frame later.
KEPT = ("real", "imaginary", "encoder0", "encoder1", "encoder2")
NARROW_TOLERANCE = 0.01  # mean absolute change of the probability
PASSES = 5  # over the recording; the first one only warms up
# The package's other ONNX files with this LSTM, and where it is in them: as `fusedcell inspect FILE` lists it.
LSTM_NODES = {
    "silero_vad.onnx": "If_0_then_branch__Inline_0__/decoder/rnn/LSTM",  # weights are Constants inside two Ifs
    "silero_vad_16k_sequence.onnx": None,  # weights are initializers of the one node there is
}

FRAME = 512
CONTEXT = 64  # samples of the previous frame that the network sees again
THRESHOLD, EXIT_THRESHOLD = 0.5, 0.35
MIN_SPEECH, MIN_SILENCE, PAD = 250 * RATE // 1000, 100 * RATE // 1000, 30 * RATE // 1000


def package_file(name: str) -> Path:
    # Located by its metadata, since importing the package needs PyTorch and its files do not.
    return Path(str(importlib.metadata.distribution("silero-vad").locate_file(f"silero_vad/data/{name}")))


def read_weights() -> dict[str, Array]:
    """The default 16 kHz model under PyTorch's names and in its layout.

    The files of LSTM_NODES have the same numbers (:func:`files_that_differ` checks), the .safetensors file others.
    """
    graph = onnx.load(package_file("silero_vad_16k_op15.onnx")).graph
    return {tensor.name.removeprefix("model."): onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def network(weights: dict[str, Array], lstm: fc.LSTM) -> fc.Model:
    """A frame in, the probability of speech in it out."""
    end, reflected = CONTEXT + FRAME, 64
    samples = nodes.Take([*range(end), *range(end - 2, end - 2 - reflected, -1)])
    basis = weights["stft.forward_basis_buffer"][:, 0]
    spectrum = {"stride": 128, "positions": end + reflected, "activation": "square"}
    layers = [
        ("previous", nodes.Rows(1, -1), "frame"),
        ("context", nodes.Take(range(FRAME - CONTEXT, FRAME)), "previous"),
        ("samples", samples, ("context", "frame")),
        ("real", nodes.Window(basis[:129], taps=256, **spectrum), "samples"),
        ("imaginary", nodes.Window(basis[129:], taps=256, **spectrum), "samples"),
        ("power", nodes.Add(), ("real", "imaginary")),
        ("encoder", nodes.Activation("sqrt"), "power"),
    ]
    for index, (stride, steps) in enumerate(((1, 4), (2, 4), (2, 2), (1, 1))):
        weight, bias = (weights[f"encoder.{index}.reparam_conv.{name}"] for name in ("weight", "bias"))
        options = {"stride": stride, "padding": 1, "positions": steps, "activation": "relu"}
        layers.append((f"encoder{index}", nodes.Window.from_conv1d(weight, bias, **options), layers[-1][0]))
    weight, bias = (weights[f"decoder.decoder.2.{name}"] for name in ("weight", "bias"))
    layers += [
        ("lstm", lstm, layers[-1][0]),
        ("decoder", nodes.Activation("relu"), "lstm"),
        ("speech", nodes.Dense(weight[:, :, 0], bias, activation="sigmoid"), "decoder"),
    ]
    return fc.Model(layers, inputs={"frame": FRAME})


class Detector:
    """A stream of the model."""

    def __init__(self, model: fc.Model) -> None:
        self._stream = model.stream()
        self._out = np.empty(1, np.float32)
        self.reset = self._stream.reset

    def __call__(self, frame: Array) -> float:
        """The probability that the next 32 ms have speech in them."""
        self._stream.step(frame, out=self._out)
        return float(self._out[0])


def files_that_differ(weights: dict[str, Array], frames: Array, expected: Array) -> list[str]:
    """The files whose LSTM, read as an ONNX node, gives the model other bits."""
    return [
        name
        for name, node in LSTM_NODES.items()
        if not np.array_equal(network(weights, fc.from_onnx(package_file(name), node))(frames), expected)
    ]


class Original:
    """The same network in ONNX Runtime: one of the package's own exports, called as the package calls it."""

    def __init__(self, name: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = str(package_file(name))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._samples = np.zeros((1, CONTEXT + FRAME), np.float32)
        self._inputs = {"input": self._samples}
        names = [tensor.name for tensor in self._session.get_inputs()]
        self._states = {"state": (2, 1, 128)} if "state" in names else {"h": (1, 1, 128), "c": (1, 1, 128)}
        if "sr" in names:
            self._inputs["sr"] = np.array(RATE)
        self.label = f"ONNX Runtime {onnxruntime.__version__}, {name}"

    def reset(self) -> None:
        self._samples[:] = 0
        self._inputs |= {name: np.zeros(shape, np.float32) for name, shape in self._states.items()}

    def __call__(self, frame: Array) -> float:
        self._samples[0, :CONTEXT] = self._samples[0, -CONTEXT:]
        self._samples[0, CONTEXT:] = frame
        output, *states = self._session.run(None, self._inputs)
        self._inputs.update(zip(self._states, states, strict=True))
        return float(output.item())


def speech_segments(probabilities: Array, length: int) -> list[tuple[int, int]]:
    """First and last sample of each stretch of speech, by the rules of silero-vad's get_speech_timestamps.

    Speech begins at THRESHOLD and ends where the probability fell below EXIT_THRESHOLD without reaching THRESHOLD again
    for MIN_SILENCE. Short segments are dropped, the others padded, up to the middle of the gap where two would meet.
    """
    segments: list[tuple[int, int]] = []
    start = end = None
    for index, probability in enumerate(probabilities):
        now = index * FRAME
        if probability >= THRESHOLD:
            start, end = now if start is None else start, None
        elif probability < EXIT_THRESHOLD and start is not None:
            end = now if end is None else end
            if now - end >= MIN_SILENCE:
                segments.append((start, end))
                start = end = None
    if start is not None:
        segments.append((start, length))
    segments = [(start, end) for start, end in segments if end - start > MIN_SPEECH]
    gaps = [after - before for (_, before), (after, _) in itertools.pairwise(segments)]
    left = [PAD, *(min(PAD, gap // 2) for gap in gaps)]
    right = [*left[1:], PAD]
    return [(max(0, a - x), min(length, b + y)) for (a, b), x, y in zip(segments, left, right, strict=False)]


def run(networks: Sequence[Detector | Original], frames: Array) -> tuple[Array, Array]:
    """Probabilities (networks, frames), and us a frame (PASSES - 1, networks, frames)."""
    probabilities = np.empty((len(networks), len(frames)), np.float32)
    times = np.empty((PASSES, *probabilities.shape), np.float32)
    for elapsed in times:
        for network in networks:
            network.reset()
        # All meet every frame in the same loop, and so the same clock and the same evicted caches.
        for i, frame in enumerate(frames):
            for j, network in enumerate(networks):
                begin = perf_counter_ns()
                probabilities[j, i] = network(frame)
                elapsed[j, i] = (perf_counter_ns() - begin) / 1e3
    return probabilities, times[1:]


def cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)", file.read_text() if file.exists() else "", re.MULTILINE)
    return found[1] if found else platform.machine()


def as_text(values: Array, digits: int) -> str:
    """The median, and the range of the passes."""
    return f"{np.median(values):.{digits}f} ({values.min():.{digits}f} .. {values.max():.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="16 kHz WAV, or a multiple; without it, a minute of silero-vad's tests")
    parser.add_argument("--original", action=argparse.BooleanOptionalAction, default=True, help="run ONNX Runtime too")
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True, help="fail if results differ")
    arguments = parser.parse_args()

    audio = read_wav(arguments.file or file_of_source_distribution("silero-vad", RELEASE, "tests/data/test.wav"))
    frames = np.pad(audio, (0, -len(audio) % FRAME)).reshape(-1, FRAME)
    if not len(frames):
        sys.exit("no samples in the file")
    weights = read_weights()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    lstm = fc.LSTM.from_state_dict({f"{name}_l0": weights[f"decoder.rnn.{name}"] for name in names})
    model = network(weights, lstm)
    models = [model, *(model.astype(dtype, keep=KEPT if dtype == "int8" else ()) for dtype in NARROW)]
    # The package's default, and its export for whole recordings, with less graph around the same network.
    exports = ("silero_vad.onnx", "silero_vad_16k_sequence.onnx") if arguments.original else ()
    originals = [Original(name) for name in exports]
    probabilities, times = run([*(Detector(one) for one in models), *originals], frames)
    ours, narrow, theirs = probabilities[0], probabilities[1 : len(models)], probabilities[len(models) :]

    segments = speech_segments(ours, len(audio))
    print(f"{len(audio) / RATE:.1f} s in {len(frames)} frames; {len(segments)} speech segments, in seconds:")
    for row in range(0, len(segments), 5):
        print("  " + "  ".join(f"{a / RATE:6.2f} ..{b / RATE:6.2f}" for a, b in segments[row : row + 5]))

    print(f"\n{cpu_name()}, {model.isa}, one thread; us for a frame of 32 ms, median and range of {len(times)} passes")
    print(f"{'':50}{'bytes':>11}{'us':>24}{'times float32':>26}")
    labels = [f"fusedcell, {dtype}" for dtype in ("float32", *NARROW)] + [original.label for original in originals]
    medians = np.median(times, axis=2)
    for i, label in enumerate(labels):
        size = f"{models[i].nbytes:,}" if i < len(models) else ""
        print(f"  {label:<48}{size:>11}{as_text(medians[:, i], 1):>24}", end="")
        print(f"{as_text(medians[:, i] / medians[:, 0], 2):>26}")
    print(f"The int8 model has {', '.join(KEPT)} in float32.")

    expected = ours[:, None]
    failures = [f"with the LSTM of {name} the bits are others" for name in files_that_differ(weights, frames, expected)]
    if not failures:
        print(f"\nfusedcell.from_onnx reads the same LSTM, bit for bit, out of {' and '.join(LSTM_NODES)}.")
    if not np.array_equal(model(frames), expected):
        failures.append("the whole recording in one call has other bits than frame by frame")
    for dtype, narrowed in zip(NARROW, narrow, strict=True):
        change = float(np.abs(narrowed - ours).mean())
        same = speech_segments(narrowed, len(audio)) == segments
        print(
            f"{dtype}: the probability changes by {change:.1e} on average; {'the same' if same else 'other'} segments"
        )
        if not change <= NARROW_TOLERANCE:
            failures.append(f"with {dtype} weights the probability changes by {change:.1e} on average")
        if not same:
            failures.append(f"with {dtype} weights the segments are others")
    for name, original in zip(exports, theirs, strict=True):
        difference = float(np.abs(ours - original).max())
        print(f"largest difference from the probabilities of {name}: {difference:.1e}")
        if not difference <= TOLERANCE:
            failures.append(f"the probabilities differ from those of {name} by more than {TOLERANCE}")
        if segments != speech_segments(original, len(audio)):
            failures.append(f"the segments are not those of {name}")
    if not arguments.file and len(segments) != SEGMENTS:
        failures.append(f"{len(segments)} segments, not {SEGMENTS}")
    if arguments.check and failures:
        sys.exit("failed: " + "; ".join(failures))


if __name__ == "__main__":
    main()
