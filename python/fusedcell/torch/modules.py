"""What a recurrent module becomes: the same object, of one of these classes.

A swapped module keeps its parameters, buffers, hooks and attributes, as it is still the object it was; only what a call
computes comes from here. Layers derive from RNNBase and not from nn.LSTM and its siblings, which torch.compile refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .._core import Stack
from ..convert.torch_modules import Form
from . import packs
from .operators import run_cell, run_layer
from .packs import Pack, Storage


class Settings(NamedTuple):
    """What a swapped module computes, the names of its weights, and how it stores and runs them."""

    form: Form
    names: tuple[str, ...]
    storage: Storage
    num_threads: int


class Last:
    """What a module's last call ran with: a pack, or, of weights that have no versions, copies and their stack.

    It is left behind by copies and pickles of the module.
    """

    def __init__(self) -> None:
        self.pack: Pack | None = None
        self.computed: tuple[list[Tensor], Stack] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Last, ()


class Fused(nn.Module):
    """What swapped layers and cells share."""

    fusedcell_replaces: ClassVar[Any]
    fusedcell_settings: Settings
    fusedcell_last: Last

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        forget(self)  # or what is replaced would stay in memory until the next call
        return super()._apply(fn, recurse)

    def _check(self, name: str, tensor: Tensor, ndims: tuple[int, ...], size: int) -> None:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
        if tensor.dtype != torch.float32 or tensor.device != packs.CPU:
            raise TypeError(
                f"{name}: expected a float32 tensor on the CPU, got {packs.describe(tensor)}; report.undo() of "
                "fusedcell.torch.accelerate gives back PyTorch's module"
            )
        if tensor.dim() not in ndims or tensor.shape[-1] != size:
            dims = " or ".join(map(str, ndims))
            raise ValueError(f"{name}: expected {dims} dimensions, the last {size}, got shape {tuple(tensor.shape)}")

    def _check_mode(self, weights: list[Tensor], tensors: list[Tensor]) -> None:
        if self.training:
            raise RuntimeError(
                f"{type(self).__name__} runs inference only, and is in training mode: call model.eval(), or "
                "report.undo() to train"
            )
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError(
                f"{type(self).__name__} computes in float32, and torch.autocast asks for less: call the model outside "
                "of it, or report.undo()"
            )
        needed = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, *weights))
        if needed or _has_tangent([*tensors, *weights]):
            raise RuntimeError(
                f"{type(self).__name__} computes no gradients, and its parameters or inputs require them: call the "
                "model in torch.inference_mode() or torch.no_grad(), or report.undo() to train"
            )

    def _stack(self, weights: list[Tensor]) -> Stack:
        last = self.fusedcell_last
        if last.pack is not None and last.pack.is_of(weights):
            return last.pack.stack
        form, names, storage, _ = self.fusedcell_settings
        if all(name in self._parameters for name in names) and packs.are_versioned(weights):
            last.pack = packs.packed(form, weights, storage)
            return last.pack.stack
        if last.computed is None or not all(map(_have_the_same_bits, weights, last.computed[0])):
            copies = [weight.detach().clone() for weight in weights]
            last.computed = copies, packs.pack(form, copies, storage)
        return last.computed[1]


class FusedLayer(Fused, nn.RNNBase):
    """A layer, called as PyTorch's: batched or not, either arrangement of the axes, PackedSequence in and out."""

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        """As of the class it replaces; float32 on the CPU.

        Raises RuntimeError in training mode or where a gradient would be needed, TypeError or ValueError, naming the
        argument, for what does not fit.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        self._check("input", input, (2, 3), self.input_size)
        y, *states = self._run(input, self._states(hx, input.dim()), None, self.batch_first)
        return y, self._result(states)

    def _forward_packed(self, sequence: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        data, batch_sizes, order, inverse = sequence
        self._check("input.data", data, (2,), self.input_size)
        # In the order of falling lengths, which is that of the batch sizes, whatever the caller's was.
        x, lengths = pad_packed_sequence(PackedSequence(data, batch_sizes))
        initial = self._states(hx, 3)
        states = initial if order is None else [state.index_select(1, order) for state in initial]
        y, *states = self._run(x, states, lengths, False)
        if inverse is not None:
            states = [state.index_select(1, inverse) for state in states]
        return PackedSequence(pack_padded_sequence(y, lengths).data, batch_sizes, order, inverse), self._result(states)

    def _states(self, hx: Any, ndim: int) -> list[Tensor]:
        if hx is None:
            return []
        states = [hx]
        h_size = self.proj_size if self.proj_size > 0 else self.hidden_size
        if self.fusedcell_replaces is nn.LSTM:
            states = _pair(hx)
            self._check("hx[1]", states[1], (ndim,), self.hidden_size)
        self._check("hx[0]" if len(states) == 2 else "hx", states[0], (ndim,), h_size)
        return states

    def _result(self, states: list[Tensor]) -> Any:
        return (states[0], states[1]) if len(states) == 2 else states[0]

    def _run(self, x: Tensor, states: list[Tensor], lengths: Tensor | None, batch_first: bool) -> list[Tensor]:
        form, names, storage, num_threads = self.fusedcell_settings
        weights = _weights(self, names)
        self._check_mode(weights, [x, *states])
        h_0, c_0 = (*states, None, None)[:2]
        if not _is_watched(x):
            return run_layer(self._stack(weights), x, h_0, c_0, lengths, batch_first, num_threads)
        outputs: list[Tensor] = torch.ops.fusedcell.layer(
            x,
            h_0,
            c_0,
            lengths,
            weights,
            form.class_name,
            form.nonlinearity,
            form.num_layers,
            form.bidirectional,
            form.bias,
            form.projected,
            batch_first,
            storage.dtype,
            storage.isa,
            num_threads,
        )
        return outputs


class FusedCell(Fused, nn.RNNCellBase):
    """A cell, called as PyTorch's, with a batch or without."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """As of the class it replaces; float32 on the CPU. Errors as of :class:`FusedLayer`."""
        self._check("input", input, (1, 2), self.input_size)
        states = []
        if hx is not None:
            states = _pair(hx) if self.fusedcell_replaces is nn.LSTMCell else [hx]
            for index, state in enumerate(states):
                self._check(f"hx[{index}]" if len(states) == 2 else "hx", state, (input.dim(),), self.hidden_size)
        outputs = self._run(input, states)
        return (outputs[0], outputs[1]) if len(outputs) == 2 else outputs[0]

    def _run(self, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        form, names, storage, _ = self.fusedcell_settings
        weights = _weights(self, names)
        self._check_mode(weights, [x, *states])
        h, c = (*states, None, None)[:2]
        if not _is_watched(x):
            return run_cell(self._stack(weights), x, h, c)
        outputs: list[Tensor] = torch.ops.fusedcell.cell(
            x, h, c, weights, form.class_name, form.nonlinearity, form.bias, storage.dtype, storage.isa
        )
        return outputs


class FusedRNN(FusedLayer):
    """In place of torch.nn.RNN."""

    fusedcell_replaces = nn.RNN


class FusedLSTM(FusedLayer):
    """In place of torch.nn.LSTM."""

    fusedcell_replaces = nn.LSTM


class FusedGRU(FusedLayer):
    """In place of torch.nn.GRU."""

    fusedcell_replaces = nn.GRU


class FusedRNNCell(FusedCell, nn.RNNCell):
    """In place of torch.nn.RNNCell."""

    fusedcell_replaces = nn.RNNCell


class FusedLSTMCell(FusedCell, nn.LSTMCell):
    """In place of torch.nn.LSTMCell."""

    fusedcell_replaces = nn.LSTMCell


class FusedGRUCell(FusedCell, nn.GRUCell):
    """In place of torch.nn.GRUCell."""

    fusedcell_replaces = nn.GRUCell


FUSED: dict[type[nn.Module], type[Fused]] = {
    fused.fusedcell_replaces: fused
    for fused in (FusedRNN, FusedLSTM, FusedGRU, FusedRNNCell, FusedLSTMCell, FusedGRUCell)
}


def forget(module: Fused) -> None:
    """Lets go of what was packed for a module."""
    module.fusedcell_last = Last()
    packs.forget(list(module.parameters()))


def _weights(module: Fused, names: tuple[str, ...]) -> list[Tensor]:
    parameters: dict[str, Any] = module._parameters
    try:
        return [parameters[name] for name in names]
    except KeyError:  # some are computed
        return [getattr(module, name) for name in names]


def _pair(hx: Any) -> list[Tensor]:
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise TypeError(f"hx: expected a pair of tensors, (h, c), got {type(hx).__name__}")
    return list(hx)


def _is_watched(x: Tensor) -> bool:
    """Whether something records or replaces operations, and so must meet our operator; else we save its overhead."""
    return bool(
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or type(x) is not Tensor
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def _has_tangent(tensors: list[Tensor]) -> bool:
    """Whether forward-mode differentiation, which no_grad() leaves on, would ask for a gradient."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return False
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def _have_the_same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a.view(torch.int32), b.view(torch.int32)))
