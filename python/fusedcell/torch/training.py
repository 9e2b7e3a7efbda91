"""PyTorch's recurrent layers with our forward and backward: what is trained with them are the same parameters.

The arithmetic is in csrc/kernels/generic/training.h, and `fusedcell.reference.gradients` is its specification.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from .. import _core
from ..convert.torch.modules import Form
from ..errors import UnsupportedError
from . import packs
from .autograd import (
    array_of,
    check_tensor,
    is_exported,
    refuse_second_derivatives,
    refuse_transforms,
    warn_of_autocast,
)
from .operators import run_layer
from .packs import Storage

_KINDS = {"LSTM": "lstm", "GRU": "gru_reset_after", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}
_STORAGE = Storage("float32", None)


class _Direction(torch.autograd.Function):
    """One layer in one direction, x (T, B, I). Gives y, h_n and, for an LSTM, c_n."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        x, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, kind, lengths, resets, reverse, num_threads = arguments
        tensors = (x, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh)
        taken: Any = (kind, *map(array_of, tensors), lengths, resets, reverse, num_threads, "")
        *results, gates, c = _core.train_forward(*taken)
        y, *last = (torch.from_numpy(result) for result in results if result is not None)
        saved = [None if array is None else torch.from_numpy(array) for array in (gates, c)]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h_0, c_0, weight_ih, weight_hh, y, *saved)
        ctx.options = kind, lengths, resets, reverse, num_threads
        return (y, *last)

    @staticmethod
    def backward(ctx: Any, *derivatives: Tensor | None) -> Any:
        refuse_second_derivatives()
        dy, dh_n, dc_n = (*derivatives, None)[:3]
        x, h_0, c_0, weight_ih, weight_hh, y, gates, c = ctx.saved_tensors
        kind, *options, num_threads = ctx.options
        wanted = list(ctx.needs_input_grad[:7])
        tensors = (dy, dh_n, dc_n, x, y, h_0, c_0, gates, c, weight_ih, weight_hh)
        taken: Any = (kind, *map(array_of, tensors), *options, wanted, num_threads, "")
        results = _core.train_backward(*taken)
        return (*(None if array is None else torch.from_numpy(array) for array in results), *(None,) * 5)


class Trained(nn.RNNBase):
    """What the layers share. Their parameters, initialisation and state dictionaries are those of PyTorch's."""

    fusedcell_replaces: ClassVar[Any]
    num_threads: int = 1

    def __init__(self, *args: Any, num_threads: int = 1, **kwargs: Any) -> None:
        threads = _core.checked_num_threads(num_threads)
        super().__init__(*args, **kwargs)
        self.num_threads = threads
        check_trainable(self)

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, *, lengths: Any = None, resets: Any = None
    ) -> Any:
        """As of the class of ``torch.nn``, in float32 on the CPU.

        `lengths`, integers (batch,), says where each sequence ends: past its end y is zero, and its last state is that
        of its last step. `resets`, bools of the input's shape without the last axis, is true at each step that begins
        anew, from a state of zeros; a reverse direction is parted at the same places.

        Where no gradient can be asked for, as in torch.no_grad(), it is computed by the kernels for inference, to the
        same bits. Raises TypeError or ValueError, naming the argument, for what does not fit, RuntimeError under
        functorch's transforms, and UnsupportedError for projections. What is exported has PyTorch's operators.
        """
        check_trainable(self)
        refuse_transforms()
        if is_exported():
            if lengths is not None or resets is not None:
                raise UnsupportedError("lengths, resets: exported programs have neither")
            return self.fusedcell_replaces.forward(self, input, hx)
        states = [] if hx is None else _pair(hx) if self.mode == "LSTM" else [hx]
        if isinstance(input, PackedSequence):
            if lengths is not None or resets is not None:
                raise ValueError("lengths, resets: expected None with a PackedSequence; give the padded tensor")
            return self._run_packed(input, states)
        y, last = self._run_padded(input, states, lengths, resets, self.batch_first)
        return y, self._result(last)

    def _result(self, last: list[Tensor]) -> Any:
        return tuple(last) if self.mode == "LSTM" else last[0]

    def _run_packed(self, packed: PackedSequence, states: list[Tensor]) -> Any:
        data, batch_sizes, order, inverse = packed
        check_tensor("input.data", data, (2,), self.input_size)
        x, lengths = torch._VF._pad_packed_sequence(data, batch_sizes, False, 0.0, len(batch_sizes))
        if order is not None:
            states = [state.index_select(1, order) for state in states]
        y, last = self._run_padded(x, states, lengths, None, batch_first=False)
        if inverse is not None:
            last = [state.index_select(1, inverse) for state in last]
        data, _ = torch._VF._pack_padded_sequence(y, lengths, False)
        return PackedSequence(data, batch_sizes, order, inverse), self._result(last)

    def _run_padded(
        self, x: Tensor, states: list[Tensor], lengths: Any, resets: Any, batch_first: bool
    ) -> tuple[Tensor, list[Tensor]]:
        if torch.is_autocast_enabled("cpu"):
            warn_of_autocast()
            x, states = x.float(), [state.float() for state in states]
        check_tensor("input", x, (2, 3), self.input_size)
        batched = x.dim() == 3
        rows = [] if not batched else [x.shape[0] if batch_first else x.shape[1]]
        shape = (self.num_layers * (1 + self.bidirectional), *rows, self.hidden_size)
        for name, state in zip(("hx[0]", "hx[1]") if self.mode == "LSTM" else ("hx",), states, strict=False):
            check_tensor(name, state, (x.dim(),), self.hidden_size)
            if state.shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {tuple(state.shape)}")
        lengths = lengths.numpy(force=True) if isinstance(lengths, Tensor) else lengths
        weights: list[Tensor] = [getattr(self, name) for name in self._flat_weights_names]
        form = Form(
            self.fusedcell_replaces.__name__, self._nonlinearity(), self.num_layers, self.bidirectional, self.bias
        )
        packs.check(form, weights)

        needs_graph = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *states, *weights))
        drops = self.training and self.dropout > 0 and self.num_layers > 1
        if not (needs_graph or drops or resets is not None) and packs.are_versioned(weights):
            stack = packs.packed(form, weights, _STORAGE).stack
            h_0, c_0 = (*states, None, None)[:2]
            y, *last = run_layer(stack, x, h_0, c_0, None, batched and batch_first, self.num_threads, lengths)
            return y, last

        if not batched:
            x, states = x.unsqueeze(1), [state.unsqueeze(1) for state in states]
        elif batch_first:
            x = x.transpose(0, 1)
        y, last = self._run(x, states, weights, lengths, _resets(resets, batched, batch_first))
        if not batched:
            return y.squeeze(1), [state.squeeze(1) for state in last]
        return y.transpose(0, 1) if batch_first else y, last

    def _run(
        self, x: Tensor, states: list[Tensor], weights: list[Tensor], lengths: Any, resets: Any
    ) -> tuple[Tensor, list[Tensor]]:
        kind, threads = _KINDS[self.mode], self.num_threads
        directions = 1 + self.bidirectional
        of_direction = len(weights) // (directions * self.num_layers)
        finals: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer > 0 and self.dropout > 0:
                x = functional.dropout(x, self.dropout, self.training)
            outputs: list[Tensor] = []
            for direction in range(directions):
                at = len(finals)
                h_0, c_0 = (*(state[at] for state in states), None, None)[:2]
                own = (*weights[at * of_direction : (at + 1) * of_direction], None, None)[:4]
                y, *last = _Direction.apply(x, h_0, c_0, *own, kind, lengths, resets, bool(direction), threads)
                outputs.append(y)
                finals.append(tuple(last))
            x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        if len(finals) == 1:
            return x, [state.unsqueeze(0) for state in finals[0]]
        return x, [torch.stack(parts) for parts in zip(*finals, strict=True)]

    def _nonlinearity(self) -> str:
        return self.mode.removeprefix("RNN_").lower() if self.mode.startswith("RNN") else "tanh"


class RNN(Trained, nn.RNN):
    """``torch.nn.RNN``, trained and run by fusedcell."""

    fusedcell_replaces = nn.RNN


class LSTM(Trained, nn.LSTM):
    """``torch.nn.LSTM``, trained and run by fusedcell."""

    fusedcell_replaces = nn.LSTM


class GRU(Trained, nn.GRU):
    """``torch.nn.GRU``, trained and run by fusedcell."""

    fusedcell_replaces = nn.GRU


TRAINED: dict[type[nn.Module], type[Trained]] = {cls.fusedcell_replaces: cls for cls in (RNN, LSTM, GRU)}


def check_trainable(module: nn.RNNBase) -> None:
    """Raises UnsupportedError for what torch.nn's module can do and this cannot."""
    if module.proj_size > 0:
        raise UnsupportedError(f"proj_size: {module.proj_size} is not supported in training; supported: 0")


def _resets(resets: Any, batched: bool, batch_first: bool) -> Any:
    if resets is None:
        return None
    array = resets.numpy(force=True) if isinstance(resets, Tensor) else resets
    if not batched:
        return array[..., None]
    return array.swapaxes(0, 1) if batch_first else array


def _pair(hx: Any) -> list[Tensor]:
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise TypeError(f"hx: expected a pair of tensors, (h, c), got {type(hx).__name__}")
    return list(hx)
