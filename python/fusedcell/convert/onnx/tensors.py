"""What is known of a model's tensors before it runs, and what operators make of that.

A tensor's sizes may depend on the sizes of the model's inputs. Its values are kept once along an axis where they are
all the same, and may themselves be such sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ...errors import UnsupportedError
from . import sizes
from .file import Values
from .operators import ELEMENTWISE, REDUCTIONS, Dims, Operation
from .sizes import Number, Size

Spend: TypeAlias = Callable[[int, str], None]
Inputs: TypeAlias = "Sequence[Tensor | None]"

_MAX_RANK = 64  # NumPy's


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model.

    - dims: its shape; None where not even the rank is known
    - values: an array of that rank, of size 1 along an axis of any size whose values are all the same, and of no axes
      where dims is None; of dtype object, with Python integers, where some are `Size`s; None where unknown
    - dtype: that of the model's tensor, if its values are known
    - reason: the error that tells why they are not
    - leaves, types, operators: what the file holds of it, of which types, and the operators in between
    """

    dims: Dims | None
    values: Values | None
    dtype: np.dtype[Any]
    reason: Exception | None = None
    leaves: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """For people: what the file holds, and the operators in between."""
        through = f" through {', '.join(self.operators)}" if self.operators else ""
        return " and ".join(self.leaves) + through

    @property
    def known(self) -> Values:
        """The values; raises the reason where there are none."""
        if self.values is None:
            raise self.reason or UnsupportedError("its values are not known")
        return self.values

    @property
    def depends_on_sizes(self) -> bool:
        """Whether some values are sizes of the model's inputs."""
        return self.values is not None and self.values.dtype == object

    def spread(self, spend: Spend, where: str, axes: Iterable[int] | None = None) -> Values:
        """The values, at full length along these axes, or along all whose sizes are numbers."""
        shape = list(self.known.shape)
        for axis in range(len(shape)) if axes is None else axes:
            size = (self.dims or ())[axis]
            shape[axis] = shape[axis] if isinstance(size, Size) else size
        if tuple(shape) != self.known.shape:
            spend(int(np.prod(np.array(shape, object))), where)
        return np.broadcast_to(self.known, shape)

    def once(self, dims: Dims | None, where: str) -> Tensor:
        """The same in another shape, if it holds one value."""
        if self.known.size != 1:
            raise UnsupportedError(f"{where}: its result depends on the sizes of the model's inputs")
        return replace(self, dims=dims, values=self.known.reshape((1,) * len(dims or ())))


def known(values: Values) -> Tensor:
    """A tensor of these values."""
    return Tensor(values.shape, values, values.dtype)


def unknown(reason: Exception, dims: Dims | None = None) -> Tensor:
    """A tensor whose values are not known."""
    return Tensor(dims, None, np.dtype(np.float32), reason)


def of_numbers(numbers: Sequence[Number]) -> Tensor:
    """A vector of sizes, int64 in the model."""
    values = np.empty(len(numbers), object)
    values[:] = numbers
    return _settled(values.shape, values, np.dtype(np.int64))


def apply(operation: Operation, inputs: Inputs, spend: Spend) -> list[Tensor]:
    """The outputs. Only inputs of Expand, Tile, Reshape, Mul and Where may have values that are not known.

    Raises UnsupportedError where what is known of them does not suffice, ValueError where they do not fit.
    """
    try:
        return _applied(operation, inputs, spend)
    except (ValueError, TypeError, IndexError, OverflowError) as error:  # NumPy's, where sizes do not fit
        if isinstance(error, UnsupportedError) or str(error).startswith(operation.where):
            raise
        raise ValueError(f"{operation.where}: its inputs do not fit: {error}") from error


def _applied(operation: Operation, inputs: Inputs, spend: Spend) -> list[Tensor]:
    given = [tensor for tensor in inputs if tensor is not None]
    if operation.op_type in ELEMENTWISE:
        return [_regardless(operation.op_type, given) or _elementwise(operation, inputs, given, spend)]
    if operation.op_type in RESHAPING:
        source, target = given
        return [RESHAPING[operation.op_type](operation, source, target, spend)]
    return _along_axes(operation, inputs, spend)


def broadcast(shapes: Iterable[Dims | None]) -> Dims | None:
    """The shape of several as NumPy and ONNX broadcast them; ValueError where they do not fit."""
    known_shapes = []
    for dims in shapes:
        if dims is None:
            return None
        known_shapes.append(reversed(dims))
    return tuple(reversed([_common(column) for column in itertools.zip_longest(*known_shapes, fillvalue=1)]))


def _common(column: Iterable[Number]) -> Number:
    found = {size for size in column if size != 1}
    numbers = {size for size in found if not isinstance(size, Size)}
    if len(numbers) > 1:
        raise ValueError(f"sizes {sorted(numbers)} do not broadcast")
    # Wherever the model runs at all, a size beside a number is that number or 1.
    return next(iter(numbers or found), 1) if len(numbers or found) < 2 else Size.new("a size of two that broadcast")


def _settled(dims: Dims | None, values: Values, dtype: np.dtype[Any]) -> Tensor:
    """A tensor whose objects, if all are plain numbers, become such; UnsupportedError for sizes it may not hold."""
    if values.dtype == object and not any(isinstance(value, Size) for value in values.flat):
        values = values.astype(dtype)
    for size in values.flat if values.dtype == object else ():
        if sizes.most(size) > _EXACT.get(dtype, 0):
            raise UnsupportedError(f"{size} as {dtype} may overflow or be rounded")
    return Tensor(dims, values, dtype if values.dtype == object else values.dtype)


def _regardless(op_type: str, given: Sequence[Tensor]) -> Tensor | None:
    """What is known although an input is not: zeros by Mul, or one value that Where takes in any case."""
    if all(tensor.values is not None for tensor in given) or op_type not in ("Mul", "Where"):
        return None
    if op_type == "Mul":
        found = [tensor for tensor in given if tensor.values is not None and not tensor.values.any()]
    elif given[0].values is not None and given[0].values.size == 1:
        found = [given[1 if given[0].values.all() else 2]]
    else:
        found = [given[1]] if _same(given[1:]) else []
    if not found or found[0].values is None or not (found[0].values == found[0].values.flat[:1]).all():
        return None
    dims = broadcast(tensor.dims for tensor in given)
    return replace(found[0], dims=dims, values=found[0].values.flat[:1].reshape((1,) * len(dims or ())))


def _same(tensors: Sequence[Tensor]) -> bool:
    """Whether all hold the same values."""
    first = tensors[0].values
    try:
        return first is not None and all(t.values is not None and bool((t.values == first).all()) for t in tensors)
    except ValueError:  # shapes that do not broadcast
        return False


def _elementwise(operation: Operation, inputs: Inputs, given: Sequence[Tensor], spend: Spend) -> Tensor:
    dims = broadcast(tensor.dims for tensor in given)
    if dims is None:
        inputs = [None if tensor is None else tensor.once(None, operation.where) for tensor in inputs]
    if any(tensor.depends_on_sizes for tensor in given):
        try:
            return _of_sizes(operation, dims, given)
        except UnsupportedError as error:
            raise UnsupportedError(f"{operation.where}: {error}") from error
    (values,) = operation.run([None if tensor is None else tensor.known for tensor in inputs], spend)
    return Tensor(dims, values, values.dtype)


_BINARY: dict[str, Callable[[Number, Number], Any]] = {
    "Add": sizes.plus,
    "Sub": sizes.minus,
    "Mul": sizes.times,
    "Div": sizes.over,
    "Equal": sizes.is_equal,
    "Greater": lambda a, b: sizes.is_positive(sizes.minus(a, b)),
    "Less": lambda a, b: sizes.is_positive(sizes.minus(b, a)),
    "GreaterOrEqual": lambda a, b: not sizes.is_positive(sizes.minus(b, a)),
    "LessOrEqual": lambda a, b: not sizes.is_positive(sizes.minus(a, b)),
    "Max": lambda a, b: a if sizes.is_positive(sizes.plus(sizes.minus(a, b), 1)) else b,
    "Min": lambda a, b: b if sizes.is_positive(sizes.plus(sizes.minus(a, b), 1)) else a,
}
# Up to what magnitude a type holds every integer.
_EXACT = {
    np.dtype(np.int32): 2**31 - 1,
    np.dtype(np.int64): 2**63 - 1,
    np.dtype(np.float32): 2**24,
    np.dtype(np.float64): 2**53,
}


def _of_sizes(operation: Operation, dims: Dims | None, given: Sequence[Tensor]) -> Tensor:
    """An elementwise operator of numbers of which some are sizes."""
    op_type, dtype = operation.op_type, given[-1].dtype
    if op_type == "Where":
        return _settled(dims, np.where(given[0].known, _objects(given[1]), _objects(given[2])), dtype)
    arrays = [_objects(tensor) for tensor in given]
    if op_type in ("Identity", "Floor", "Ceil", "Round"):
        return Tensor(dims, arrays[0], dtype)
    if op_type == "Cast":
        (cast,) = operation.run([np.zeros(1, dtype)], lambda *_: None)
        return _settled(dims, arrays[0], cast.dtype)
    if op_type == "Neg":
        op_type, arrays = "Sub", [np.array(0, object), *arrays]
    if op_type not in _BINARY or len(arrays) != 2:
        raise UnsupportedError(f"{op_type} of numbers that depend on the sizes of the model's inputs is not followed")
    values = np.asarray(np.frompyfunc(_BINARY[op_type], 2, 1)(*arrays), object)
    return _settled(dims, values, np.dtype(bool) if isinstance(values.flat[0], bool) else dtype)


def _objects(tensor: Tensor) -> Values:
    """Integers and sizes as objects."""
    values = tensor.known
    if values.dtype == object:
        return values
    if (values.dtype.kind not in "iu" and not (np.abs(values) < 2**53).all()) or (values != np.floor(values)).any():
        raise UnsupportedError("fractions beside numbers that depend on the sizes of the model's inputs")
    return values.astype(np.int64).astype(object)


def _numbers(tensor: Tensor, where: str) -> list[Number] | None:
    """A vector's integers, new sizes for those that are not known; None where their count is not."""
    dims, values = tensor.dims, tensor.values
    count = None if dims is None or len(dims) > 1 else sizes.product(dims)
    if count is None or isinstance(count, Size):
        return None
    if count > _MAX_RANK or (values is not None and tensor.dtype.kind not in "iu"):
        raise ValueError(f"{where}: expected at most {_MAX_RANK} integers, got {tensor.dtype} {dims}")
    if values is None:
        return [Size.new(f"a size that {where} is given") for _ in range(count)]
    return [n if isinstance(n, Size) else int(n) for n in np.broadcast_to(values.reshape(-1), (count,))]


def _expand(operation: Operation, source: Tensor, target: Tensor, spend: Spend) -> Tensor:
    shape = _numbers(target, operation.where)
    if any(not isinstance(size, Size) and size < 0 for size in shape or ()):
        raise ValueError(f"{operation.where}: shape: expected sizes from 0 on, got {shape}")
    dims = None if shape is None else broadcast([source.dims, tuple(shape)])
    if dims is None:
        return source.once(None, operation.where)
    ones = (1,) * (len(dims) - source.known.ndim)
    return replace(source, dims=dims, values=source.known.reshape(ones + source.known.shape))


def _tile(operation: Operation, source: Tensor, target: Tensor, spend: Spend) -> Tensor:
    repeats = _numbers(target, operation.where)
    if repeats is None or source.dims is None:
        return source.once(None, operation.where)
    if len(repeats) != len(source.dims) or any(not isinstance(n, Size) and n < 0 for n in repeats):
        raise ValueError(f"{operation.where}: repeats: expected {len(source.dims)} from 0 on, got {repeats}")
    values = source.known
    for axis, repeat in enumerate(repeats):
        if values.shape[axis] != 1 and repeat != 1:
            if isinstance(repeat, Size):
                raise UnsupportedError(f"{operation.where}: {repeat} times values that differ")
            spend(values.size * repeat, operation.where)
            values = np.tile(values, [repeat if other == axis else 1 for other in range(values.ndim)])
    return replace(source, dims=tuple(map(sizes.times, source.dims, repeats)), values=values)


def _reshape(operation: Operation, source: Tensor, target: Tensor, spend: Spend) -> Tensor:
    where = operation.where
    dims = _numbers(target, where)
    if dims is None or source.dims is None:
        return source.once(None, where)
    if not operation.attributes.integer("allowzero"):
        dims = [source.dims[axis] if size == 0 else size for axis, size in enumerate(dims)]
    if any(not isinstance(size, Size) and size < -1 for size in dims) or dims.count(-1) > 1:
        raise ValueError(f"{where}: shape: expected sizes from 0 on and at most one -1, got {dims}")
    if -1 in dims:
        axis = dims.index(-1)
        total, others = sizes.product(source.dims), sizes.product(dims[:axis] + dims[axis + 1 :])
        try:
            dims[axis] = sizes.over(total, others)
        except UnsupportedError:
            dims[axis] = Size.new(f"a size that {where} makes")
            if not isinstance(total, Size) and not isinstance(others, Size):
                raise ValueError(f"{where}: cannot reshape {source.dims} to {dims}") from None
    result = tuple(dims)
    given, made = _parts(source.dims), _parts(result)
    if len(given) == len(made) == 1 and given != made:
        raise ValueError(f"{where}: cannot reshape {source.dims} to {result}")
    if source.known.size == 1 or given != made:
        return source.once(result, where)
    shape = [1 if isinstance(size, Size) else size for size in result]
    return replace(source, dims=result, values=source.spread(spend, where).reshape(shape))


def _parts(dims: Dims) -> list[Number]:
    """The sizes that are no numbers, and the products of numbers before, between and after them."""
    parts: list[Number] = [1]
    for size in dims:
        parts[-1:] = [parts[-1], size, 1] if isinstance(size, Size) else [sizes.times(parts[-1], size)]
    return parts


RESHAPING = {"ConstantOfShape": _expand, "Expand": _expand, "Reshape": _reshape, "Tile": _tile}
# These hand on what they are given, so sizes too.
_MOVING = [
    "Concat",
    "Flatten",
    "Gather",
    "ReduceProd",
    "ReduceSum",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
]


_OF_SCALARS: dict[str, Callable[[list[Any], tuple[int, ...]], Any]] = {
    "Gather": lambda arrays, axes: arrays[0].take(arrays[1][None], axes[0]),
    "ReduceProd": lambda arrays, axes: np.multiply.reduce(arrays[0], axes),
    "ReduceSum": lambda arrays, axes: np.add.reduce(arrays[0], axes),
}


def _along_axes(operation: Operation, inputs: Inputs, spend: Spend) -> list[Tensor]:
    """An operator that does the same for every index of the axes that it does not work along."""
    where = operation.where
    shapes = operation.shapes([None if t is None else (t.dims, t.known, t.dtype) for t in inputs])
    present = [tensor for tensor in inputs if tensor is not None]
    if any(tensor.dims is None for tensor in present):
        raise UnsupportedError(f"{where}: its inputs are of unknown shape")
    axes = [[] if tensor is None else _axes(operation, inputs, tensor, index) for index, tensor in enumerate(inputs)]
    parameters = present if operation.op_type not in _MOVING else [] if operation.op_type == "Concat" else present[1:]
    needed = {(t.dims or ())[axis] for t, along in zip(inputs, axes, strict=True) if t is not None for axis in along}
    if any(isinstance(size, Size) for size in needed) or any(tensor.depends_on_sizes for tensor in parameters):
        return _constant_along(operation, inputs, axes, shapes)
    arrays: list[Any] = [None if t is None else t.spread(spend, where, axes[i]) for i, t in enumerate(inputs)]
    if operation.op_type == "Concat":  # whose inputs may each be whole along other axes
        (axis,) = axes[0]
        common = np.broadcast_shapes(*((*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in arrays))
        arrays = [np.broadcast_to(a, (*common[:axis], a.shape[axis], *common[axis + 1 :])) for a in arrays]
    if operation.op_type in _OF_SCALARS and arrays[0].dtype == object:  # of which the evaluator makes no scalars
        outputs = [np.asarray(_OF_SCALARS[operation.op_type](arrays, tuple(axes[0])), object).reshape(shapes[0])]
    else:
        outputs = operation.run(arrays, spend)
    named = {size for tensor in present for size in tensor.dims or () if isinstance(size, Size)}
    results = []
    for dims, values in zip(shapes, outputs, strict=True):
        if dims is None and not named:
            dims = values.shape
        elif dims is not None and len(dims) == values.ndim:  # axes that onnx cannot tell are whole
            pairs = zip(dims, values.shape, strict=True)
            dims = tuple(made if isinstance(size, Size) and size not in named else size for size, made in pairs)
        results.append(_fitting(_settled(dims, values, present[0].dtype), where))
    return results


def _axes(operation: Operation, inputs: Inputs, tensor: Tensor, index: int) -> list[int]:
    """The axes of an input along which elements are not treated alike: of all but the data, every one."""
    op_type, rank = operation.op_type, len(tensor.dims or ())
    found: Sequence[Number] | None = None
    if op_type == "Concat" or (index == 0 and op_type in ("Gather", "Split")):
        found = [operation.attributes.integer("axis") or 0]
    elif index == 0 and op_type in ("Transpose", "Unsqueeze"):
        return []
    elif index == 0 and op_type == "MatMul" and rank > 1:
        found = [-1]
    elif index == 0 and (op_type in ("Slice", "Squeeze") or op_type in REDUCTIONS):
        place = 3 if op_type == "Slice" else 1
        given = inputs[place] if len(inputs) > place else None
        found = operation.attributes.integers("axes") if given is None else _numbers(given, operation.where)
    axes = [axis for axis in found or () if not isinstance(axis, Size)]
    if len(axes) != len(found or ()):
        raise UnsupportedError(f"{operation.where}: its axes depend on the sizes of the model's inputs")
    if any(not -rank <= axis < rank for axis in axes):
        raise ValueError(f"{operation.where}: axes: expected axes of an array of {rank}, got {found}")
    return [axis % rank for axis in axes] or list(range(rank))


_LIKE_ONE = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Squeeze")


def _constant_along(
    operation: Operation, inputs: Inputs, axes: Sequence[Sequence[int]], shapes: Sequence[Dims | None]
) -> list[Tensor]:
    """The same where the values do not change along axes whose sizes, or parameters, are not plain numbers."""
    op_type, where = operation.op_type, operation.where
    source, *others = [tensor for tensor in inputs if tensor is not None]
    data = [source, *others] if op_type == "Concat" else [source]
    alike = all(tensor.known.shape[axis] == 1 for tensor, along in zip(data, axes, strict=False) for axis in along)
    plain = not any(tensor.depends_on_sizes for tensor in (source, *others))
    plain = plain and not operation.attributes.integer("noop_with_empty_axes")
    moved = op_type in ("Slice", "Split", "Gather") or (op_type == "Concat" and _same(data))
    if not alike or not (moved or (op_type in _LIKE_ONE and plain)):
        raise UnsupportedError(f"{where}: its result depends on the sizes of the model's inputs")
    values = source.known
    if op_type == "Gather":
        values = values.take(np.zeros((1,) * len(others[0].dims or ()), np.int64), axes[0][0])
    elif not moved:
        (values,) = operation.run([None if t is None else t.known for t in inputs], lambda *_: None)
    if op_type == "ReduceSum":
        count = sizes.product((source.dims or ())[axis] for axis in axes[0])
        sums = [sizes.times(value, count) for value in _objects(known(values)).flat]
        values = np.array([*sums, None], object)[:-1].reshape(values.shape)
    return [_fitting(_settled(dims, values, source.dtype), where) for dims in shapes]


def _fitting(tensor: Tensor, where: str) -> Tensor:
    """The same tensor; UnsupportedError if its values are not of its shape."""
    shape = tensor.known.shape
    if tensor.dims is None or len(shape) != len(tensor.dims):
        return tensor.once(tensor.dims, where)
    if any(size not in (1, full) for size, full in zip(shape, tensor.dims, strict=True)):
        raise UnsupportedError(f"{where}: its result depends on the sizes of the model's inputs")
    return tensor
