"""Prepares the modules of a model in place for training that ends in int8."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..errors import UnsupportedError
from . import qat
from .acceleration import check_adds_nothing, named_modules
from .autograd import TrainedModule
from .modules import Fused
from .report import SWAPPING, set_class
from .rounding import UNITS
from .whole import Whole

# Their matrices would be rounded in other ways than any of the above.
_OTHERS = (nn.modules.conv._ConvNd, nn.Bilinear, nn.EmbeddingBag, nn.MultiheadAttention)


def quantize(
    model: nn.Module, dtype: str = "int8", *, keep: str | Iterable[str] = (), inputs: str = "int8"
) -> tuple[str, ...]:
    """Prepares a model in place for training that ends in int8; returns the names of the modules that now round.

    Each ``nn.Linear``, ``Embedding``, ``Conv1d``, ``Conv2d``, ``RNN``, ``LSTM``, ``GRU`` and cell stays the object it
    is and computes from now on, in training and in evaluation mode, what ``astype("int8")`` of its node, layer or cell
    will: weights are rounded row by row, and inputs and states vector by vector at each step. Gradients pass the
    rounding as if it were not there. Parameters, state dictionary, hooks and attributes are kept. Convolutions that
    models run feature by feature (depthwise) are not rounded there, nor here.

    `keep` names submodules that stay as they are, with all within them. `inputs="int16"` rounds inputs and states to
    multiples of 1 / 16256 of their largest magnitude instead of 1 / 127, as layers of such inputs do.

    Raises TypeError unless `model` is a module, UnsupportedError for another dtype, unknown inputs, and, naming each,
    modules that cannot be prepared; ValueError for a name in `keep` that is no submodule, or if there is nothing to
    prepare. Nothing is changed then.

    >>> import torch, fusedcell.torch as ft
    >>> ft.quantize(torch.nn.Sequential(torch.nn.LSTM(3, 2)))
    ('0',)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    for label, given, known in (("dtype", dtype, ["int8"]), ("inputs", inputs, list(UNITS))):
        if given not in known:
            raise UnsupportedError(f"{label}={given!r} is not supported; supported: {', '.join(known)}")
    kept = _within(model, (keep,) if isinstance(keep, str) else tuple(keep))
    prepared: dict[nn.Module, str] = {}
    reasons = []
    with SWAPPING:
        for module, (name, *_) in named_modules(model).items():
            try:
                if module not in kept and _is_rounded(module):
                    prepared[module] = name
            except ValueError as error:
                reasons.append(f"{name or 'the model'!r} {error}")
        if reasons:
            raise UnsupportedError(f"model: {'; '.join(reasons)}; name in keep= what is to stay as it is")
        if not prepared:
            raise ValueError("model: nothing in it is rounded in int8")
        for module in prepared:
            cls = parametrize.type_before_parametrizations(module)
            module.__dict__.update(fusedcell_class=cls, fusedcell_units=UNITS[inputs])
            set_class(module, qat.CLASSES[_base(module)])
    return tuple(prepared.values())


def unquantize(model: nn.Module) -> tuple[str, ...]:
    """Makes what :func:`quantize` prepared plain again, with the weights as they are now; returns the names.

    It works on copies of a prepared model and on one that was loaded, too, and does nothing to any other.
    """
    with SWAPPING:
        prepared = {module: names[0] for module, names in named_modules(model).items() if isinstance(module, qat.QAT)}
        for module in prepared:
            module.fusedcell_undo()
    return tuple(prepared.values())


def _within(model: nn.Module, names: tuple[str, ...]) -> set[nn.Module]:
    modules = dict(model.named_modules(remove_duplicate=False))
    unknown = [name for name in names if name not in modules]
    if unknown:
        known = ", ".join(filter(None, modules))
        raise ValueError(f"keep: {unknown[0]!r} is not a submodule; submodules: {known}")
    return {part for name in names for part in modules[name].modules()}


def _base(module: nn.Module) -> Any:
    return next((base for base in qat.CLASSES if isinstance(module, base)), None)


def _is_rounded(module: nn.Module) -> bool:
    """Whether a module is to be prepared; ValueError says why it cannot be."""
    if isinstance(module, (Fused, Whole)):
        raise ValueError("is accelerated: call report.undo() first")
    if isinstance(module, TrainedModule):
        raise ValueError("is fusedcell.torch's own, which trains in float32: use torch.nn's")
    if isinstance(module, qat.QAT):
        raise ValueError("is prepared already: call fusedcell.torch.unquantize first")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("is TorchScript, whose code is fixed")
    base = _base(module)
    cls = parametrize.type_before_parametrizations(module)
    if base is None:
        if isinstance(module, _OTHERS):
            raise ValueError(f"is {cls.__name__}, whose rounding is not supported")
        return False
    check_adds_nothing(cls, base)
    if "forward" in vars(module):
        raise ValueError("has a forward of its own")
    wide = next((name for name, value in module.named_parameters() if value.dtype != torch.float32), None)
    if wide is not None:
        raise ValueError(f"has {wide} in {str(module.get_parameter(wide).dtype).removeprefix('torch.')}, not float32")
    if getattr(module, "max_norm", None) is not None:
        raise ValueError("has max_norm, which changes its table at each call")
    is_conv = isinstance(module, nn.modules.conv._ConvNd)
    if not (is_conv and 1 < module.groups == module.in_channels == module.out_channels):
        return True
    # Models run it feature by feature, which rounds nothing, unless it has taps along two axes.
    along = {taps > 1 for taps in module.kernel_size}
    if len(along) > 1:
        raise ValueError("is rounded or not by which of its axes is time")
    return along == {True} and len(module.kernel_size) > 1
