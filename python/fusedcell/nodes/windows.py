"""Nodes over several rows: matrices, pools and tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from .._base import FloatArray
from .._dtypes import Dtype
from .base import ActivationLike, Array, MatrixNode, Node, Tensors, activation_of, floats, pair, vector, whole
from .features import Activation, LogSoftmax, Softmax, Take
from .sequences import Chain, Rows

Padding: TypeAlias = "int | tuple[int, int]"

# What a window is that looks at one row alone.
PLAIN = {"taps": 1, "stride": 1, "dilation": 1, "padding": [0, 0], "groups": 1, "repeat": 1, "positions": 0}
_SOFTMAXES = {"Softmax": Softmax, "LogSoftmax": LogSoftmax}


def _check_window(node: Any) -> None:
    node._set(padding=pair(node.padding))
    for name in ("stride", "dilation"):
        node._set(**{name: whole(getattr(node, name), name)})
    if node.positions is not None:
        node._set(positions=whole(node.positions, "positions"))


def _positions_out(node: Any, positions: int) -> int:
    span = (node.taps - 1) * node.dilation + 1
    count: int = (positions + sum(node.padding) - span) // node.stride + 1
    return max(0, count)


def _activated(node: Any) -> list[tuple[str, Node]]:
    """The node without its activation, and then that."""
    if node.activation is None:
        return [("", node)]
    name = node.activation.name
    last = _SOFTMAXES[name]() if name in _SOFTMAXES else Activation._of(node.activation)
    return [(".linear", node._with(activation=None)), ("", last)]


@dataclass(frozen=True, eq=False, repr=False)
class Window(MatrixNode):
    """A matrix over the last `taps` rows: convolution along the stream, ``torch.nn.Conv1d``.

    y[w] = f(b + W x), x the rows w * stride - left + i * dilation for i = 0 to taps - 1, oldest first, with all their
    features each. Rows before the first and after the last are zeros, `padding` (left, right) of them, or one number
    for both; negative numbers leave rows out. :meth:`.Window.from_conv1d` takes PyTorch's layout.

    - weight: (O, taps * I / groups). With `groups` the inputs of each row and the outputs are in so many equal parts,
      each output being made of its part of every tap.
    - bias: (O,), or None for zeros
    - repeat: each window gives so many rows of O / repeat features, as in :meth:`.Window.transposed`
    - positions: windows run inside each row instead, which is (positions, I); the results (positions', O) are beside
      each other in one row. Padding is then inside, too, and not negative.
    - activation: as the module says, and "softmax" or "log_softmax" over O

    >>> import numpy as np
    >>> from fusedcell import nodes
    >>> nodes.Window(np.ones((4, 6)), taps=3, padding=(2, 0), activation="relu")
    Window(weight=(4, 6), taps=3, padding=(2, 0), activation='Relu')
    """

    type = "window"
    _keys = ("taps", "stride", "dilation", "padding", "groups", "repeat", "positions", "activation")
    _arrays = (("weight", "weight"), ("bias", "bias"))

    weight: Array
    bias: Array = None
    taps: int = field(kw_only=True)
    stride: int = field(default=1, kw_only=True)
    dilation: int = field(default=1, kw_only=True)
    padding: Padding = field(default=(0, 0), kw_only=True)
    groups: int = field(default=1, kw_only=True)
    repeat: int = field(default=1, kw_only=True)
    positions: int | None = field(default=None, kw_only=True)
    activation: ActivationLike = field(default=None, kw_only=True)
    dtype: Dtype = field(default="float32", init=False)
    scales: FloatArray | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._set(weight=floats(self.weight, "weight", 2))
        for name in ("taps", "groups", "repeat"):
            self._set(**{name: whole(getattr(self, name), name)})
        _check_window(self)
        rows, columns = self.weight.shape
        vector(self, "bias", rows)
        if columns % self.taps:
            raise ValueError(f"weight: expected shape (O, {self.taps} * I / groups), got {self.weight.shape}")
        if rows % self.groups or rows % self.repeat:
            raise ValueError(f"weight: {rows} outputs are not {self.groups} equal groups, or {self.repeat} equal rows")
        self._set(activation=activation_of(self.activation, softmax=True))

    @property
    def window(self) -> FloatArray:
        """The weights as (taps, I / groups, O)."""
        array: FloatArray = self.weight.reshape(len(self.weight), self.taps, -1).transpose(1, 2, 0)
        return array

    # Any of the options: the constructor has their types.
    @classmethod
    def from_conv1d(cls, weight: Array, bias: Array = None, **options: Any) -> Window:
        """Of the weight (O, I / groups, taps) of ``torch.nn.Conv1d``; `options` are the constructor's but taps.

        >>> import numpy as np
        >>> from fusedcell import nodes
        >>> nodes.Window.from_conv1d(np.ones((4, 2, 3)), stride=2)
        Window(weight=(4, 6), taps=3, stride=2)
        """
        array = floats(weight, "weight", 3)
        outputs, _, taps = array.shape
        return cls(array.transpose(0, 2, 1).reshape(outputs, -1), bias, taps=taps, **options)

    @classmethod
    def transposed(
        cls,
        weight: Array,
        bias: Array = None,
        *,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        groups: int = 1,
        positions: int | None = None,
        activation: ActivationLike = None,
    ) -> Window | Chain:
        """Transposed convolution, ``torch.nn.ConvTranspose1d`` with its weight (I, O / groups, k).

        Each input row gives `stride` rows by one product with the ceil(k / stride) rows that they are made of, so
        nothing is added up from call to call. Where groups or what padding cuts off ask for it, it is a :class:`.Chain`
        of that window and what puts its rows in order. Inside each row with `positions`.

        >>> import numpy as np
        >>> from fusedcell import nodes
        >>> nodes.Window.transposed(np.ones((2, 3, 4)), stride=2)
        Window(weight=(6, 4), taps=2, padding=(1, 1), repeat=2)
        """
        array = floats(weight, "weight", 3)
        stride, groups = whole(stride, "stride"), whole(groups, "groups")
        padding, extra = whole(padding, "padding", 0), whole(output_padding, "output_padding", 0)
        inputs, outputs, taps = array.shape[0], array.shape[1], array.shape[2]
        if inputs % groups:
            raise ValueError(f"weight: {inputs} inputs are not {groups} equal groups")
        if extra >= stride and extra:
            raise ValueError(f"output_padding: expected less than stride={stride}, got {extra}")
        blocks = -(-taps // stride)
        # Tap d of phase r, counted from the newest, is the original's tap d * stride + r, or zero past the last.
        whole_taps = np.zeros((inputs, outputs, blocks * stride), np.float32)
        whole_taps[:, :, :taps] = array
        phases = whole_taps.reshape(groups, inputs // groups, outputs, blocks, stride)[:, :, :, ::-1]
        matrix = phases.transpose(0, 4, 2, 3, 1).reshape(groups * stride * outputs, -1)
        if bias is not None:
            _bias = floats(bias, "bias")
            if _bias.shape != (groups * outputs,):
                raise ValueError(f"bias: expected shape {(groups * outputs,)}, got {_bias.shape}")
            bias = np.tile(_bias.reshape(groups, 1, outputs), (1, stride, 1)).reshape(-1)
        # What is left out at both ends, and whole blocks of it are not computed in the first place.
        first, last = padding, blocks * stride - taps + padding - extra
        before, after = blocks - 1, blocks - 1
        if last < 0:
            after, last = after + 1, last + stride
        if positions is None:
            before, first = before - first // stride, first % stride
            after, last = after - last // stride, last % stride
        in_rows = positions is None and groups == 1
        window = cls(
            matrix,
            bias,
            taps=blocks,
            padding=(before, after),
            groups=groups,
            repeat=stride if in_rows else 1,
            positions=positions,
            activation=activation,
        )
        steps: list[Node] = [window]
        size = groups * outputs
        if positions is not None:
            rows = _positions_out(window, whole(positions, "positions"))
            order = np.arange(rows * stride * size).reshape(rows, groups, stride, outputs).transpose(0, 2, 1, 3)
            kept = order.reshape(rows * stride, size)[first : rows * stride - last].reshape(-1)
            if groups > 1 or first or last:
                steps.append(Take(kept))
        else:
            if groups > 1:
                order = np.arange(stride * size).reshape(groups, stride, outputs).transpose(1, 0, 2)
                steps.append(Take(order.reshape(-1), repeat=stride))
            if first or last:
                steps.append(Rows(-first, -last))
        return window if len(steps) == 1 else Chain(steps)

    def _expanded(self) -> list[tuple[str, Node]]:
        return _activated(self) if _is_softmax(self.activation) else [("", self)]

    def _input_size(self) -> int:
        features: int = self.weight.shape[1] // self.taps * self.groups
        return features * (self.positions or 1)

    def _output_size(self, size: int) -> int:
        rows: int = len(self.weight)
        return rows // self.repeat if self.positions is None else rows * _positions_out(self, self.positions)

    def _same_size(self) -> bool:
        return False


@dataclass(frozen=True, eq=False, repr=False)
class Dense(MatrixNode):
    """A matrix, ``torch.nn.Linear``: y = f(b + W x).

    - weight: (O, I)
    - bias: (O,), or None for zeros
    - activation: as the module says, and "softmax" or "log_softmax" over O

    >>> import numpy as np
    >>> from fusedcell import nodes
    >>> nodes.Dense(np.ones((2, 3)), np.zeros(2), activation="sigmoid")
    Dense(weight=(2, 3), bias=(2,), activation='Sigmoid')
    """

    type = "window"
    _keys = ("activation",)
    _arrays = (("weight", "weight"), ("bias", "bias"))

    weight: Array
    bias: Array = None
    activation: ActivationLike = field(default=None, kw_only=True)
    dtype: Dtype = field(default="float32", init=False)
    scales: FloatArray | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._set(weight=floats(self.weight, "weight", 2))
        vector(self, "bias", len(self.weight))
        self._set(activation=activation_of(self.activation, softmax=True))

    def _expanded(self) -> list[tuple[str, Node]]:
        return _activated(self) if _is_softmax(self.activation) else [("", self)]

    def _input_size(self) -> int:
        return int(self.weight.shape[1])

    def _output_size(self, size: int) -> int:
        return len(self.weight)

    def _same_size(self) -> bool:
        return False

    def _to_file(self) -> tuple[dict[str, Any], Tensors]:
        options, tensors = super()._to_file()
        return PLAIN | options, tensors


@dataclass(frozen=True, eq=False, repr=False)
class Depthwise(Node):
    """Each feature by itself over the last taps, ``torch.nn.Conv1d`` with as many groups as inputs and outputs.

    y[c] = f(b[c] + sum of w[t, c] x[t, c]), t from the oldest row to the newest. Rows, `padding` and `positions` are as
    in :class:`Window`.

    - weight: (taps, C)
    - bias: (C,), or None for zeros

    >>> import numpy as np
    >>> from fusedcell import nodes
    >>> nodes.Depthwise(np.ones((3, 8)), padding=(2, 0))
    Depthwise(weight=(3, 8), padding=(2, 0))
    """

    type = "depthwise"
    _keys = ("taps", "stride", "dilation", "padding", "positions")
    _arrays = (("weight", "weight"), ("bias", "bias"))

    weight: Array
    bias: Array = None
    stride: int = field(default=1, kw_only=True)
    dilation: int = field(default=1, kw_only=True)
    padding: Padding = field(default=(0, 0), kw_only=True)
    positions: int | None = field(default=None, kw_only=True)
    activation: ActivationLike = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._set(weight=floats(self.weight, "weight", 2))
        vector(self, "bias", self.weight.shape[1])
        _check_window(self)
        self._set(activation=activation_of(self.activation, softmax=True))

    @property
    def taps(self) -> int:
        """Rows of a window."""
        return len(self.weight)

    def _expanded(self) -> list[tuple[str, Node]]:
        return _activated(self)

    def _input_size(self) -> int:
        return int(self.weight.shape[1]) * (self.positions or 1)

    def _output_size(self, size: int) -> int:
        features = int(self.weight.shape[1])
        return features if self.positions is None else features * _positions_out(self, self.positions)

    def _same_size(self) -> bool:
        return self.positions is None


class _Pool(Node):
    _keys = ("taps", "stride", "dilation", "padding", "positions")

    def __post_init__(self) -> None:
        self._set(taps=whole(self.taps, "taps"))
        if self.stride is None:
            self._set(stride=self.taps)
        _check_window(self)

    taps: int
    stride: int | None
    positions: int | None

    def _output_size(self, size: int) -> int:
        if self.positions is None:
            return size
        return size // self.positions * _positions_out(self, self.positions)

    def _same_size(self) -> bool:
        return self.positions is None


@dataclass(frozen=True, eq=False, repr=False)
class MaxPool(_Pool):
    """The largest of each feature over `taps` rows, ``torch.nn.MaxPool1d``; stride is taps where it is not given.

    Rows and `positions` are as in :class:`Window`. Padding would count as zeros, where PyTorch's counts as nothing, so
    it has to be zero or negative.

    >>> from fusedcell import nodes
    >>> nodes.MaxPool(2)
    MaxPool(taps=2, stride=2)
    """

    type = "max_pool"

    taps: int
    stride: int | None = field(default=None, kw_only=True)
    dilation: int = field(default=1, kw_only=True)
    padding: Padding = field(default=(0, 0), kw_only=True)
    positions: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(pair(self.padding)) > 0:
            raise ValueError(f"padding: expected 0 or less, as zeros would be in the maximum, got {self.padding}")


@dataclass(frozen=True, eq=False, repr=False)
class MeanPool(_Pool):
    """The mean of each feature over `taps` rows, ``torch.nn.AvgPool1d``; stride is taps where it is not given.

    Rows, `padding` and `positions` are as in :class:`Window`. Rows of padding count, as PyTorch's
    ``count_include_pad=True`` has it.

    >>> from fusedcell import nodes
    >>> nodes.MeanPool(3, stride=1, padding=(1, 1))
    MeanPool(taps=3, stride=1, padding=(1, 1))
    """

    type = "mean_pool"

    taps: int
    stride: int | None = field(default=None, kw_only=True)
    dilation: int = field(default=1, kw_only=True)
    padding: Padding = field(default=(0, 0), kw_only=True)
    positions: int | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False, repr=False)
class Embedding(MatrixNode):
    """Rows of a table by number, ``torch.nn.Embedding``; its source is an input of the model that takes tokens.

    - table: (V, E); tokens are integers from 0 to V - 1

    >>> import numpy as np
    >>> from fusedcell import nodes
    >>> nodes.Embedding(np.ones((100, 16)))
    Embedding(table=(100, 16))
    """

    type = "embedding"
    _arrays = (("table", "weight"),)
    _matrix = "table"
    _multiplies = False

    table: Array
    dtype: Dtype = field(default="float32", init=False)
    scales: FloatArray | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._set(table=floats(self.table, "table", 2))

    def _input_size(self) -> int:
        return 1

    def _output_size(self, size: int) -> int:
        return int(self.table.shape[1])

    def _same_size(self) -> bool:
        return False


def _is_softmax(activation: Any) -> bool:
    return activation is not None and activation.name in _SOFTMAXES
