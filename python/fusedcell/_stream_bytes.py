"""The state of a stream as bytes that travel. docs/file_format.md describes them."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from contextlib import suppress
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from . import _options
from ._base import FloatArray
from ._core import Stack, Stream
from ._dtypes import DTYPES, MIXED, common_dtype, with_changes
from ._file_format import MATRIX_NAMES
from .weights.floats import narrowed

_MAGIC = b"\x89fcs\r\n\x1a\n"  # as PNG's: what a transfer in text mode would change
_VERSION = 1
_INITIAL_STATE = 1  # flag: what the stream resets to follows its state
_HEADER = struct.Struct("<8sHHIQQQ32s")
CHECKSUM_BYTES = 16

_fingerprints: WeakKeyDictionary[Stack, bytes] = WeakKeyDictionary()
_narrower: WeakKeyDictionary[Stack, dict[bytes, str]] = WeakKeyDictionary()  # dtypes by fingerprint


class _Header(NamedTuple):
    magic: bytes
    version: int
    flags: int
    num_layers: int
    batch_size: int
    h_size: int
    c_size: int  # 0 without a cell state
    fingerprint: bytes

    def shapes(self) -> list[tuple[int, int, int]]:
        """Of the arrays that follow: h, perhaps c, and the same again of what the stream resets to."""
        sizes = [size for size in (self.h_size, self.c_size) if size]
        return [(self.num_layers, self.batch_size, size) for size in sizes] * (1 + (self.flags & _INITIAL_STATE))

    def sizes(self) -> str:
        return f"{self.num_layers} layers, h of {self.h_size}" + (f", c of {self.c_size}" if self.c_size else "")


def fingerprint(stack: Stack) -> bytes:
    """SHA-256 of all that decides a step's result but the instruction-set tier: the same on every machine."""
    known = _fingerprints.get(stack)
    if known is None:
        known = _fingerprints[stack] = _fingerprint(stack)
    return known


def _fingerprint(stack: Stack) -> bytes:
    tensors: list[tuple[str, Any]] = [("input_scales", np.array(stack.input_scales, "<f4"))]
    for cell, dtypes in zip(stack.arrays(), stack.dtypes, strict=True):
        for name, array in sorted(cell.items()):
            tensors.append((name, narrowed(array, dtypes[name]) if name in MATRIX_NAMES else array))
    description = {
        "kind": stack.kind,
        "dtype": stack.dtypes if common_dtype(stack.dtypes) == MIXED else common_dtype(stack.dtypes),
        "num_directions": stack.num_directions,
        "reverse": stack.reverse,
        "options": _options.to_json(_options.of_stack(stack)),
        "tensors": [[name, list(array.shape)] for name, array in tensors],
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, separators=(",", ":")).encode())
    for _, array in tensors:
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()


def _header_of(stack: Stack, batch_size: int, flags: int) -> _Header:
    c_size = stack.hidden_size if stack.kind == "lstm" else 0
    h_size = stack.proj_size or stack.hidden_size
    return _Header(_MAGIC, _VERSION, flags, stack.num_layers, batch_size, h_size, c_size, fingerprint(stack))


def to_bytes(stream: Stream) -> bytes:
    """What `from_bytes` makes an equal stream of."""
    h, c, initial_h, initial_c = stream._snapshot()
    header = _header_of(stream._stack, stream.batch_size, 0 if initial_h is None else _INITIAL_STATE)
    arrays = [array.astype("<f4", copy=False) for array in (h, c, initial_h, initial_c) if array is not None]
    content = _HEADER.pack(*header) + b"".join(array.tobytes() for array in arrays)
    return content + checksum(content)


def from_bytes(stack: Stack, data: bytes, num_threads: int, batch_first: bool) -> Stream:
    """The stream that `to_bytes` was given, on these weights; TypeError or ValueError that says what is wrong."""
    content = checked_start(data, _MAGIC, _HEADER.size)
    header = _checked_header(content, stack)
    arrays: list[FloatArray] = []
    start = _HEADER.size
    for shape in header.shapes():
        arrays.append(np.frombuffer(content, "<f4", math.prod(shape), start).reshape(shape).astype(np.float32))
        start += arrays[-1].nbytes
    parts = 2 if header.c_size else 1
    stream = Stream(stack, header.batch_size, num_threads, batch_first, *arrays[parts:])
    stream.state = tuple(arrays[:parts]) if header.c_size else arrays[0]
    return stream


def checked_start(data: bytes, magic: bytes, header_size: int) -> bytes:
    """The bytes of what starts as a state and has room for a header; TypeError or ValueError."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data: expected bytes, got {type(data).__name__}")
    content = bytes(data)
    if not content.startswith(magic):
        raise ValueError(f"data: expected the state of a stream, which starts with {magic!r}, got {content[:8]!r}")
    if len(content) < header_size + CHECKSUM_BYTES:
        raise ValueError(
            f"data: cut or altered: expected at least {header_size + CHECKSUM_BYTES} bytes, got {len(content)}"
        )
    return content


def check_end(data: bytes, size: int, by: str) -> None:
    """ValueError unless there are so many bytes and the checksum at their end is right."""
    if len(data) != size:
        raise ValueError(f"data: cut or altered: expected {size} bytes by its {by}, got {len(data)}")
    expected, found = checksum(data[:-CHECKSUM_BYTES]), data[-CHECKSUM_BYTES:]
    if found != expected:
        raise ValueError(f"data: cut or altered: expected a checksum of {expected.hex()}, got {found.hex()}")


def _checked_header(content: bytes, stack: Stack) -> _Header:
    """The header of a state of this stack's, of which nothing is missing or altered."""
    header = _Header(*_HEADER.unpack_from(content))
    if header.version != _VERSION:
        raise ValueError(f"data: expected version {_VERSION} of the format, got {header.version}")
    floats = sum(math.prod(shape) for shape in header.shapes())
    check_end(content, _HEADER.size + 4 * floats + CHECKSUM_BYTES, "header")
    own = _header_of(stack, header.batch_size, header.flags & _INITIAL_STATE)
    if header.fingerprint != own.fingerprint:
        raise ValueError(
            f"data: expected a state of this layer's weights, {short(own.fingerprint)} ({own.sizes()}, "
            f"{common_dtype(stack.dtypes)}), got one of {short(header.fingerprint)} ({header.sizes()}), "
            f"{_difference(header, own, stack)}"
        )
    if header != own or header.batch_size < 1:
        raise ValueError(f"data: expected a state of {own.sizes()} and at least 1 row, got {header}")
    return header


def _difference(header: _Header, own: _Header, stack: Stack) -> str:
    """How the weights that a state was of differ from these, as far as it can be known."""
    if (header.num_layers, header.h_size, header.c_size) != (own.num_layers, own.h_size, own.c_size):
        return "which are of another size or kind of layer"
    if header.fingerprint in _narrower_fingerprints(stack):
        dtype = _narrower_fingerprints(stack)[header.fingerprint]
        return f"which are these in {dtype}: use layer.astype({dtype!r})"
    return f"which are others, or these in another dtype than {common_dtype(stack.dtypes)} or with other input_scales"


def _narrower_fingerprints(stack: Stack) -> dict[bytes, str]:
    known = _narrower.get(stack)
    if known is None:
        known = _narrower[stack] = {}
        for dtype in DTYPES[1:] if common_dtype(stack.dtypes) == "float32" else ():
            with suppress(ValueError):  # the dtype cannot hold one of the weights
                narrower = stack.astype(with_changes(stack.dtypes, dtype, ()), (), [""] * len(stack.dtypes))
                known[_fingerprint(narrower)] = dtype
    return known


def checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM_BYTES).digest()


def short(fingerprint: bytes) -> str:
    return fingerprint.hex()[:16]
