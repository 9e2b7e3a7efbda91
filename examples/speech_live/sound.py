"""What the example hears: speech with a fan beside it, and the microphone."""

from __future__ import annotations

import wave
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rnnoise import FRAME, RATE

Array = NDArray[np.float32]


def fan(length: int, seed: int) -> Array:
    """A fan's noise: air, which is loudest below 300 Hz, and blades that pass 87 times a second, none too evenly."""
    rng = np.random.default_rng(seed)
    frequencies = np.fft.rfftfreq(length, 1 / RATE)
    air = np.fft.irfft(np.fft.rfft(rng.standard_normal(length)) / (1 + frequencies / 300), length)
    wobble = np.cumsum(rng.standard_normal(length // FRAME + 2)) * 0.02
    phase = 2 * np.pi * 87 * np.arange(length) / RATE
    phase += np.interp(np.arange(length), np.arange(len(wobble)) * FRAME, wobble)
    blades = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 9))
    noise = air / air.std() + 0.5 * blades
    return (noise / noise.std()).astype(np.float32)


def mix(speech: Array, noise: Array, snr: float) -> Array:
    """With as much noise as makes the ratio of energies over the whole recording `snr` dB."""
    level = np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
    return speech + np.float32(level) * noise


def frames_of(samples: Array) -> Array:
    """(frames, FRAME), the last one filled up with silence."""
    return np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)


def microphone(seconds: float) -> Iterator[Array]:
    """Frames as they are heard."""
    try:
        import sounddevice
    except ImportError:
        raise SystemExit("the microphone is read with sounddevice: pip install sounddevice") from None
    except OSError as error:  # the package is there, and PortAudio is not
        raise SystemExit(f"sounddevice cannot start: {error}; on Debian: apt-get install libportaudio2") from None
    try:
        with sounddevice.InputStream(samplerate=RATE, blocksize=FRAME, channels=1, dtype="float32") as stream:
            for _ in range(round(seconds * RATE / FRAME)):
                block, overflowed = stream.read(FRAME)
                if overflowed:
                    print("\nsome samples were lost: the machine is too busy", flush=True)
                yield block[:, 0]
    except sounddevice.PortAudioError as error:
        raise SystemExit(f"no microphone: {error}") from None


def write_wav(path: str, samples: Array) -> None:
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes())
