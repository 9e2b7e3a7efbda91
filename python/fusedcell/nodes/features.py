"""Nodes that make something of each row's features, without a matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..cell_options import Activation as ActivationOfCells
from .base import Array, Node, Tensors, activation_of, number, text_of, vector, whole


@dataclass(frozen=True, eq=False, repr=False)
class Activation(Node):
    """An activation of each feature: y = f(x), by its name as the module says, with alpha and beta where it takes them.

    >>> from fusedcell import nodes
    >>> nodes.Activation("clip", 0, 6)
    Activation('Clip', 0, 6)
    """

    type = "activation"

    name: str
    alpha: float | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.alpha,) * (self.alpha is not None or self.beta is not None) + (self.beta,)
        found = activation_of((self.name, *(numbers if self.beta is not None else numbers[:-1])))
        assert found is not None
        self._set(name=found.name, alpha=found.alpha, beta=found.beta)

    @classmethod
    def _of(cls, given: ActivationOfCells) -> Activation:
        node = object.__new__(cls)
        node._set(name=given.name, alpha=given.alpha, beta=given.beta)
        return node

    def _to_file(self) -> tuple[dict[str, Any], Tensors]:
        return {"activation": {"name": self.name, "alpha": self.alpha, "beta": self.beta}}, {}

    @classmethod
    def _of_file(cls, options: dict[str, Any], tensors: Tensors) -> Activation:
        return cls._of(ActivationOfCells(**options["activation"]))

    def __repr__(self) -> str:
        return f"Activation({text_of(self)})"


@dataclass(frozen=True, eq=False, repr=False)
class Add(Node):
    """The sum of its sources, which have equal sizes: ((x0 + x1) + x2) ...

    >>> from fusedcell import nodes
    >>> nodes.Add()
    Add()
    """

    type = "add"

    def _same_size(self) -> bool:
        return False


@dataclass(frozen=True, eq=False, repr=False)
class Multiply(Node):
    """The product of its sources, feature by feature; they have equal sizes: ((x0 * x1) * x2) ...

    >>> from fusedcell import nodes
    >>> nodes.Multiply()
    Multiply()
    """

    type = "multiply"

    def _same_size(self) -> bool:
        return False


@dataclass(frozen=True, eq=False, repr=False)
class Scale(Node):
    """y = w x + b of each feature, rounded once; a batch normalisation that is not folded into what is before it.

    - weight: (I,)
    - bias: (I,), or None for zeros

    >>> from fusedcell import nodes
    >>> nodes.Scale([2.0, 3.0], [0.0, 1.0])
    Scale(weight=(2,), bias=(2,))
    """

    type = "scale"
    _arrays = (("weight", "weight"), ("bias", "bias"))

    weight: Array
    bias: Array = None

    def __post_init__(self) -> None:
        vector(self, "weight")
        vector(self, "bias", len(self.weight))

    def _input_size(self) -> int:
        return len(self.weight)


@dataclass(frozen=True, eq=False, repr=False)
class PReLU(Node):
    """y = x where x is not negative, else w x, ``torch.nn.PReLU``.

    - slope: (I,), or (1,) for all features

    >>> from fusedcell import nodes
    >>> nodes.PReLU([0.25])
    PReLU(slope=(1,))
    """

    type = "prelu"
    _arrays = (("slope", "weight"),)

    slope: Array

    def __post_init__(self) -> None:
        vector(self, "slope")

    def _input_size(self) -> int | None:
        return len(self.slope) if len(self.slope) > 1 else None

    def _sized(self, size: int) -> Node:
        return PReLU(np.repeat(self.slope, size)) if len(self.slope) == 1 else self


@dataclass(frozen=True, eq=False, repr=False)
class GLU(Node):
    """The first half of the features by the sigmoid of the second, ``torch.nn.GLU``.

    >>> from fusedcell import nodes
    >>> nodes.GLU()
    GLU()
    """

    type = "glu"

    def _output_size(self, size: int) -> int:
        return size // 2

    def _same_size(self) -> bool:
        return False


class _InParts(Node):
    parts: int
    eps: float

    def __post_init__(self) -> None:
        self._set(parts=whole(self.parts, "parts"))
        if hasattr(self, "eps"):
            self._set(eps=number(self.eps, "eps"))
            if self.eps < 0:
                raise ValueError(f"eps: expected 0 or more, got {self.eps}")
        for name, _ in self._arrays:
            vector(self, name)

    def _input_size(self) -> int | None:
        arrays = [getattr(self, name) for name, _ in self._arrays]
        return next((len(array) for array in arrays if array is not None), None)


@dataclass(frozen=True, eq=False, repr=False)
class Softmax(_InParts):
    """exp(x) over its sum, of each of `parts` equal parts of the features, ``torch.nn.Softmax(-1)``.

    >>> from fusedcell import nodes
    >>> nodes.Softmax()
    Softmax()
    """

    type = "softmax"
    _keys = ("parts",)

    parts: int = 1


@dataclass(frozen=True, eq=False, repr=False)
class LogSoftmax(_InParts):
    """The logarithm of :class:`Softmax`, ``torch.nn.LogSoftmax(-1)``.

    >>> from fusedcell import nodes
    >>> nodes.LogSoftmax(parts=2)
    LogSoftmax(parts=2)
    """

    type = "log_softmax"
    _keys = ("parts",)

    parts: int = 1


@dataclass(frozen=True, eq=False, repr=False)
class LayerNorm(_InParts):
    """(x - mean) / sqrt(variance + eps), weighted, of each of `parts` equal parts, ``torch.nn.LayerNorm``.

    - weight, bias: (I,) of the whole row, or None for ones and zeros

    >>> import numpy as np
    >>> from fusedcell import nodes
    >>> nodes.LayerNorm(np.ones(8), np.zeros(8))
    LayerNorm(weight=(8,), bias=(8,))
    """

    type = "layer_norm"
    _keys = ("eps", "parts")
    _arrays = (("weight", "weight"), ("bias", "bias"))

    weight: Array = None
    bias: Array = None
    eps: float = field(default=1e-5, kw_only=True)
    parts: int = field(default=1, kw_only=True)


@dataclass(frozen=True, eq=False, repr=False)
class RMSNorm(_InParts):
    """x / sqrt(mean of squares + eps), by weight, ``torch.nn.RMSNorm``, of each of `parts` equal parts.

    - weight: (I,) of the whole row, or None for ones

    >>> from fusedcell import nodes
    >>> nodes.RMSNorm(eps=1e-6)
    RMSNorm(eps=1e-06)
    """

    type = "rms_norm"
    _keys = ("eps", "parts")
    _arrays = (("weight", "weight"),)

    weight: Array = None
    eps: float = field(default=1e-5, kw_only=True)
    parts: int = field(default=1, kw_only=True)


@dataclass(frozen=True, eq=False, repr=False)
class L2Norm(_InParts):
    """x / max(its length, eps), ``torch.nn.functional.normalize``, of each of `parts` equal parts.

    >>> from fusedcell import nodes
    >>> nodes.L2Norm()
    L2Norm()
    """

    type = "l2_norm"
    _keys = ("eps", "parts")

    eps: float = 1e-12
    parts: int = 1


@dataclass(frozen=True, eq=False, repr=False)
class Take(Node):
    """y[i] = x[indices[i]]: slices, permutations and copies of features. Ascending neighbours cost nothing.

    - indices: integers from 0 to I - 1
    - repeat: a row gives so many rows of as many neighbouring results each

    >>> from fusedcell import nodes
    >>> nodes.Take(range(4, 8))
    Take(indices=(4,))
    """

    type = "take"
    _keys = ("repeat",)
    _arrays = (("indices", "indices"),)

    indices: Array
    repeat: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        given = np.asarray(self.indices)
        if given.ndim != 1 or not len(given):
            raise ValueError(f"indices: expected shape (size,), got {given.shape}")
        indices = given.astype(np.int64)
        if given.dtype.kind not in "iuf" or (indices != given).any() or indices.min() < 0 or indices.max() >= 2**24:
            raise ValueError(f"indices: expected whole numbers from 0 to 2^24 - 1, got {self.indices}")
        indices.setflags(write=False)
        self._set(indices=indices, repeat=whole(self.repeat, "repeat"))
        if len(indices) % self.repeat:
            raise ValueError(f"indices: {len(indices)} of them are not {self.repeat} equal rows")

    def _output_size(self, size: int) -> int:
        return len(self.indices) // self.repeat

    def _same_size(self) -> bool:
        return False

    def _to_file(self) -> tuple[dict[str, Any], Tensors]:
        options, tensors = super()._to_file()
        return options, {name: array.astype(np.float32) for name, array in tensors.items()}
