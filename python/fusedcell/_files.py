"""Files: written whole or not at all, and read only where they end."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import BinaryIO


def write_file(path: str | os.PathLike[str], data: bytes | Iterable[bytes]) -> None:
    """Puts `data` where a path leads, so that whoever looks, at whatever time, finds all that was there or all of it.

    Of data that comes in parts no more than one is held.
    That holds for readers, for several writers at once, and after a failure or a loss of power. A file that is replaced
    keeps its mode and, as far as this process may say so, its owner and group; it does not keep ACLs, extended
    attributes or other names of the same file. Pipes, devices and open files such as /dev/stdout are written to.

    Raises OSError that names the path.
    """
    name, parts = os.fsdecode(path), [data] if isinstance(data, bytes) else data
    try:
        try:
            old = os.stat(name)
        except FileNotFoundError:
            old = None
        if old is None or (stat.S_ISREG(old.st_mode) and not _is_descriptor(name)):
            _replace(os.path.realpath(name), parts, old)
        else:
            _refuse_folder(name, old)
            with open(name, "wb") as file:
                file.writelines(parts)
    except OSError as error:  # of another file, or without a name
        if error.errno is None:  # a signal handler's, such as a TimeoutError
            raise
        raise OSError(error.errno, error.strerror, name) from error


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file to read its bytes, but nothing that has no end, or none until somebody writes to it.

    Raises ValueError for a pipe, a device or a socket, IsADirectoryError, and what else opening a file raises.
    """
    name = os.fsdecode(path)
    found = os.stat(name)  # before it is opened, as that alone may wait, or set a device going
    _refuse_folder(name, found)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(
            f"{name}: expected a regular file, got a pipe, a device or a socket; write what it gives to a file first"
        )
    return open(name, "rb")


def _refuse_folder(name: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)


def _is_descriptor(name: str) -> bool:
    """Whether a name of a regular file stands for one that a process has open, such as what its output goes to."""
    folder = os.path.realpath(os.path.dirname(name))
    while os.path.islink(name) and not folder.startswith("/proc/"):
        name = os.path.join(folder, os.readlink(name))
        folder = os.path.realpath(os.path.dirname(name))
    return folder.startswith(("/proc/", "/dev/fd"))


def _replace(target: str, parts: Iterable[bytes], old: os.stat_result | None) -> None:
    # A name that nobody can foresee, and short, as the file's own may be as long as names can be.
    unfinished = os.path.join(os.path.dirname(target), f".{os.urandom(8).hex()}.tmp")
    mode = 0o666 if old is None else 0o600  # less the umask; and nobody reads what only some may read
    try:
        # Within the try, and without an instruction of Python's between, as a signal handler may raise at any.
        with open(unfinished, "xb", opener=partial(os.open, mode=mode)) as file:
            if old is not None:
                _keep_access(file, old)
            file.writelines(parts)
            file.flush()
            # Without it some file systems have the new name after a loss of power, and nothing in the file.
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except FileExistsError:  # somebody else's
        raise
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise


def _keep_access(file: BinaryIO, old: os.stat_result) -> None:
    if not hasattr(os, "fchown"):  # on Windows, where files inherit theirs from the folder
        return
    mode = old.st_mode & 0o777
    for owner in (old.st_uid, -1):
        with suppress(OSError):
            os.fchown(file.fileno(), owner, old.st_gid)
            break
    else:
        mode &= ~stat.S_IRWXG  # what another group was allowed
    with suppress(OSError):  # of file systems without modes
        os.fchmod(file.fileno(), mode)
