"""HDF5 files, of which nothing is trusted. libhdf5 reads them in a process of its own, whose limits go by their size.

Damaged files crash libhdf5, keep it in a loop, or have it allocate gigabytes. Whatever becomes of that process, here it
is a ValueError.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..._base import FloatArray
from ...errors import UnsupportedError
from ...weights.file_kinds import KERAS, advice_of
from ...weights.floats import to_float32
from .weights import Shape, fits

_SCRIPT = Path(__file__).with_name("hdf5_process.py")
# What a small file may take, which is many times what any needs; a byte of the file adds to each.
_MEMORY = 1 << 26
_CPU_SECONDS = 5
_SECONDS = 60  # of waiting
_START_SECONDS = 60
_BYTES_A_SECOND = 10_000_000


def check_h5py() -> None:
    """Raises ImportError that says how to get h5py, where it is not there."""
    if importlib.util.find_spec("h5py") is None:
        raise ImportError("Keras files need h5py: pip install fusedcell[keras]")


@contextmanager
def open_hdf5(path: Path, label: str, member: str | None = None) -> Iterator[Hdf5]:
    """The root of a file, or of one that lies uncompressed in an archive; `label` is what errors call it.

    Whatever is damaged raises ValueError. RuntimeError says that there can be no process to read it.
    """
    size = path.stat().st_size
    seconds = size // _BYTES_A_SECOND
    with _start() as process:
        try:
            modules = [entry for entry in sys.path if isinstance(entry, str)]
            # An archive's member is read whole, and then each array, once more where its bytes are handed on.
            process.ask("start", modules=modules, memory=_MEMORY + 4 * size, seconds=_CPU_SECONDS + seconds)
        except _NoAnswerError as failure:
            raise RuntimeError(_cannot(str(failure))) from failure
        process.allow(_SECONDS + seconds)
        # JSON may take six bytes for a character.
        process.largest = 6 * size + (1 << 16)
        root = Hdf5(process, (), size, label)
        try:
            root.ask("open", label, path=os.fspath(path), member=member)
        except ValueError as error:
            raise ValueError(f"{error}{advice_of(path, KERAS)}") from error.__cause__
        yield root


class _NoAnswerError(Exception):
    pass


class _Process:
    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.largest = 1 << 16
        self._popen = popen
        self._timer: threading.Timer | None = None
        self._seconds = 0
        self._late = False

    def allow(self, seconds: int) -> None:
        """Has it end after so many seconds from now, whatever was allowed before; 0 for no end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self._seconds = seconds
        if seconds:
            self._timer = threading.Timer(seconds, self._end)
            self._timer.daemon = True
            self._timer.start()

    def ask(self, do: str, **arguments: Any) -> tuple[dict[str, Any], bytes]:
        """A request's answer; _NoAnswerError says what became of it otherwise."""
        assert self._popen.stdin is not None
        with suppress(OSError):  # where it has ended, which shows in the answer
            self._popen.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._popen.stdin.flush()
        sizes = struct.unpack("<QQ", self._read(16))
        if max(sizes) > self.largest:
            raise _NoAnswerError(f"{max(sizes)} bytes were read from it")
        header = json.loads(self._read(sizes[0]))
        if "error" in header:
            raise _NoAnswerError(header["error"])
        return header, self._read(sizes[1])

    def _read(self, size: int) -> bytes:
        assert self._popen.stdout is not None
        data = self._popen.stdout.read(size)
        if len(data) == size:
            return data
        code = self._popen.wait()
        if self._late:
            raise _NoAnswerError(f"it took over {self._seconds} s")
        with suppress(ValueError):
            raise _NoAnswerError(f"reading it ended with {signal.Signals(-code).name}")
        raise _NoAnswerError(f"reading it ended with exit code {code}")

    def _end(self) -> None:
        self._late = True
        self._popen.kill()


@contextmanager
def _start() -> Iterator[_Process]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise RuntimeError(_cannot("it is not Python's own"))
    try:
        popen = subprocess.Popen(
            [sys.executable, "-I", "-S", os.fspath(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise RuntimeError(_cannot(str(error))) from error
    with popen:
        process = _Process(popen)
        try:
            process.allow(_START_SECONDS)
            yield process
        finally:
            process.allow(0)
            popen.kill()
            assert popen.stdin is not None
            with suppress(OSError):  # of a request that it did not take
                popen.stdin.close()


def _cannot(why: str) -> str:
    return f"HDF5 is read in a process of its own, and {sys.executable!r} (sys.executable) could not start one: {why}"


class Hdf5:
    """A group of a file."""

    def __init__(self, process: _Process, names: tuple[str, ...], size: int, label: str) -> None:
        self._process = process
        self._names = names
        self._size = size
        self._label = label

    def has(self, path: str) -> bool:
        """Whether there is a group or dataset of this path."""
        return self._find(path)["kind"] is not None

    def group(self, path: str) -> Hdf5:
        """A group by its path, which raises ValueError where there is none."""
        if self._find(path)["kind"] != "group":
            raise ValueError(f"{self._label}: the group {path!r} is missing")
        return Hdf5(self._process, self._at(path), self._size, f"{self._label}: {path}")

    def text(self, name: str) -> str | None:
        """An attribute that is text; None where there is none."""
        found = self._texts(name, rank=0)
        return None if found is None else found[0]

    def texts(self, name: str) -> list[str]:
        """An attribute that is a list of texts; ValueError where there is none."""
        found = self._texts(name, rank=1)
        if found is None:
            raise ValueError(f"{self._label}: attribute {name} is missing")
        return found

    def array(self, path: str, shape: Shape) -> FloatArray:
        """A dataset of floats, as float32.

        Raises ValueError for one that is not there or of another shape, UnsupportedError for one that is compressed,
        lies in another file, or is not of floats.
        """
        label = f"{self._label}: {path}"
        found = self._find(path)
        if found["kind"] != "dataset":
            raise ValueError(f"{label}: the dataset is missing")
        got, dtype = found["shape"], np.dtype(found["dtype"])
        if got is None or not fits(got, shape):
            expected = tuple("any" if size is None else size for size in shape)
            raise ValueError(f"{label}: expected shape {expected}, got {got if got is None else tuple(got)}")
        if dtype.kind != "f" or dtype.itemsize > 8:
            raise UnsupportedError(f"{label}: dtype {dtype} is not supported; supported: floats of 16 to 64 bits")
        if not found["is_plain"]:
            raise UnsupportedError(
                f"{label}: compressed, filtered and external datasets are not supported; supported: plain ones, as "
                "Keras writes them"
            )
        nbytes = math.prod(got) * dtype.itemsize
        if nbytes > self._size:  # as of chunks that were never written
            raise ValueError(f"{label}: {nbytes} bytes cannot lie in a file of {self._size}")
        data = self.ask("read", label, names=self._at(path))[1]
        if len(data) != nbytes:
            raise ValueError(f"{label}: expected {nbytes} bytes, got {len(data)}")
        return to_float32(np.frombuffer(data, dtype).reshape(got), label)

    def ask(self, do: str, label: str, **arguments: Any) -> tuple[dict[str, Any], bytes]:
        """What the process that reads answers."""
        try:
            return self._process.ask(do, **arguments)
        except _NoAnswerError as failure:
            raise ValueError(f"{label}: not an HDF5 file, or damaged: {failure}") from failure

    def _texts(self, name: str, rank: int) -> list[str] | None:
        """An attribute of so many axes that is text, as a list; None where there is none."""
        label = f"{self._label}: attribute {name}"
        found: list[str] | None = self.ask("texts", label, names=self._names, attribute=name, rank=rank)[0]["texts"]
        return found

    def _at(self, path: str) -> tuple[str, ...]:
        # HDF5 takes names like "a//b" and "a/./b", which layers of Keras 2 may have, for "a/b".
        return (*self._names, *(name for name in path.split("/") if name not in ("", ".")))

    def _find(self, path: str) -> dict[str, Any]:
        """What is at a path that leads through no link to elsewhere."""
        label = f"{self._label}: {path}"
        found = self.ask("find", label, names=self._at(path))[0]
        if found["kind"] == "link":
            raise UnsupportedError(f"{label}: links are not supported; supported: datasets in place")
        return found
