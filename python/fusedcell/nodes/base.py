"""What the nodes of a model share: what they hold, checked, and how it is written to files."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from numbers import Real
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from .._base import FloatArray
from .._core import as_array
from .._dominance import warn_where_dominated
from .._dtypes import QUANTISED, Dtype, check_dtype
from ..cell_options import Activation
from ..errors import UnsupportedError
from ..weights.floats import narrowed, rounded, to_float32, widened
from ..weights.tensors import to_array

if TYPE_CHECKING:
    from typing_extensions import Self

# What NumPy makes an array of; a node's field is one of float32 afterwards, and has one type for both.
Array: TypeAlias = Any
Tensors: TypeAlias = dict[str, npt.NDArray[Any]]
ActivationLike: TypeAlias = Activation | str | tuple[Any, ...] | None

SOFTMAXES = {"softmax": "Softmax", "logsoftmax": "LogSoftmax"}

# Each activation's alpha and beta where they are not given; None where they must be.
_ACTIVATIONS: dict[str, tuple[float | None, ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "Affine": (None, None),
    "LeakyRelu": (0.01,),
    "ThresholdedRelu": (1.0,),
    "ScaledTanh": (None, None),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0,),
    "Softsign": (),
    "Softplus": (),
    "Gelu": (),
    "GeluTanh": (),
    "Silu": (),
    "Clip": (None, None),
    "Abs": (),
    "Square": (),
    "Sqrt": (),
    "Exp": (),
    "Log": (),
}
_NAMES = {name.lower(): name for name in _ACTIVATIONS} | {name: name for name in SOFTMAXES.values()}
_NAMES |= {name.lower(): name for name in SOFTMAXES.values()}


def activation_of(given: ActivationLike, *, softmax: bool = False) -> Activation | None:
    """An activation by its name, which may be in lower case and with underscores, or by name, alpha and beta.

    Raises TypeError for what is none, UnsupportedError that lists the names, ValueError for missing numbers.
    """
    if given is None:
        return None
    if isinstance(given, Activation):
        given = (given.name, given.alpha, given.beta)[: 1 + len(_ACTIVATIONS.get(given.name, ()))]
    parts = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, tuple | list) else ()
    if not parts or not isinstance(parts[0], str):
        raise TypeError(f"activation: expected a name, or a tuple of a name, alpha and beta, got {given!r}")
    name = _NAMES.get(parts[0].replace("_", "").lower(), "")
    if name not in _ACTIVATIONS and not (softmax and name):
        names = [*_ACTIVATIONS, *(SOFTMAXES.values() if softmax else ())]
        raise UnsupportedError(f"activation: {parts[0]!r} is not supported; supported: {', '.join(names)}")
    usual = _ACTIVATIONS.get(name, ())
    if len(parts) - 1 > len(usual):
        raise ValueError(f"activation: {name} takes {len(usual)} of alpha and beta, got {len(parts) - 1}")
    values = [number(value, f"{label} of {name}") for value, label in zip(parts[1:], ("alpha", "beta"), strict=False)]
    for default, label in list(zip(usual, ("alpha", "beta"), strict=False))[len(values) :]:
        if default is None:
            raise ValueError(f"activation: {label} of {name} is missing, as in ({name!r}, alpha, beta)")
        values.append(default)
    return Activation(name, *values)


def text_of(activation: Any) -> str:
    """An activation's name, and alpha and beta where it takes them."""
    numbers = (activation.alpha, activation.beta)[: len(_ACTIVATIONS.get(activation.name, ()))]
    return ", ".join([repr(activation.name), *(f"{value:g}" for value in numbers)])


def number(value: Any, name: str) -> float:
    """A finite float32, as the shortest decimal that is it."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    with np.errstate(over="ignore"):
        rounded_value = np.float32(float(value))
    if not math.isfinite(rounded_value):
        raise ValueError(f"{name}: expected a finite float32, got {value}")
    return float(str(rounded_value))


def whole(value: Any, name: str, least: int = 1) -> int:
    """An integer from `least` on."""
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got bool")
    try:
        result = index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}") from None
    if result < least:
        raise ValueError(f"{name}: expected {least} or more, got {result}")
    return result


def pair(value: Any, name: str = "padding") -> tuple[int, int]:
    """Two integers of any sign, or one for both."""
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{name}: expected (left, right), got {value!r}")
    left, right = (whole(item, name, -(2**62)) for item in values)
    return left, right


def floats(value: Array, name: str, ndim: int = 1) -> FloatArray:
    """A read-only copy in float32, of floats or integers, with so many axes and no empty one."""
    source = as_array(to_array(value, name), name)
    if source.dtype.kind in "iu":
        source = source.astype(np.float64)
    if source.dtype.kind not in "fV":
        raise TypeError(f"{name}: expected an array of floats, got dtype {source.dtype}")
    if source.ndim != ndim or 0 in source.shape:
        raise ValueError(f"{name}: expected an array of {ndim} {'axis' if ndim == 1 else 'axes'}, got {source.shape}")
    array = np.array(to_float32(source, name), order="C")
    array.setflags(write=False)
    return array


class Node:
    """What a model computes of rows, without a state; :mod:`fusedcell.nodes` has all of them.

    A row is the features of one time step. A node never changes, and its arrays are read-only.
    """

    type: ClassVar[str]  # in files
    _keys: ClassVar[tuple[str, ...]] = ()  # attributes that a file's options are
    _arrays: ClassVar[tuple[tuple[str, str], ...]] = ()  # attributes that are arrays, and what files call them

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _with(self, **values: Any) -> Self:
        other = copy.copy(self)
        other._set(**values)
        return other

    def _expanded(self) -> list[tuple[str, Node]]:
        """The nodes of a file that it is, one after another, and what follows its name in theirs; the last has it."""
        return [("", self)]

    def _input_size(self) -> int | None:
        """Features of a row in, where the node itself says so."""
        return None

    def _output_size(self, size: int) -> int:
        """Features of a row out."""
        return size

    def _same_size(self) -> bool:
        """Whether a row out has as many features as one in, so that either says what the other is."""
        return True

    def _sized(self, size: int) -> Node:
        """The same where rows have so many features."""
        return self

    def _to_file(self) -> tuple[dict[str, Any], Tensors]:
        options = {key: _to_json(key, getattr(self, key)) for key in self._keys}
        arrays = {stored: getattr(self, name) for name, stored in self._arrays}
        return options, {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def _of_file(cls, options: dict[str, Any], tensors: Tensors) -> Node:
        given = {key: _of_json(key, options[key]) for key in cls._keys if key in cls.__dataclass_fields__}
        return cls(**given, **{name: tensors[stored] for name, stored in cls._arrays if stored in tensors})

    def __repr__(self) -> str:
        texts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                texts.append(f"{field.name}={value.shape}")
            elif isinstance(value, Activation):
                texts.append(f"{field.name}={text_of(value) if ',' not in text_of(value) else f'({text_of(value)})'}")
            elif value != field.default:
                texts.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(texts)})"


def _to_json(key: str, value: Any) -> Any:
    if isinstance(value, Activation):
        return asdict(value)
    return 0 if key == "positions" and value is None else value


def _of_json(key: str, value: Any) -> Any:
    if key == "activation" and value is not None:
        return Activation(value["name"], value["alpha"], value["beta"])
    return None if key == "positions" and value == 0 else value


class MatrixNode(Node):
    """A node with a matrix, which may be narrower than float32.

    Its array has the values that the stored ones stand for. `dtype` is the stored type; in int8 `scales` has one for
    each row, and a row is its scale times whole numbers from -127 to 127.
    """

    _matrix: ClassVar[str] = "weight"
    _multiplies: ClassVar[bool] = True  # and is no table of rows to be taken one by one
    dtype: Dtype
    scales: FloatArray | None

    def astype(self, dtype: str) -> Self:
        """The same node with its matrix rounded to "float32", "bfloat16", "float16" or "int8", ties to even.

        In int8 each row has the scale max |w| / 127; "int8_int16" is the same with inputs in int16. Raises
        UnsupportedError for an unknown dtype, ValueError if it cannot hold one of the weights.
        """
        if isinstance(dtype, Mapping):
            raise UnsupportedError(f"expected one dtype, as there is one matrix, {self._matrix}, got {dict(dtype)!r}")
        known = check_dtype(dtype)
        if known in QUANTISED and not self._multiplies:
            known = "int8"  # there are no inputs to round
        if known == self.dtype:
            return self
        if self.scales is not None and known in QUANTISED:
            return self._with(dtype=known)
        values, scales = rounded(getattr(self, self._matrix), known, self._matrix)
        if known in QUANTISED and self._multiplies:
            warn_where_dominated(self._matrix, getattr(self, self._matrix), recurrent=False)
        return self._with(**{self._matrix: values, "dtype": known, "scales": scales})

    def _to_file(self) -> tuple[dict[str, Any], Tensors]:
        options, tensors = super()._to_file()
        matrix: FloatArray = getattr(self, self._matrix)
        if self.scales is None:
            tensors["weight"] = narrowed(matrix, self.dtype)
        else:
            divisors = np.where(self.scales == 0, np.float32(1), self.scales)[:, None]
            scale = "weight_scale_int16" if self.dtype == "int8_int16" else "weight_scale"
            tensors |= {"weight": np.rint(matrix / divisors).astype(np.int8), scale: self.scales}
        return options, tensors

    @classmethod
    def _of_file(cls, options: dict[str, Any], tensors: Tensors) -> Node:
        values, dtype = widened(tensors["weight"])
        scales = tensors.get("weight_scale")
        if "weight_scale_int16" in tensors:
            scales, dtype = tensors["weight_scale_int16"], "int8_int16"
        node = super()._of_file(options, tensors | {"weight": values if scales is None else values * scales[:, None]})
        node._set(dtype=dtype, scales=None if scales is None else floats(scales, "scales"))
        return node


def vector(node: Node, name: str, size: int | None = None) -> None:
    """Makes an array of floats (size,) of what was given, where it was."""
    given = getattr(node, name)
    if given is None:
        return
    array = floats(given, name)
    if size is not None and array.shape != (size,):
        raise ValueError(f"{name}: expected shape {(size,)}, got {array.shape}")
    node._set(**{name: array})
