"""What a recurrent module becomes: the same object, of one of these classes.

A swapped module keeps its parameters, buffers, hooks and attributes, as it is still the object it was; only what a call
computes comes from here. Layers derive from RNNBase and not from nn.LSTM and its siblings, which torch.compile refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import is_
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from .._core import Stack
from ..convert.torch.modules import Form, check_flat_weights
from . import packs
from .operators import Answer, State, is_watched, run_cell, run_layer, watched_cell, watched_layer
from .packs import Pack, Storage


class Settings(NamedTuple):
    """What a swapped module computes and with what, and the attributes that PyTorch's module reads at each call."""

    form: Form
    names: tuple[str, ...]
    input_size: int
    hidden_size: int
    h_size: int
    attributes: tuple[str, ...]
    values: tuple[Any, ...]
    storage: Storage
    num_threads: int


class Last:
    """What a module's last call ran with: a pack, or, of weights that have no versions, copies and their stack.

    It is left behind by copies and pickles of the module.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Lets go of it."""
        self.pack: Pack | None = None
        self.computed: tuple[list[Tensor], Stack, Form] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Last, ()


# A call may be under way in one thread while another gives the module its class back, or takes it. So what a call needs
# of its own class it has in hand once it has begun: these classes have no methods for it, and the attributes that
# accelerate added are read once, first of all.
class Fused(nn.Module):
    """What swapped layers and cells share."""

    fusedcell_replaces: ClassVar[Any]
    fusedcell_settings: Settings
    fusedcell_last: Last

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        forget(self)  # or what is replaced would stay in memory until the next call
        return super()._apply(fn, recurse)

    def __prepare_scriptable__(self) -> Any:
        raise RuntimeError(
            f"torch.jit.script: {type(self).__name__} has no TorchScript; call report.undo() of "
            "fusedcell.torch.accelerate first, and load what is scripted with fusedcell.from_torch"
        )


class FusedLayer(Fused, nn.RNNBase):
    """A layer, called as PyTorch's: batched or not, either arrangement of the axes, PackedSequence in and out."""

    def forward(self, input: Tensor | PackedSequence, hx: State = None) -> Answer:
        """As of the class it replaces; float32 on the CPU.

        Raises RuntimeError in training mode or where a gradient would be needed, TypeError or ValueError, naming the
        argument or the attribute, for what does not fit.
        """
        found = _settings_and_last(self)
        if found is None:
            return type(self).forward(self, input, hx)
        settings, last = found
        form = _form_now(self, settings)
        if isinstance(input, PackedSequence):
            x, batch_sizes, order, inverse = input
            _check("input.data", x, (2,), settings.input_size)
        else:
            x, batch_sizes, order, inverse = input, None, None, None
            _check("input", x, (2, 3), settings.input_size)
        states = _states(hx, form, settings, 3 if batch_sizes is not None else x.dim())
        if order is not None:
            states = [state.index_select(1, order) for state in states]
        batch_first = self.batch_first and batch_sizes is None
        y, *states = _run_layer(self, form, settings, last, x, states, batch_sizes, batch_first)
        if inverse is not None:
            states = [state.index_select(1, inverse) for state in states]
        result = (states[0], states[1]) if len(states) == 2 else states[0]
        return (y if batch_sizes is None else PackedSequence(y, batch_sizes, order, inverse)), result


class FusedCell(Fused, nn.RNNCellBase):
    """A cell, called as PyTorch's, with a batch or without."""

    def forward(self, input: Tensor, hx: State = None) -> State:
        """As of the class it replaces; float32 on the CPU. Errors as of :class:`FusedLayer`."""
        found = _settings_and_last(self)
        if found is None:
            return type(self).forward(self, input, hx)
        settings, last = found
        form = _form_now(self, settings)
        _check("input", input, (1, 2), settings.input_size)
        states = _states(hx, form, settings, input.dim())
        outputs = _run_cell(self, form, settings, last, input, states)
        return (outputs[0], outputs[1]) if len(outputs) == 2 else outputs[0]


class FusedRNN(FusedLayer):
    """In place of torch.nn.RNN."""

    fusedcell_replaces = nn.RNN


class FusedLSTM(FusedLayer):
    """In place of torch.nn.LSTM."""

    fusedcell_replaces = nn.LSTM

    # A call of PyTorch's that is under way looks these up on the object.
    check_forward_args = nn.LSTM.check_forward_args
    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    permute_hidden = nn.LSTM.permute_hidden


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
    last = vars(module).get("fusedcell_last")
    if last is not None:
        last.forget()
    packs.forget(list(module.parameters()))


def _settings_and_last(module: Fused) -> tuple[Settings, Last] | None:
    """None where the module has been given its class back since the call began, which is then that class's."""
    try:
        return module.fusedcell_settings, module.fusedcell_last
    except AttributeError:
        if isinstance(module, Fused):
            raise
        return None


def _form_now(module: Fused, settings: Settings) -> Form:
    """The form by the module's attributes, which PyTorch reads at each call: honoured, or refused by name."""
    values = tuple([getattr(module, name) for name in settings.attributes])
    if values == settings.values:
        return settings.form
    form = settings.form
    for name, now, before in zip(settings.attributes, values, settings.values, strict=True):
        if name in ("mode", "nonlinearity"):
            known = {"RNN_TANH": "tanh", "RNN_RELU": "relu"} if name == "mode" else {"tanh": "tanh", "relu": "relu"}
            if now not in known:
                raise ValueError(f"{name}: expected {' or '.join(map(repr, known))}, got {now!r}")
            form = replace(form, nonlinearity=known[now])
        elif now != before:
            raise ValueError(
                f"{name}: expected {before!r}, as it was when fusedcell.torch.accelerate swapped the module, got "
                f"{now!r}; call report.undo(), and accelerate again"
            )
    return form


def _check(name: str, tensor: Any, ndims: tuple[int, ...], size: int) -> None:
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


def _states(hx: Any, form: Form, settings: Settings, ndim: int) -> list[Tensor]:
    """What `hx` holds, of which the layer or cell is still to check the other dimensions."""
    if hx is None:
        return []
    if not form.class_name.startswith("LSTM"):
        _check("hx", hx, (ndim,), settings.h_size)
        return [hx]
    h, c = _pair(hx)
    _check("hx[1]", c, (ndim,), settings.hidden_size)
    _check("hx[0]", h, (ndim,), settings.h_size)
    return [h, c]


def _check_mode(module: Fused, form: Form, weights: list[Tensor], tensors: list[Tensor]) -> None:
    name = f"Fused{form.class_name}"
    if module.training:
        raise RuntimeError(
            f"{name} runs inference only, and is in training mode: call model.eval(), or report.undo() to train"
        )
    if torch.is_autocast_enabled("cpu"):
        raise RuntimeError(
            f"{name} computes in float32, and torch.autocast asks for less: call the model outside of it, or "
            "report.undo()"
        )
    needed = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, *weights))
    if needed or _has_tangent([*tensors, *weights]):
        raise RuntimeError(
            f"{name} computes no gradients, and its parameters or inputs require them: call the model in "
            "torch.inference_mode() or torch.no_grad(), or report.undo() to train"
        )


def _run_layer(
    module: FusedLayer,
    form: Form,
    settings: Settings,
    last: Last,
    x: Tensor,
    states: list[Tensor],
    batch_sizes: Tensor | None,
    batch_first: bool,
) -> list[Tensor]:
    weights = _weights(module, settings.names)
    _check_mode(module, form, weights, [x, *states])
    h_0, c_0 = (*states, None, None)[:2]
    storage, num_threads = settings.storage, settings.num_threads
    if not is_watched(x):
        if not all(map(is_, module._flat_weights, weights)):
            check_flat_weights(module)
        return run_layer(
            _stack(module, form, settings, last, weights), x, h_0, c_0, batch_sizes, batch_first, num_threads
        )
    return watched_layer(form, storage, weights, x, h_0, c_0, batch_sizes, batch_first, num_threads)


def _run_cell(
    module: FusedCell, form: Form, settings: Settings, last: Last, x: Tensor, states: list[Tensor]
) -> list[Tensor]:
    weights = _weights(module, settings.names)
    _check_mode(module, form, weights, [x, *states])
    h, c = (*states, None, None)[:2]
    if not is_watched(x):
        return run_cell(_stack(module, form, settings, last, weights), x, h, c)
    return watched_cell(form, settings.storage, weights, x, h, c)


def _stack(module: Fused, form: Form, settings: Settings, last: Last, weights: list[Tensor]) -> Stack:
    pack, storage = last.pack, settings.storage
    if pack is not None and pack.is_of(form, weights):
        return pack.stack
    if all(name in module._parameters for name in settings.names) and packs.are_versioned(weights):
        last.pack = pack = packs.packed(form, weights, storage)
        return pack.stack
    computed = last.computed
    if computed is None or computed[2] != form or not all(map(_have_the_same_bits, weights, computed[0])):
        copies = [weight.detach().clone() for weight in weights]
        last.computed = computed = copies, packs.pack(form, copies, storage), form
    return computed[1]


def _weights(module: Fused, names: tuple[str, ...]) -> list[Tensor]:
    parameters: dict[str, Any] = module._parameters
    try:
        weights = [parameters[name] for name in names]
    except KeyError:  # some are computed
        weights = [getattr(module, name) for name in names]
    for name, weight in zip(names, weights, strict=True):
        if not isinstance(weight, Tensor):
            raise TypeError(
                f"{name}: expected a tensor, as when fusedcell.torch.accelerate swapped the module, got "
                f"{type(weight).__name__}; call report.undo(), and accelerate again"
            )
    return weights


def _pair(hx: Any) -> list[Tensor]:
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        raise TypeError(f"hx: expected a pair of tensors, (h, c), got {type(hx).__name__}")
    return list(hx)


def _has_tangent(tensors: list[Tensor]) -> bool:
    """Whether forward-mode differentiation, which no_grad() leaves on, would ask for a gradient."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return False
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def _have_the_same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a.view(torch.int32), b.view(torch.int32)))
