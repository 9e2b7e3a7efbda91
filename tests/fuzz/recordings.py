"""Targets that read what `fusedcell run` is given: arrays and sounds."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fusedcell.commands.npy import open_npy
from fusedcell.commands.wav import open_wav
from fuzz.files import in_file
from fuzz.outcome import check, may_raise
from models import uniform

_MOST_FRAMES = 1000
_FORMATS = ((1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64), (0xFFFE, 16))


def npy(data: bytes) -> None:
    """A file of an array."""
    path = in_file(data, ".npy")
    with may_raise(ValueError):
        array = open_npy(path)
        check(array.dtype.kind in "fiu", f"an array of {array.dtype}")
        check(array.nbytes <= len(data), "more values than the file has")
        np.array(array.ravel()[:10])


def wav(data: bytes) -> None:
    """A file of a sound, which is written and read again."""
    path = in_file(data, ".wav")
    with may_raise(ValueError), open_wav(path) as sound:
        check(sound.frames * sound.channels <= len(data), "more samples than the file has")
        samples = sound[0 : min(sound.frames, _MOST_FRAMES)]
        check(samples.shape == (min(sound.frames, _MOST_FRAMES), sound.channels, 1), f"samples of {samples.shape}")
        again = in_file(b"".join(replace(sound, frames=len(samples)).encoded([samples[..., 0]], [0])), ".again.wav")
        with open_wav(again) as second:
            check(np.array_equal(np.nan_to_num(second[0 : second.frames]), np.nan_to_num(samples)), "another sound")


def npy_seeds() -> Iterator[bytes]:
    """Arrays of several types and orders."""
    for array in (
        uniform(1, 4, 3),
        uniform(1, 4, 2, 3).astype(">f8"),
        np.arange(6),
        np.asfortranarray(uniform(1, 3, 2)),
    ):
        file = io.BytesIO()
        np.save(file, array)
        yield file.getvalue()


def wav_seeds() -> Iterator[bytes]:
    """Sounds of all formats."""
    for code, bits in _FORMATS:
        frame = 2 * bits // 8
        more = struct.pack("<HHIH14s", 22, bits, 0, 1, b"\0" * 14) if code == 0xFFFE else b""
        fmt = struct.pack("<HHIIHH", code, 2, 8000, 8000 * frame, frame, bits) + more
        data = bytes(range(5 * frame))
        body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
        yield b"RIFF" + struct.pack("<I", len(body)) + body
