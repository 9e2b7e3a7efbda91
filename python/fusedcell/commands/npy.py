"""Arrays in .npy files, mapped and not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .._files import open_file

Array: TypeAlias = npt.NDArray[Any]


def open_npy(path: Path) -> Array:
    """The array, of which a slice is read when it is taken.

    Raises ValueError for a file that is none, that has other than numbers, or that ends before its values do.
    """
    with open_file(path):  # which is no pipe and no device
        pass
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # of a dozen kinds, by where the head is damaged
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not an array that numpy.save writes, or damaged: {reason}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"{path}: expected one array, as numpy.save writes it, got an archive of several")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected an array of numbers, got dtype {array.dtype}")
    return array
