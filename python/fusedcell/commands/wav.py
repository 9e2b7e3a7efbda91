"""Sounds in RIFF WAVE files: integers of 8 to 32 bits and floats, which the standard library's wave reads in part.

Format: Microsoft, "Multimedia Programming Interface and Data Specifications 1.0", and WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .._base import FloatArray
from .._files import open_file

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_KNOWN = {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}
_MOST_CHUNKS = 1000
_MOST_CHANNELS = 256
_MOST_BYTES = 2**32 - 1
_UNKNOWN_SIZES = (0, _MOST_BYTES)  # of who wrote before the end was known


@dataclass(frozen=True)
class Wav:
    """The samples of a file: of a slice, float32 (frames, channels, 1), full scale being 1."""

    path: Path
    file: BinaryIO
    begin: int
    frames: int
    channels: int
    rate: int
    code: int
    bits: int

    @property
    def format(self) -> str:
        """Of a sample."""
        return f"{self.bits}-bit {'floats' if self.code == _FLOAT else 'integers'}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of all samples."""
        return self.frames, self.channels, 1

    def __getitem__(self, part: slice) -> FloatArray:
        begin, end, _ = part.indices(self.frames)
        frame = self.channels * self.bits // 8
        self.file.seek(self.begin + begin * frame)
        data = self.file.read((end - begin) * frame)
        if len(data) != (end - begin) * frame:
            raise ValueError(f"{self.path}: the file ends before its samples do")
        return _decoded(data, self.code, self.bits).reshape(-1, self.channels, 1)

    def encoded(self, blocks: Iterable[FloatArray], clipped: list[int]) -> Iterator[bytes]:
        """A file of the same format with these samples, as many as this one's; adds up in `clipped` what is beyond."""
        frame = self.channels * self.bits // 8
        size = self.frames * frame
        if size + 37 > _MOST_BYTES:
            raise ValueError(f"{self.path}: a .wav file of {size:,} bytes of samples is too large; write to .npy")
        rates = (self.rate, self.rate * frame, frame, self.bits)
        yield struct.pack(
            "<4sI4s4sIHHIIHH", b"RIFF", size + size % 2 + 36, b"WAVE", b"fmt ", 16, self.code, self.channels, *rates
        )
        yield struct.pack("<4sI", b"data", size)
        for block in blocks:
            yield _encoded(block, self.code, self.bits, clipped)
        yield b"\0" * (size % 2)


@contextmanager
def open_wav(path: Path) -> Iterator[Wav]:
    """Raises ValueError for what is no such file, is damaged, or has samples of another kind."""
    with open_file(path) as file:
        yield _read_head(path, file)


def _read_head(path: Path, file: BinaryIO) -> Wav:
    length = os.fstat(file.fileno()).st_size
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        raise ValueError(f"{path}: not a RIFF WAVE file")
    found = None
    for _ in range(_MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        name, size = head[:4], int.from_bytes(head[4:], "little")
        begin = file.tell()
        if name == b"fmt ":
            found = file.read(min(size, 40))
        elif name == b"data":
            if found is None:
                break
            rest = length - begin
            if size in _UNKNOWN_SIZES:
                size = rest
            if size > rest:
                raise ValueError(
                    f"{path}: the file ends before its samples do: {size:,} bytes of which {rest:,} are there"
                )
            return _described(path, file, begin, size, found)
        file.seek(begin + size + size % 2)
    raise ValueError(f"{path}: a RIFF WAVE file without samples, or damaged")


def _described(path: Path, file: BinaryIO, begin: int, size: int, fmt: bytes) -> Wav:
    if len(fmt) < 16:
        raise ValueError(f"{path}: a format of {len(fmt)} bytes, which is damaged")
    code, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", fmt)
    if code == _EXTENSIBLE and len(fmt) >= 26:
        code = int.from_bytes(fmt[24:26], "little")
    if (code, bits) not in _KNOWN:
        raise ValueError(
            f"{path}: expected samples of 8, 16, 24 or 32 bits, or floats, got format {code} of {bits} bits; "
            "convert it to PCM first"
        )
    is_possible = 1 <= channels <= _MOST_CHANNELS and rate >= 1 and rate * frame <= _MOST_BYTES
    if not is_possible or frame != channels * bits // 8:
        raise ValueError(f"{path}: damaged: {channels} channels of {bits} bits, {frame} bytes a frame, {rate} Hz")
    return Wav(path, file, begin, size // frame, channels, rate, code, bits)


def _decoded(data: bytes, code: int, bits: int) -> FloatArray:
    if code == _FLOAT:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
    if bits == 8:
        return ((np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128).astype(np.float32)
    width = bits // 8
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0] >> 8
    else:
        values = np.frombuffer(data, f"<i{width}")
    return (values / 2.0 ** (bits - 1)).astype(np.float32)


def _encoded(block: FloatArray, code: int, bits: int, clipped: list[int]) -> bytes:
    if code == _FLOAT:
        return block.astype(f"<f{bits // 8}").tobytes()
    full = 2.0 ** (bits - 1)
    scaled = np.rint(np.nan_to_num(block.astype(np.float64), nan=0.0) * full)
    values = np.clip(scaled, -full, full - 1)
    # Full scale itself is one beyond what integers hold, and no fault.
    clipped[0] += int(((values != scaled) & (scaled != full)).sum() + np.isnan(block).sum())
    whole = values.astype(np.int32)
    if bits == 8:
        return (whole + 128).astype(np.uint8).tobytes()
    raw = whole.astype("<i4").ravel().view(np.uint8).reshape(-1, 4)
    return np.ascontiguousarray(raw[:, : bits // 8]).tobytes()
