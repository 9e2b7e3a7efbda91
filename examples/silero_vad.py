"""Find the speech in a recording with silero-vad's trained network, frame by frame, as a live microphone would feed it.

The convolutional front end is plain NumPy, the LSTM is a fusedcell stream, in float32 and with narrower weights. ONNX
Runtime runs the original beside it.
"""

import argparse
import importlib.metadata
import itertools
import math
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

import fusedcell

Array = npt.NDArray[np.float32]

RELEASE = "6.2.3"
SEGMENTS = 19  # what silero-vad finds in the recording of its own tests
TOLERANCE = 1e-5
NARROW = ("bfloat16", "float16", "int8")
NARROW_TOLERANCE = 0.01  # mean absolute change of the probability
PASSES = 3  # over the recording; the last one counts
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


class Convolution:
    """A strided convolution over time-major data: `input` is gathered into rows and multiplied once."""

    def __init__(self, weight: Array, steps: int, stride: int, padding: int = 0) -> None:
        outputs, channels, taps = weight.shape
        padded = np.zeros((steps + 2 * padding, channels), np.float32)
        self.input = padded[padding : padding + steps]
        windows = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=0)[::stride]
        self._windows = windows.transpose(0, 2, 1)
        self._gathered = np.empty(self._windows.shape, np.float32)
        self._rows = self._gathered.reshape(len(windows), -1)
        self._weight = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, outputs))
        self.output_shape = (len(windows), outputs)

    def __call__(self, out: Array) -> None:
        np.copyto(self._gathered, self._windows)
        np.matmul(self._rows, self._weight, out=out)


class FrontEnd:
    """512 samples to 128 features: short-time spectrum, magnitudes, four convolutions with ReLU."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self._spectrum = Convolution(weights["stft.forward_basis_buffer"], CONTEXT + FRAME + 64, stride=128)
        self._samples = self._spectrum.input[:, 0]
        steps, parts = self._spectrum.output_shape
        self._parts = np.empty((steps, parts), np.float32)
        self._real, self._imaginary = self._parts[:, : parts // 2], self._parts[:, parts // 2 :]
        self._encoder: list[tuple[Convolution, Array]] = []
        for index, stride in enumerate((1, 2, 2, 1)):
            layer = f"encoder.{index}.reparam_conv"
            convolution = Convolution(weights[f"{layer}.weight"], steps, stride, padding=1)
            self._encoder.append((convolution, weights[f"{layer}.bias"]))
            steps = convolution.output_shape[0]
        self._magnitudes = self._encoder[0][0].input
        features = np.empty(convolution.output_shape, np.float32)
        self._features: Array = features[0]
        self._outputs = [convolution.input for convolution, _ in self._encoder[1:]] + [features]

    def reset(self) -> None:
        self._samples[:] = 0

    def __call__(self, frame: Array) -> Array:
        """The features of the next frame, in a buffer that the next call overwrites."""
        end = CONTEXT + FRAME
        self._samples[:CONTEXT] = self._samples[end - CONTEXT : end]
        self._samples[CONTEXT:end] = frame
        self._samples[end:] = self._samples[end - 2 : end - 66 : -1]  # 64 samples of reflection on the right
        self._spectrum(self._parts)
        np.square(self._parts, out=self._parts)
        np.add(self._real, self._imaginary, out=self._magnitudes)
        np.sqrt(self._magnitudes, out=self._magnitudes)
        for (convolution, bias), out in zip(self._encoder, self._outputs, strict=True):
            convolution(out)
            np.add(out, bias, out=out)
            np.maximum(out, 0, out=out)
        return self._features


class Detector:
    """The network with fusedcell for its recurrent part, which took `step_times` ns, frame by frame since the reset."""

    def __init__(self, weights: dict[str, Array], dtype: str) -> None:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        mapping = {f"{name}_l0": weights[f"decoder.rnn.{name}"] for name in names}
        self.lstm = fusedcell.LSTM.from_state_dict(mapping, dtype=dtype)
        self._stream = self.lstm.stream()
        self._front_end = FrontEnd(weights)
        self._hidden = np.empty(self.lstm.hidden_size, np.float32)
        self._weight = weights["decoder.decoder.2.weight"].reshape(-1)
        self._bias = float(weights["decoder.decoder.2.bias"][0])
        self.step_times: list[int] = []

    def reset(self) -> None:
        self._front_end.reset()
        self._stream.reset()
        self.step_times.clear()

    def features(self, frames: Array) -> Array:
        """What the LSTM is given for a whole recording."""
        self._front_end.reset()
        return np.stack([self._front_end(frame).copy() for frame in frames])

    def __call__(self, frame: Array) -> float:
        """The probability that the next 32 ms have speech in them."""
        features = self._front_end(frame)
        begin = perf_counter_ns()
        self._stream.step(features, out=self._hidden)
        self.step_times.append(perf_counter_ns() - begin)
        np.maximum(self._hidden, 0, out=self._hidden)
        return 1 / (1 + math.exp(-float(self._weight @ self._hidden) - self._bias))


def files_that_differ(detector: Detector, frames: Array) -> list[str]:
    """The files whose LSTM, read as an ONNX node, gives other bits than the detector's on what it hears."""
    features = detector.features(frames)
    expected, _ = detector.lstm(features)
    return [
        name
        for name, node in LSTM_NODES.items()
        if not np.array_equal(fusedcell.from_onnx(package_file(name), node)(features)[0], expected)
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


def speech_segments(probabilities: Sequence[float], length: int) -> list[tuple[int, int]]:
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


def run(networks: Sequence[Detector | Original], frames: Array) -> tuple[list[list[float]], list[list[int]]]:
    """Probabilities and nanoseconds of each network for each frame."""
    for _ in range(PASSES):
        probabilities: list[list[float]] = [[] for _ in networks]
        times: list[list[int]] = [[] for _ in networks]
        for network in networks:
            network.reset()
        # All meet every frame in the same loop, and so the same clock and the same evicted caches.
        for frame in frames:
            for network, outputs, elapsed in zip(networks, probabilities, times, strict=True):
                begin = perf_counter_ns()
                outputs.append(network(frame))
                elapsed.append(perf_counter_ns() - begin)
    return probabilities, times


def cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)", file.read_text() if file.exists() else "", re.MULTILINE)
    return found[1] if found else platform.machine()


def print_times(label: str, nanoseconds: Sequence[int]) -> float:
    low, median, high = np.percentile(np.array(nanoseconds) / 1000, (10, 50, 90))
    print(f"  {label:<56} {median:7.1f} {low:8.1f} ..{high:7.1f}")
    return float(median)


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
    detector = Detector(weights, "float32")
    narrow = [Detector(weights, dtype) for dtype in NARROW]
    # The package's default, and its export for whole recordings, with less graph around the same network.
    exports = ("silero_vad.onnx", "silero_vad_16k_sequence.onnx") if arguments.original else ()
    originals = [Original(name) for name in exports]
    (ours, *others), (our_times, *other_times) = run([detector, *narrow, *originals], frames)
    narrowed, theirs, their_times = others[: len(narrow)], others[len(narrow) :], other_times[len(narrow) :]

    segments = speech_segments(ours, len(audio))
    print(f"{len(audio) / RATE:.1f} s in {len(frames)} frames; {len(segments)} speech segments, in seconds:")
    for row in range(0, len(segments), 5):
        print("  " + "  ".join(f"{a / RATE:6.2f} ..{b / RATE:6.2f}" for a, b in segments[row : row + 5]))

    print(f"\n{cpu_name() + ', one thread; us for a frame of 32 ms':<58}  median      p10 ..    p90")
    frame_time = print_times(f"this example: NumPy {np.__version__}, fusedcell on {detector.lstm.isa}", our_times)
    share = print_times("  its recurrent step alone (fusedcell)", detector.step_times) / frame_time
    for original, nanoseconds in zip(originals, their_times, strict=True):
        print_times(original.label, nanoseconds)
    print(f"The recurrent step is {share:.0%} of this example's frame; most of the rest is the convolutions in NumPy.")
    print("Whole frames therefore compare convolutions more than they compare LSTMs.")

    failures = [f"the LSTM of {name} gives other bits" for name in files_that_differ(detector, frames)]
    if not failures:
        print(f"\nfusedcell.from_onnx reads the same LSTM, bit for bit, out of {' and '.join(LSTM_NODES)}.")
    print("\nnarrower weights      bytes   step, us   mean change of the probability   segments")
    print(f"  float32       {detector.lstm.nbytes:11,} {np.median(detector.step_times) / 1000:10.2f}")
    for other, probabilities in zip(narrow, narrowed, strict=True):
        dtype, change = other.lstm.dtype, float(np.abs(np.subtract(probabilities, ours)).mean())
        same = speech_segments(probabilities, len(audio)) == segments
        print(
            f"  {dtype:<13} {other.lstm.nbytes:11,} {np.median(other.step_times) / 1000:10.2f} {change:32.1e}"
            f"   {'the same' if same else 'others'}"
        )
        if not change <= NARROW_TOLERANCE:
            failures.append(f"with {dtype} weights the probability changes by {change:.1e} on average")
        if not same:
            failures.append(f"with {dtype} weights the segments are others")
    print()
    for name, expected in zip(exports, theirs, strict=True):
        difference = float(np.abs(np.array(ours) - expected).max())
        print(f"largest difference from the probabilities of {name}: {difference:.1e}")
        if not difference <= TOLERANCE:
            failures.append(f"the probabilities differ from those of {name} by more than {TOLERANCE}")
        if segments != speech_segments(expected, len(audio)):
            failures.append(f"the segments are not those of {name}")
    if not arguments.file and len(segments) != SEGMENTS:
        failures.append(f"{len(segments)} segments, not {SEGMENTS}")
    if arguments.check and failures:
        sys.exit("failed: " + "; ".join(failures))


if __name__ == "__main__":
    main()
