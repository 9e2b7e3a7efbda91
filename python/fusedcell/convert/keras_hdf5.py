"""HDF5 files, of which nothing is trusted: what is read is bounded by the file's size, and lies in the file itself."""

from __future__ import annotations

import importlib
import io
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from .._base import FloatArray
from ..errors import UnsupportedError
from .floats import to_float32
from .keras_weights import Shape, fits


def import_h5py() -> Any:
    """The package h5py, or ImportError that says how to get it."""
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise ImportError("Keras files need h5py: pip install fusedcell[keras]") from error


@contextmanager
def open_hdf5(file: IO[bytes], label: str) -> Iterator[Hdf5]:
    """The root of an open file; `label` is what errors call it. Whatever is damaged raises ValueError."""
    h5py = import_h5py()
    size = file.seek(0, 2)
    file.seek(0)
    with _damage(label):
        if isinstance(file, io.BytesIO):
            _check_heaps(file.getvalue())
        else:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                _check_heaps(data)
        root = h5py.File(file, "r")
    try:
        yield Hdf5(h5py, root, size, label)
    finally:
        root.close()


def _check_heaps(data: bytes | mmap.mmap) -> None:
    """Refuses heaps of strings whose objects do not lead to their end: libhdf5 goes round in them for ever.

    Format: "Disk Format: Level 0A" and "Level 1E: Global Heap" of https://support.hdfgroup.org/documentation/hdf5/.
    """
    # The superblock comes first, and has the bytes of an offset and of a length, which h5py always makes 8.
    start = bytes(data[:16])
    sizes = start[13:15] if start[8:9] < b"\2" else start[9:11]
    if not start.startswith(b"\x89HDF\r\n\x1a\n") or sizes != b"\x08\x08":
        raise ValueError("its first bytes are not those of an HDF5 file with 64-bit offsets")
    heap = -1
    while (heap := data.find(b"GCOL\1\0\0\0", heap + 1)) >= 0:
        at, end = heap + 16, heap + int.from_bytes(data[heap + 8 : heap + 16], "little")
        while at + 16 <= min(end, len(data)):
            index, size = struct.unpack_from("<H6xQ", data, at)
            step = size if index == 0 else 16 + -(-size // 8) * 8  # object 0 is what is free, its header included
            if step < 16 or at + step > end:
                raise ValueError(f"an object of {size} bytes in a heap of strings")
            at += step


@contextmanager
def _damage(label: str) -> Iterator[None]:
    try:
        yield
    except UnsupportedError:
        raise
    except Exception as error:  # of a dozen kinds, by where the file is damaged
        raise ValueError(f"{label}: not an HDF5 file, or damaged: {type(error).__name__}: {error}") from error


class Hdf5:
    """A group of a file."""

    def __init__(self, h5py: Any, group: Any, size: int, label: str) -> None:
        self._h5py = h5py
        self._group = group
        self._size = size
        self._label = label

    def has(self, path: str) -> bool:
        """Whether there is a group or dataset of this path."""
        return self._find(path) is not None

    def group(self, path: str) -> Hdf5:
        """A group by its path, which raises ValueError where there is none."""
        found = self._find(path)
        if not isinstance(found, self._h5py.Group):
            raise ValueError(f"{self._label}: the group {path!r} is missing")
        return Hdf5(self._h5py, found, self._size, f"{self._label}: {path}")

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
        if not isinstance(found, self._h5py.Dataset):
            raise ValueError(f"{label}: the dataset is missing")
        with _damage(label):
            got, dtype, nbytes = found.shape, found.dtype, found.nbytes
            is_plain = not (found.is_virtual or found.external or found.id.get_create_plist().get_nfilters())
        if got is None or not fits(got, shape):
            expected = tuple("any" if size is None else size for size in shape)
            raise ValueError(f"{label}: expected shape {expected}, got {got}")
        if dtype.kind != "f" or dtype.itemsize > 8:
            raise UnsupportedError(f"{label}: dtype {dtype} is not supported; supported: floats of 16 to 64 bits")
        if not is_plain:
            raise UnsupportedError(
                f"{label}: compressed, filtered and external datasets are not supported; supported: plain ones, as "
                "Keras writes them"
            )
        if nbytes > self._size:  # as of chunks that were never written
            raise ValueError(f"{label}: {nbytes} bytes cannot lie in a file of {self._size}")
        with _damage(label):
            values = found[()]
        return to_float32(values, label)

    def _texts(self, name: str, rank: int) -> list[str] | None:
        """An attribute of so many axes that is text, as a list; None where there is none."""
        h5t = self._h5py.h5t
        with _damage(f"{self._label}: attribute {name}"):
            attributes = self._group.attrs
            if name not in attributes:
                return None
            attribute = attributes.get_id(name)
            # Asked before anything is read: h5py crashes on damaged sequences of variable length.
            if attribute.get_type().get_class() != h5t.STRING or len(attribute.shape) != rank:
                raise ValueError(f"expected {'a list of texts' if rank else 'text'}")
            if attribute.get_storage_size() > self._size:
                raise ValueError(f"larger than the file of {self._size} bytes")
            value = attributes[name]
            items = value.tolist() if rank else [value]
            return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in items]

    def _find(self, path: str) -> Any:
        """What is at a path that leads through no link to elsewhere; None where there is nothing."""
        found = self._group
        with _damage(f"{self._label}: {path}"):
            for name in path.split("/"):
                if not isinstance(found, self._h5py.Group) or not name or name == "." or name not in found:
                    return None
                if not isinstance(found.get(name, getlink=True), self._h5py.HardLink):
                    raise UnsupportedError(
                        f"{self._label}: {path}: links are not supported; supported: datasets in place"
                    )
                found = found[name]
        return found
