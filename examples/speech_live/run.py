"""Takes the noise out of speech, frame by frame, with RNNoise's trained network, and says where there is speech.

python examples/speech_live/run.py [--seconds N] [--picture FILE] [--output FILE] [--check]
python examples/speech_live/run.py --noisy FILE --output FILE         # a recording as it is
python examples/speech_live/run.py --microphone SECONDS [--output FILE]

Speech with a known noise beside it goes through RNNoise's own library and through fusedcell with float32, float16 and
int8 weights. --check fails if ours hears or leaves something else than the library does, never because of a time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy reads it when it loads; a frame is too short for more

import numpy as np
from numpy.typing import NDArray
from rnnoise import FRAME, RATE, Original, load_library, read_model
from sound import fan, frames_of, microphone, mix, write_wav
from suppressor import DELAY, Suppressor, high_pass

import fusedcell as fc

sys.path.insert(0, str(Path(__file__).parents[1]))
from _audio import file_of_source_distribution, read_wav

Array = NDArray[np.float32]

DTYPES = ("float32", "float16", "int8")
LIBRARY = "RNNoise's library"
LEVELS = (0, 5, 10)  # dB of the speech over the noise
SPEECH = 0.5
FRAME_US = 1e6 * FRAME / RATE
# Of the probability of speech, from the library's, whose tanh and sigmoid are off by 3e-4, which streams remember.
# A few frames are beyond it in any case: rounding decides between two pitches that are as good, on either side.
TOLERANCE = 0.02
BEYOND = {LIBRARY: 0, "float32": 0.005, "float16": 0.005, "int8": 0.05}  # share of the frames
OTHERWISE = 0.005  # share of the frames that may be speech to one and none to the other
SNR_TOLERANCE = 0.2  # dB


class Heard(NamedTuple):
    sound: Array  # what is left, DELAY samples late
    speech: NDArray[np.float64]  # the probability of it, frame by frame
    times: NDArray[np.float64]  # us that each frame took


def listen(suppressors: dict[str, Callable[[Array], tuple[Array, float]]], frames: Array) -> dict[str, Heard]:
    """All take turns at each frame, so that they meet the same machine."""
    sound = {name: np.empty_like(frames) for name in suppressors}
    heard = {name: Heard(sound[name].reshape(-1), *np.empty((2, len(frames)))) for name in suppressors}
    for i, frame in enumerate(frames):
        for name, suppress in suppressors.items():
            begin = time.perf_counter_ns()
            sound[name][i], heard[name].speech[i] = suppress(frame)
            heard[name].times[i] = (time.perf_counter_ns() - begin) / 1e3
    return heard


def rounded(model: fc.Model, dtype: str) -> fc.Model:
    # The features are of very different sizes, so what reads them is not for int8.
    return model.astype(dtype, keep=("conv1",) if dtype == "int8" else ())


def filtered(frames: Array) -> Array:
    """What RNNoise's high-pass leaves of a sound, to compare with what comes out."""
    matrix, state, out = high_pass(), np.zeros(2, np.float32), []
    for frame in frames:
        y = matrix @ np.concatenate([frame, state])
        out.append(y[:FRAME])
        state = y[FRAME:]
    return np.concatenate(out)


def snr(sound: Array, speech: Array) -> float:
    """In dB, of the whole: all in which the sound differs from the speech is noise."""
    return float(10 * np.log10(np.sum(speech**2, dtype=np.float64) / np.sum((sound - speech) ** 2, dtype=np.float64)))


def picture(path: str, noisy: Array, heard: Heard, clean: Array) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(4, 1, figsize=(11, 9), height_ratios=(3, 3, 3, 1.4), sharex=True, layout="constrained")
    sounds = ((clean, "The speech"), (noisy, "... with a fan beside it"), (heard.sound[DELAY:], "... and what is left"))
    for axis, (samples, title) in zip(axes, sounds, strict=False):
        axis.specgram(samples + 1e-9, NFFT=1024, Fs=RATE, noverlap=512, vmin=-120, vmax=-40, cmap="magma")
        axis.set(title=title, ylabel="Hz", ylim=(0, 8000))
    axes[3].fill_between(np.arange(len(heard.speech)) * FRAME / RATE, heard.speech, color="tab:blue", linewidth=0)
    axes[3].axhline(SPEECH, color="grey", linestyle=":")
    axes[3].set(title="Probability of speech, frame by frame", xlabel="s", ylim=(0, 1), xlim=(0, len(clean) / RATE))
    figure.savefig(path, dpi=110)
    print(f"picture in {path}")


def compare(arguments: argparse.Namespace) -> int:
    library = load_library()
    model = read_model(library)
    models = {dtype: rounded(model, dtype) for dtype in DTYPES}
    source = arguments.speech or file_of_source_distribution("silero-vad", "6.2.3", "tests/data/test.wav")
    speech = read_wav(source, RATE)[: round(arguments.seconds * RATE)]
    noise = fan(len(speech), seed=0)
    names = (LIBRARY, *DTYPES)
    clean = filtered(frames_of(speech))
    heard: list[dict[str, Heard]] = []  # at each level
    ratios: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    before = []
    for level in LEVELS:
        noisy = frames_of(mix(speech, noise, level))
        before.append(snr(filtered(noisy), clean))
        heard.append({})
        for dtype, model in models.items():
            suppressor = Suppressor(model)
            heard[-1] |= listen({LIBRARY: Original(library), dtype: suppressor}, noisy)
            ratios[dtype].append(np.median(suppressor.step_times) / 1e3 / np.median(heard[-1][LIBRARY].times))
    after = {name: [snr(one[name].sound[DELAY:], clean[:-DELAY]) for one in heard] for name in names}

    print(f"{len(speech) / RATE:.1f} s of speech in frames of 10 ms, with a fan at {LEVELS} dB\n")
    print(f"{'':18}{'SNR after, dB':>20}{'speech':>8}{'others':>8}{'dp > 0.02':>11}{'largest dp':>12}", end="")
    print(f"{'us a frame':>12}{'worst':>7}{'x real time':>13}{'network / library':>24}{'bytes':>12}")
    print(f"{'before':18}{'  '.join(f'{value:5.1f}' for value in before):>20}")
    failures = []
    theirs = np.concatenate([one[LIBRARY].speech for one in heard])
    for name in names:
        probabilities = np.concatenate([one[name].speech for one in heard])
        times = np.concatenate([one[name].times for one in heard])
        off = np.abs(probabilities - theirs)
        beyond, others = np.mean(off > TOLERANCE), np.sum((probabilities > SPEECH) != (theirs > SPEECH))
        median = np.median(times)
        print(f"{name:18}{'  '.join(f'{value:5.1f}' for value in after[name]):>20}", end="")
        print(f"{np.mean(probabilities > SPEECH):8.1%}{others:8}{beyond:11.2%}{off.max():12.1e}", end="")
        print(f"{median:12.0f}{times.max():7.0f}{FRAME_US / median:13.1f}", end="")
        if name in models:
            ratio = f"{np.median(ratios[name]):.2f} ({min(ratios[name]):.2f} .. {max(ratios[name]):.2f})"
            print(f"{ratio:>24}{models[name].nbytes:12,}", end="")
        print()
        if beyond > BEYOND[name] or others > OTHERWISE * len(off):
            failures.append(f"with {name} the speech is not where the library hears it")
        if max(abs(a - b) for a, b in zip(after[name], after[LIBRARY], strict=True)) > SNR_TOLERANCE:
            failures.append(f"with {name} the SNR is off the library's by more than {SNR_TOLERANCE} dB")
    print("network / library: a step of the network over a whole frame of the library; median and range of the levels")
    if any(value < start + 3 for value, start in zip(after["float32"], before, strict=True)):
        failures.append("less than 3 dB of noise were taken away")

    middle = LEVELS.index(5)
    noisy = mix(speech, noise, LEVELS[middle])
    if arguments.picture:
        picture(arguments.picture, noisy, heard[middle]["float32"], speech)
    if arguments.output:
        write_wav(arguments.output, np.concatenate([noisy, heard[middle]["float32"].sound[DELAY:]]))
        print(f"before and then after, at {LEVELS[middle]} dB, in {arguments.output}")
    if arguments.check and failures:
        print("failed: " + "; ".join(failures), file=sys.stderr)
        return 1
    return 0


def live(arguments: argparse.Namespace) -> int:
    """A recording as it is, or the microphone: a line that shows where there is speech."""
    suppressor = Suppressor(rounded(read_model(load_library()), arguments.dtype))
    frames = microphone(arguments.microphone) if arguments.microphone else frames_of(read_wav(arguments.noisy, RATE))
    sound, times, row, speaking = [], [], "", 0
    for frame in frames:
        begin = time.perf_counter_ns()
        rest, speech = suppressor(frame)
        times.append((time.perf_counter_ns() - begin) / 1e3)
        sound.append(rest)
        speaking += speech > SPEECH
        row += " .:-=+*#%@"[min(int(10 * speech), 9)] if len(times) % 5 == 0 else ""
        if len(row) == 100:
            print(f"{len(times) * FRAME / RATE:6.1f} s |{row}|", flush=True)
            row = ""
    if row:
        print(f"{len(times) * FRAME / RATE:6.1f} s |{row:100}|")
    if not times:
        print("no samples", file=sys.stderr)
        return 1
    print(
        f"speech in {speaking / len(times):.0%} of {len(times)} frames; a frame takes {np.median(times):.0f} us", end=""
    )
    print(f" and the worst {max(times):.0f}, of the {FRAME_US:.0f} until the next one")
    if arguments.output:
        write_wav(arguments.output, np.concatenate(sound)[DELAY:])
        print(f"what is left is in {arguments.output}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speech", metavar="FILE", help="WAV of clean speech, instead of silero-vad's recording")
    parser.add_argument("--noisy", metavar="FILE", help="WAV to take the noise out of")
    parser.add_argument("--microphone", metavar="SECONDS", type=float, help="listen; needs sounddevice")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of --noisy and --microphone")
    parser.add_argument("--seconds", type=float, default=20, help="of the speech (20)")
    parser.add_argument("--picture", metavar="FILE", help="PNG or SVG to write")
    parser.add_argument("--output", metavar="FILE", help="WAV to write")
    parser.add_argument("--check", action="store_true", help="fail if results differ from the library's")
    arguments = parser.parse_args()
    if arguments.picture and find_spec("matplotlib") is None:
        parser.error("--picture needs Matplotlib: pip install matplotlib")
    return live(arguments) if arguments.noisy or arguments.microphone else compare(arguments)


if __name__ == "__main__":
    sys.exit(main())
