"""PyTorch's recurrent modules: what they compute, and their weights.

Source: torch/nn/modules/rnn.py, and https://docs.pytorch.org/docs/stable/nn.html#recurrent-layers.
"""

from __future__ import annotations

import copy
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..._recurrent import Recurrent
from ...cells import GRUCell, LSTMCell, RNNCell
from ...errors import UnsupportedError
from ...layers import GRU, LSTM, RNN
from ...weights.file_kinds import SAFETENSORS
from ...weights.state_names import layer_suffixes
from ...weights.tensors import to_array

if TYPE_CHECKING:
    from torch.nn import Module

_LAYERS: dict[str, Any] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
_CELLS: dict[str, Any] = {"RNNCell": RNNCell, "LSTMCell": LSTMCell, "GRUCell": GRUCell}
CLASS_NAMES = (*_LAYERS, *_CELLS)
SUPPORTED = f"torch.nn.{', '.join(CLASS_NAMES)}, also as TorchScript"

# A class or an instance that replaces one of these computes something else.
_DECIDES_THE_RESULT = (
    *("forward", "__call__", "_call_impl", "permute_hidden"),
    *("_update_flat_weights", "_init_flat_weights", "_weights_have_changed"),
)
_SCRIPTED = re.compile(r"__torch__\.torch\.nn\.modules\.rnn\.(?:___torch_mangle_[0-9]+\.)?([A-Za-z]+)")
_MISSING = object()
_LISTED = 20  # in an error


@dataclass(frozen=True)
class Form:
    """What a module computes, but for the values of its weights and the arrangement of its input's axes."""

    class_name: str
    nonlinearity: str = "tanh"
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    projected: bool = False

    @property
    def attributes(self) -> tuple[str, ...]:
        """The module's attributes that its forward reads, but for `batch_first`, and those that training alone uses."""
        if self.is_cell:
            return ("nonlinearity", "hidden_size") if self.class_name == "RNNCell" else ("hidden_size",)
        mode = ("mode",) if self.class_name == "RNN" else ()
        return (*mode, "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")

    @property
    def is_cell(self) -> bool:
        """Whether it goes one step at a call."""
        return self.class_name in _CELLS

    def names(self) -> list[str]:
        """The module's names of its weights, in the order of its ``_flat_weights``."""
        names = ["weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ())]
        names += ["weight_hr"] if self.projected else []
        if self.is_cell:
            return names
        count = self.num_layers * (1 + self.bidirectional)
        return [name + end for end in islice(layer_suffixes(1 + self.bidirectional), count) for name in names]

    def make(self, arrays: dict[str, Any], *, batch_first: bool, dtype: str, isa: str | None) -> Recurrent:
        """The layer or cell of these arrays by name.

        Raises ValueError or TypeError, naming the array, for one that does not fit.
        """
        options = {"nonlinearity": self.nonlinearity} if self.class_name.startswith("RNN") else {}
        if self.is_cell:
            cell: Recurrent = _CELLS[self.class_name](**arrays, **options, dtype=dtype, isa=isa)
            return cell
        layer: Recurrent = _LAYERS[self.class_name].from_state_dict(
            arrays, **options, batch_first=batch_first, dtype=dtype, isa=isa
        )
        return layer


# Any: the class follows from the module's, and a union would need a cast wherever that is known.
def from_torch(module: Module, *, dtype: str = "float32", isa: str | None = None) -> Any:
    """Makes a layer or cell of a PyTorch module: ``nn.RNN``, ``LSTM``, ``GRU`` or their cells, scripted ones too.

    All their options are honoured, but for dropout, which inference has not. Weights may be float64, float32, float16
    or bfloat16; parametrised and pruned ones, and those with the older weight and spectral norms, are taken as they
    are computed in evaluation mode. The module is not changed.

    Raises UnsupportedError, naming what came, for any other module, one that computes something of its own, or one with
    dropout in training mode; otherwise as ``from_state_dict``.

    >>> import torch, fusedcell as fc
    >>> fc.from_torch(torch.nn.GRU(3, 2, batch_first=True), isa="scalar")
    GRU(3, 2, batch_first=True, dtype='float32', isa='scalar')
    """
    form = form_of(module)
    for name in ("dropout", "recurrent_dropout"):
        rate = getattr(module, name, 0)
        if module.training and rate > 0:
            raise UnsupportedError(
                f"module: {name}={rate} in training mode is not supported; call module.eval() for inference"
            )
    arrays = {name: to_array(tensor, name) for name, tensor in _computed_weights(module, form).items()}
    batch_first = not form.is_cell and module.batch_first
    layer = form.make(arrays, batch_first=batch_first, dtype=dtype, isa=isa)
    for name in ("input_size", "hidden_size", *(() if form.is_cell else ("proj_size",))):
        if getattr(layer, name) != getattr(module, name):
            raise ValueError(
                f"module: {name}={getattr(module, name)} does not fit its weights, which have {getattr(layer, name)}"
            )
    return layer


def form_of(module: Any) -> Form:
    """Recognises a module. Raises UnsupportedError for one that is not among the supported, or not only that."""
    class_name = _class_name(module)
    zoneout = getattr(module, "zoneout", 0)  # of fusedcell.torch's
    if any(zoneout if isinstance(zoneout, (tuple, list)) else (zoneout,)):
        raise UnsupportedError(f"module: zoneout={zoneout} is trained, but not run; supported: 0")
    if class_name in _CELLS:
        nonlinearity = module.nonlinearity if class_name == "RNNCell" else "tanh"
        return Form(class_name, nonlinearity, bias=bool(module.bias))
    nonlinearity = module.mode.removeprefix("RNN_").lower() if class_name == "RNN" else "tanh"
    return Form(
        class_name,
        nonlinearity,
        int(module.num_layers),
        bool(module.bidirectional),
        bool(module.bias),
        projected=module.proj_size > 0,
    )


def _class_name(module: Any) -> str:
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(module, torch.nn.Module):
        advice = f"; {SAFETENSORS.advice}" if isinstance(module, (Mapping, str, os.PathLike)) else ""
        raise UnsupportedError(
            f"module: {type(module).__name__} is not a module of PyTorch; supported: {SUPPORTED}{advice}"
        )
    if isinstance(module, torch.jit.ScriptModule):
        return _scripted_class_name(module)
    accelerated = getattr(type(module), "fusedcell_replaces", None)
    if accelerated is not None:
        _check_own(module, accelerated.__name__, type(module))
        return str(accelerated.__name__)
    for name in CLASS_NAMES:
        base = getattr(torch.nn, name)
        if isinstance(module, base):
            _check_own(module, name, base)
            if name in _LAYERS:
                check_flat_weights(module)
            return name
    raise UnsupportedError(
        f"module: {type(module).__module__}.{type(module).__qualname__} is not supported; {_inside(module)}supported: "
        f"{SUPPORTED}"
    )


def _inside(module: Any) -> str:
    """For errors: the recurrent modules within a module, as a program says them."""
    torch: Any = sys.modules["torch"]
    bases = (torch.nn.RNNBase, torch.nn.RNNCellBase)
    found = [
        f"model{''.join(f'[{part}]' if part.isdecimal() else f'.{part}' for part in name.split('.'))}"
        for name, child in module.named_modules()
        if name and (isinstance(child, bases) or getattr(child, "original_name", "") in CLASS_NAMES)
    ]
    if not found:
        return ""
    more = ", ..." if len(found) > _LISTED else ""
    return (
        f"it contains {', '.join(found[:_LISTED])}{more}: pass one of them, or swap all of them in place with "
        "fusedcell.torch.accelerate(model); "
    )


def _check_own(module: Any, name: str, base: type) -> None:
    for attribute in _DECIDES_THE_RESULT:
        replaced = getattr(type(module), attribute, None) is not getattr(base, attribute, None)
        if replaced or attribute in vars(module):
            raise UnsupportedError(
                f"module: {type(module).__qualname__} replaces torch.nn.{name}.{attribute}, so it computes "
                f"something else; supported: {SUPPORTED}"
            )


def check_flat_weights(module: Any) -> None:
    """A layer runs on a list of its weights, which follows them unless somebody has written to it: UnsupportedError."""
    # Where a weight is computed or was replaced, the list is made again at each call or the next. To ask for a computed
    # one can change it.
    if hasattr(module, "parametrizations") or module._weights_have_changed():
        return
    for name, weight in zip(module._flat_weights_names, module._flat_weights, strict=False):
        if weight is not getattr(module, name, None):
            raise UnsupportedError(
                f"module: _flat_weights: {name} in it is not the module's, so it computes something else; supported: "
                f"{SUPPORTED}"
            )


def _scripted_class_name(module: Any) -> str:
    original = getattr(module, "original_name", type(module).__name__)
    match = _SCRIPTED.fullmatch(module._c._type().qualified_name())
    if match is None or match[1] != original or original not in CLASS_NAMES:
        raise UnsupportedError(
            f"module: TorchScript of {original} is not supported; {_inside(module)}supported: {SUPPORTED}"
        )
    needed = ("bias", "hidden_size") if original in _CELLS else ("num_layers", "batch_first", "mode", "proj_size")
    for attribute in needed + (("nonlinearity",) if original == "RNNCell" else ()):
        if getattr(module, attribute, _MISSING) is _MISSING:
            raise UnsupportedError(
                f"module: {original} came through torch.jit.trace, which drops {attribute}; supported: torch.jit.script"
            )
    return str(original)


def _computed_weights(module: Any, form: Form) -> dict[str, Any]:
    torch: Any = sys.modules["torch"]
    with torch.no_grad():
        names = form.names()
        hooked = _weights_of_hooks(module, names)
        return {name: hooked[name] if name in hooked else _computed_weight(module, name) for name in names}


def _computed_weight(module: Any, name: str) -> Any:
    parametrizations = getattr(module, "parametrizations", {})
    if name not in parametrizations:
        return getattr(module, name)
    # In training mode some of them change what they are computed from, so a copy is asked, in evaluation mode.
    return copy.deepcopy(parametrizations[name]).eval()()


def _weights_of_hooks(module: Any, names: list[str]) -> dict[str, Any]:
    """What the pre-forward hooks of weight_norm, spectral_norm and pruning would set; any other hook is refused."""
    others = [*module._forward_hooks.values()]
    weights = {}
    prune: Any = sys.modules.get("torch.nn.utils.prune")  # which torch does not import by itself
    for hook in module._forward_pre_hooks.values():
        kind = f"{type(hook).__module__}.{type(hook).__name__}"
        is_pruning = prune is not None and isinstance(hook, prune.BasePruningMethod)
        name = hook._tensor_name if is_pruning else getattr(hook, "name", "")
        if name not in names:  # or a part of a weight that another hook computes
            others.append(hook)
        elif is_pruning:
            weights[name] = hook.apply_mask(module)
        elif kind == "torch.nn.utils.weight_norm.WeightNorm":
            weights[name] = hook.compute_weight(module)
        elif kind == "torch.nn.utils.spectral_norm.SpectralNorm":
            weights[name] = hook.compute_weight(module, do_power_iteration=False)
        else:
            others.append(hook)
    if others:
        raise UnsupportedError(
            f"module: a forward hook, {others[0]!r}, can change what it computes, and a layer has none; supported: "
            "hooks of weight_norm, spectral_norm and torch.nn.utils.prune, and, with all its hooks, a module that "
            "fusedcell.torch.accelerate swaps"
        )
    return weights
