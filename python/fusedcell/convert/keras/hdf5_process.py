"""Reads one HDF5 file for another process: a script that `keras_hdf5.py` starts, of which damage may take anything.

Requests come as lines of JSON, the first of which is "start". An answer is the sizes of its two parts as 64-bit
numbers, little-endian, then an object of JSON, then the bytes of an array, of which there are none in other answers.
Nothing of fusedcell is imported, and nothing is decided here: the other process does that.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import struct
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Answer = tuple[dict[str, Any], Any]


class Reader:
    """The open file; its public methods are the requests."""

    _h5py: Any
    _root: Any

    def start(self, modules: list[str], memory: int, seconds: int) -> Answer:
        """Imports h5py by a search path, and limits what comes after to so much more memory and so long."""
        sys.path[:] = modules
        # A thread of these takes address space, of which there is to be no more than files need.
        os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
        self._h5py = importlib.import_module("h5py")
        with contextlib.suppress(ImportError):  # on Windows
            _limit(memory, seconds)
        return {}, b""

    def open(self, path: str, member: str | None) -> Answer:
        """Opens a file, or one that lies uncompressed in an archive."""
        source = Path(path)
        if member is None:
            self._root = self._h5py.File(source.open("rb"), "r")
        else:
            with zipfile.ZipFile(source) as archive:
                self._root = self._h5py.File(io.BytesIO(archive.read(member)), "r")
        return {}, b""

    def find(self, names: Sequence[str]) -> Answer:
        """What is at a path: "group", "dataset", "link" for one that leads over a link, or nothing."""
        found, kind = self._find(names)
        if kind != "dataset":
            return {"kind": kind}, b""
        is_plain = not (found.is_virtual or found.external or found.id.get_create_plist().get_nfilters())
        return {"kind": kind, "shape": found.shape, "dtype": found.dtype.str, "is_plain": is_plain}, b""

    def read(self, names: Sequence[str]) -> Answer:
        """The bytes of a dataset's values."""
        return {}, self._find(names)[0][()].tobytes()

    def texts(self, names: Sequence[str], attribute: str, rank: int) -> Answer:
        """A group's attribute of so many axes that is text, as a list."""
        attributes = self._find(names)[0].attrs
        if attribute not in attributes:
            return {"texts": None}, b""
        stored = attributes.get_id(attribute)
        if stored.get_type().get_class() != self._h5py.h5t.STRING or len(stored.shape) != rank:
            raise ValueError(f"expected {'a list of texts' if rank else 'text'}")
        value = attributes[attribute]
        items = value.tolist() if rank else [value]
        return {"texts": [item.decode() if isinstance(item, bytes) else str(item) for item in items]}, b""

    def _find(self, names: Sequence[str]) -> tuple[Any, str | None]:
        found = self._root
        for name in names:
            if not isinstance(found, self._h5py.Group) or not name or name == "." or name not in found:
                return None, None
            if not isinstance(found.get(name, getlink=True), self._h5py.HardLink):
                return None, "link"
            found = found[name]
        kinds = {self._h5py.Group: "group", self._h5py.File: "group", self._h5py.Dataset: "dataset"}
        return found, kinds.get(type(found))


def _limit(memory: int, seconds: int) -> None:
    """Limits what this process takes from here on. macOS has no limit of memory that it keeps to."""
    import resource

    def lower(kind: int, value: int) -> None:
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))

    # No core dump. 0 would not keep Linux from handing one to a program that takes them.
    lower(resource.RLIMIT_CORE, 1)
    lower(resource.RLIMIT_CPU, int(time.process_time()) + 1 + seconds)
    statm = Path("/proc/self/statm")
    if statm.exists():
        lower(resource.RLIMIT_AS, int(statm.read_text().split()[0]) * resource.getpagesize() + memory)


def main() -> None:
    """Answers requests until there are no more."""
    reader = Reader()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            header, data = getattr(reader, request.pop("do"))(**request)
        except Exception as error:  # of a dozen kinds, by where the file is damaged
            header, data = {"error": f"{type(error).__name__}: {error}"[:1000]}, b""
        text = json.dumps(header).encode()
        sys.stdout.buffer.write(struct.pack("<QQ", len(text), len(data)) + text)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
