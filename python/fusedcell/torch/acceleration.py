"""Swaps the recurrent modules of a model in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from .. import _core
from .._dtypes import check_dtype
from ..convert.torch.modules import CLASS_NAMES, Form, form_of
from . import packs
from .autograd import TrainedModule
from .modules import FUSED, Fused, Last, Settings
from .packs import Storage
from .report import SWAPPING, Entry, Report, Swap, WholeSwap
from .training import GRU, LSTM, RNN
from .whole import Call, Weights, Whole, calls_of, converted, whole_class

_TRAINED: dict[type[nn.Module], type[TrainedModule]] = {cls.fusedcell_replaces: cls for cls in (RNN, LSTM, GRU)}

# What a class has even if it adds nothing to another but a constructor.
_ADD_NOTHING = {
    *("__init__", "__module__", "__doc__", "__annotations__", "__annotate__", "__annotate_func__"),
    *("__annotations_cache__", "__static_attributes__", "__firstlineno__", "__constants__"),
}


def accelerate(
    model: nn.Module,
    dtype: str = "float32",
    *,
    example: Any = None,
    isa: str | None = None,
    num_threads: int = 1,
    training: bool = False,
) -> Report:
    """Swaps every recurrent module of a model in place for inference, and reports which.

    Each ``nn.RNN``, ``LSTM``, ``GRU`` or cell stays the object it is, wherever it is referred to, and computes with
    fusedcell from now on: its parameters, state dictionary, hooks, attributes and ways to be called are kept. `model`
    may be one of them itself. What cannot be swapped, such as a class with a forward of its own or weights other than
    float32 on the CPU, is left as it is, and the report says why. `dtype` is how packed weights are stored;
    activations are float32. Nothing is swapped if this raises.

    Calls run in evaluation mode under torch.inference_mode() or no_grad(); in training mode they raise. They use the
    calling thread, or up to `num_threads`, whatever torch.set_num_threads() says. Other threads may call the model
    meanwhile: each call is PyTorch's or fusedcell's as a whole.

    With an `example`, a tensor or a tuple of them that `model` is called with, whole submodules are tried first, the
    largest before what is in them: each that :meth:`fusedcell.Model.from_torch` can make one model of, whose answers
    agree to 1e-5 and come sooner on this machine, becomes that model. What is within it is then not called. It takes
    arrays of other lengths and batches than the example's, but in the same arrangement. Copies and pickles of it are
    PyTorch's; torch.compile and exports see PyTorch's, too.

    With `training`, layers become :class:`LSTM`, :class:`GRU` and :class:`RNN` instead, which train as well as run, in
    float32 and on the tier that FUSEDCELL_ISA names or the best. Cells stay PyTorch's, which are as fast in training.

    Raises TypeError unless `model` is a module and `num_threads` an integer, UnsupportedError for an unknown dtype,
    ValueError for a tier that this machine does not run or no threads.

    >>> import torch, fusedcell.torch as ft
    >>> model = torch.nn.Sequential(torch.nn.LSTM(3, 2)).eval()
    >>> with torch.inference_mode(), ft.accelerate(model) as report:
    ...     y, state = model(torch.ones(5, 4, 3))
    >>> [entry.swapped for entry in report]
    [True]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    threads = _core.checked_num_threads(num_threads)
    if training and (dtype != "float32" or isa is not None or example is not None):
        raise ValueError("training=True: expected dtype='float32' and neither isa nor example")
    storage = Storage(check_dtype(dtype), isa)
    _core.resolve_isa(isa or "")

    entries: list[Entry] = []
    swaps: list[Swap | WholeSwap] = []
    within: dict[nn.Module, str] = {}
    with SWAPPING:
        calls = {} if example is None else calls_of(model, example)
        for module, names in named_modules(model).items():
            reason = ""
            if module in within:
                if _is_recurrent(module):
                    entries.append(
                        Entry(names[0], _class_name(module), False, f"is within {within[module]}, one model")
                    )
                continue
            if not _is_recurrent(module):
                call = calls.get(module)
                if call is None or not any(map(_is_recurrent, module.modules())):
                    continue
                try:
                    swaps.append(_as_whole(module, call, storage, threads))
                    within |= dict.fromkeys(module.modules(), names[0] or "the model")
                except (TypeError, ValueError, RuntimeError) as error:
                    reason = str(error)
                entries.append(Entry(names[0], _class_name(module), not reason, reason, tuple(names[1:])))
                continue
            try:
                swaps.append(_prepare_training(module, threads) if training else _prepare(module, storage, threads))
            except RecursionError:
                raise
            except (TypeError, ValueError, RuntimeError) as error:  # the last of tensors without memory of their own
                reason = str(error).removeprefix("module: ")
            entries.append(Entry(names[0], _class_name(module), not reason, reason, tuple(names[1:])))
        report = Report(model, entries, swaps)
        report._swap()
    return report


def named_modules(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module, with all names that it has."""
    modules: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        modules.setdefault(module, []).append(name)
    return modules


def _class_name(module: nn.Module) -> str:
    return str(getattr(module, "original_name", type(module).__name__))


def _is_recurrent(module: nn.Module) -> bool:
    return isinstance(module, (nn.RNNBase, nn.RNNCellBase)) or _class_name(module) in CLASS_NAMES


def _prepare(module: nn.Module, storage: Storage, num_threads: int) -> Swap:
    """Packs the weights, so that what cannot be swapped is known before anything is."""
    form = _form_of_pytorchs(module)
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("is TorchScript, whose code is fixed; fusedcell.from_torch makes a layer of it")
    original = parametrize.type_before_parametrizations(module)
    fused = FUSED[getattr(nn, form.class_name)]
    check_adds_nothing(original, fused.fusedcell_replaces)
    names = tuple(form.names())
    weights = [getattr(module, name) for name in names]
    is_kept = all(name in module._parameters for name in names) and packs.are_versioned(weights)
    stack = packs.packed(form, weights, storage).stack if is_kept else packs.pack(form, weights, storage)
    values = tuple(getattr(module, name) for name in form.attributes)
    for name, value in zip(form.attributes, values, strict=True):
        if name.endswith("_size") and value != getattr(stack, name):
            raise ValueError(f"{name}={value} does not fit its weights, which have {getattr(stack, name)}")
    h_size = stack.proj_size or stack.hidden_size
    sizes = stack.input_size, stack.hidden_size, h_size
    settings = Settings(form, names, *sizes, form.attributes, values, storage, num_threads)
    return Swap(module, original, fused, {"fusedcell_settings": settings, "fusedcell_last": Last()})


def _form_of_pytorchs(module: nn.Module) -> Form:
    if isinstance(module, (Fused, TrainedModule)):
        raise ValueError("is accelerated already")
    return form_of(module)


def _prepare_training(module: nn.Module, num_threads: int) -> Swap:
    form = _form_of_pytorchs(module)
    if form.is_cell:
        raise ValueError(f"only layers train faster here; fusedcell.torch.{form.class_name} has bits that do not vary")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("is TorchScript, whose code is fixed")
    original = parametrize.type_before_parametrizations(module)
    replaced = getattr(nn, form.class_name)
    check_adds_nothing(original, replaced)
    packs.check(form, [getattr(module, name) for name in form.names()])
    return Swap(module, original, _TRAINED[replaced], {"num_threads": num_threads})


def _as_whole(module: nn.Module, call: Call | str, storage: Storage, num_threads: int) -> WholeSwap:
    if isinstance(call, str):
        raise ValueError(call)
    if isinstance(module, (Whole, torch.jit.ScriptModule)) or parametrize.is_parametrized(module):
        raise ValueError("is swapped already, TorchScript, or has parametrisations of its own")
    model = converted(module, call, storage.dtype, storage.isa)
    attributes = {
        "fusedcell_model": model,
        "fusedcell_weights": Weights(module),
        "fusedcell_call": call,
        "fusedcell_options": (storage.dtype, storage.isa, num_threads),
    }
    return WholeSwap(module, type(module), whole_class(type(module)), attributes)


def check_adds_nothing(cls: type[nn.Module], base: type[nn.Module]) -> None:
    """Raises ValueError for a class that computes something of its own."""
    for ancestor in cls.__mro__[: cls.__mro__.index(base)]:
        for name in vars(ancestor):
            if name not in _ADD_NOTHING:
                raise ValueError(f"its class {ancestor.__qualname__} adds {name!r} to torch.nn.{base.__name__}")
