"""The ONNX operators that exporters put between the weights of a file and the nodes that use them.

Source: https://onnx.ai/onnx/operators/, all versions from operator set 7 on. Where an older version has an attribute
for what became an input, either is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..errors import UnsupportedError
from .onnx_file import Values, element_name, numpy_dtype
from .onnx_reader import AttributeReader

Inputs: TypeAlias = list[Values | None]

_MAX_RANK = 64  # NumPy's
_MOST_INPUTS = 5  # but for Concat, which takes any number


class Operator(NamedTuple):
    """A function of inputs, absent ones None, and attributes; the least and most inputs; the attributes it knows."""

    function: Callable[[Inputs, AttributeReader], Any]
    inputs: tuple[int, int]
    attributes: tuple[str, ...] = ()


def evaluate(op_type: str, inputs: Inputs, attributes: AttributeReader) -> Values:
    """The result of one of `OPERATORS`; ValueError or UnsupportedError where inputs or attributes do not fit."""
    least, most = OPERATORS[op_type].inputs
    if not least <= len(inputs) <= most or any(value is None for value in inputs[:least]):
        raise ValueError(f"expected {least} to {most} inputs, got {len(inputs)}")
    padded = inputs if most > _MOST_INPUTS else inputs + [None] * (_MOST_INPUTS - len(inputs))
    with np.errstate(over="ignore", invalid="ignore"):  # who uses the value says what is too large
        return np.asarray(OPERATORS[op_type].function(padded, attributes))


def result_size(op_type: str, inputs: Inputs) -> int:
    """How many elements the result has at most; what a node without the inputs it needs has does not matter."""
    present = [values for values in inputs if values is not None]
    if not present:
        return 0
    if op_type == "Concat":
        return sum(values.size for values in present)
    if op_type in ("Expand", "Tile"):
        if present[-1].dtype.kind not in "iu" or present[-1].size > _MAX_RANK:
            return 0
        sizes = [max(1, int(size)) for size in present[-1].reshape(-1).tolist()]
        if op_type == "Expand":
            shape = present[0].shape
            sizes = [max(pair) for pair in zip_longest(reversed(sizes), reversed(shape), fillvalue=1)]
        return math.prod(sizes) * (present[0].size if op_type == "Tile" else 1)
    return present[0].size


def _integers(values: Values | None, name: str) -> list[int]:
    if values is None:
        raise ValueError(f"{name}: missing")
    if values.dtype.kind not in "iu" or values.ndim > 1 or values.size > _MAX_RANK:
        raise ValueError(f"{name}: expected at most {_MAX_RANK} integers, got {values.dtype} {values.shape}")
    return [int(value) for value in values.reshape(-1)]


def _either(value: Values | None, attributes: AttributeReader, name: str) -> list[int] | None:
    """Integers that are an input in newer versions of an operator and an attribute in older ones."""
    attribute = attributes.integers(name)
    if value is None:
        return attribute
    if attribute is not None:
        raise ValueError(f"{name}: expected an input or an attribute, got both")
    return _integers(value, name)


def _identity(inputs: Inputs, attributes: AttributeReader) -> Any:
    return inputs[0]


def _cast(inputs: Inputs, attributes: AttributeReader) -> Any:
    source: Any = inputs[0]
    to = attributes.integer("to")
    dtype = numpy_dtype(-1 if to is None else to)
    if dtype is None or (dtype.kind in "iu" and source.dtype.kind not in "iu"):
        raise attributes.refusal("to", element_name(-1 if to is None else to), "floats, and integers from integers")
    return source.astype(dtype)


def _transpose(inputs: Inputs, attributes: AttributeReader) -> Any:
    source: Any = inputs[0]
    return source.transpose(attributes.integers("perm"))


def _squeeze(inputs: Inputs, attributes: AttributeReader) -> Any:
    source: Any = inputs[0]
    axes = _either(inputs[1], attributes, "axes")
    return np.squeeze(source, None if axes is None else tuple(axes))


def _unsqueeze(inputs: Inputs, attributes: AttributeReader) -> Any:
    source: Any = inputs[0]
    axes = _either(inputs[1], attributes, "axes")
    if axes is None:
        raise ValueError("axes: missing")
    return np.expand_dims(source, tuple(axes))


def _reshape(inputs: Inputs, attributes: AttributeReader) -> Any:
    source: Any = inputs[0]
    sizes = _integers(inputs[1], "shape")
    if not attributes.integer("allowzero"):
        sizes = [source.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    if min(sizes, default=0) < -1:  # which NumPy takes for -1
        raise ValueError(f"shape: expected sizes from -1 on, got {sizes}")
    return source.reshape(sizes)


def _concat(inputs: Inputs, attributes: AttributeReader) -> Any:
    axis = attributes.integer("axis")
    if axis is None:
        raise ValueError("axis: missing")
    present: list[Any] = inputs
    if any(value is None or value.dtype != present[0].dtype for value in present):
        raise ValueError("expected inputs of one element type")
    return np.concatenate(present, axis)


def _slice(inputs: Inputs, attributes: AttributeReader) -> Any:
    source: Any = inputs[0]
    starts, ends = (_either(inputs[index], attributes, name) for index, name in ((1, "starts"), (2, "ends")))
    if starts is None or ends is None:
        raise ValueError("starts, ends: missing")
    axes = _either(inputs[3], attributes, "axes")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if inputs[4] is None else _integers(inputs[4], "steps")
    slices = [slice(None)] * source.ndim
    places = [axis + source.ndim if axis < 0 else axis for axis in axes]
    if len(set(places)) != len(places):
        raise ValueError(f"axes: expected each once, got {axes}")
    for axis, start, end, step in zip(places, starts, ends, steps, strict=True):
        if not 0 <= axis < source.ndim:
            raise ValueError(f"axes: expected axes of an array of {source.ndim}, got {axes}")
        slices[axis] = slice(start, end, step)
    return source[tuple(slices)]


def _expand(inputs: Inputs, attributes: AttributeReader) -> Any:
    source: Any = inputs[0]
    return np.broadcast_to(source, np.broadcast_shapes(source.shape, tuple(_integers(inputs[1], "shape"))))


def _tile(inputs: Inputs, attributes: AttributeReader) -> Any:
    source: Any = inputs[0]
    repeats = _integers(inputs[1], "repeats")
    if len(repeats) != source.ndim:
        raise ValueError(f"repeats: expected {source.ndim}, got {repeats}")
    return np.tile(source, repeats)


def _dequantize_linear(inputs: Inputs, attributes: AttributeReader) -> Any:
    quantised: Any = inputs[0]
    scale: Any = inputs[1]
    zero: Any = np.zeros_like(scale, quantised.dtype) if inputs[2] is None else inputs[2]
    if quantised.dtype.kind not in "iu" or scale.dtype.kind not in "fV":
        raise UnsupportedError(f"element types {quantised.dtype} and {scale.dtype}; supported: integers and floats")
    if zero.dtype != quantised.dtype or zero.shape != scale.shape:
        raise ValueError(f"zero point: expected {quantised.dtype} {scale.shape}, got {zero.dtype} {zero.shape}")
    output_dtype = attributes.integer("output_dtype")
    if output_dtype and numpy_dtype(output_dtype) != scale.dtype:
        raise attributes.refusal("output_dtype", element_name(output_dtype), "the scale's type")
    arrays = [_spread(array, quantised, attributes) for array in (zero.astype(np.int64), scale)]
    # The difference of integers of at most 16 bits, and its product with a half-width scale, are exact in float32.
    difference = (quantised.astype(np.int64) - arrays[0]).astype(np.float32)
    return (difference * arrays[1].astype(np.float32)).astype(scale.dtype)


def _spread(array: Any, like: Any, attributes: AttributeReader) -> Any:
    """A scale or zero point in a shape that broadcasts: one, one for each index of `axis`, or one for each block."""
    if array.size == 1:
        return array.reshape(())
    axis = attributes.integer("axis")
    axis = 1 if axis is None else axis
    if not -like.ndim <= axis < like.ndim:
        raise ValueError(f"axis: expected one of {like.ndim}, got {axis}")
    block_size = attributes.integer("block_size")
    if block_size:
        count = like.shape[axis]
        shape = list(like.shape)
        shape[axis] = -(-count // block_size)
        if block_size < 0 or list(array.shape) != shape:
            raise ValueError(f"block_size={block_size}: expected a scale of shape {shape}, got {array.shape}")
        return np.take(array, np.arange(count) // block_size, axis)
    if array.shape != (like.shape[axis],):
        raise ValueError(f"scale: expected shape {(like.shape[axis],)} for axis {axis}, got {array.shape}")
    shape = [1] * like.ndim
    shape[axis] = -1
    return array.reshape(shape)


OPERATORS = {
    "Identity": Operator(_identity, (1, 1)),
    "Cast": Operator(_cast, (1, 1), ("to", "saturate")),
    "Transpose": Operator(_transpose, (1, 1), ("perm",)),
    "Squeeze": Operator(_squeeze, (1, 2), ("axes",)),
    "Unsqueeze": Operator(_unsqueeze, (1, 2), ("axes",)),
    "Reshape": Operator(_reshape, (2, 2), ("allowzero",)),
    "Concat": Operator(_concat, (1, 10_000), ("axis",)),
    "Slice": Operator(_slice, (1, 5), ("starts", "ends", "axes")),
    "Expand": Operator(_expand, (2, 2)),
    "Tile": Operator(_tile, (2, 2)),
    "DequantizeLinear": Operator(_dequantize_linear, (2, 3), ("axis", "block_size", "output_dtype")),
}
