"""What callers hand over, looked at before anything runs: data as calls of a layer or a model, and numbers."""

from __future__ import annotations

from numbers import Real
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import as_array
from ..layers import Layer
from ..model import Model
from .networks import Call
from .single import as_steps


def calls_of(network: Layer | Model, data: Any) -> list[Call]:
    """One call, or one of each item of a list.

    Raises TypeError for what holds no floats, or integers of tokens, ValueError for other shapes, other numbers of
    arrays than the network has inputs, or a value that is not finite.
    """
    if not is_several(data):
        return [_call(network, data, "data")]
    return [_call(network, item, f"data[{place}]") for place, item in enumerate(data)]


def is_several(data: Any) -> bool:
    """Whether data are a list of calls, and not the rows of one array."""
    return isinstance(data, list) and any(
        isinstance(item, tuple) or (hasattr(item, "__array__") and np.ndim(item) > 1) for item in data
    )


def _call(network: Layer | Model, item: Any, name: str) -> Call:
    inputs = ("x",) if isinstance(network, Layer) else network.inputs
    arrays = item if isinstance(item, tuple) else (item,)
    if len(arrays) != len(inputs):
        raise ValueError(f"{name}: expected an array for each of {', '.join(inputs)}, got {len(arrays)}")
    labels = [name] if len(inputs) == 1 else [f"{name}, {label}" for label in inputs]
    if isinstance(network, Layer):
        as_steps(name, arrays[0], network)
        return (as_array(arrays[0], name),)
    return tuple(_of_model(network, *given) for given in zip(inputs, arrays, labels, strict=True))


@np.errstate(over="ignore")
def _of_model(model: Model, of: str, given: Any, name: str) -> npt.NDArray[Any]:
    array = as_array(given, name)
    kinds, numbers = ("iu", "integers") if of in model.tokens else ("f", "floats")
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name}: expected an array of {numbers}, got dtype {array.dtype}")
    wanted = [model.axes[of], tuple(axis for axis in model.axes[of] if axis != "batch")]
    if not any(_fits(axes, array.shape) for axes in wanted):
        shapes = " or ".join(f"({', '.join(map(str, axes))})" for axes in dict.fromkeys(wanted))
        raise ValueError(f"{name}: expected shape {shapes}, got {array.shape}")
    bad = np.argwhere(~np.isfinite(array.astype(np.float32)))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ValueError(f"{name}: expected finite floats, got {array[place]} at {place}")
    return array


def _fits(axes: tuple[str | int, ...], shape: tuple[int, ...]) -> bool:
    return len(axes) == len(shape) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(axes, shape, strict=True)
    )


def number(name: str, value: Any) -> float:
    """A finite one."""
    if not isinstance(value, Real | np.number):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not np.isfinite(float(value)):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return float(value)


def whole(name: str, value: Any) -> int:
    """A whole number from 0."""
    try:
        found = index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None
    if found < 0:
        raise ValueError(f"{name}: expected a whole number from 0, got {found}")
    return found
