"""PyTorch's cells with our forward and backward: a step of a layer (training.py) at a call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._base import describe_as
from ..convert.torch.modules import Form
from . import packs
from .autograd import TrainedModule, check_tensor, is_exporting, refuse_transforms, takes_pytorchs, warn_of_autocast
from .differentiable import Options, direction
from .operators import State, is_watched, run_cell, watched_cell
from .training import KINDS, STORAGE, pair_of


class TrainedCell(TrainedModule, nn.RNNCellBase):
    """What the cells share. Their arguments, parameters, initialisation and state dictionaries are those of PyTorch's.

    `num_threads`, given by name, is how many threads a call may use at most.

    Where the steps are known beforehand, a layer is quicker: a cell packs its weights at every call.

    >>> import torch, fusedcell.torch as ft
    >>> ft.GRUCell(3, 2)(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """

    def forward(self, input: Tensor, hx: State = None) -> State:
        """As of the class of ``torch.nn``, in float32 on the CPU: the new h or, of an LSTM, the new (h, c).

        Where no gradient can be asked for, it is computed by the kernels for inference, to the same bits. Raises
        TypeError or ValueError, naming the argument, for what does not fit, and RuntimeError under functorch's
        transforms. What is compiled or exported has operators of ours, as that of a layer has.
        """
        refuse_transforms()
        if takes_pytorchs(self):
            return self.fusedcell_replaces.forward(self, input, hx)
        name = self.fusedcell_replaces.__name__
        is_lstm = name == "LSTMCell"
        states = [] if hx is None else pair_of(hx) if is_lstm else [hx]
        if torch.is_autocast_enabled("cpu"):
            warn_of_autocast()
            input, states = input.float(), [state.float() for state in states]
        check_tensor("input", input, (1, 2), self.input_size)
        for at, state in enumerate(states):
            check_tensor(f"hx[{at}]" if is_lstm else "hx", state, (input.dim(),), self.hidden_size)
            if state.shape[:-1] != input.shape[:-1]:
                raise ValueError(f"hx: expected the batch of input, {input.shape[0]}, got {state.shape[0]}")
        nonlinearity = self.nonlinearity if name == "RNNCell" else "tanh"
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        form = Form(name, nonlinearity, bias=self.bias)
        weights = [getattr(self, each) for each in form.names()]
        packs.check(form, weights, input.device)

        watched = is_watched(input)
        needs_graph = torch.is_grad_enabled() and any(t.requires_grad for t in (input, *states, *weights))
        needs_graph = needs_graph and not (watched and is_exporting())
        h_0, c_0 = (*states, None, None)[:2]
        if watched and not needs_graph:
            last = watched_cell(form, STORAGE, weights, input, h_0, c_0)
            return tuple(last) if is_lstm else last[0]
        if not needs_graph and packs.are_versioned(weights):
            last = run_cell(packs.packed(form, weights, STORAGE).stack, input, h_0, c_0)
            return tuple(last) if is_lstm else last[0]
        batched = input.dim() == 2
        if not batched:
            input, h_0, c_0 = (None if tensor is None else tensor[None] for tensor in (input, h_0, c_0))
        kind = KINDS[f"RNN_{nonlinearity.upper()}" if name == "RNNCell" else name.removesuffix("Cell")]
        seed = None if watched else 0
        options = Options(None, None, None, seed, kind, False, 0, (0.0, 0.0, 0.0), False, needs_graph, self.num_threads)
        tensors = input[None], h_0, c_0, *(*weights, None, None)[:4], None
        _, *last = direction(*tensors, options, watched=watched)
        if not batched:
            last = [state[0] for state in last]
        return tuple(last) if is_lstm else last[0]


class RNNCell(TrainedCell, nn.RNNCell):
    """``torch.nn.RNNCell``, trained and run by fusedcell."""

    fusedcell_replaces = nn.RNNCell


class LSTMCell(TrainedCell, nn.LSTMCell):
    """``torch.nn.LSTMCell``, trained and run by fusedcell."""

    fusedcell_replaces = nn.LSTMCell


class GRUCell(TrainedCell, nn.GRUCell):
    """``torch.nn.GRUCell``, trained and run by fusedcell."""

    fusedcell_replaces = nn.GRUCell


for _class in (RNNCell, LSTMCell, GRUCell):
    describe_as(_class, TrainedCell)
