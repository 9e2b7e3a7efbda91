"""How layers and cells are written, to files and in pickles; csrc/load reads them. docs/file_format.md has the names.

What is stored is what the kernels see: the weights in their own type, int8 with its scales, and the biases as they
are added. So a loaded layer gives the same bits. The instruction-set tier is a matter of the machine and not stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _options
from ._core import Stack
from ._dtypes import MIXED, common_dtype
from .cell_options import CellOptions
from .weights.floats import narrowed

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]
Description: TypeAlias = dict[str, Any]

MATRIX_NAMES = ("weight_ih", "weight_hh", "weight_hr")  # those that are stored in the dtype

# What safetensors calls a tensor's type. NumPy has no bfloat16, so these are its bits.
_CODES = {"float32": "F32", "uint16": "BF16", "float16": "F16", "int8": "I8"}


def to_tensors(stack: Stack, class_name: str, suffixes: Sequence[str]) -> tuple[Description, Tensors]:
    """What `to_bytes` takes; `suffixes` complete the names of each layer's and direction's arrays."""
    dtype = common_dtype(stack.dtypes)
    description = {"format_version": 1, "class": class_name, "kind": stack.kind, "dtype": dtype}
    options = _options.of_stack(stack)
    # The first version knows neither options nor the reverse direction, and the second no dtype of each matrix; each is
    # written where it says all.
    has_options = stack.reverse or stack.has_peepholes or any(item != CellOptions() for item in options)
    if has_options or dtype == MIXED:
        version = 3 if dtype == MIXED else 2
        description |= {"format_version": version, "options": _options.to_json(options), "reverse": stack.reverse}
    tensors: Tensors = {}
    for suffix, cell, dtypes in zip(suffixes, stack.arrays(), stack.dtypes, strict=True):
        for name, array in cell.items():
            matrix = name.removesuffix("_scale")
            kind = "_int16" if name != matrix and dtypes[matrix] == "int8_int16" else ""
            tensors[name + kind + suffix] = narrowed(array, dtypes[name]) if name in MATRIX_NAMES else array
    if stack.input_scales:
        tensors["input_scales"] = np.array(stack.input_scales, np.float32)
    return description, tensors


def to_bytes(description: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """A safetensors file: always the same bytes for the same layer, and those that the package safetensors writes."""
    # One entry, because the order of several is not defined.
    header: dict[str, Any] = {"__metadata__": {"fusedcell": json.dumps(description, sort_keys=True)}}
    # Wide types first, so that each tensor is aligned.
    data = []
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _CODES[tensor.dtype.name], "shape": tensor.shape, "data_offsets": (begin, end)}
        data.append(np.ascontiguousarray(tensor).data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *data])
