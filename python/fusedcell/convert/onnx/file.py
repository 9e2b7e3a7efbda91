"""ONNX files: models from paths, bytes or protobuf messages, and the values of tensors. No file is trusted."""

from __future__ import annotations

import importlib
import math
import os
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy.typing as npt

from ..._files import open_file
from ...errors import UnsupportedError
from ...weights.file_kinds import ONNX, advice_of

Values: TypeAlias = npt.NDArray[Any]

# Element types that weights, scales, zero points, shapes, lengths and conditions come in, and their bytes.
_ITEM_SIZES = dict.fromkeys(("FLOAT", "INT32"), 4) | dict.fromkeys(("DOUBLE", "INT64"), 8)
_ITEM_SIZES |= dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 2) | dict.fromkeys(
    ("INT8", "UINT8", "BOOL"), 1
)


def import_onnx() -> ModuleType:
    """The package onnx, or ImportError that says how to get it."""
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ImportError("ONNX models need onnx: pip install fusedcell[onnx]") from error


class OnnxFile:
    """A model, and where its tensors' external data may lie.

    `source` is a path, the bytes of a file, or an onnx.ModelProto. External data is read from the folder of the path
    and from nowhere else; without a path there is none.

    Raises ValueError for what is no ONNX model, TypeError for another type, and what opening a file raises.
    """

    def __init__(self, source: Any) -> None:
        onnx = import_onnx()
        self.folder: Path | None = None
        self.name = "model"
        if isinstance(source, onnx.ModelProto):
            self.model: Any = source
        elif isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)):
            if isinstance(source, (str, os.PathLike)):
                path = Path(os.fsdecode(source))
                self.name, self.folder = os.fsdecode(source), path.parent.resolve()
                with open_file(path) as file:
                    data = file.read()
            else:
                data = bytes(source)
            self.model = onnx.ModelProto()
            try:
                self.model.ParseFromString(data)
            except importlib.import_module("google.protobuf.message").DecodeError as error:
                raise ValueError(f"{self.name}: not an ONNX model: {error}{advice_of(self.name, ONNX)}") from error
        else:
            raise TypeError(f"model: expected a path, bytes or an onnx.ModelProto, got {type(source).__name__}")
        if not self.model.HasField("graph"):
            raise ValueError(f"{self.name}: not an ONNX model: it holds no graph{advice_of(self.name, ONNX)}")
        _check_strings(self.name, self.model)

    def array(self, tensor: Any) -> Values:
        """The values of an onnx.TensorProto.

        Raises UnsupportedError for an element type that no weight has, and ValueError where the data does not fit the
        shape, or external data lies outside the model's folder.
        """
        onnx: Any = import_onnx()
        label = f"tensor {tensor.name!r}"
        size = _ITEM_SIZES.get(element_name(tensor.data_type))
        if size is None:
            raise UnsupportedError(
                f"{label}: element type {element_name(tensor.data_type)} is not supported; "
                f"supported: {', '.join(_ITEM_SIZES)}"
            )
        shape = tuple(tensor.dims)
        if any(dim < 0 for dim in shape):
            raise ValueError(f"{label}: expected a shape without negative sizes, got {shape}")
        nbytes = size * math.prod(shape)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            plain = onnx.TensorProto(dims=shape, data_type=tensor.data_type, raw_data=self._external(tensor, nbytes))
        else:
            plain = tensor
            if tensor.HasField("raw_data") and len(tensor.raw_data) != nbytes:
                raise ValueError(f"{label}: expected {nbytes} bytes for shape {shape}, got {len(tensor.raw_data)}")
        try:
            array: Values = onnx.numpy_helper.to_array(plain)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{label}: its data does not fit shape {shape}: {error}") from error
        return array

    def _external(self, tensor: Any, nbytes: int) -> bytes:
        label = f"tensor {tensor.name!r}"
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if self.folder is None:
            raise ValueError(f"{label}: its data is in the file {location!r}; pass the model's path to read it")
        path = (self.folder / location.replace("\0", "")).resolve()
        if not location or "\0" in location or not path.is_relative_to(self.folder):
            raise ValueError(f"{label}: expected external data in the model's folder, got location {location!r}")
        try:
            offset, length = int(entries.get("offset", "0")), int(entries.get("length", nbytes))
        except ValueError as error:
            raise ValueError(f"{label}: expected numbers as offset and length, got {entries}") from error
        if not path.is_file():
            raise ValueError(f"{label}: its data is in {location!r}, which is not a file in the model's folder")
        if length != nbytes or offset < 0 or offset + nbytes > path.stat().st_size:
            raise ValueError(
                f"{label}: expected {nbytes} bytes in {location!r} of {path.stat().st_size}, "
                f"got offset {offset} and length {length}"
            )
        with path.open("rb") as file:
            file.seek(offset)
            data: bytes = file.read(nbytes)
        return data


def _check_strings(name: str, model: Any) -> None:
    """Refuses text that is not UTF-8, which protobuf would hand out as bytes."""
    todo = [model]
    while todo:
        for field, value in todo.pop().ListFields():
            if field.type == field.TYPE_MESSAGE:
                todo.extend([value] if hasattr(value, "ListFields") else value)
            elif field.type == field.TYPE_STRING:
                for text in [value] if isinstance(value, (str, bytes)) else value:
                    if not isinstance(text, str):
                        raise ValueError(f"{name}: {field.full_name}: expected UTF-8, got {text[:50]!r}")


def element_name(data_type: int) -> str:
    """ONNX's name of an element type, such as FLOAT16; the number itself where it has none."""
    onnx = import_onnx()
    names = onnx.TensorProto.DataType
    return str(names.Name(data_type)) if data_type in names.values() else str(data_type)
