"""Modules that compute as int8 will, and train: the same objects as before, of one of these classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from ..errors import UnsupportedError
from .operators import Answer, State
from .report import set_class
from .rounding import rounded_input, rounded_rows, rounded_within_one


class QAT(nn.Module):
    """What they share: quantisation-aware training of the class that they take the place of."""

    fusedcell_class: type[nn.Module]
    fusedcell_units: float

    def fusedcell_undo(self) -> None:
        """Makes the module what it was, with its parameters as they are now."""
        set_class(self, self.fusedcell_class)
        for name in ("fusedcell_class", "fusedcell_units"):
            self.__dict__.pop(name)


class QATLinear(QAT, nn.Linear):
    """In place of torch.nn.Linear."""

    def forward(self, input: Tensor) -> Tensor:
        """As of the class it replaces."""
        _check_not_exported(self)
        x = rounded_input(input, self.fusedcell_units)
        return functional.linear(x, rounded_rows(self.weight), self.bias)


class QATEmbedding(QAT, nn.Embedding):
    """In place of torch.nn.Embedding."""

    def forward(self, input: Tensor) -> Tensor:
        """As of the class it replaces."""
        _check_not_exported(self)
        return rounded_rows(super().forward(input))


class _QATConv(QAT, nn.modules.conv._ConvNd):
    def forward(self, input: Tensor) -> Tensor:
        """As of the class it replaces. Each window is rounded by itself, and of it what each group sees."""
        _check_not_exported(self)
        axes = len(self.kernel_size)
        x = input if input.dim() == axes + 2 else input.unsqueeze(0)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        x = functional.pad(x, self._reversed_padding_repeated_twice, mode)
        images = x if axes == 2 else x.unsqueeze(2)
        taps, dilation, stride = (
            (1,) * (2 - axes) + tuple(option) for option in (self.kernel_size, self.dilation, self.stride)
        )
        windows = functional.unfold(images, taps, dilation, stride=stride).unflatten(1, (self.groups, -1))
        windows = rounded_input(windows.transpose(2, 3), self.fusedcell_units)
        matrix = rounded_rows(self.weight.flatten(1)).unflatten(0, (self.groups, -1))
        y = torch.einsum("bgwi,goi->bgow", windows, matrix).flatten(1, 2)
        if self.bias is not None:
            y = y + self.bias[:, None]
        sizes = [
            (size - (count - 1) * spread - 1) // step + 1
            for size, count, spread, step in zip(images.shape[2:], taps, dilation, stride, strict=True)
        ]
        y = y.unflatten(2, sizes[-axes:])
        return y if input.dim() == axes + 2 else y.squeeze(0)


class QATConv1d(_QATConv, nn.Conv1d):
    """In place of torch.nn.Conv1d."""


class QATConv2d(_QATConv, nn.Conv2d):
    """In place of torch.nn.Conv2d."""


def _check_not_exported(module: QAT) -> None:
    if torch.compiler.is_exporting():
        raise UnsupportedError(
            f"{type(module).__name__} trains, and is not exported; call fusedcell.torch.unquantize(model) first"
        )


class _Cell:
    """What goes along one direction of a layer, or is a cell; its matrices are rounded once."""

    def __init__(self, module: Any, suffix: str = "") -> None:
        names = ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
        found = [getattr(module, name + suffix, None) for name in names]
        self._w, self._r, self._p = (None if matrix is None else rounded_rows(matrix) for matrix in found[:3])
        self._b_w, self._b_r = found[3:]
        self._mode = _mode(module)
        self._units = module.fusedcell_units
        self._is_bounded = self._mode != "RNN_RELU" and self._p is None

    def inputs(self, x: Tensor) -> Tensor:
        """W x + b_ih of what is rounded."""
        return functional.linear(x, self._w, self._b_w)

    def step(self, a: Tensor, states: Sequence[Tensor], *, within_one: bool = False) -> tuple[Tensor, ...]:
        """The states after one step, of its :meth:`inputs`; `within_one` says that h is bounded, and within [-1, 1]."""
        h = states[0]
        if within_one:
            rounded = rounded_within_one(h, self._units)
        else:
            rounded = rounded_input(h, self._units, bounded=self._is_bounded)
        b = functional.linear(rounded, self._r, self._b_r)
        if self._mode == "GRU":
            (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, -1), b.chunk(3, -1)
            z = torch.sigmoid(a_z + b_z)
            n = torch.tanh(a_n + torch.sigmoid(a_r + b_r) * b_n)
            return ((1 - z) * n + z * h,)
        if self._mode != "LSTM":
            return (torch.tanh(a + b) if self._mode == "RNN_TANH" else torch.relu(a + b),)
        i, f, g, o = (a + b).chunk(4, -1)
        c = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h if self._p is None else functional.linear(rounded_within_one(h, self._units), self._p), c

    def along(
        self, steps: Sequence[Tensor], states: Sequence[Tensor], *, reverse: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """All steps, each of the rows that have it: h in the order of time, and the states that each row ends with."""
        # Looked at once, as a bounded h that begins within [-1, 1] stays there.
        within_one = self._is_bounded and bool((states[0].abs() <= 1).all())
        outputs = []
        for a in reversed(steps) if reverse else steps:
            count = len(a)
            after = self.step(a, [state[:count] for state in states], within_one=within_one)
            outputs.append(after[0])
            others = [state[count:] for state in states]
            states = [torch.cat(pair) if len(pair[1]) else pair[0] for pair in zip(after, others, strict=True)]
        return torch.cat(outputs[::-1] if reverse else outputs), states


def _mode(module: Any) -> str:
    """What a layer or cell computes, by PyTorch's names for layers."""
    name: str = module.fusedcell_replaces.__name__
    if not name.endswith("Cell"):
        return str(module.mode)
    return f"RNN_{module.nonlinearity.upper()}" if name == "RNNCell" else name.removesuffix("Cell")


class _QATLayer(QAT, nn.RNNBase):
    fusedcell_replaces: ClassVar[Any]

    def forward(self, input: Tensor | PackedSequence, hx: State = None) -> Answer:
        """As of the class it replaces."""
        _check_not_exported(self)
        x, packed, order, inverse = input if isinstance(input, PackedSequence) else (input, None, None, None)
        is_single = packed is None and x.dim() == 2
        if is_single:
            x = x.unsqueeze(0 if self.batch_first else 1)
        is_lstm = self.mode == "LSTM"
        if hx is None:
            batch = int(packed[0]) if packed is not None else x.shape[0 if self.batch_first else 1]
            count = self.num_layers * (1 + self.bidirectional)
            sizes = (self.proj_size or self.hidden_size, self.hidden_size)[: 1 + is_lstm]
            states = [x.new_zeros(count, batch, size) for size in sizes]
        else:
            states = list(hx) if is_lstm else [hx]
            if is_single:
                states = [state.unsqueeze(1) for state in states]
            elif order is not None:
                states = [state.index_select(1, order) for state in states]
        self.check_forward_args(x, tuple(states) if is_lstm else states[0], packed)
        if packed is not None:
            y, states = self._run(x, packed.tolist(), states)
        else:
            x = x.transpose(0, 1) if self.batch_first else x
            y, states = self._run(x.flatten(0, 1), [x.shape[1]] * len(x), states)
            y = y.unflatten(0, x.shape[:2])
            y = y.squeeze(1) if is_single else y.transpose(0, 1) if self.batch_first else y
        if is_single:
            states = [state.squeeze(1) for state in states]
        elif inverse is not None:
            states = [state.index_select(1, inverse) for state in states]
        answer = y if packed is None else PackedSequence(y, packed, order, inverse)
        return answer, (states[0], states[1]) if is_lstm else states[0]

    def _run(self, rows: Tensor, sizes: list[int], states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Of the rows of all steps, so many of each, and the states of all layers: both afterwards."""
        finals: list[Sequence[Tensor]] = []
        for layer in range(self.num_layers):
            if layer:
                rows = functional.dropout(rows, self.dropout, self.training)
            x = rounded_input(rows, self.fusedcell_units)
            outputs = []
            for suffix in ("", "_reverse")[: 1 + self.bidirectional]:
                cell = _Cell(self, f"_l{layer}{suffix}")
                begin = [state[len(finals)] for state in states]
                y, final = cell.along(cell.inputs(x).split(sizes), begin, reverse=bool(suffix))
                outputs.append(y)
                finals.append(final)
            rows = torch.cat(outputs, -1)
        return rows, [torch.stack(every) for every in zip(*finals, strict=True)]


class _QATCell(QAT, nn.RNNCellBase):
    fusedcell_replaces: ClassVar[Any]

    def forward(self, input: Tensor, hx: State = None) -> State:
        """As of the class it replaces."""
        _check_not_exported(self)
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(f"input: expected 1 or 2 dimensions, the last {self.input_size}, got {tuple(input.shape)}")
        shape = (*input.shape[:-1], self.hidden_size)
        is_lstm = _mode(self) == "LSTM"
        states = [input.new_zeros(shape)] * (1 + is_lstm) if hx is None else list(hx) if is_lstm else [hx]
        for state in states:
            if state.shape != shape:
                raise ValueError(f"hx: expected shape {shape}, got {tuple(state.shape)}")
        cell = _Cell(self)
        after = cell.step(cell.inputs(rounded_input(input, self.fusedcell_units)), states)
        return after if is_lstm else after[0]


class QATRNN(_QATLayer, nn.RNN):
    """In place of torch.nn.RNN."""

    fusedcell_replaces = nn.RNN


class QATLSTM(_QATLayer, nn.LSTM):
    """In place of torch.nn.LSTM."""

    fusedcell_replaces = nn.LSTM


class QATGRU(_QATLayer, nn.GRU):
    """In place of torch.nn.GRU."""

    fusedcell_replaces = nn.GRU


class QATRNNCell(_QATCell, nn.RNNCell):
    """In place of torch.nn.RNNCell."""

    fusedcell_replaces = nn.RNNCell


class QATLSTMCell(_QATCell, nn.LSTMCell):
    """In place of torch.nn.LSTMCell."""

    fusedcell_replaces = nn.LSTMCell


class QATGRUCell(_QATCell, nn.GRUCell):
    """In place of torch.nn.GRUCell."""

    fusedcell_replaces = nn.GRUCell


# What trains in int8, and what takes its place.
CLASSES: dict[type[nn.Module], type[QAT]] = {
    nn.Linear: QATLinear,
    nn.Embedding: QATEmbedding,
    nn.Conv1d: QATConv1d,
    nn.Conv2d: QATConv2d,
    nn.RNN: QATRNN,
    nn.LSTM: QATLSTM,
    nn.GRU: QATGRU,
    nn.RNNCell: QATRNNCell,
    nn.LSTMCell: QATLSTMCell,
    nn.GRUCell: QATGRUCell,
}
