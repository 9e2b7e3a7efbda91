"""A call of a Keras layer in a whole model: its options, its weights, and what it does to symbolic tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ..tracing import TIME, RefusedError, Rows, Tracer
from .config import Options
from .weights import KerasArrays, Shape

Arrays: TypeAlias = Callable[["Mapping[str, Shape]", "Sequence[str]"], KerasArrays]


@dataclass(frozen=True)
class Value:
    """A tensor of the model.

    - mask: where the mask that Keras keeps with it comes from, nothing where it has none
    - padded: whether it has rows of a sequence some of which a mask has declared padding
    """

    rows: Rows
    mask: frozenset[int] = frozenset()
    padded: bool = False

    def with_rows(self, rows: Rows) -> Value:
        """Another tensor, with the same mask."""
        return replace(self, rows=rows)


@dataclass(frozen=True)
class Mask:
    """A mask that the model computes: what of, None where nothing is masked."""

    sources: frozenset[int] | None


@dataclass(frozen=True)
class Absent:
    """A result that no node gives, of which it matters only if it is read."""

    why: str


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    - place: what its nodes are called
    - version: that of Keras, 2 or 3
    - is_fixed: whether sequences have the length of the first probe
    - gathers: whether a layer may make features of all rows of such a sequence
    """

    tracer: Tracer
    place: str
    version: int
    is_fixed: bool
    gathers: bool
    options: Options
    arrays: Arrays

    def weights(self, **shapes: Shape | None) -> KerasArrays:
        """The layer's arrays, by name; of those without a shape there are none."""
        return self.arrays({name: shape for name, shape in shapes.items() if shape is not None}, ())

    def lasting(self, x: Rows, dim: int) -> int | None:
        """How long an axis is, None where that differs from call to call."""
        if x.axes[dim] == TIME and not self.is_fixed:
            return None
        return x.sizes[dim][0]

    def size(self, x: Rows, dim: int) -> int:
        """How long an axis of features is."""
        x.feature_dim(dim, "a layer with weights")
        return x.sizes[dim][0]

    def activated(self, x: Rows, key: str = "activation") -> Rows:
        """With the activation that an option names."""
        return activated(self, x, self.options.get(key))


# What the nodes' activations are called in Keras, with alpha and beta.
_NAMED: dict[str, tuple[Any, ...]] = {
    "relu": ("Relu",),
    "tanh": ("Tanh",),
    "sigmoid": ("Sigmoid",),
    "elu": ("Elu", 1.0),
    "softplus": ("Softplus",),
    "softsign": ("Softsign",),
    "exponential": ("Exp",),
    "gelu": ("Gelu",),
    "swish": ("Silu",),
    "silu": ("Silu",),
    "relu6": ("Clip", 0.0, 6.0),
}
_OF_VERSION: dict[int, dict[str, tuple[Any, ...]]] = {
    2: _NAMED | {"hard_sigmoid": ("HardSigmoid", 0.2, 0.5)},
    3: _NAMED
    | {
        "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
        "leaky_relu": ("LeakyRelu", 0.2),
        "hard_tanh": ("Clip", -1.0, 1.0),
        "celu": ("Elu", 1.0),
    },
}
_SELU = (1.6732632423543772, 1.0507009873554805)
_COMPOSED = ("linear", "softmax", "log_softmax", "selu", "mish", "hard_swish", "hard_silu", "log_sigmoid")


def activated(call: Call, x: Rows, name: Any) -> Rows:
    """A tensor with an activation of Keras, by its name; None is linear."""
    tracer, place = call.tracer, call.place
    known = _OF_VERSION[call.version]
    if name is None or name == "linear":
        return x
    if name in ("softmax", "log_softmax"):
        return tracer.softmax(x, -1, log=name == "log_softmax", place=place)
    if name == "selu":
        return tracer.multiply(tracer.activation(x, "Elu", _SELU[0], place=place), _SELU[1], place)
    if name == "mish":
        inner = tracer.activation(x, "Softplus", place=f"{place}.softplus")
        return tracer.multiply(x, tracer.activation(inner, "Tanh", place=f"{place}.tanh"), place)
    if name in ("hard_swish", "hard_silu") and call.version == 3:
        return tracer.multiply(x, tracer.activation(x, "HardSigmoid", 1 / 6, 0.5, place=f"{place}.gate"), place)
    if name == "log_sigmoid" and call.version == 3:
        minus = tracer.multiply(x, -1.0, place)
        return tracer.multiply(tracer.activation(minus, "Softplus", place=place), -1.0, place)
    if not isinstance(name, str) or name not in known:
        supported = ", ".join(dict.fromkeys([*known, *_COMPOSED]))
        raise RefusedError(f"activation={name!r:.200} is not supported; supported: {supported}")
    return tracer.activation(x, known[name][0], *known[name][1:], place=place)


def spread(x: Rows, array: Any, dims: Sequence[int]) -> Any:
    """An array of some axes of a tensor in the shape that broadcasts to all of it."""
    shape = [1] * len(x.axes)
    for dim, size in zip(dims, np.shape(array), strict=True):
        shape[dim] = size
    return np.asarray(array).reshape(shape)
