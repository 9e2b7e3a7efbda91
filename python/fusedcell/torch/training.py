"""PyTorch's recurrent layers with our forward and backward: what is trained with them are the same parameters.

The arithmetic is in csrc/kernels/generic/training.h, and `fusedcell.reference.gradients` is its specification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import _core
from .._base import describe_as
from ..convert.torch.modules import Form
from ..errors import UnsupportedError
from . import packs
from .autograd import (
    TrainedModule,
    check_tensor,
    flags_of,
    is_exporting,
    refuse_transforms,
    takes_pytorchs,
    warn_of_autocast,
)
from .differentiable import STREAMS, Options, direction, draw_seed, dropout
from .operators import Answer, State, is_watched, run_layer, watched_layer
from .packs import Storage

if TYPE_CHECKING:
    import numpy.typing as npt

KINDS = {"LSTM": "lstm", "GRU": "gru_reset_after", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}
STORAGE = Storage("float32", None)


class Trained(TrainedModule, nn.RNNBase):
    """What the layers share. Their parameters, initialisation and state dictionaries are those of PyTorch's.

    The arguments are those of the class of ``torch.nn``, and by name:

    - recurrent_dropout: the rate at which units of h are dropped where R meets them, in training mode. One draw of a
      sequence holds for all its steps, and what is kept is divided by 1 - rate (Gal and Ghahramani 2016,
      arXiv:1512.05287).
    - zoneout: the rate at which units keep their state of the step before instead of the new one, drawn at each step in
      training mode; in evaluation mode the state is the mean of both by the rate (Krueger et al. 2017,
      arXiv:1606.01305). Of an LSTM it is that of h and c, or a pair of rates. Not with a projection.
    - checkpoint: keep the gates of no step for the way back, which makes them again.
    - num_threads: threads that a call may use at most.

    `dropout` is between layers, as PyTorch's. A call takes one number of PyTorch's generator, and each draw is made of
    that number and of its own layer, direction, step, batch row and unit (csrc/model/draws.h and `reference.taken`). So
    draws are the same on every tier, with any number of threads, and for packed, padded and batch-first arrangements.

    Raises ValueError for a rate that is not in [0, 1], and UnsupportedError for zoneout with a projection.

    >>> import torch, fusedcell.torch as ft
    >>> y, h_n = ft.GRU(3, 2)(torch.ones(5, 4, 3), lengths=torch.tensor([5, 2, 5, 1]))
    >>> y.shape
    torch.Size([5, 4, 2])
    """

    recurrent_dropout: float = 0.0
    zoneout: float | tuple[float, float] = 0.0
    checkpoint: bool = False

    def __init__(
        self,
        *args: Any,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        checkpoint: bool = False,
        num_threads: int = 1,
        **kwargs: Any,
    ) -> None:
        threads = _core.checked_num_threads(num_threads)
        nn.Module.__init__(self)
        # All that PyTorch's module has, which knows its arguments and draws its parameters.
        self.__dict__.update(vars(self.fusedcell_replaces(*args, **kwargs)))
        self.num_threads = threads
        self.recurrent_dropout = recurrent_dropout
        self.zoneout = zoneout
        self.checkpoint = bool(checkpoint)
        self._rates()

    def extra_repr(self) -> str:
        """PyTorch's, and what is not as it is there."""
        own = {name: getattr(self, name) for name in ("recurrent_dropout", "zoneout", "checkpoint")}
        return ", ".join([super().extra_repr(), *(f"{name}={value}" for name, value in own.items() if value)])

    def _rates(self) -> tuple[float, float, float]:
        """Those of recurrent dropout and of zoneout of h and c, as they are now, and checked."""
        given: Any = self.zoneout
        is_pair = isinstance(given, (tuple, list)) and len(given) == 2 and self.mode == "LSTM"
        of_h, of_c = given if is_pair else (given, given)
        rates: dict[str, Any] = {"recurrent_dropout": self.recurrent_dropout, "zoneout": of_h, "zoneout[1]": of_c}
        for name, rate in rates.items():
            if not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
                raise ValueError(f"{name}: expected a rate from 0 to 1, got {rate!r}")
        if self.proj_size > 0 and (of_h or of_c):
            raise UnsupportedError(f"zoneout: {given} with proj_size={self.proj_size} is not supported")
        return float(self.recurrent_dropout), float(of_h), float(of_c) if self.mode == "LSTM" else 0.0

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State = None,
        *,
        lengths: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        resets: npt.ArrayLike | None = None,
    ) -> Answer:
        """As of the class of ``torch.nn``, in float32 on the CPU.

        `lengths`, integers (batch,), says where each sequence ends: past its end y is zero, and its last state is that
        of its last step. `mask`, bools or 0 and 1 of the input's shape without the last axis, is false at each step
        that is left out: the state is held, and y repeats it. `resets`, of the same shape, is true at each step that
        begins anew, from a state of zeros, also where the mask is false; a reverse direction is parted at the same
        places.

        Where no gradient can be asked for, as in torch.no_grad(), it is computed by the kernels for inference, to the
        same bits. Raises TypeError or ValueError, naming the argument, for what does not fit, and RuntimeError under
        functorch's transforms. What is compiled has operators of ours, and so has what torch.export makes of a module
        in evaluation mode. What is traced, or written as ONNX, has PyTorch's.
        """
        refuse_transforms()
        parts = lengths is not None or mask is not None or resets is not None
        if takes_pytorchs(self):
            recurrent_dropout, *zoneout = self._rates()
            if parts:
                raise UnsupportedError("lengths, mask, resets: PyTorch's operators have none of them")
            if any(zoneout) or (self.training and recurrent_dropout):
                raise UnsupportedError("zoneout, recurrent_dropout: PyTorch's operators have neither")
            return self.fusedcell_replaces.forward(self, input, hx)
        states = [] if hx is None else pair_of(hx) if self.mode == "LSTM" else [hx]
        if isinstance(input, PackedSequence):
            if parts:
                raise ValueError("lengths, mask, resets: expected None with a PackedSequence; give the padded tensor")
            return self._run_packed(input, states)
        y, last = self._run_padded(input, states, lengths, mask, resets, self.batch_first)
        return y, self._result(last)

    def _result(self, last: list[Tensor]) -> Any:
        return tuple(last) if self.mode == "LSTM" else last[0]

    def _run_packed(self, packed: PackedSequence, states: list[Tensor]) -> Any:
        if torch.compiler.is_compiling():  # where graphs may break, this is then a plain call
            raise UnsupportedError("input: a PackedSequence in a graph; give the padded tensor and lengths=")
        data, batch_sizes, order, inverse = packed
        check_tensor("input.data", data, (2,), self.input_size)
        x, lengths = torch._VF._pad_packed_sequence(data, batch_sizes, False, 0.0, len(batch_sizes))
        if order is not None:
            states = [state.index_select(1, order) for state in states]
        y, last = self._run_padded(x, states, lengths, None, None, batch_first=False)
        if inverse is not None:
            last = [state.index_select(1, inverse) for state in last]
        data, _ = torch._VF._pack_padded_sequence(y, lengths, False)
        return PackedSequence(data, batch_sizes, order, inverse), self._result(last)

    def _run_padded(
        self, x: Tensor, states: list[Tensor], lengths: Any, mask: Any, resets: Any, batch_first: bool
    ) -> tuple[Tensor, list[Tensor]]:
        if torch.is_autocast_enabled("cpu"):
            warn_of_autocast()
            x, states = x.float(), [state.float() for state in states]
        check_tensor("input", x, (2, 3), self.input_size)
        batched = x.dim() == 3
        rows = [] if not batched else [x.shape[0] if batch_first else x.shape[1]]
        count = self.num_layers * (1 + self.bidirectional)
        names = ("hx[0]", "hx[1]") if self.mode == "LSTM" else ("hx",)
        sizes = self.proj_size or self.hidden_size, self.hidden_size
        for name, state, size in zip(names, states, sizes, strict=False):
            check_tensor(name, state, (x.dim(),), size)
            shape = (count, *rows, size)
            if state.shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {tuple(state.shape)}")
        watched = is_watched(x)
        if watched:
            lengths, mask, resets = map(_tensor_of, (lengths, mask, resets))
        else:
            lengths = lengths.numpy(force=True) if isinstance(lengths, Tensor) else lengths
            mask, resets = flags_of("mask", mask), flags_of("resets", resets)
        weights: list[Tensor] = [getattr(self, name) for name in self._flat_weights_names]
        form = form_of_layer(self)
        packs.check(form, weights, x.device)

        rates = self._rates()
        needs_graph = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *states, *weights))
        needs_graph = needs_graph and not (watched and is_exporting())
        drops = self.training and (rates[0] > 0 or (self.dropout > 0 and self.num_layers > 1))
        is_plain = not (needs_graph or drops or any(rates[1:]) or resets is not None)
        h_0, c_0 = (*states, None, None)[:2]
        if is_plain and watched:
            given = x, h_0, c_0, None, batched and batch_first, self.num_threads, lengths, mask
            y, *last = watched_layer(form, STORAGE, weights, *given)
            return y, last
        if is_plain and packs.are_versioned(weights):
            stack = packs.packed(form, weights, STORAGE).stack
            batch_first = batched and batch_first
            y, *last = run_layer(stack, x, h_0, c_0, None, batch_first, self.num_threads, lengths, mask)
            return y, last

        if not batched:
            x, states = x.unsqueeze(1), [state.unsqueeze(1) for state in states]
        elif batch_first:
            x = x.transpose(0, 1)
        mask, resets = (_by_step(flags, batched, batch_first) for flags in (mask, resets))
        draws = drops or (self.training and any(rates[1:]))
        seed = draw_seed(watched=watched) if draws else None if watched else 0
        y, last = self._run(x, states, weights, (lengths, mask, resets, seed), rates, needs_graph, watched)
        if not batched:
            return y.squeeze(1), [state.squeeze(1) for state in last]
        return y.transpose(0, 1) if batch_first else y, last

    def _run(
        self,
        x: Tensor,
        states: list[Tensor],
        weights: list[Tensor],
        given: tuple[Any, ...],
        rates: tuple[float, float, float],
        needs_graph: bool,
        watched: bool,
    ) -> tuple[Tensor, list[Tensor]]:
        directions = 1 + self.bidirectional
        of_direction = len(weights) // (directions * self.num_layers)
        recurrent_dropout, of_h, of_c = rates
        rates = recurrent_dropout if self.training else 0.0, of_h, of_c
        last_options = not self.training, needs_graph and not self.checkpoint, self.num_threads
        finals: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer > 0 and self.dropout > 0 and self.training:
                x = dropout(x, given[-1], len(finals) * STREAMS, float(self.dropout), watched=watched)
            outputs: list[Tensor] = []
            for reverse in range(directions):
                at = len(finals)
                h_0, c_0 = (*(state[at] for state in states), None, None)[:2]
                own = weights[at * of_direction : (at + 1) * of_direction]
                weight_hr = own.pop() if self.proj_size > 0 else None
                taken: Any = (*given, KINDS[self.mode], reverse == 1, at * STREAMS, rates, *last_options)
                options = Options(*taken)
                y, *last = direction(x, h_0, c_0, *(*own, None, None)[:4], weight_hr, options, watched=watched)
                outputs.append(y)
                finals.append(tuple(last))
            x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        if len(finals) == 1:
            return x, [state.unsqueeze(0) for state in finals[0]]
        return x, [torch.stack(parts) for parts in zip(*finals, strict=True)]


# Not of PyTorch's classes RNN, LSTM and GRU themselves, as torch.compile breaks graphs at whatever is one.
class RNN(Trained, nn.RNNBase):
    """``torch.nn.RNN``, trained and run by fusedcell."""

    fusedcell_replaces = nn.RNN


class LSTM(Trained, nn.RNNBase):
    """``torch.nn.LSTM``, trained and run by fusedcell."""

    fusedcell_replaces = nn.LSTM

    # PyTorch's forward looks these up on the object.
    check_forward_args = nn.LSTM.check_forward_args
    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    permute_hidden = nn.LSTM.permute_hidden


class GRU(Trained, nn.RNNBase):
    """``torch.nn.GRU``, trained and run by fusedcell."""

    fusedcell_replaces = nn.GRU


for _class in (RNN, LSTM, GRU):
    describe_as(_class, Trained)


def form_of_layer(module: Trained) -> Form:
    """What the module computes, by its attributes now."""
    nonlinearity = module.mode.removeprefix("RNN_").lower() if module.mode.startswith("RNN") else "tanh"
    return Form(
        module.fusedcell_replaces.__name__,
        nonlinearity,
        module.num_layers,
        module.bidirectional,
        module.bias,
        module.proj_size > 0,
    )


def _tensor_of(values: Any) -> Tensor | None:
    return values if values is None or isinstance(values, Tensor) else torch.as_tensor(values)


def _by_step(flags: Any, batched: bool, batch_first: bool) -> Any:
    """Arranged as (T, B)."""
    if flags is None:
        return None
    if not batched:
        return flags[..., None]
    return flags.swapaxes(0, 1) if batch_first and flags.ndim == 2 else flags


def pair_of(hx: Any) -> list[Tensor]:
    """The two tensors of an LSTM's state."""
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise TypeError(f"hx: expected a pair of tensors, (h, c), got {type(hx).__name__}")
    return list(hx)
