"""Tesseract's .traineddata files, as far as an integer LSTM line recogniser needs them: network, codes, characters.

The format is that of DeSerialize in https://github.com/tesseract-ocr/tesseract, little-endian throughout: src/ccutil/
tessdatamanager.cpp (components), src/lstm/network.cpp, plumbing.cpp, lstm.cpp and weightmatrix.cpp (the network),
src/lstm/lstmrecognizer.cpp (what follows it), src/ccutil/unicharcompress.h and unicharset.cpp (codes and characters).
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

NETWORK, CHARACTERS, CODES = 17, 21, 22  # indices of components
LAYER_RATES = 64  # flag of a layer: learning rates follow its parts
INT8_IN_DOUBLES, MODE_BITS = 1 | 128, 1 | 2 | 128  # of a matrix: int8 with float64 scales; 4 says how it was trained
LARGEST_DEPTH = 20


class Reader:
    """Reads on in bytes that nobody vouches for: ValueError where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        end = self._position + size
        if not self._position <= end <= len(self._data):
            raise ValueError(f"{size} bytes expected at {self._position}, but the part ends at {len(self._data)}")
        self._position, taken = end, self._data[self._position : end]
        return taken

    def numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}")))

    def number(self, layout: str = "i") -> int:
        return self.numbers(layout)[0]

    def text(self) -> str:
        return self.take(self.number("I")).decode()


@dataclass(frozen=True)
class Matrix:
    """Weights (outputs, inputs) and biases (outputs,), int8 with one float64 scale a row."""

    weights: npt.NDArray[np.int8]
    biases: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float64]

    def floats(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """What weights and biases stand for."""
        return self.weights * self.scales[:, None], self.biases * self.scales

    @classmethod
    def read(cls, reader: Reader) -> "Matrix":
        mode = reader.number("B")
        if mode & MODE_BITS != INT8_IN_DOUBLES:
            raise ValueError(f"matrix of mode {mode}: only int8 weights with float64 scales are understood")
        outputs, columns, _ = reader.numbers("iib")  # and what fills empty elements
        if outputs < 1 or columns < 2:
            raise ValueError(f"matrix of {outputs} rows and {columns} columns")
        integers = np.frombuffer(reader.take(outputs * columns), np.int8).reshape(outputs, columns)
        count = reader.number("I")
        # Of kernels that need them, the file has scales of rows that there are not.
        scales = np.frombuffer(reader.take(8 * count), "<f8")[:outputs]
        if count < outputs:
            raise ValueError(f"{count} scales for {outputs} rows")
        return cls(integers[:, :-1], integers[:, -1], scales)


@dataclass(frozen=True)
class Layer:
    kind: str
    name: str
    inputs: int
    outputs: int
    sizes: tuple[int, ...] = ()  # a convolution's half widths, a pooling's widths: x, y
    matrices: tuple[Matrix, ...] = ()  # an LSTM's are g i f o, each over x and then h
    parts: list["Layer"] = field(default_factory=list)


def read_layer(reader: Reader, depth: int = 0) -> Layer:
    if depth > LARGEST_DEPTH:
        raise ValueError(f"layers are nested more than {LARGEST_DEPTH} deep")
    if reader.number("b") != 0:
        raise ValueError("a layer without the name of its kind")
    kind = reader.text()
    _, _, flags, inputs, outputs, _ = reader.numbers("bbiiii")
    name = reader.text()
    sizes: tuple[int, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    parts: list[Layer] = []
    if kind in ("Series", "XYTranspose", "RTLReversed"):
        parts = [read_layer(reader, depth + 1) for _ in range(reader.number("I"))]
        if flags & LAYER_RATES:
            reader.take(4 * reader.number("I"))
    elif kind in ("LSTM", "SummLSTM"):
        if reader.number() != inputs + outputs:
            raise ValueError(f"layer {name}: not an LSTM in one dimension")
        matrices = tuple(Matrix.read(reader) for _ in range(4))
    elif kind in ("Tanh", "Softmax"):
        matrices = (Matrix.read(reader),)
    elif kind in ("Convolve", "Maxpool"):
        sizes = reader.numbers("ii")
    elif kind == "Input":
        sizes = reader.numbers("iiiii")[1:4]  # height, width (0: any) and channels
    else:
        raise ValueError(f"layer {name}: {kind} is not understood")
    for matrix in matrices:
        if matrix.weights.shape != (outputs, inputs + outputs * (len(matrices) > 1)):
            raise ValueError(f"layer {name}: weights of shape {matrix.weights.shape} for {inputs} -> {outputs}")
    return Layer(kind, name, inputs, outputs, sizes, matrices, parts)


def components(data: bytes) -> list[bytes]:
    """What lies between each of the file's offsets and the next; empty where an offset is -1."""
    reader = Reader(data)
    offsets = reader.numbers(f"{min(reader.number('I'), 1000)}q")
    present = sorted(offset for offset in offsets if offset >= 0)
    ends = dict(zip(present, [*present[1:], len(data)], strict=True))
    return [data[offset : ends[offset]] if offset >= 0 else b"" for offset in offsets]


@dataclass(frozen=True)
class Model:
    network: Layer
    description: str
    seed: int  # of the random numbers around a picture
    null: int  # the output that is no character
    characters: dict[int, str]  # by output

    @classmethod
    def read(cls, path: Path) -> "Model":
        """Raises ValueError for a file that is not, or not only, what this module understands."""
        found = components(path.read_bytes())
        if len(found) <= CODES:
            raise ValueError(f"{path}: {len(found)} components, and no integer LSTM among them")
        reader = Reader(found[NETWORK])
        network, description = read_layer(reader), reader.text()
        _, _, iterations, null = reader.numbers("iiii")
        count, *lines = found[CHARACTERS].decode().split("\n")
        names = [line.split(" ")[0] for line in lines[: int(count)]]
        reader = Reader(found[CODES])
        characters: dict[int, str] = {}
        for index in range(reader.number("I")):
            is_first, length = reader.numbers("bI")
            code = reader.numbers(f"{min(length, 100)}i")
            if length != 1 or index >= len(names):
                raise ValueError(f"{path}: character {index} has {length} codes; this reader knows one for each")
            if is_first and code[0] != null:
                characters[code[0]] = " " if names[index] == "NULL" else names[index]
        return cls(network, description, iterations * 0x10000001 % 2**64, null, characters)
